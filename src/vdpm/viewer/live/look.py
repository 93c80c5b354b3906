"""What the points look like: colours by what is asked, hidden ones left out, sizes in a few steps."""

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Float, Float16, UInt8

from vdpm.export.colors import INFERNO, VIRIDIS, colorize
from vdpm.viewer.choice import ChosenPoints
from vdpm.viewer.live.cloud import Loaded, MovingPoints

ColorMode = Literal["video", "depth", "speed", "confidence", "frame", "difference"]
MotionFilter = Literal["all", "moving", "still"]
COLORS: tuple[ColorMode, ...] = get_args(ColorMode)
"""The last one of two results alone."""
MOTION_FILTERS: tuple[MotionFilter, ...] = get_args(MotionFilter)

REST = (88, 91, 97)
"""What stands still, where speed is shown."""
UNKNOWN = (60, 62, 66)
SIZE_STEP = 1.5
"""viser draws all points of a cloud equally large, so points are parted into clouds whose patches differ by no more."""
MOST_SIZES = 6
FULL_DIFFERENCE = 0.2
"""Share of the scene's distance at which the colour of a difference is full."""


@dataclass(frozen=True)
class Look:
    """What is shown of the points. ``hide``: percentage of the least sure ones that is hidden."""

    color: ColorMode = "video"
    motion: MotionFilter = "all"
    hide: float = 20.0


class Batch(NamedTuple):
    """Points drawn alike. ``positions`` are rounded as in the result's files; ``side``: of a point, in the world."""

    positions: Float16[np.ndarray, "points 3"]
    colors: UInt8[np.ndarray, "points 3"]
    side: float

    @property
    def nbytes(self) -> int:
        """What is sent for it."""
        return self.positions.nbytes + self.colors.nbytes


def in_sizes(
    positions: Float[np.ndarray, "points 3"],
    colors: UInt8[np.ndarray, "points 3"],
    sides: Float[np.ndarray, "points"],
) -> list[Batch]:
    """Points parted by the length of their patch, at most ``MOST_SIZES`` parts."""
    if not len(positions):
        return []
    low, high = (max(float(np.quantile(sides, q)), 1e-9) for q in (0.02, 0.98))
    count = min(MOST_SIZES, max(1, math.ceil(math.log(high / low) / math.log(SIZE_STEP))))
    place = np.log(np.maximum(sides, 1e-9) / low) / max(math.log(high / low), 1e-9) * count
    step = np.clip(np.floor(place), 0, count - 1).astype(int)
    found = []
    for number in range(count):
        which = step == number
        if which.any():
            found.append(
                Batch(positions[which].astype(np.float16), colors[which], float(np.quantile(sides[which], 0.7)))
            )
    return found


@dataclass(frozen=True, eq=False)
class Painter:
    """Colours of the points of one result, on scales that fit all of it."""

    loaded: Loaded
    reach: float
    near: float = field(init=False)
    far: float = field(init=False)
    full_speed: float = field(init=False)

    def __post_init__(self) -> None:
        first = [part.moving.positions[0] for part in self.loaded.moving]
        z = self._depth(np.concatenate([self.loaded.still.positions[0], *first]))
        z = z[z > 0]
        near, far = (float(np.quantile(z, q)) for q in (0.02, 0.98)) if len(z) else (1.0, 2.0)
        speeds = [
            self.loaded.moving_at(time).speed for time in sorted({t for part in self.loaded.moving for t in part.times})
        ]
        fast = float(np.quantile(np.concatenate(speeds), 0.95)) if any(map(len, speeds)) else self.reach
        object.__setattr__(self, "near", near)
        object.__setattr__(self, "far", max(far, 1.05 * near))
        object.__setattr__(self, "full_speed", max(fast, 1e-6 * self.reach))

    def _depth(self, positions: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points"]:
        """From the reference camera."""
        result = self.loaded.reconstruction
        w2c = result.cameras.w2c[result.reference].double().numpy()
        return positions @ w2c[2, :3] + w2c[2, 3]

    def colors(
        self,
        mode: ColorMode,
        points: ChosenPoints,
        speed: Float[np.ndarray, "points"] | None,
        difference: Float[np.ndarray, "points"] | None = None,
    ) -> UInt8[np.ndarray, "points 3"]:
        """RGB of points whose first row of positions is shown. ``speed`` None: they stand still. ``difference``: how
        far each lies from the other result, NaN where that is not known.
        """
        if mode == "depth":
            z = np.maximum(self._depth(points.positions[0].astype(np.float64)), 1e-3 * self.near)
            return colorize(1 - np.log(z / self.near) / math.log(self.far / self.near), INFERNO)
        if mode == "speed":
            if speed is None:
                return np.broadcast_to(np.array(REST, dtype=np.uint8), points.colors.shape)
            return colorize(0.25 + 0.75 * np.clip(speed / self.full_speed, 0, 1), INFERNO)
        if mode == "confidence":
            return colorize(self.loaded.scale.encode(points.confidence) / 255.0, VIRIDIS)
        if mode == "frame":
            last = max(1, len(self.loaded.reconstruction) - 1)
            return colorize(points.source / last, VIRIDIS)
        if mode == "difference" and difference is not None:
            share = difference / (FULL_DIFFERENCE * self.reach)
            known = np.isfinite(share)
            painted = colorize(np.sqrt(np.clip(np.where(known, share, 0.0), 0, 1)), INFERNO)
            return np.where(known[:, None], painted, np.array(UNKNOWN, dtype=np.uint8))
        return points.colors

    def shown(self, points: ChosenPoints, look: Look) -> Bool[np.ndarray, "points"]:
        """All but the least sure points."""
        return self.loaded.scale.encode(points.confidence) >= self.loaded.hidden_below(look.hide)

    def shown_moving(self, time: int, look: Look) -> MovingPoints:
        """The moving points that are not hidden, at the time of frame ``time``."""
        moving = self.loaded.moving_at(time)
        return moving.select(self.shown(moving.points, look))

"""Which points of a result are shown: a bounded number of pixels, the moving ones at every time, the others once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from vdpm.errors import InputError, UsageError
from vdpm.motion import depth, depth_edges, motion_mask
from vdpm.progress import Report, silent
from vdpm.structures import Reconstruction, evenly

MOVING_POSITIONS = 5
"""Positions of moving points, over all times, for each point of the budget. A clip in which everything moves would else
take as many positions as points times frames."""
REACH = 0.5
"""The box of the scene holds all but 1 % of the points along each axis, and this share of it more on each side."""
CACHED_BYTES = 256 * 2**20
"""Maps kept in memory while the points of a source are chosen."""
PHASES = (0.7548776662466927, 0.5698402909980532)
"""Roberts' R2 sequence: the grids of the frames are shifted against each other, so that together they are denser."""


@dataclass(frozen=True, eq=False)
class ChosenPoints:
    """Points of one kind, in the order of their frames. ``positions``: world; one row for still points, else a time.

    ``source``: frame number of each point; ``pixel``: its flat index there. ``spacing``: pixels from one chosen point
    to the next in its frame.
    """

    positions: Float[np.ndarray, "times points 3"]
    colors: UInt8[np.ndarray, "points 3"]
    confidence: Float[np.ndarray, "points"]
    source: Int[np.ndarray, "points"]
    pixel: Int[np.ndarray, "points"]
    spacing: float

    def __len__(self) -> int:
        return len(self.pixel)

    def select(self, which: np.ndarray, spacing: float | None = None) -> "ChosenPoints":
        """The points that an index or a mask names."""
        return ChosenPoints(
            positions=self.positions[:, which],
            colors=self.colors[which],
            confidence=self.confidence[which],
            source=self.source[which],
            pixel=self.pixel[which],
            spacing=self.spacing if spacing is None else spacing,
        )


@dataclass(frozen=True, eq=False)
class SceneChoice:
    """What is shown of a result. ``times``: frames whose time is shown (empty: the result keeps none, every frame is at
    its own). ``left_out``: points outside of the box ``low`` to ``high``, which are not shown.
    """

    sources: tuple[int, ...]
    times: tuple[int, ...]
    still: ChosenPoints
    moving: ChosenPoints
    low: Float[np.ndarray, "3"]
    high: Float[np.ndarray, "3"]
    left_out: int

    def __len__(self) -> int:
        return len(self.still) + len(self.moving)


def choose_points(
    reconstruction: Reconstruction,
    *,
    max_points: int = 150_000,
    max_frames: int = 48,
    min_confidence: float = 1.0,
    report: Report = silent,
) -> SceneChoice:
    """At most ``max_points`` pixels of at most ``max_frames`` sources, and where they are at as many times.

    Pixels come from even grids, one a source, without padding, edges of depth, and what is less sure than
    ``min_confidence``. ``motion_mask`` decides which of them move: those are kept at each time, the others once, as
    P_i(t_i, pi_0). Moving points are thinned further where there are too many positions (``MOVING_POSITIONS``).

    Each map is read once. Raises UsageError for numbers out of range and InputError where no point is left.
    """
    if max_points < 1:
        raise UsageError(f"--points {max_points} must be at least 1")
    if not 1 <= max_frames <= 64:
        raise UsageError(f"--frames {max_frames} must be from 1 to 64")
    if math.isnan(min_confidence):
        raise UsageError("--min-confidence nan must be a number; 1 is the least that occurs")
    maps = reconstruction.maps
    sources, times = tuple(evenly(maps.sources, max_frames)), tuple(evenly(maps.targets, max_frames))
    shown = at_times(reconstruction, times)
    stride = grid_stride(reconstruction, len(sources), max_points)
    still, moving = [], []
    for row, source in enumerate(sources):
        report("choosing points", row, len(sources))
        points = choose_source(shown, source, row, stride, min_confidence=min_confidence)
        still.append(points[0])
        moving.append(points[1])
    report("choosing points", len(sources), len(sources))
    return _bounded(sources, times, joined(still), joined(moving), MOVING_POSITIONS * max_points)


def grid_stride(reconstruction: Reconstruction, sources: int, max_points: int) -> int:
    """Pixels from one point to the next, such that so many sources give at most about ``max_points``."""
    return max(1, math.ceil(math.sqrt(sources * int(reconstruction.content.sum()) / max_points)))


def at_times(reconstruction: Reconstruction, times: tuple[int, ...]) -> Reconstruction:
    """The same result, keeping these times alone. The maps read last stay in memory, up to as many as a source has."""
    maps, (height, width) = reconstruction.maps, reconstruction.size
    # One source at a time, each of its maps needed several times.
    read = lru_cache(maxsize=min(len(times) + 2, max(2, CACHED_BYTES // (16 * height * width))))(maps.read)
    return replace(
        reconstruction,
        maps=replace(
            maps,
            targets=times,
            read=read,
            seen_together=lambda source: tuple(time for time in maps.together(source) if time in times),
        ),
    )


def choose_source(
    reconstruction: Reconstruction,
    source: int,
    row: int,
    stride: int,
    *,
    min_confidence: float = 1.0,
    times: tuple[int, ...] | None = None,
) -> tuple[ChosenPoints, ChosenPoints]:
    """Points of one source: those that stand still, as P, and those that move, at ``times`` (all kept ones).

    ``row``: number of the source among those shown, by which its grid is shifted.
    """
    maps = reconstruction.maps
    times = maps.targets if times is None else times
    chosen = _grid(reconstruction.size, stride, row) & clear_pixels(reconstruction, source, min_confidence)
    moves = motion_mask(reconstruction, source).numpy() if {*maps.targets} - {source} else np.zeros_like(chosen)
    still = _take(reconstruction, source, (None,), chosen & ~moves, stride)
    return still, _take(reconstruction, source, times or (None,), chosen & moves, stride)


def content_box(reconstruction: Reconstruction) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what shows the video, in pixels of the network's image."""
    rows, columns = (reconstruction.content.any(dim=axis).nonzero() for axis in (1, 0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def patch_sides(
    reconstruction: Reconstruction, points: ChosenPoints, positions: Float[np.ndarray, "points 3"]
) -> Float[np.ndarray, "points"]:
    """Length in the world of the patch that each point stands for, from its distance to the camera that saw it."""
    centers = reconstruction.cameras.centers.double().numpy()[points.source]
    focal = reconstruction.cameras.intrinsics[:, 0, 0].double().numpy()[points.source]
    return np.linalg.norm(positions - centers, axis=1) / focal * points.spacing


def pivot(reconstruction: Reconstruction, positions: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "3"]:
    """The middle of the scene as the reference camera sees it: what one turns about."""
    w2c = reconstruction.cameras.w2c[reconstruction.reference].double().numpy()
    seen = positions @ w2c[:3, :3].T + w2c[:3, 3]
    middle = np.array([*np.median(seen[:, :2], axis=0), max(np.quantile(seen[:, 2], 0.4), 1e-3)])
    c2w = reconstruction.cameras.c2w[reconstruction.reference].double().numpy()
    return c2w[:3, :3] @ middle + c2w[:3, 3]


def _grid(size: tuple[int, int], stride: int, row: int) -> Bool[np.ndarray, "height width"]:
    chosen = np.zeros(size, dtype=bool)
    y, x = (int(phase * (row + 0.5) % 1 * stride) for phase in PHASES)
    chosen[y::stride, x::stride] = True
    return chosen


def clear_pixels(
    reconstruction: Reconstruction, source: int, min_confidence: float
) -> Bool[np.ndarray, "height width"]:
    """Sure pixels of the video, in front of their camera and on no edge of depth."""
    point_map = reconstruction.maps.time_variant(source)
    z = depth(reconstruction, source)
    clear = reconstruction.content & (z > 0) & ~depth_edges(z) & (point_map.confidence >= min_confidence)
    return clear.numpy()


def _take(
    reconstruction: Reconstruction, source: int, times: Sequence[int | None], chosen: np.ndarray, stride: int
) -> ChosenPoints:
    maps = reconstruction.maps
    pixel = np.flatnonzero(chosen)
    positions = [
        (maps.time_variant(source) if time is None else maps.at(time, source)).points.flatten(0, 1).numpy()[pixel]
        for time in times
    ]
    return ChosenPoints(
        positions=np.stack(positions),
        colors=reconstruction.frames[source].flatten(0, 1).numpy()[pixel],
        confidence=maps.time_variant(source).confidence.flatten().numpy()[pixel],
        source=np.full(len(pixel), source),
        pixel=pixel,
        spacing=float(stride),
    )


def joined(parts: Sequence[ChosenPoints]) -> ChosenPoints:
    """Points of several sources at the same times, in their order."""
    return ChosenPoints(
        positions=np.concatenate([part.positions for part in parts], axis=1),
        colors=np.concatenate([part.colors for part in parts]),
        confidence=np.concatenate([part.confidence for part in parts]),
        source=np.concatenate([part.source for part in parts]),
        pixel=np.concatenate([part.pixel for part in parts]),
        spacing=parts[0].spacing,
    )


def _bounded(
    sources: tuple[int, ...], times: tuple[int, ...], still: ChosenPoints, moving: ChosenPoints, max_positions: int
) -> SceneChoice:
    """Without what lies far outside of the scene, and with moving points thinned to ``max_positions`` in all."""
    everything = np.concatenate([still.positions.reshape(-1, 3), moving.positions.reshape(-1, 3)])
    if not len(everything):
        raise InputError("no point of this result is left to show; lower --min-confidence")
    low, high = scene_box(everything)

    def inside(points: ChosenPoints) -> ChosenPoints:
        return points.select(inside_box(points.positions, low, high))

    count = len(still) + len(moving)
    still, moving = inside(still), inside(moving)
    left_out = count - len(still) - len(moving)
    most = max(1, max_positions // max(1, len(times)))
    if len(moving) > most:
        spread = np.floor(np.arange(most) * (len(moving) / most)).astype(int)
        moving = moving.select(spread, moving.spacing * math.sqrt(len(moving) / most))
    return SceneChoice(sources, times, still, moving, low, high, left_out)


def scene_box(positions: Float[np.ndarray, "points 3"]) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Least and largest coordinates of what belongs to the scene (``REACH``); points outside of it are strays."""
    near, far = (np.quantile(positions, q, axis=0) for q in (0.005, 0.995))
    margin = REACH * (far - near) + 1e-6
    return near - margin, far + margin


def inside_box(
    positions: Float[np.ndarray, "times points 3"], low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"]
) -> Bool[np.ndarray, "points"]:
    """Which points are within the box at all times."""
    return np.asarray(((positions >= low) & (positions <= high)).all(axis=(0, 2)))

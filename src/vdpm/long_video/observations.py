"""What the alignment looks at: the same pixels of each frame, in every window that holds the frame."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vdpm.structures import Cameras, PointMap

SAMPLES = 192
"""Pixels a frame. The memory of the alignment grows with them and with the frames, never with the frames' pixels."""

SUREST = 10.0
"""Confidence above which a point counts no more: a few pixels must not carry a window alone."""

ASIDE = 3
"""Pixels to either side from which slopes are taken: about the reach of the patches that are followed in pictures."""


@dataclass(frozen=True, eq=False)
class WindowMaps:
    """What one window says: its ``frames`` (indices in the clip), their cameras, and ``read(frame)``, the point map
    of a frame at its own time. All in the window's own world and unit.
    """

    frames: tuple[int, ...]
    cameras: Cameras
    read: Callable[[int], PointMap]


@dataclass(frozen=True, eq=False)
class Observations:
    """Sampled points of all (window, frame) pairs, called entries; float64.

    ``window``, ``frame``: of each entry. ``points``: in the window's world. ``weights``: confidence, at most 10 and
    about 1 on average; 0 does not count. ``slope``: by what share the depth grows from pixel to pixel, to the right and
    down; 0 where that is not known. ``c2w``, ``intrinsics``: what the window says of that frame's camera.
    ``pixels``: the positions sampled (x, y), the same in every frame. ``marks``: points at pixels that were asked for.
    """

    window: Int[Tensor, "entries"]
    frame: Int[Tensor, "entries"]
    points: Float[Tensor, "entries samples 3"]
    weights: Float[Tensor, "entries samples"]
    slope: Float[Tensor, "entries samples 2"]
    c2w: Float[Tensor, "entries 4 4"]
    intrinsics: Float[Tensor, "entries 3 3"]
    pixels: Float[Tensor, "samples 2"]
    marks: Float[Tensor, "entries marks 3"]
    num_windows: int
    num_frames: int
    size: tuple[int, int]

    def to(self, device: torch.device | str) -> "Observations":
        """The same on ``device``."""
        moved = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return Observations(**{**vars(self), **moved})

    def entries(self, windows: Sequence[int]) -> "Observations":
        """The entries of ``windows`` alone; windows keep their numbers."""
        kept = torch.isin(self.window, torch.tensor(list(windows), device=self.window.device))
        by_entry = ("window", "frame", "points", "weights", "slope", "c2w", "intrinsics", "marks")
        return Observations(**{**vars(self), **{name: getattr(self, name)[kept] for name in by_entry}})


def sample_pixels(content: Bool[Tensor, "height width"], samples: int = SAMPLES) -> Int[Tensor, "samples 2"]:
    """About ``samples`` pixels (x, y, whole) on a regular grid over those that show the video."""
    height, width = content.shape
    stride = max(1.0, math.sqrt(float(content.sum()) / samples))
    y = (torch.arange(0.5 * stride, height, stride)).long()
    x = (torch.arange(0.5 * stride, width, stride)).long()
    grid = torch.stack((x.expand(len(y), -1), y[:, None].expand(-1, len(x))), dim=-1).flatten(0, 1)
    return grid[content[grid[:, 1], grid[:, 0]]]


def observe(
    windows: Sequence[WindowMaps],
    content: Bool[Tensor, "height width"],
    num_frames: int,
    samples: int = SAMPLES,
    marks: Sequence[tuple[float, float]] = (),
) -> Observations:
    """Samples every map of every window once, a map in memory at a time. ``marks``: positions (x, y) whose points are
    wanted as well, each of the pixel that it lies in.
    """
    at = sample_pixels(content, samples)
    sides = _Sides(at, content)
    height, width = content.shape
    marked = torch.tensor([(min(max(0, int(x)), width - 1), min(max(0, int(y)), height - 1)) for x, y in marks])
    marked = marked.long().view(-1, 2)
    entries: list[tuple[int, int]] = []
    points, weights, slope, c2w, intrinsics, at_marks = [], [], [], [], [], []
    for number, window in enumerate(windows):
        for row, frame in enumerate(window.frames):
            maps = window.read(frame)
            entries.append((number, frame))
            points.append(maps.points[at[:, 1], at[:, 0]].double())
            at_marks.append(maps.points[marked[:, 1], marked[:, 0]].double())
            weights.append(maps.confidence[at[:, 1], at[:, 0]].double().clamp(max=SUREST))
            slope.append(sides.slope(maps.points, window.cameras.c2w[row]))
            c2w.append(window.cameras.c2w[row].double())
            intrinsics.append(window.cameras.intrinsics[row].double())
    table = torch.tensor(entries)
    weight = torch.stack(weights)
    return Observations(
        window=table[:, 0],
        frame=table[:, 1],
        points=torch.stack(points),
        weights=weight / weight.mean(),
        slope=torch.stack(slope),
        c2w=torch.stack(c2w),
        intrinsics=torch.stack(intrinsics),
        pixels=at.double() + 0.5,
        marks=torch.stack(at_marks),
        num_windows=len(windows),
        num_frames=num_frames,
        size=(height, width),
    )


class _Sides:
    """What lies to either side of pixels ``at`` (x, y), whose depths tell slopes; looked up once for all maps."""

    def __init__(self, at: Int[Tensor, "samples 2"], content: Bool[Tensor, "height width"]) -> None:
        height, width = content.shape
        # By axis, before and after, pixel, (x, y).
        steps = ASIDE * torch.stack((-torch.eye(2), torch.eye(2)), dim=1).long()
        places = at + steps[:, :, None]
        x, y = places[..., 0].clamp(0, width - 1), places[..., 1].clamp(0, height - 1)
        moved = torch.stack(((x[0, 1] - x[0, 0]), (y[1, 1] - y[1, 0])))
        self.number, self.apart = y * width + x, moved.clamp(min=1)
        self.shown = content[y, x].all(1)

    def slope(self, points: Float[Tensor, "height width 3"], c2w: Float[Tensor, "4 4"]) -> Float[Tensor, "samples 2"]:
        """Of the logarithm of the depth, a pixel; 0 where a side has none."""
        c2w = c2w.to(points)
        found = points.reshape(-1, 3).index_select(0, self.number.flatten())
        depth = ((found - c2w[:3, 3]) @ c2w[:3, 2]).view(self.number.shape)
        logarithm = depth.clamp(min=1e-30).log()
        share = (logarithm[:, 1] - logarithm[:, 0]) / self.apart
        return torch.where(self.shown & (depth > 0).all(1), share, 0.0).T.double()

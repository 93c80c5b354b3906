"""For points of one frame the pixels of another whose points lie nearest: two maps that show the same time.

Neighbours in one picture are neighbours in the other nearly everywhere, so few points are searched for from nothing:
one in each block of pixels. The others start where the blocks about them were found, and step to better neighbours.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vdpm.geometry.pinhole import project

BLOCK = 8
"""Side, in pixels, of the blocks that are searched for from nothing."""
CANDIDATES = 1500
"""Pixels of the surface that a block is compared with before it steps to better neighbours."""
STRIDES = (4, 2, 1)
"""Pixels of the steps, coarse to fine."""
FAR = 1e9
"""Coordinate of what lies around the picture: never the nearest."""


class Surface(NamedTuple):
    """A point map to search in, padded by ``pad`` pixels on each side so that no step leads outside; ``size`` without
    the padding. Its pixels have padded indices: rows as long as with the padding, 0 at the first pixel of the map.
    ``coarse``: those of every few pixels, and ``spots``, their points.
    """

    planes: Float[Tensor, "3 padded"]
    size: tuple[int, int]
    pad: int
    coarse: Int[Tensor, "coarse"]
    spots: Float[Tensor, "coarse 3"]

    @property
    def row(self) -> int:
        """Padded pixels a row."""
        return self.size[1] + 2 * self.pad

    @property
    def lead(self) -> int:
        """Values of a plane before the first pixel, and after the last."""
        return self.pad * self.row + self.pad

    def padded(self, index: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        """Flat index of a pixel -> its padded index."""
        return index + torch.div(index, self.size[1], rounding_mode="floor") * (2 * self.pad)

    def plain(self, index: Int[Tensor, "n"]) -> Int[Tensor, "n"]:
        """The way back."""
        return index - torch.div(index, self.row, rounding_mode="floor") * (2 * self.pad)

    def clamped(self, x: Int[Tensor, "h w"], y: Int[Tensor, "h w"]) -> Int[Tensor, "h w"]:
        """Padded index of pixel (x, y), moved into the picture."""
        height, width = self.size
        return y.clamp(0, height - 1) * self.row + x.clamp(0, width - 1)

    def squares(self, points: Float[Tensor, "3 n"], index: Int[Tensor, "n"], step: int = 0) -> Float[Tensor, "n"]:
        """Squared distance of each point from that of the padded pixel ``step`` after ``index``."""
        # Coordinate by coordinate, since picking rows of three values is many times slower; and the planes are moved,
        # which costs nothing, not the index.
        planes = self.planes[:, self.lead + step :]
        x, y, z = (plane.index_select(0, index).sub_(own).square_() for plane, own in zip(planes, points))
        return x.add_(y).add_(z)


def surface_of(points: Float[Tensor, "height width 3"]) -> Surface:
    """A map made ready to search in."""
    height, width = points.shape[:2]
    pad = BLOCK
    planes = torch.full((3, height + 2 * pad, width + 2 * pad), FAR)
    planes[:, pad : pad + height, pad : pad + width] = points.permute(2, 0, 1)
    stride = max(1, round((height * width / CANDIDATES) ** 0.5))
    y, x = torch.arange(stride // 2, height, stride), torch.arange(stride // 2, width, stride)
    coarse = (y[:, None] * (width + 2 * pad) + x).flatten()
    return Surface(planes.flatten(1), (height, width), pad, coarse, points[y[:, None], x].flatten(0, 1).contiguous())


def match_map(points: Float[Tensor, "height width 3"], surface: Surface) -> Int[Tensor, "pixels"]:
    """For every pixel of a map the pixel of ``surface`` (flat index) whose point lies nearest to its own."""
    height, width = points.shape[:2]
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    y = (torch.arange(rows) * BLOCK + BLOCK // 2).clamp(max=height - 1)
    x = (torch.arange(columns) * BLOCK + BLOCK // 2).clamp(max=width - 1)
    found = from_nothing(points[y[:, None], x].flatten(0, 1), surface)
    found_y = torch.div(found, surface.row, rounding_mode="floor").view(rows, columns)
    found_x = (found % surface.row).view(rows, columns)
    planes = points.flatten(0, 1).T.contiguous()
    # A pixel starts beside where its own block was found, or the nearest ones left, above, and between.
    all_y, all_x = torch.arange(height), torch.arange(width)
    own_row, own_column = all_y // BLOCK, all_x // BLOCK
    near_row = (own_row + torch.where(all_y % BLOCK < BLOCK // 2, -1, 1)).clamp(0, rows - 1)
    near_column = (own_column + torch.where(all_x % BLOCK < BLOCK // 2, -1, 1)).clamp(0, columns - 1)
    starts = []
    for row in (own_row, near_row):
        for column in (own_column, near_column):
            at_y = found_y[row[:, None], column] + (all_y - y[row])[:, None]
            at_x = found_x[row[:, None], column] + (all_x - x[column])
            starts.append(surface.clamped(at_x, at_y).flatten())
    return surface.plain(_stepped(planes, surface, starts, STRIDES))


def match_some(
    points: Float[Tensor, "n 3"],
    pixels: Int[Tensor, "n"],
    size: tuple[int, int],
    surface: Surface,
    *guesses: Int[Tensor, "n"],
) -> tuple[Int[Tensor, "n"], Float[Tensor, "n"]]:
    """The same for some pixels (flat index into a picture of ``size``); ``guesses`` say where each may be found.

    Returns the pixel of ``surface`` and the distance there.
    """
    y = torch.div(pixels, size[1], rounding_mode="floor")
    columns = -(-size[1] // BLOCK)
    block = torch.div(y, BLOCK, rounding_mode="floor") * columns + torch.div(
        pixels % size[1], BLOCK, rounding_mode="floor"
    )
    starts = [*map(surface.padded, guesses)]
    # The first and the last pixel of each block: where two things meet in it, most often one of each.
    number, none = torch.arange(len(block)), torch.full((-(-size[0] // BLOCK) * columns,), -1)
    for which in ("amin", "amax"):
        one = none.scatter_reduce(0, block, number, which, include_self=False)
        used = (one >= 0).nonzero()[:, 0]
        of_block = torch.zeros_like(one)
        of_block[used] = from_nothing(points[one[used]], surface)
        starts.append(of_block[block])
    planes = points.T.contiguous()
    best = _stepped(planes, surface, starts, STRIDES)
    return surface.plain(best), surface.squares(planes, best).sqrt_()


def from_nothing(points: Float[Tensor, "n 3"], surface: Surface) -> Int[Tensor, "n"]:
    """Padded index of the nearest pixel: of a coarse grid, then by steps from there."""
    # NumPy's argmin takes a tenth of the time of PyTorch's.
    nearest = torch.from_numpy(torch.cdist(points, surface.spots).numpy().argmin(axis=1))
    return _stepped(points.T.contiguous(), surface, [surface.coarse[nearest]], (BLOCK, *STRIDES))


def _stepped(
    planes: Float[Tensor, "3 n"], surface: Surface, starts: list[Int[Tensor, "n"]], strides: tuple[int, ...]
) -> Int[Tensor, "n"]:
    """From the best of ``starts`` to the best of the nine pixels about, for each stride in turn."""
    best = _Best(planes, surface)
    for row, start in enumerate(starts):
        best.compare(start, row)
    index = torch.stack(starts).gather(0, best.row()[None].long())[0]
    for stride in strides:
        steps = [dy * surface.row + dx for dy in (0, -stride, stride) for dx in (0, -stride, stride)]
        best.restart()
        for row, step in enumerate(steps[1:], 1):
            best.compare(index, row, step)
        index = index + torch.tensor(steps)[best.row()]
    return index


class _Best:
    """Which of several pixels lies nearest to each point. The bits of floats above 0 are in the order of their values,
    so the number of a pixel can ride on the last four, and one minimum tells both.
    """

    def __init__(self, points: Float[Tensor, "3 n"], surface: Surface) -> None:
        self.points, self.surface = points, surface
        self.least = torch.full((points.shape[1],), torch.iinfo(torch.int32).max, dtype=torch.int32)

    def compare(self, index: Int[Tensor, "n"], number: int, step: int = 0) -> None:
        """Takes the pixel ``step`` after ``index`` where it is nearer than those before."""
        bits = self.surface.squares(self.points, index, step).view(torch.int32)
        torch.minimum(self.least, bits.bitwise_and_(-16).bitwise_or_(number), out=self.least)

    def restart(self) -> None:
        """The nearest so far is number 0 of those that follow."""
        self.least.bitwise_and_(-16)

    def row(self) -> Int[Tensor, "n"]:
        """The number of the nearest."""
        return self.least & 15


def inside(
    points: Float[Tensor, "n 3"],
    w2c: Float[Tensor, "4 4"],
    intrinsics: Float[Tensor, "3 3"],
    size: tuple[int, int],
    margin: float = 0.1,
) -> tuple[Bool[Tensor, "n"], Int[Tensor, "n"]]:
    """Which points a camera has in its picture or within ``margin`` of its size about it, and their nearest pixels."""
    local = points @ w2c[:3, :3].T + w2c[:3, 3]
    x, y = project(local, intrinsics)[0].unbind(-1)
    height, width = size
    by, bx = margin * height, margin * width
    seen = (local[:, 2] > 1e-9) & (x > -bx) & (x < width + bx) & (y > -by) & (y < height + by)
    return seen, y.clamp(0, height - 1).long() * width + x.clamp(0, width - 1).long()

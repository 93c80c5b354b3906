"""The pixel of a point map that lies nearest to a point in space: on a coarse grid, then by descent from there."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

COARSE_CANDIDATES = 2000
"""Pixels of the map that every point is compared with before the search goes local."""
CHUNK_VALUES = 4_000_000
"""Distances in memory at once."""


def coarse_stride(surface: Float[Tensor, "h w 3"]) -> int:
    """Pixels between those of the coarse grid."""
    height, width = surface.shape[:2]
    return max(1, round(math.sqrt(height * width / COARSE_CANDIDATES)))


def coarse(points: Float[Tensor, "n 3"], surface: Float[Tensor, "h w 3"], stride: int) -> Int[Tensor, "n"]:
    """Flat index in ``surface`` of the nearest among every ``stride``-th pixel."""
    height, width = surface.shape[:2]
    first = stride // 2
    pixels = torch.arange(height * width).view(height, width)[first::stride, first::stride].flatten()
    candidates = surface.flatten(0, 1)[pixels]
    chunk = max(1, CHUNK_VALUES // len(candidates))
    return torch.cat([pixels[torch.cdist(part, candidates).argmin(dim=1)] for part in points.split(chunk)])


def descend(
    points: Float[Tensor, "n 3"], surface: Float[Tensor, "h w 3"], index: Int[Tensor, "n"], stride: int
) -> Int[Tensor, "n"]:
    """The nearest pixel within ``stride`` of the start, then of the one found, then among its direct neighbours."""
    for radius in (stride, stride, 1):
        reach = torch.arange(-radius, radius + 1)
        dy, dx = torch.meshgrid(reach, reach, indexing="ij")
        window = torch.stack([dx.flatten(), dy.flatten()], dim=-1)
        chunk = max(1, CHUNK_VALUES // (3 * len(window)))
        width = surface.shape[1]
        found = []
        for part, at in zip(points.split(chunk), index.split(chunk)):
            centre = torch.stack([at % width, at // width], dim=-1)
            near = flat_index(centre[:, None] + window, (surface.shape[0], width))
            distance = (surface.flatten(0, 1)[near] - part[:, None]).square().sum(dim=-1)
            found.append(near.gather(1, distance.argmin(dim=1, keepdim=True))[:, 0])
        index = torch.cat(found)
    return index


def flat_index(pixels: Int[Tensor, "*any 2"], size: tuple[int, ...]) -> Int[Tensor, "*any"]:
    """Flat index of pixel (x, y), clamped into the image of ``size`` (height, width)."""
    return pixels[..., 1].clamp(0, size[0] - 1) * size[1] + pixels[..., 0].clamp(0, size[1] - 1)

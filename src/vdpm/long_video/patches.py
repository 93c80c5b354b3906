"""Where a patch of one picture lies in another, from a guess that is a few pixels off (Lucas and Kanade)."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

LEVELS = ((2.0, 5), (1.0, 4))
"""Blur and half the width of patches, coarse first, in pixels."""
STEPS = 6
"""Of each level."""
LONGEST_STEP = 1.5
EDGE = 0.05
"""Share of a patch's strongest gradient that is added to both directions: along an edge the guess stays."""
NOISE = 4e-5
"""Mean square of a gradient, of 1 a pixel, that is no more than noise of pictures."""


class Matches(NamedTuple):
    """``places``: (x, y) in the other picture. ``alike``: correlation of the patches there. ``sureness``: how well each
    direction is fixed, 0 to 1, symmetric; little along an edge, and all of it where there is no texture.
    """

    places: Float[Tensor, "pairs points 2"]
    alike: Float[Tensor, "pairs points"]
    sureness: Float[Tensor, "pairs points 2 2"]


def grey(frames: UInt8[Tensor, "frames height width 3"]) -> Float[Tensor, "frames height width"]:
    """Luma of Rec. 601 in [0, 1]."""
    return (frames.float() @ frames.new_tensor((0.299, 0.587, 0.114), dtype=torch.float32)) / 255


def blurred(pictures: Float[Tensor, "frames height width"], sigma: float) -> Float[Tensor, "frames height width"]:
    """By a Gaussian; borders are continued."""
    reach = round(3 * sigma)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1, device=pictures.device) ** 2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    across = F.conv2d(F.pad(pictures[:, None], (reach, reach, 0, 0), mode="replicate"), kernel[None, None, None])
    return F.conv2d(F.pad(across, (0, 0, reach, reach), mode="replicate"), kernel[None, None, :, None])[:, 0]


def match_patches(
    first: Float[Tensor, "pairs height width"],
    second: Float[Tensor, "pairs height width"],
    at: Float[Tensor, "points 2"],
    guess: Float[Tensor, "pairs points 2"],
    half: int,
) -> Matches:
    """Patches of ``first`` around ``at`` in ``second``, from ``guess`` on; contrast may differ by half or twice."""
    offset = torch.arange(-half, half + 1, device=first.device, dtype=first.dtype)
    grid = torch.stack(torch.meshgrid(offset, offset, indexing="xy"), dim=-1).flatten(0, 1)

    def patch(pictures: Tensor, places: Tensor) -> Tensor:
        height, width = pictures.shape[-2:]
        scaled = 2 * (places[:, :, None] + grid) / grid.new_tensor((width, height)) - 1
        return F.grid_sample(pictures[:, None], scaled, padding_mode="border", align_corners=False)[:, 0]

    at = at.expand_as(guess).to(first.dtype)
    shift = 0.5 * torch.eye(2, device=first.device, dtype=first.dtype)
    gradient = torch.stack([_centred(patch(first, at + side) - patch(first, at - side)) for side in shift], dim=-1)
    mine = _centred(patch(first, at))
    tensor = gradient.mT @ gradient / len(grid)
    trace = tensor.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    inverse = torch.linalg.inv(tensor + (EDGE * trace + 1e-9) * torch.eye(2).to(tensor))
    places = guess.to(first.dtype)
    for _ in range(STEPS):
        other = _centred(patch(second, places))
        contrast = (other * mine).sum(-1) / other.square().sum(-1).clamp(min=1e-9)
        off = mine - contrast.clamp(0.5, 2)[..., None] * other
        step = inverse @ (gradient.mT @ off[..., None] / len(grid))
        places = places + step[..., 0].clamp(-LONGEST_STEP, LONGEST_STEP)
    other = _centred(patch(second, places))
    alike = (other * mine).sum(-1) / (other.norm(dim=-1) * mine.norm(dim=-1)).clamp(min=1e-9)
    return Matches(places, alike, tensor / (trace + NOISE))


def _centred(values: Tensor) -> Tensor:
    return values - values.mean(-1, keepdim=True)

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
ALIKE_NOISE = 3.0
"""Errors of places over what independent noise of pixels would give: neighbours err alike. Measured on made scenes,
over a hundredfold range of texture and for 2 to 60 frames between the pictures, it was 2.8 to 4.3."""
FINEST = 0.05
"""Pixels below which no place is known."""
LEAST_NOISE = 1e-5
"""Mean square of differences between patches, of 1, below which no place is better known: 0.8 of 255 grey levels.
Compression makes a dull patch stand still, and then it differs by nothing at all."""


class Matches(NamedTuple):
    """``places``: (x, y) in the other picture. ``alike``: correlation of the patches there. ``sureness``: inverse of
    the covariance of the places, 1 / pixels^2, by the texture and by what differs between the patches: little along an
    edge, and in all directions where there is no texture.
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
    kernel = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    shares = (kernel / kernel.sum()).tolist()
    height, width = pictures.shape[-2:]

    def summed(parts: list[Tensor]) -> Tensor:
        # Picture by picture moved and added: a convolution of a single channel takes several times as long.
        whole = shares[0] * parts[0]
        for share, part in zip(shares[1:], parts[1:]):
            whole.add_(part, alpha=share)
        return whole

    wide = F.pad(pictures[:, None], (reach, reach, 0, 0), mode="replicate")[:, 0]
    across = summed([wide[..., k : k + width] for k in range(len(shares))])
    high = F.pad(across[:, None], (0, 0, reach, reach), mode="replicate")[:, 0]
    return summed([high[:, k : k + height] for k in range(len(shares))])


def match_patches(
    first: Float[Tensor, "pairs height width"],
    second: Float[Tensor, "pairs height width"],
    at: Float[Tensor, "*pairs points 2"],
    guess: Float[Tensor, "pairs points 2"],
    half: int,
    warps: Float[Tensor, "pairs points 3 2"] | None = None,
) -> Matches:
    """Patches of ``first`` around ``at`` in ``second``, from ``guess`` on; contrast may differ by half or twice.

    ``warps``: how the surroundings of a point lie in the second picture: what is u away here is A u / (1 + b u) away
    there, with A the first two rows and b the last; as they are unless told. A wall seen from aside is narrower, and a
    patch that did not follow that would slide along it.
    """
    height, width = first.shape[-2:]
    offset = torch.arange(-half, half + 1, device=first.device, dtype=first.dtype)
    grid = torch.stack(torch.meshgrid(offset, offset, indexing="xy")).flatten(1)
    count = grid.shape[1]
    unit = 2 / grid.new_tensor((width, height))

    def patch(pictures: Tensor, places: Tensor, offsets: Float[Tensor, "*any 2 n"]) -> Float[Tensor, "pairs points n"]:
        """``offsets`` in the unit of ``grid_sample``, x and y apart: adding numbers two by two takes far longer."""
        scaled = ((places * unit - 1)[..., None] + offsets).mT
        return F.grid_sample(pictures[:, None], scaled, padding_mode="border", align_corners=False)[:, 0]

    at = at.expand_as(guess).to(first.dtype)
    here = grid * unit[:, None]
    shift = 0.5 * torch.eye(2, device=first.device, dtype=first.dtype)
    gradient = torch.stack(
        [_centred(patch(first, at + side, here) - patch(first, at - side, here)) for side in shift], dim=-2
    )
    mine = _centred(patch(first, at, here))
    tensor = gradient @ gradient.mT / count
    trace = tensor.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    inverse = torch.linalg.inv(tensor + (EDGE * trace + 1e-9) * torch.eye(2).to(tensor))
    places = guess.to(first.dtype)
    warps = torch.eye(3)[:, :2].to(tensor).expand(*places.shape[:2], 3, 2) if warps is None else warps
    there = warps[..., :2, :] @ grid / (1 + warps[..., 2:, :] @ grid).clamp(min=0.5) * unit[:, None]
    warps = warps[..., :2, :]
    for _ in range(STEPS):
        other = _centred(patch(second, places, there))
        contrast = (other * mine).sum(-1) / other.square().sum(-1).clamp(min=1e-9)
        off = mine - contrast.clamp(0.5, 2)[..., None] * other
        step = warps @ inverse @ (gradient @ off[..., None] / count)
        places = places + step[..., 0].clamp(-LONGEST_STEP, LONGEST_STEP)
    other = _centred(patch(second, places, there))
    alike = (other * mine).sum(-1) / (other.norm(dim=-1) * mine.norm(dim=-1)).clamp(min=1e-9)
    contrast = (other * mine).sum(-1) / other.square().sum(-1).clamp(min=1e-9)
    noise = (mine - contrast.clamp(0.5, 2)[..., None] * other).square().mean(-1).clamp(min=LEAST_NOISE)
    # Inverse covariance in the first picture, in the second, and with the least error added.
    (a, b), (c, d) = warps[..., 0, :].unbind(-1), warps[..., 1, :].unbind(-1)
    area = (a * d - b * c)[..., None, None]
    back = torch.stack((d, -b, -c, a), dim=-1).unflatten(-1, (2, 2)) / torch.where(area.abs() < 1e-6, 1.0, area)
    inverse = back.mT @ tensor @ back * (count / (ALIKE_NOISE**2 * noise))[..., None, None]
    return Matches(places, alike, torch.linalg.solve(torch.eye(2).to(tensor) + FINEST**2 * inverse, inverse))


def _centred(values: Tensor) -> Tensor:
    return values - values.mean(-1, keepdim=True)

"""What JPEG and video codecs leave of a picture: blocks of 8 x 8, transformed, quantised and transformed back."""

import functools
import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vdpm.synthetic.hashing import constant

_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
_CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99), (18, 21, 26, 66, 99, 99, 99, 99), (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99), *(((99,) * 8,) * 4),
)  # fmt: skip
"""Quantisation at quality 50, of values 0 to 255 (ITU-T T.81, Annex K)."""
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))
_FROM_YCC = ((1.0, 0.0, 1.402), (1.0, -0.344136, -0.714136), (1.0, 1.772, 0.0))


def compress(
    picture: Float[Tensor, "batch frames 3 height width"], strength: Float[Tensor, "batch"]
) -> Float[Tensor, "batch frames 3 height width"]:
    """RGB in [0, 1] after one round of JPEG's transform with colour at half the resolution.

    ``strength``: steps relative to those of quality 50; below 1e-3 the picture stays as it is. No entropy coding,
    which loses nothing. Each clip's blocks start elsewhere by nothing but the picture's padding to whole blocks.
    """
    height, width = picture.shape[-2:]
    tall, wide = -height % 16, -width % 16
    flat = F.pad(picture.flatten(0, 1), (0, wide, 0, tall), mode="replicate").unflatten(0, picture.shape[:2])
    device = picture.device
    ycc = _mixed(_TO_YCC, flat)
    rows, columns = height + tall, width + wide
    step = strength.clamp_min(1e-4)[:, None, None, None, None] / 255
    luma = _quantised(ycc[:, :, :1] - 0.5, _blocks(rows, 1, device), _blocks(columns, 1, device), _LUMINANCE, step)
    chroma = _quantised(ycc[:, :, 1:], _blocks(rows, 2, device), _blocks(columns, 2, device), _CHROMINANCE, step)
    back = _mixed(_FROM_YCC, torch.cat([luma + 0.5, chroma], 2))[..., :height, :width].clamp(0, 1)
    return torch.where(strength[:, None, None, None, None] < 1e-3, picture, back)


def _mixed(matrix: tuple[tuple[float, ...], ...], picture: Tensor) -> Tensor:
    """The channels (third axis) mixed; written out, since matrix products may run in reduced precision."""
    weights = constant(matrix, picture.device)[..., None, None]
    return weights[:, 0] * picture[:, :, :1] + weights[:, 1] * picture[:, :, 1:2] + weights[:, 2] * picture[:, :, 2:]


def _quantised(
    plane: Tensor, rows: tuple[Tensor, Tensor], columns: tuple[Tensor, Tensor], table: tuple, step: Tensor
) -> Tensor:
    (forth_r, back_r), (forth_c, back_c) = rows, columns
    values = forth_r @ plane @ forth_c.T
    steps = constant(table, plane.device).tile(values.shape[-2] // 8, values.shape[-1] // 8) * step
    return back_r @ (torch.round(values / steps) * steps) @ back_c.T


@functools.lru_cache(maxsize=64)
def _blocks(size: int, coarser: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Matrices [size // coarser, size] from pixels to cosines of blocks of 8, after averaging ``coarser`` pixels to
    one, and back with linear interpolation."""
    small = size // coarser
    k, n = torch.arange(8, dtype=torch.float64)[:, None], torch.arange(8, dtype=torch.float64)
    cosines = torch.cos(math.pi * (2 * n + 1) * k / 16) * 0.5
    cosines[0] *= math.sqrt(0.5)
    transform = torch.block_diag(*[cosines] * (small // 8))
    pool = torch.eye(small, dtype=torch.float64).repeat_interleave(coarser, 1) / coarser
    spread = F.interpolate(torch.eye(small, dtype=torch.float64)[None], size=size, mode="linear")[0].T
    forth, back = transform @ pool, spread @ transform.T
    return forth.float().to(device), back.float().to(device)

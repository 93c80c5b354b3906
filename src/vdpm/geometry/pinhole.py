"""Pinhole cameras without distortion, axes as in OpenCV (x right, y down, z forward), pixel centres at +0.5."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

FARTHEST = 0.25
"""Way from a point to its pixel's ray, as a share of the picture's diagonal, beyond which it goes no farther."""


def pixel_grid(
    height: int, width: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> Float[Tensor, "height width 2"]:
    """Positions (x, y) of the pixel centres: (0.5, 0.5) at the top left."""
    y = torch.arange(height, device=device, dtype=dtype or torch.get_default_dtype()) + 0.5
    x = torch.arange(width, device=device, dtype=y.dtype) + 0.5
    return torch.stack((x.expand(height, width), y[:, None].expand(height, width)), dim=-1)


def unproject(
    depth: Float[Tensor, "*batch height width"], intrinsics: Float[Tensor, "*#batch 3 3"]
) -> Float[Tensor, "*batch height width 3"]:
    """Depth along z of every pixel -> points in the camera, in the unit of ``depth``."""
    x, y = pixel_grid(depth.shape[-2], depth.shape[-1], device=depth.device, dtype=depth.dtype).unbind(-1)
    fx, fy, skew, cx, cy = _entries(intrinsics, extra_axes=2)
    ray_y = (y - cy) / fy
    ray_x = (x - cx - skew * ray_y) / fx
    return torch.stack((ray_x * depth, ray_y * depth, depth), dim=-1)


def project(
    points: Float[Tensor, "... 3"], intrinsics: Float[Tensor, "*batch 3 3"]
) -> tuple[Float[Tensor, "... 2"], Float[Tensor, "..."]]:
    """Points [*batch, *any, 3] in the camera -> positions (x, y) in pixels, and depth along z.

    Where the depth is not above 0 the point is not in view and its position means nothing (but is finite at depth 0).
    """
    fx, fy, skew, cx, cy = _entries(intrinsics, extra_axes=max(0, points.ndim - 1 - (intrinsics.ndim - 2)))
    x, y, z = points.unbind(-1)
    divisor = torch.where(z.abs() < torch.finfo(z.dtype).eps, torch.full_like(z, torch.finfo(z.dtype).eps), z)
    x, y = x / divisor, y / divisor
    return torch.stack((fx * x + skew * y + cx, fy * y + cy), dim=-1), z


def ways_to_rays(
    points: Float[Tensor, "*any 3"],
    rays: Float[Tensor, "*any 2"],
    intrinsics: Float[Tensor, "*batch 3 3"],
    size: tuple[int, int],
) -> Float[Tensor, "*any 2"]:
    """From points in the camera to their pixels' ``rays`` (both at depth 1), at most ``FARTHEST`` of the diagonal of an
    image of ``size`` (height, width); 0 for points that are not before the camera. Times its depth it moves a point.
    """
    depth = points[..., 2:]
    front = depth > 0
    off = torch.where(front, rays - points[..., :2] / torch.where(front, depth, 1.0), 0.0)
    # A point at next to no depth would send what is behind it anywhere.
    reach = FARTHEST * math.hypot(*size) / intrinsics[..., [0, 1], [0, 1]].amin()
    return off * (reach / off.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-12)).clamp(max=1.0)


def intrinsics_from_fov(
    fov_h: Float[Tensor, "*batch"], fov_w: Float[Tensor, "*batch"], size: tuple[int, int]
) -> Float[Tensor, "*batch 3 3"]:
    """Vertical and horizontal fields of view (radians) -> intrinsics in pixels of an image of ``size`` (height, width).

    The principal point is the image's centre, (width / 2, height / 2).
    """
    height, width = size
    fy, fx = height / 2 / torch.tan(fov_h / 2), width / 2 / torch.tan(fov_w / 2)
    return intrinsics_from_focal(fx, fy, size)


def intrinsics_from_focal(
    fx: Float[Tensor, "*batch"], fy: Float[Tensor, "*batch"], size: tuple[int, int]
) -> Float[Tensor, "*batch 3 3"]:
    """Focal lengths in pixels -> intrinsics of an image of ``size`` (height, width), principal point at its centre."""
    height, width = size
    zero, one = torch.zeros_like(fx), torch.ones_like(fx)
    rows = ((fx, zero, one * (width / 2)), (zero, fy, one * (height / 2)), (zero, zero, one))
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def square_pixels(intrinsics: Float[Tensor, "*batch 3 3"], ratio: float = 1.0) -> Float[Tensor, "*batch 3 3"]:
    """Two focal lengths that disagree -> one, the geometric mean; fx / fy becomes ``ratio``, and fx * fy stays.

    ``ratio`` is that of a camera with square pixels in an image that was resized unevenly
    (``ImageTransform.square_ratio``).
    """
    focal = (intrinsics[..., 0, 0] * intrinsics[..., 1, 1]).sqrt()
    squared = intrinsics.clone()
    squared[..., 0, 0], squared[..., 1, 1] = focal * math.sqrt(ratio), focal / math.sqrt(ratio)
    return squared


def fov_from_intrinsics(
    intrinsics: Float[Tensor, "*batch 3 3"], size: tuple[int, int]
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Intrinsics in pixels of an image of ``size`` (height, width) -> vertical and horizontal fields of view (radians).

    Inverts ``intrinsics_from_fov``, so the principal point is taken to be the image's centre.
    """
    height, width = size
    fov_h = 2 * torch.atan(height / 2 / intrinsics[..., 1, 1])
    fov_w = 2 * torch.atan(width / 2 / intrinsics[..., 0, 0])
    return fov_h, fov_w


def _entries(intrinsics: Tensor, extra_axes: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """fx, fy, skew, cx, cy, each [*batch, 1, ...] with ``extra_axes`` axes of length 1."""
    k = intrinsics.reshape(*intrinsics.shape[:-2], *([1] * extra_axes), 3, 3)
    return k[..., 0, 0], k[..., 1, 1], k[..., 0, 1], k[..., 0, 2], k[..., 1, 2]

"""World points as the cameras of a reconstruction see them."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.geometry.pinhole import project
from vdpm.geometry.rigid import transform_points
from vdpm.structures import Reconstruction

EDGE = 0.06
"""A pixel whose neighbour is farther by more than this share of its depth lies on an edge."""


def depth(reconstruction: Reconstruction, frame: int) -> Float[Tensor, "height width"]:
    """z of each pixel of ``frame`` in that frame's own camera, from P_i(t_i, pi_0): world -> camera.

    Raises UsageError for a frame that the result does not keep as a source.
    """
    points = reconstruction.maps.time_variant(frame).points
    return transform_points(reconstruction.cameras.w2c[frame].float(), points)[..., 2]


def depth_edges(z: Float[Tensor, "height width"]) -> Bool[Tensor, "height width"]:
    """Pixels on an edge of depth (``EDGE``), where point maps draw a veil between surfaces. ``z``: see ``depth``."""
    front = z.clamp(min=1e-6)
    edge = torch.zeros_like(z, dtype=torch.bool)
    for axis in (0, 1):
        step = front.diff(dim=axis).abs()
        first, last = front.narrow(axis, 0, step.shape[axis]), front.narrow(axis, 1, step.shape[axis])
        jump = step > EDGE * torch.minimum(first, last)
        edge.narrow(axis, 0, step.shape[axis]).logical_or_(jump)
        edge.narrow(axis, 1, step.shape[axis]).logical_or_(jump)
    return edge


def project_to(
    reconstruction: Reconstruction, points: Float[Tensor, "*any 3"], frame: int
) -> tuple[Float[Tensor, "*any 2"], Float[Tensor, "*any"]]:
    """World points -> positions (x, y) in pixels of ``frame``, centres at +0.5, and z in its camera."""
    cameras = reconstruction.cameras
    in_camera = transform_points(cameras.w2c[frame].float(), points)
    return project(in_camera, cameras.intrinsics[frame].float())


def in_view(
    reconstruction: Reconstruction, pixels: Float[Tensor, "*any 2"], z: Float[Tensor, "*any"]
) -> Bool[Tensor, "*any"]:
    """Whether a position with depth ``z`` lies in front of the camera and on a pixel that shows the video."""
    height, width = reconstruction.size
    inside = (pixels >= 0).all(dim=-1) & (pixels[..., 0] < width) & (pixels[..., 1] < height) & (z > 0)
    x = torch.where(inside, pixels[..., 0], 0).long()
    y = torch.where(inside, pixels[..., 1], 0).long()
    return inside & reconstruction.content[y, x]

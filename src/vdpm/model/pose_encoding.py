"""The camera head's nine numbers as cameras, and back (the training target)."""

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.geometry.pinhole import fov_from_intrinsics, intrinsics_from_fov
from vdpm.geometry.rigid import invert_rigid, matrix_to_quaternion, quaternion_to_matrix
from vdpm.structures import Cameras

MIN_FIELD_OF_VIEW = 0.01
MAX_FIELD_OF_VIEW = 3.1
"""Radians. The head's ReLU can emit a field of view of exactly zero, whose focal length would be infinite."""


def cameras_from_encoding(encoding: Float[Tensor, "*batch frames 9"], size: tuple[int, int]) -> Cameras:
    """w2c translation, quaternion xyzw, vertical and horizontal field of view -> cameras of ``size`` (h, w).

    The quaternion needs no unit norm. Fields of view are held in 0.01 to 3.1 rad; the principal point is the centre.
    """
    encoding = encoding.float()
    w2c = torch.zeros(*encoding.shape[:-1], 4, 4, device=encoding.device)
    w2c[..., :3, :3] = quaternion_to_matrix(encoding[..., 3:7])
    w2c[..., :3, 3] = encoding[..., :3]
    w2c[..., 3, 3] = 1
    fov = encoding[..., 7:].clamp(MIN_FIELD_OF_VIEW, MAX_FIELD_OF_VIEW)
    intrinsics = intrinsics_from_fov(fov[..., 0], fov[..., 1], size)
    return Cameras(c2w=invert_rigid(w2c), intrinsics=intrinsics, size=size)


def encoding_from_cameras(
    c2w: Float[Tensor, "*batch frames 4 4"], intrinsics: Float[Tensor, "*batch frames 3 3"], size: tuple[int, int]
) -> Float[Tensor, "*batch frames 9"]:
    """Cameras of ``size`` (h, w) -> the encoding, quaternion of unit norm with w >= 0. Drops the principal point."""
    w2c = invert_rigid(c2w)
    fov = torch.stack(fov_from_intrinsics(intrinsics, size), dim=-1)
    return torch.cat([w2c[..., :3, 3], matrix_to_quaternion(w2c[..., :3, :3]), fov], dim=-1)

"""Rotations and rigid motions as matrices and unit quaternions (x, y, z, w), with any leading batch axes.

A 4 x 4 matrix takes points of the frame it is named from to the frame it is named to: ``b_from_a @ point_a``.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def rigid(rotation: Float[Tensor, "*batch 3 3"], translation: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 4 4"]:
    """The 4 x 4 matrix of x -> rotation @ x + translation."""
    top = torch.cat((rotation, translation[..., None]), dim=-1)
    # Made where it is needed: a copy from the CPU would make a GPU wait, and cannot be recorded in a CUDA graph.
    bottom = torch.eye(4, dtype=top.dtype, device=top.device)[3:].expand(*top.shape[:-2], 1, 4)
    return torch.cat((top, bottom), dim=-2)


def is_rigid(transform: Float[Tensor, "*batch 4 4"], tolerance: float = 1e-3) -> Bool[Tensor, "*batch"]:
    """Whether it is a rigid motion, to ``tolerance``; not so what mirrors, scales, is transposed or not finite."""
    rotation, last = transform[..., :3, :3], transform[..., 3, :]
    orthogonal = ((rotation @ rotation.mT - torch.eye(3).to(rotation)).abs() < tolerance).all(-1).all(-1)
    below = ((last - last.new_tensor((0.0, 0.0, 0.0, 1.0))).abs() < tolerance).all(-1)
    return transform.isfinite().all(-1).all(-1) & orthogonal & below & (torch.linalg.det(rotation) > 0)


def invert_rigid(transform: Float[Tensor, "*batch 4 4"]) -> Float[Tensor, "*batch 4 4"]:
    """The inverse of a rigid motion: from b to a where ``transform`` goes from a to b."""
    inverse_rotation = transform[..., :3, :3].transpose(-1, -2)
    return rigid(inverse_rotation, -(inverse_rotation @ transform[..., :3, 3:])[..., 0])


def transform_points(transform: Float[Tensor, "*batch 4 4"], points: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3"]:
    """Points [*batch, *any, 3] of the frame that ``transform`` goes from -> in the frame it goes to.

    The leading axes of ``points`` are the batch axes of ``transform`` (or broadcast with them); further axes lie
    between them and the last one.
    """
    inner = max(0, points.ndim - 1 - (transform.ndim - 2))
    matrix = transform.reshape(*transform.shape[:-2], *([1] * inner), 4, 4)
    # Not a matmul with one row a point: that would repeat the matrix for every pixel.
    x, y, z = points[..., :1], points[..., 1:2], points[..., 2:]
    return x * matrix[..., :3, 0] + y * matrix[..., :3, 1] + z * matrix[..., :3, 2] + matrix[..., :3, 3]


def quaternion_to_matrix(quaternion: Float[Tensor, "*batch 4"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrix of a quaternion (x, y, z, w) of any length above 0."""
    x, y, z, w = quaternion.unbind(-1)
    s = 2.0 / (quaternion * quaternion).sum(-1)
    rows = (
        (1 - s * (y * y + z * z), s * (x * y - z * w), s * (x * z + y * w)),
        (s * (x * y + z * w), 1 - s * (x * x + z * z), s * (y * z - x * w)),
        (s * (x * z - y * w), s * (y * z + x * w), 1 - s * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=-1) for row in rows], dim=-2)


def matrix_to_quaternion(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 4"]:
    """Unit quaternion (x, y, z, w) with w >= 0 of a rotation matrix; exact at half turns too."""
    # The matrix gives 4 q q^T. The row of its largest diagonal entry is q times a number that is at least 1/2.
    m = rotation
    xx = 1 + m[..., 0, 0] - m[..., 1, 1] - m[..., 2, 2]
    yy = 1 - m[..., 0, 0] + m[..., 1, 1] - m[..., 2, 2]
    zz = 1 - m[..., 0, 0] - m[..., 1, 1] + m[..., 2, 2]
    ww = 1 + m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 2, 0] + m[..., 0, 2], m[..., 2, 1] + m[..., 1, 2]
    xw, yw, zw = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    rows = torch.stack(
        [torch.stack(row, dim=-1) for row in ((xx, xy, xz, xw), (xy, yy, yz, yw), (xz, yz, zz, zw), (xw, yw, zw, ww))],
        dim=-2,
    )
    largest = torch.stack((xx, yy, zz, ww), dim=-1).argmax(dim=-1)
    chosen = torch.take_along_dim(rows, largest[..., None, None], dim=-2)[..., 0, :]
    unit = chosen / chosen.norm(dim=-1, keepdim=True)
    return torch.where(unit[..., 3:] < 0, -unit, unit)


def rotation_vector_to_matrix(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation by ``|vector|`` radians about ``vector`` (Rodrigues' formula); smooth at 0."""
    half = vector.square().sum(-1, keepdim=True) / 4
    # Taylor series near 0, where the gradient of the norm is undefined. half is (angle / 2) squared.
    small = half < 1e-8
    angle = torch.where(small, torch.ones_like(half), half).sqrt()
    sine_over_angle = torch.where(small, 1 - half / 6, torch.sin(angle) / angle)
    cosine = torch.where(small, 1 - half / 2, torch.cos(angle))
    return quaternion_to_matrix(torch.cat((vector / 2 * sine_over_angle, cosine), dim=-1))


def rotation_matrix_to_vector(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """Axis times angle, the inverse of ``rotation_vector_to_matrix``; near half a turn its direction means little."""
    skew = torch.stack(
        (
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ),
        -1,
    )
    sine = skew.norm(dim=-1, keepdim=True) / 2
    cosine = (rotation.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True) - 1) / 2
    angle = torch.atan2(sine, cosine)
    return skew / 2 * torch.where(sine < 1e-9, torch.ones_like(sine), angle / sine.clamp(min=1e-12))


def cross_matrix(vector: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """[v]_x, so that [v]_x a = v x a."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = (torch.stack((zero, -z, y), -1), torch.stack((z, zero, -x), -1), torch.stack((-y, x, zero), -1))
    return torch.stack(rows, -2)


def rotation_angle(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Angle of a rotation, in radians from 0 to pi, accurate at both ends."""
    quaternion = matrix_to_quaternion(rotation)
    return 2 * torch.atan2(quaternion[..., :3].norm(dim=-1), quaternion[..., 3])

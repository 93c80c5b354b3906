"""Rotations of scene parts. Products are written out, since matrix products may run in reduced precision on a GPU."""

import torch
from jaxtyping import Float
from torch import Tensor


def compose(a: Float[Tensor, "*#batch 3 3"], b: Float[Tensor, "*#batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """a @ b in full float32."""
    return (a[..., :, :, None] * b[..., None, :, :]).sum(-2)


def rotate(matrix: Float[Tensor, "*#batch 3 3"], vector: Float[Tensor, "*#batch 3"]) -> Float[Tensor, "*batch 3"]:
    """matrix @ vector in full float32."""
    return (matrix * vector[..., None, :]).sum(-1)


def unrotate(matrix: Float[Tensor, "*#batch 3 3"], vector: Float[Tensor, "*#batch 3"]) -> Float[Tensor, "*batch 3"]:
    """The transpose of ``matrix`` times ``vector``: undoes ``rotate``."""
    return (matrix * vector[..., :, None]).sum(-2)


def turned(matrix: Float[Tensor, "3 3 *#shape"], vector: Float[Tensor, "3 *#shape"]) -> Float[Tensor, "3 *shape"]:
    """``rotate`` with the matrix and the vector along the first axes, as the renderer has them."""
    return matrix[:, 0] * vector[0] + matrix[:, 1] * vector[1] + matrix[:, 2] * vector[2]


def axis_rotation(axis: int, angle: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation by ``angle`` radians about coordinate axis 0, 1 or 2 (right-handed)."""
    cosine, sine = torch.cos(angle), torch.sin(angle)
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    rows = {
        0: [one, zero, zero, zero, cosine, -sine, zero, sine, cosine],
        1: [cosine, zero, sine, zero, one, zero, -sine, zero, cosine],
        2: [cosine, -sine, zero, sine, cosine, zero, zero, zero, one],
    }[axis]
    return torch.stack(rows, -1).unflatten(-1, (3, 3))


def rotation_about(axis: Float[Tensor, "*#batch 3"], angle: Float[Tensor, "*#batch"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation by ``angle`` radians about the unit vector ``axis`` (Rodrigues)."""
    axis, _ = torch.broadcast_tensors(axis, angle[..., None])
    x, y, z = axis.unbind(-1)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    versine = 1 - cosine
    return torch.stack(
        [
            cosine + x * x * versine, x * y * versine - z * sine, x * z * versine + y * sine,
            y * x * versine + z * sine, cosine + y * y * versine, y * z * versine - x * sine,
            z * x * versine - y * sine, z * y * versine + x * sine, cosine + z * z * versine,
        ],
        -1,
    ).unflatten(-1, (3, 3))  # fmt: skip


def looking_along(forward: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Camera axes (x right, y down, z forward: columns) in scene space (z up) for a viewing direction, without roll."""
    forward = forward / forward.norm(dim=-1, keepdim=True)
    x, y, _ = forward.unbind(-1)
    right = torch.stack([y, -x, torch.zeros_like(x)], -1)
    right = right / right.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    down = torch.linalg.cross(forward, right)
    return torch.stack([right, down, forward], -1)

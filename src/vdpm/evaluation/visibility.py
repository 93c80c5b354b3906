"""Whether moved points are seen at their time: from the surface that the frame of that time sees."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.geometry.pinhole import project
from vdpm.geometry.rigid import invert_rigid, transform_points

TOLERANCE = 0.05
"""A point up to this share of the depth behind the surface lies on it."""


def seen(
    at_targets: Float[Tensor, "targets sources height width 3"],
    own: Float[Tensor, "frames height width 3"],
    own_valid: Bool[Tensor, "frames height width"] | None,
    c2w: Float[Tensor, "frames 4 4"],
    intrinsics: Float[Tensor, "frames 3 3"],
    targets: Sequence[int],
    sources: Sequence[int],
    tolerance: float = TOLERANCE,
) -> Bool[Tensor, "targets sources height width"]:
    """Where P_i(t_j) is inside the picture of frame j, before its camera, and not behind the surface P_j(t_j).

    The surface is that of the pixel that the point falls on; where it is unknown (not ``own_valid``) it hides nothing.
    A pixel is always seen at its own time. ``targets``, ``sources``: frame numbers; points in the world of ``c2w``.
    """
    height, width = at_targets.shape[-3:-1]
    rows = []
    for row, target in enumerate(targets):
        w2c = invert_rigid(c2w[target])
        where, z = project(transform_points(w2c, at_targets[row]), intrinsics[target])
        inside = (where >= 0).all(-1) & (where[..., 0] < width) & (where[..., 1] < height) & (z > 0)
        x, y = torch.where(inside[..., None], where, 0.0).long().unbind(-1)
        surface = transform_points(w2c, own[target])[..., 2]
        if own_valid is not None:
            surface = torch.where(own_valid[target], surface, torch.inf)
        rows.append(inside & (z <= surface[y, x] * (1 + tolerance)))
        for column, source in enumerate(sources):
            if source == target:
                rows[-1][column] = True
    return torch.stack(rows)

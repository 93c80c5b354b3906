"""Derivatives of the alignment's residuals by how points move before their cameras.

A point q in a camera moves by t + w x q + l q: the frame's pose is such a motion backwards, the window's similarity one
about the window's origin. So derivatives are taken by the seven numbers (t, w, l) of each entry, by the lens, and the
residual stands behind, nine columns in all; ``moves`` says what motion each unknown is. Of the third residual, which
depths are eliminated from, only ``THIRD`` of these columns are not 0.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.geometry.alignment import Similarity
from vdpm.geometry.rigid import cross_matrix

COLUMNS = 9
THIRD = (2, 3, 4, 6, 8)
LENS_COLUMN, RIGHT = 14, 15
"""Columns of the unknowns: by the shared focal length, and the residual itself. Before them 7 of the frame and 7 of
the window."""


def moves(to_camera: Similarity, free: Bool[Tensor, "entries"], own_lens: bool) -> Float[Tensor, "entries 9 16"]:
    """Of each unknown, for frames whose poses are ``free``. The window's unit shrinks as it grows, and all errors with
    it. ``own_lens``: the frame has a focal length of its own.
    """
    scale, rotation, shift = to_camera
    found = scale.new_zeros(len(scale), COLUMNS, 16)
    found[:, range(6), range(6)] = -free.to(scale)[:, None]
    found[:, :3, 7:10] = scale[:, None, None] * rotation
    found[:, :3, 10:13] = cross_matrix(shift) @ rotation
    found[:, 3:6, 10:13] = rotation
    found[:, :3, 13] = -shift
    found[:, 6, 13], found[:, 8, 13] = 1, -1
    found[:, 7, LENS_COLUMN], found[:, 8, RIGHT] = 1, 1
    if own_lens:
        found[:, 7, 6] = 1
    return found


def by_motion(
    q: Float[Tensor, "entries samples 3"],
    rays: Float[Tensor, "entries samples 2"],
    unit: Float[Tensor, "entries samples"],
    depth: Float[Tensor, "entries samples"],
    root: Float[Tensor, "entries samples"],
) -> Float[Tensor, "entries 9 3 samples"]:
    """Derivatives of the three residuals, all times ``root``, of points that should lie on ``rays`` at ``depth``."""
    heavy = root * unit
    (x, y, z), (a, b) = q.unbind(-1), rays.unbind(-1)
    zero, across, down = torch.zeros_like(z), heavy * (x - a * z), heavy * (y - b * z)
    x, y, z = heavy * x, heavy * y, heavy * z
    columns = (
        heavy, zero, zero,
        zero, heavy, zero,
        -heavy * a, -heavy * b, heavy,
        -a * y, -b * y - z, y,
        a * x + z, b * x, -x,
        -y, x, zero,
        across, down, z,
        a * z, b * z, zero,
        across, down, z - heavy * depth,
    )  # fmt: skip
    return torch.stack(columns, dim=1).unflatten(1, (COLUMNS, 3))

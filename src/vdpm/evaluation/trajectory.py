"""Errors of camera paths as of Table 4: ATE and RPE after one similarity for the whole path."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.geometry.alignment import umeyama
from vdpm.geometry.rigid import invert_rigid, rotation_angle


@dataclass(frozen=True)
class TrajectoryErrors:
    """Root mean squares: ``ate`` of camera centres, ``rpe_translation`` and ``rpe_rotation`` (degrees) of the motion
    from each frame to the next, or over ``delta``. Lengths are in the truth's unit. NaN for a path that leaves the
    similarity open.
    """

    ate: float
    rpe_translation: float
    rpe_rotation: float


def trajectory_errors(
    predicted_c2w: Float[Tensor, "frames 4 4"],
    true_c2w: Float[Tensor, "frames 4 4"],
    delta: int = 1,
    with_scale: bool = True,
) -> TrajectoryErrors:
    """Compare paths after Umeyama's Sim(3) on the camera centres, prediction -> truth; SE(3) without ``with_scale``.

    RPE is of the motion over ``delta`` frames, from every frame that has one so far on. A camera that stands still or
    moves on a straight line leaves the rotation open: all is NaN then, to be counted. Raises UsageError for a
    ``delta`` below 1.
    """
    if delta < 1:
        raise UsageError(f"RPE over {delta} frames; give at least 1")
    predicted, true = predicted_c2w.double().cpu(), true_c2w.double().cpu()
    try:
        found = umeyama(predicted[:, :3, 3], true[:, :3, 3], with_scale=with_scale)
    except UsageError:
        return TrajectoryErrors(math.nan, math.nan, math.nan)
    aligned = predicted.clone()
    aligned[:, :3, :3] = found.rotation @ predicted[:, :3, :3]
    aligned[:, :3, 3] = found.apply(predicted[:, :3, 3])
    ate = (aligned[:, :3, 3] - true[:, :3, 3]).norm(dim=-1)
    steps, true_steps = (invert_rigid(path[:-delta]) @ path[delta:] for path in (aligned, true))
    off = invert_rigid(true_steps) @ steps
    return TrajectoryErrors(
        ate=_rms(ate),
        rpe_translation=_rms(off[:, :3, 3].norm(dim=-1)),
        rpe_rotation=_rms(torch.rad2deg(rotation_angle(off[:, :3, :3]))),
    )


def _rms(values: Float[Tensor, "values"]) -> float:
    return values.square().mean().sqrt().item() if len(values) else math.nan

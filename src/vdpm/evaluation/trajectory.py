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
    from each frame to the next. Lengths are in the truth's unit. NaN for a path that leaves the similarity open.
    """

    ate: float
    rpe_translation: float
    rpe_rotation: float


def trajectory_errors(
    predicted_c2w: Float[Tensor, "frames 4 4"], true_c2w: Float[Tensor, "frames 4 4"]
) -> TrajectoryErrors:
    """Compare paths after Umeyama's Sim(3) on the camera centres, prediction -> truth.

    A camera that stands still or moves on a straight line leaves the rotation open: all is NaN then, to be counted.
    """
    predicted, true = predicted_c2w.double().cpu(), true_c2w.double().cpu()
    try:
        found = umeyama(predicted[:, :3, 3], true[:, :3, 3])
    except UsageError:
        return TrajectoryErrors(math.nan, math.nan, math.nan)
    aligned = predicted.clone()
    aligned[:, :3, :3] = found.rotation @ predicted[:, :3, :3]
    aligned[:, :3, 3] = found.apply(predicted[:, :3, 3])
    ate = (aligned[:, :3, 3] - true[:, :3, 3]).norm(dim=-1)
    steps, true_steps = (invert_rigid(path[:-1]) @ path[1:] for path in (aligned, true))
    off = invert_rigid(true_steps) @ steps
    return TrajectoryErrors(
        ate=_rms(ate),
        rpe_translation=_rms(off[:, :3, 3].norm(dim=-1)),
        rpe_rotation=_rms(torch.rad2deg(rotation_angle(off[:, :3, :3]))),
    )


def _rms(values: Float[Tensor, "values"]) -> float:
    return values.square().mean().sqrt().item()

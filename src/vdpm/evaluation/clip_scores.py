"""All errors of one clip with ground truth at any targets: what the demo prints."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.evaluation.baselines import z_depth
from vdpm.evaluation.metrics import camera_errors, constant_depth_points, depth_errors, mean_norm
from vdpm.structures import Cameras, Snippet


@dataclass(frozen=True)
class ClipScores:
    """Errors of one clip; points in units of the clip's mean distance from the reference camera.

    ``epe_p``: P over all frames. ``epe_q``, ``epe_q_moving``: P_i(t_j) for targets other than the frame's own
    time, over all pixels and over those that have moved by more than 1 % of the mean distance between the two times.
    ``zero_motion_q``, ``zero_motion_moving``: the same for the true P_i(t_i) taken as answer (perfect shape,
    no motion).
    ``own_zero_motion_moving``: the same for the predicted P. ``flow_moving``: error of the motion alone, P_i(t_j) -
    P_i(t_i) against the true difference, moving pixels; without motion it would be ``zero_motion_moving``.
    ``constant_depth_p``: a plane at one depth in front of the true cameras. NaN where a clip has no such pixels.
    """

    epe_p: float
    epe_q: float
    epe_q_moving: float
    zero_motion_q: float
    zero_motion_moving: float
    own_zero_motion_moving: float
    flow_moving: float
    constant_depth_p: float
    depth_abs_rel: float
    depth_delta_125: float
    rotation: float
    translation: float
    direction: float
    focal: float


def score_clip(
    time_variant: Float[Tensor, "frames height width 3"],
    decoded: Float[Tensor, "targets frames height width 3"],
    cameras: Cameras,
    truth: Snippet,
) -> ClipScores:
    """Score one clip (no batch axis). ``decoded[k]`` is for target ``truth.targets[k]``; world: camera of the
    reference.
    """
    targets, frames = truth.target_points.shape[:2]
    valid = truth.valid
    target_valid = valid.expand(targets, -1, -1, -1) if truth.target_valid is None else truth.target_valid & valid
    other_time = torch.arange(frames, device=truth.targets.device) != truth.targets[:, None]
    asked = target_valid & other_time[:, :, None, None]

    stacked = torch.cat([time_variant[None], decoded]).flatten(0, 1)
    true_stacked = torch.cat([truth.points[None], truth.target_points]).flatten(0, 1)
    masks = torch.cat([valid[None], target_valid]).flatten(0, 1)
    scale, true_scale = mean_norm(stacked, masks), mean_norm(true_stacked, masks)

    p, true_p = time_variant / scale, truth.points / true_scale
    q, true_q = decoded / scale, truth.target_points / true_scale
    moving = asked & ((true_q - true_p).norm(dim=-1) > 0.01)
    plane = constant_depth_points(truth.intrinsics, truth.c2w, truth.size)
    # At the true median depth: a strong baseline, which knows the scene's distance as well as the cameras.
    centers = truth.c2w[:, None, None, :3, 3]
    rays = plane - centers
    depth = z_depth(truth.points, truth.c2w)
    plane = (centers + rays * depth[valid].median()) / true_scale

    depth_error = depth_errors(z_depth(time_variant, cameras.c2w), depth, valid)
    camera_error = camera_errors(
        cameras.c2w, truth.c2w, cameras.intrinsics, truth.intrinsics, scale.item(), true_scale.item()
    )
    return ClipScores(
        epe_p=_mean(p - true_p, valid),
        epe_q=_mean(q - true_q, asked),
        epe_q_moving=_mean(q - true_q, moving),
        zero_motion_q=_mean(true_p - true_q, asked),
        zero_motion_moving=_mean(true_p - true_q, moving),
        own_zero_motion_moving=_mean(p - true_q, moving),
        flow_moving=_mean((q - p) - (true_q - true_p), moving),
        constant_depth_p=_mean(plane - true_p, valid),
        depth_abs_rel=depth_error.abs_rel,
        depth_delta_125=depth_error.delta_125,
        rotation=camera_error.rotation,
        translation=camera_error.translation,
        direction=camera_error.direction,
        focal=camera_error.focal,
    )


def _mean(difference: Tensor, mask: Tensor) -> float:
    return difference.norm(dim=-1)[mask].mean().item()

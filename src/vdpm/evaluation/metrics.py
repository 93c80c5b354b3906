"""Errors of point maps, depth and cameras: arrays to numbers, nothing else.

Protocol of the end-point error (Tables 1 and 2 of the paper): prediction and ground truth are each scaled to unit
mean norm over the maps that are scored together, with the same masks, both in the frame of pi_0, with no other
alignment.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.geometry.pinhole import unproject
from vdpm.geometry.rigid import rotation_angle, transform_points


def mean_norm(
    points: Float[Tensor, "*maps height width 3"], valid: Bool[Tensor, "*maps height width"]
) -> Float[Tensor, ""]:
    """n(P): the mean distance from the origin over all valid points of all maps together. NaN when none is valid."""
    return points.norm(dim=-1)[valid].mean()


def scaled_distance(
    prediction: Float[Tensor, "*maps height width 3"],
    truth: Float[Tensor, "*maps height width 3"],
    valid: Bool[Tensor, "*maps height width"],
) -> Float[Tensor, "*maps height width"]:
    """|P^_m(u) / n(P^) - P_m(u) / n(P)| of every pixel; it means something where ``valid``."""
    return (prediction / mean_norm(prediction, valid) - truth / mean_norm(truth, valid)).norm(dim=-1)


def end_point_error(
    prediction: Float[Tensor, "*maps height width 3"],
    truth: Float[Tensor, "*maps height width 3"],
    valid: Bool[Tensor, "*maps height width"],
) -> Float[Tensor, "*maps"]:
    """EPE_m: the mean of ``scaled_distance`` over the valid pixels of each map (NaN for a map without truth)."""
    return mean_in_maps(scaled_distance(prediction, truth, valid), valid)


def mean_in_maps(
    values: Float[Tensor, "*maps height width"], mask: Bool[Tensor, "*maps height width"]
) -> Float[Tensor, "*maps"]:
    """The mean of each map over its pixels in ``mask``; NaN where there are none."""
    # where, not a product: what is not valid may be infinite, and 0 * inf is NaN.
    return torch.where(mask, values, 0.0).sum(dim=(-1, -2)) / mask.sum(dim=(-1, -2))


def constant_depth_points(
    intrinsics: Float[Tensor, "frames 3 3"], c2w: Float[Tensor, "frames 4 4"], size: tuple[int, int]
) -> Float[Tensor, "frames height width 3"]:
    """The constant-depth baseline: every pixel at depth 1 in its own camera, moved to the world by the cameras."""
    ones = torch.ones(len(c2w), *size, dtype=c2w.dtype, device=c2w.device)
    return transform_points(c2w, unproject(ones, intrinsics))


@dataclass(frozen=True)
class DepthErrors:
    """Errors of z-depth after scaling by one number over all frames. ``delta_125`` is a share in [0, 1]."""

    abs_rel: float
    delta_125: float


def depth_errors(
    prediction: Float[Tensor, "frames height width"],
    truth: Float[Tensor, "frames height width"],
    valid: Bool[Tensor, "frames height width"],
    align: Literal["median", "least_squares"] = "median",
) -> DepthErrors:
    """AbsRel = mean |d^ - d| / d and the share with max(d^/d, d/d^) < 1.25, scaled per clip (Table 3).

    ``align``: by the ratio of medians, or by the number s that minimises sum (s d^ - d)^2.
    """
    d, d_hat = truth[valid], prediction[valid]
    if align == "median":
        scale = d.median() / d_hat.median().clamp(min=1e-9)
    else:
        scale = (d_hat * d).sum() / d_hat.square().sum().clamp(min=1e-18)
    d_hat = d_hat * scale
    ratio = torch.maximum(d_hat / d, d / d_hat.clamp(min=1e-9))
    return DepthErrors(
        abs_rel=((d_hat - d).abs() / d).mean().item(), delta_125=(ratio < 1.25).to(torch.float32).mean().item()
    )


@dataclass(frozen=True)
class CameraErrors:
    """Errors of cameras relative to frame 0: medians over the other frames, and the mean over all.

    ``rotation``: degrees. ``translation``: distance of camera centres in units of the scene's mean distance, each
    side scaled by its own. ``direction``: angle between the true and predicted baseline, degrees, over frames whose
    true baseline is over 2 % of the mean distance (NaN where none is). ``focal``: |f^ / f - 1|, mean over frames.
    """

    rotation: float
    rotation_mean: float
    translation: float
    direction: float
    focal: float


def camera_errors(
    predicted_c2w: Float[Tensor, "frames 4 4"],
    true_c2w: Float[Tensor, "frames 4 4"],
    predicted_intrinsics: Float[Tensor, "frames 3 3"],
    true_intrinsics: Float[Tensor, "frames 3 3"],
    predicted_scale: float,
    true_scale: float,
) -> CameraErrors:
    """Compare cameras after moving both sides into the camera of frame 0; scales are the mean distances n(P)."""
    relative = torch.linalg.inv(predicted_c2w[:1]) @ predicted_c2w
    true_relative = torch.linalg.inv(true_c2w[:1]) @ true_c2w
    focal = ((predicted_intrinsics[:, 0, 0] / true_intrinsics[:, 0, 0]) - 1).abs().mean().item()
    if len(relative) < 2:
        return CameraErrors(0.0, 0.0, 0.0, math.nan, focal)
    angles = torch.rad2deg(rotation_angle(relative[1:, :3, :3].mT @ true_relative[1:, :3, :3]))
    center, true_center = relative[1:, :3, 3] / predicted_scale, true_relative[1:, :3, 3] / true_scale
    far = true_center.norm(dim=-1) > 0.02
    cosine = torch.nn.functional.cosine_similarity(center[far], true_center[far], dim=-1)
    direction = torch.rad2deg(torch.arccos(cosine.clamp(-1, 1))).median().item() if bool(far.any()) else math.nan
    return CameraErrors(
        rotation=angles.median().item(),
        rotation_mean=angles.mean().item(),
        translation=(center - true_center).norm(dim=-1).mean().item(),
        direction=direction,
        focal=focal,
    )

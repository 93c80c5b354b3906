"""Errors of one snippet by the paper's protocols (Sec. 4.1, Tables 1 to 3): tracking, two views, depth, cameras.

Lengths are in units of the snippet's mean distance from the camera of frame 0. What the literature leaves open is a
field of ProtocolOptions, or is answered in several ways under names of their own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.evaluation.baselines import z_depth
from vdpm.evaluation.metrics import (
    camera_errors,
    depth_errors,
    end_point_error,
    mean_in_maps,
    mean_norm,
    scaled_distance,
)
from vdpm.evaluation.protocol import Prediction
from vdpm.evaluation.trajectory import trajectory_errors
from vdpm.structures import Snippet

Scores = dict[str, float]
"""Errors by name; NaN where a snippet has no pixel to measure one on."""


@dataclass(frozen=True)
class ProtocolOptions:
    """Choices that the literature leaves open.

    ``own_time``: what answers for P_i(t_i), the map P ("time_variant", as a result's ``maps.at`` does) or the decoder
    asked for the frame's own time ("decoded"). ``moving``: a pixel counts as moving where its point has moved by more
    than this share of the snippet's mean distance. ``horizon``: points farther than this many mean distances have no
    truth (None: all have). Raises UsageError for shares and distances that make no sense.
    """

    own_time: Literal["time_variant", "decoded"] = "time_variant"
    moving: float = 0.01
    horizon: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.moving < 1:
            raise UsageError(f"moving is {self.moving}; give a share of the mean distance from 0 to below 1")
        if self.horizon is not None and self.horizon <= 1:
            raise UsageError(f"horizon is {self.horizon}; give a number of mean distances above 1")


def tracking_scores(prediction: Prediction, truth: Snippet, options: ProtocolOptions) -> Scores:
    """EPE of P_0(t_0), ..., P_0(t_9), Table 2. ``prediction`` was asked for all frames as targets and source 0 alone.

    ``epe``: the ten maps scaled by one number a side, mean over maps. ``epe_per_map``: each map scaled by its own.
    ``epe_moving``: as ``epe``, over the pixels and times for which the point has left its place at t_0.
    """
    predicted = _own_times(prediction, [0], options)[:, 0]
    return map_scores(
        predicted, truth.target_points[:, 0], truth.points[0], truth.valid[0] & _target_valid(truth)[:, 0], options
    )


def map_scores(
    predicted: Float[Tensor, "maps height width 3"],
    true: Float[Tensor, "maps height width 3"],
    start: Float[Tensor, "height width 3"],
    valid: Bool[Tensor, "maps height width"],
    options: ProtocolOptions,
) -> Scores:
    """The scores of tracking from the maps of one frame's pixels, which are at ``start`` at their own time."""
    error, valid, moving = _compared(predicted, true, start, valid, options)
    return {
        "epe": _mean(mean_in_maps(error, valid)),
        "epe_per_map": _mean(torch.stack([end_point_error(p, t, v) for p, t, v in zip(predicted, true, valid)])),
        "epe_moving": _mean(error[moving]),
        "moving_share": (moving.sum() / valid.sum()).item(),
    }


def two_view_scores(prediction: Prediction, truth: Snippet, options: ProtocolOptions) -> Scores:
    """EPE of P_0(t_0), P_0(t_1), P_1(t_0), P_1(t_1), Table 1, for a pair of frames asked at both times.

    The four maps are scaled together, by one number a side. ``moving``: P_0(t_1) and P_1(t_0) over moving pixels.
    Raises UsageError for a clip that is no pair.
    """
    if truth.num_frames != 2:
        raise UsageError(f"two-view scores of a clip of {truth.num_frames} frames; give a pair")
    predicted = _own_times(prediction, [0, 1], options)
    return pair_scores(predicted, truth.target_points, truth.points, truth.valid & _target_valid(truth), options)


def pair_scores(
    predicted: Float[Tensor, "2 2 height width 3"],
    true: Float[Tensor, "2 2 height width 3"],
    start: Float[Tensor, "2 height width 3"],
    valid: Bool[Tensor, "2 2 height width"],
    options: ProtocolOptions,
) -> Scores:
    """The scores of two views from the four maps [target, source], whose pixels are at ``start`` at their own time."""
    error, valid, moving = _compared(predicted, true, start, valid, options)
    moving = moving & ~torch.eye(2, dtype=torch.bool, device=moving.device)[:, :, None, None]
    (p0_t0, p1_t0), (p0_t1, p1_t1) = mean_in_maps(error, valid).tolist()
    return {"p0_t0": p0_t0, "p1_t0": p1_t0, "p0_t1": p0_t1, "p1_t1": p1_t1, "moving": _mean(error[moving])}


def shape_scores(prediction: Prediction, truth: Snippet, options: ProtocolOptions) -> Scores:
    """P_i(t_i) of all frames: EPE as above, and z-depth in each frame's own camera after scaling the whole snippet.

    ``abs_rel`` and ``delta_125`` are scaled by the ratio of medians, ``abs_rel_lsq`` and ``delta_125_lsq`` by least
    squares (Table 3's kinds of alignment).
    """
    valid = _usable(truth.points, truth.valid, options)
    depth, true_depth = z_depth(prediction.time_variant, prediction.c2w), z_depth(truth.points, truth.c2w)
    median = depth_errors(depth, true_depth, valid)
    least = depth_errors(depth, true_depth, valid, "least_squares")
    return {
        "p_epe": _mean(end_point_error(prediction.time_variant, truth.points, valid)),
        "abs_rel": median.abs_rel,
        "delta_125": median.delta_125,
        "abs_rel_lsq": least.abs_rel,
        "delta_125_lsq": least.delta_125,
    }


def camera_scores(prediction: Prediction, truth: Snippet, options: ProtocolOptions) -> Scores:
    """Cameras relative to frame 0, translations in units of each side's own mean distance n(P): see CameraErrors.

    ``ate``, ``rpe_translation``, ``rpe_rotation``: after a similarity for the whole path, see TrajectoryErrors; in
    units of the true n(P); NaN where the true path leaves the similarity open.
    """
    valid = _usable(truth.points, truth.valid, options)
    scale, true_scale = mean_norm(prediction.time_variant, valid).item(), mean_norm(truth.points, valid).item()
    errors = camera_errors(prediction.c2w, truth.c2w, prediction.intrinsics, truth.intrinsics, scale, true_scale)
    path = trajectory_errors(prediction.c2w, truth.c2w)
    return {
        "rotation": errors.rotation,
        "translation": errors.translation,
        "direction": errors.direction,
        "focal": errors.focal,
        "ate": path.ate / true_scale,
        "rpe_translation": path.rpe_translation / true_scale,
        "rpe_rotation": path.rpe_rotation,
    }


def frames_of(truth: Snippet, frames: Sequence[int]) -> Snippet:
    """The clip, or batch of clips, of some of the frames, in their order, with all of them as targets.

    The first must be the reference frame, which stays the world. Raises UsageError otherwise, and for a time without
    truth.
    """
    if not frames or frames[0] != truth.reference:
        raise UsageError(f"frames {list(frames)} do not begin with the reference frame {truth.reference}")
    known = truth.targets.reshape(-1, truth.targets.shape[-1])[0].tolist()
    if not set(frames) <= set(known):
        raise UsageError(f"no truth at the times of frames {sorted(set(frames) - set(known))}")
    which = torch.tensor(list(frames), device=truth.points.device)
    rows = torch.tensor([known.index(frame) for frame in frames], device=truth.points.device)
    picked: dict[str, Any] = {}
    for name, axis in Snippet.FRAME_AXES.items():
        if (value := getattr(truth, name)) is not None:
            picked[name] = value.index_select(axis, which)
            if name in Snippet.TARGET_AXES:
                picked[name] = picked[name].index_select(Snippet.TARGET_AXES[name], rows)
    targets = torch.arange(len(which), device=which.device).expand(*truth.targets.shape[:-1], -1)
    return replace(truth, **picked, targets=targets, reference=0)


class _Compared(NamedTuple):
    """Pixel by pixel: ``error``, the distance of prediction and truth, and which pixels count and which moved."""

    error: Float[Tensor, "*maps height width"]
    valid: Bool[Tensor, "*maps height width"]
    moving: Bool[Tensor, "*maps height width"]


def _compared(
    predicted: Float[Tensor, "*maps height width 3"],
    true: Float[Tensor, "*maps height width 3"],
    start: Float[Tensor, "*sources height width 3"],
    valid: Bool[Tensor, "*maps height width"],
    options: ProtocolOptions,
) -> _Compared:
    """Maps scaled together, by one number a side."""
    valid = _usable(true, valid, options)
    moved = (true - start).norm(dim=-1) > options.moving * mean_norm(true, valid)
    return _Compared(scaled_distance(predicted, true, valid), valid, valid & moved)


def _own_times(
    prediction: Prediction, sources: Sequence[int], options: ProtocolOptions
) -> Float[Tensor, "targets sources height width 3"]:
    """The maps that are scored: those decoded, with P in place of P_i(t_i) where the options say so."""
    maps = prediction.at_targets
    if options.own_time == "decoded":
        return maps
    maps = maps.clone()
    for column, source in enumerate(sources):
        maps[source, column] = prediction.time_variant[source]
    return maps


def _target_valid(truth: Snippet) -> Bool[Tensor, "targets frames height width"]:
    if truth.target_valid is not None:
        return truth.target_valid
    return truth.valid.expand(len(truth.targets), -1, -1, -1)


def _usable(
    points: Float[Tensor, "*maps height width 3"], valid: Bool[Tensor, "*maps height width"], options: ProtocolOptions
) -> Bool[Tensor, "*maps height width"]:
    if options.horizon is None:
        return valid
    distance = points.norm(dim=-1)
    return valid & (distance <= options.horizon * distance[valid].mean())


def _mean(values: Tensor) -> float:
    """Mean of what is defined, NaN where nothing is."""
    return values.nanmean().item() if len(values) else math.nan

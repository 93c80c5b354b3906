"""The loss of the paper: confidence-calibrated point errors averaged per example and then over the batch, plus cameras.

Ground truth is scaled to unit mean distance, the prediction is not (Sec. 3.3). Ours beyond the paper: an extra term on
moving pixels alone, which are few, one on the motion Q - P, one that keeps sky far away, and the matching loss in
``training.matching``.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Average = Literal["example", "batch"]
"""Over each example's pixels and then over the examples, or over all pixels of the batch at once."""


class PointLoss(NamedTuple):
    """``loss``: what is minimised, averaged as asked; ``error``: the plain end-point error, averaged per example."""

    loss: Float[Tensor, ""]
    error: Float[Tensor, ""]


def confidence_losses(
    points: Float[Tensor, "batch *maps 3"],
    confidence: Float[Tensor, "batch *maps"],
    truth: Float[Tensor, "batch *maps 3"],
    masks: Sequence[Bool[Tensor, "batch *maps"]],
    alpha: float,
    average: Average = "example",
) -> list[PointLoss]:
    """``C * |X^ - X| - alpha * log C`` (the loss of DUSt3R and DPM) over each of several masks of the same maps.

    With "example", each example counts the same however many of its pixels have ground truth (supplement, Sec. 6);
    examples without any are left out of the batch average. Where a mask is False, truth may be anything finite.
    """
    error = (points.float() - truth).norm(dim=-1)
    confidence = confidence.float()
    loss = confidence * error - alpha * confidence.log()
    mean = per_example_mean if average == "example" else batch_mean
    return [PointLoss(mean(loss, mask), per_example_mean(error.detach(), mask)) for mask in masks]


def per_example_mean(values: Float[Tensor, "batch *maps"], mask: Bool[Tensor, "batch *maps"]) -> Float[Tensor, ""]:
    """Mean over the masked entries of each example, then over the examples that have any; 0 when none has."""
    values, weights = values.flatten(1), mask.flatten(1).to(values.dtype)
    # where, not a product: an entry without ground truth may be infinite, and 0 * inf is NaN.
    total = torch.where(mask.flatten(1), values, values.new_zeros(())).sum(1)
    count = weights.sum(1)
    has_any = (count > 0).to(values.dtype)
    return (total / count.clamp(min=1)).sum() / has_any.sum().clamp(min=1)


def batch_mean(values: Float[Tensor, "batch *maps"], mask: Bool[Tensor, "batch *maps"]) -> Float[Tensor, ""]:
    """Mean over the masked entries of the whole batch: an example counts by their number; 0 when there are none."""
    return torch.where(mask, values, values.new_zeros(())).sum() / mask.sum().clamp(min=1)


def motion_loss(
    predicted: Float[Tensor, "batch *maps 3"],
    truth: Float[Tensor, "batch *maps 3"],
    moving: Bool[Tensor, "batch *maps"],
    still: Bool[Tensor, "batch *maps"],
    average: Average = "example",
) -> PointLoss:
    """Error of the motion Q - P alone: the mean over moving pixels plus that over still ones, which must not move.

    Errors of shape, which P and Q share, cancel in it. ``error`` is that of the moving pixels.
    """
    error = (predicted.float() - truth).norm(dim=-1)
    mean = per_example_mean if average == "example" else batch_mean
    return PointLoss(mean(error, moving) + mean(error, still), per_example_mean(error.detach(), moving))


SKY_DISTANCE = 6.0
"""Sky should lie at least this many mean distances from the camera that sees it."""


def sky_loss(
    points: Float[Tensor, "batch *maps frames height width 3"],
    confidence: Float[Tensor, "batch *maps frames height width"],
    c2w: Float[Tensor, "batch frames 4 4"],
    sky: Bool[Tensor, "batch frames height width"],
    alpha: float,
) -> Float[Tensor, ""]:
    """``max(0, 1 - distance / SKY_DISTANCE) + alpha * log C`` over pixels of sky: far from the own camera, and unsure.

    Where it is in 3D there is no telling; a network that never hears of it puts it before the houses.
    """
    place = c2w[..., :3, 3][..., None, None, :]
    ones = (1,) * (points.dim() - place.dim())
    distance = (points.float() - place.reshape(len(place), *ones, *place.shape[1:])).norm(dim=-1)
    loss = (1 - distance / SKY_DISTANCE).clamp_min(0) + alpha * confidence.float().log()
    return per_example_mean(loss, sky.reshape(len(sky), *ones, *sky.shape[1:]).expand_as(loss))


def camera_loss(
    encodings: Float[Tensor, "steps batch frames 9"], truth: Float[Tensor, "batch frames 9"], decay: float
) -> Float[Tensor, ""]:
    """L1 on the pose encoding, refinement step k of n weighted ``decay ** (n - 1 - k)`` (as VGGT)."""
    error = (encodings.float() - truth).abs()
    # Translation, rotation and field of view count alike, whatever their number of components.
    error = error[..., :3].mean(-1) + error[..., 3:7].mean(-1) + 0.5 * error[..., 7:].mean(-1)
    steps = encodings.shape[0]
    weights = decay ** torch.arange(steps - 1, -1, -1, device=error.device, dtype=error.dtype)
    return (error.mean(dim=(1, 2)) * weights).sum() / weights.sum()

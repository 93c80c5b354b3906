"""Answers that need no network: the truth itself, the truth without motion, a plane. All through the one protocol.

They know a batch of truth and answer its images alone; what their errors are tells what a network's are worth.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.evaluation.metrics import constant_depth_points
from vdpm.evaluation.protocol import Prediction
from vdpm.structures import Snippet


class Oracle:
    """The truth: every error is 0."""

    def __init__(self, truth: Snippet) -> None:
        if truth.reference != 0:
            raise UsageError(f"truth in the world of frame {truth.reference}; answers are in that of frame 0")
        self.truth = truth

    def predict(
        self,
        images: Float[Tensor, "*batch frames 3 height width"],
        targets: Sequence[int],
        sources: Sequence[int] | None = None,
    ) -> Prediction:
        """See Predictor. Raises UsageError for targets that the truth does not know."""
        truth = self.truth
        if images.shape != truth.images.shape:
            raise UsageError(f"images of shape {[*images.shape]} are not those of the truth {[*truth.images.shape]}")
        chosen = list(range(truth.num_frames)) if sources is None else list(sources)
        return Prediction(truth.points, self._maps(targets)[..., chosen, :, :, :], truth.c2w, truth.intrinsics)

    def _maps(self, targets: Sequence[int]) -> Float[Tensor, "*batch targets frames height width 3"]:
        """P_i(t_j) for the wanted targets and every frame."""
        return torch.stack([self.truth.target_points[..., row, :, :, :, :] for row in self._rows(targets)], dim=-5)

    def _rows(self, targets: Sequence[int]) -> list[int]:
        known = self.truth.targets.reshape(-1, self.truth.targets.shape[-1])
        if bool((known != known[:1]).any()):
            raise UsageError("the clips of the batch have truth at different times; give each the same targets")
        row_of = {frame: row for row, frame in enumerate(known[0].tolist())}
        missing = sorted(set(targets) - set(row_of))
        if missing:
            raise UsageError(f"no truth at the times of frames {missing}; it is there for {sorted(row_of)}")
        return [row_of[target] for target in targets]


class ZeroMotion(Oracle):
    """The true shape and cameras, and nothing moves: P_i(t_j) = P_i(t_i)."""

    def _maps(self, targets: Sequence[int]) -> Float[Tensor, "*batch targets frames height width 3"]:
        return _at_all_times(self.truth.points, len(targets))


class ConstantDepth(ZeroMotion):
    """A plane before each true camera, at the clip's true median depth, and nothing moves: a strong plane."""

    def __init__(self, truth: Snippet) -> None:
        super().__init__(replace(truth, points=_planes(truth)))


def without_motion(prediction: Prediction, sources: Sequence[int]) -> Prediction:
    """The same shape and cameras, and nothing moves. ``sources``: those that ``prediction`` was asked for."""
    chosen = prediction.time_variant[..., list(sources), :, :, :]
    return replace(prediction, at_targets=_at_all_times(chosen, prediction.at_targets.shape[-5]))


def z_depth(
    points: Float[Tensor, "*batch frames height width 3"], c2w: Float[Tensor, "*batch frames 4 4"]
) -> Float[Tensor, "*batch frames height width"]:
    """World points -> depth along the optical axis of each frame's own camera."""
    return ((points - c2w[..., None, None, :3, 3]) * c2w[..., None, None, :3, 2]).sum(-1)


def _planes(truth: Snippet) -> Float[Tensor, "*batch frames height width 3"]:
    depth, valid = (x.reshape(-1, *x.shape[-3:]) for x in (z_depth(truth.points, truth.c2w), truth.valid))
    intrinsics, c2w = (x.reshape(-1, *x.shape[-3:]) for x in (truth.intrinsics, truth.c2w))
    planes = []
    for clip in range(len(depth)):
        centers = c2w[clip][:, None, None, :3, 3]
        rays = constant_depth_points(intrinsics[clip], c2w[clip], truth.size) - centers
        planes.append(centers + rays * depth[clip][valid[clip]].median())
    return torch.stack(planes).reshape(truth.points.shape)


def _at_all_times(maps: Tensor, targets: int) -> Tensor:
    """Maps [..., sources, h, w, 3] -> [..., targets, sources, h, w, 3]."""
    return maps.unsqueeze(-5).expand(*maps.shape[:-4], targets, *maps.shape[-4:])

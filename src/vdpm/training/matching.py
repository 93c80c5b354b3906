"""A contrastive loss on mid-depth tokens: which patch of the target frame shows this patch's surface point?

Without it a network trained from nothing learns depth from single views and never correspondence, on which cameras and
motion stand. The answer comes from ground truth: P_i(t_j) at the patch's centre, projected into camera j, kept
where it is visible there.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vdpm.structures import Snippet
from vdpm.training.losses import per_example_mean


class Matches(NamedTuple):
    """Where the centre of each patch of each frame lies in the target frame: ``position`` (row, column) in
    patches, centres at whole numbers, and whether it is seen there."""

    position: Float[Tensor, "batch frames patches 2"]
    visible: Bool[Tensor, "batch frames patches"]


def ground_truth_matches(snippet: Snippet, patch: int, row: int = 0) -> Matches:
    """Matches of all frames' patches into the frame ``snippet.targets[:, row]``.

    A point is seen where it projects inside the target frame and lies within 5 % of its depth of the surface there.
    """
    height, width = snippet.size
    batch = snippet.targets.shape[0]
    target = snippet.targets[:, row]
    index = torch.arange(batch, device=target.device)
    half = patch // 2
    # The pixel right and below of the patch's centre: half a pixel off, far under a patch.
    points = snippet.target_points[:, row, :, half::patch, half::patch]
    valid = snippet.valid[:, :, half::patch, half::patch].flatten(2)
    points = points.flatten(2, 3)
    c2w = snippet.c2w[index, target]
    rotation, center = c2w[:, None, None, :3, :3], c2w[:, None, None, :3, 3]
    local = ((points - center)[..., None, :] @ rotation).squeeze(-2)
    depth = local[..., 2]
    intrinsics = snippet.intrinsics[index, target][:, None, None]
    x = local[..., 0] / depth.clamp(min=1e-6) * intrinsics[..., 0, 0] + intrinsics[..., 0, 2]
    y = local[..., 1] / depth.clamp(min=1e-6) * intrinsics[..., 1, 1] + intrinsics[..., 1, 2]
    inside = (depth > 1e-6) & (x >= 0) & (x < width) & (y >= 0) & (y < height) & valid
    column = x.clamp(0, width - 1).long()
    line = y.clamp(0, height - 1).long()
    surface = snippet.points[index[:, None, None], target[:, None, None], line, column]
    near = (surface - points).norm(dim=-1) < 0.05 * depth.abs() + 1e-6
    position = torch.stack([y / patch - 0.5, x / patch - 0.5], dim=-1)
    return Matches(position=position, visible=inside & near)


def matching_loss(
    descriptors: Float[Tensor, "batch frames rows columns channels"],
    matches: Matches,
    target: Int[Tensor, "batch"],
    temperature: float,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Cross entropy against the bilinear weights of the four patches around the true position; and the top-1 rate.

    Averaged per example, then over the batch. The target frame itself is left out: its match is trivial.
    """
    _, frames, rows, columns, _ = descriptors.shape
    is_target = torch.arange(frames, device=target.device) == target[:, None]
    # A sum with zeros, not an index: the gradient of an index scatters.
    wanted = (descriptors.float() * is_target[:, :, None, None, None]).sum(1).flatten(1, 2)
    logits = torch.einsum("bfpc,bqc->bfpq", descriptors.flatten(2, 3).float(), wanted) / temperature
    log_probability = logits.log_softmax(dim=-1)

    y, x = matches.position[..., 0].clamp(0, rows - 1), matches.position[..., 1].clamp(0, columns - 1)
    # Bilinear weights of all patches, zero but for four: again no index into what has a gradient.
    along_y = (1 - (y[..., None] - torch.arange(rows, device=y.device)).abs()).clamp(min=0)
    along_x = (1 - (x[..., None] - torch.arange(columns, device=x.device)).abs()).clamp(min=0)
    weights = (along_y[..., :, None] * along_x[..., None, :]).flatten(-2)
    score = (weights * log_probability).sum(-1)

    counted = matches.visible & ~is_target[:, :, None]
    best = logits.detach().argmax(dim=-1)
    nearest = y.round() * columns + x.round()
    hit = (best == nearest).to(score.dtype)

    return per_example_mean(-score, counted), per_example_mean(hit, counted)

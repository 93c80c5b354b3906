"""Global alignment of pairs: bring the maps of many frame pairs into one world and one unit (as DUSt3R, Sec. 3.4).

A pair (i, j) tells P_i(t_i), P_j(t_j) in the camera of i and in a unit of its own. The points of a frame at its own
time are the same in every pair, moving or not, so the similarities that take the pairs into the world follow from them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.geometry.alignment import Similarity, umeyama

_POINTS_A_MAP = 1500
"""Points of each map, evenly spread, that the similarities are fitted to."""

_ROUNDS = 40
"""Alternations between similarities and points; exact pairs need one, pairs with grossly wrong points about thirty."""

_SMALLEST = 1e-3
"""Residuals below this share of the mean distance weigh alike in the robust fits."""


class AlignedPairs(NamedTuple):
    """``transforms``: pair -> world, one for each pair. ``points``: P_i(t_i) of every frame in the world."""

    transforms: Similarity
    points: Float[Tensor, "batch frames height width 3"]


def align_pairs(
    own: Float[Tensor, "batch pairs 2 height width 3"],
    confidence: Float[Tensor, "batch pairs 2 height width"],
    pairs: Sequence[tuple[int, int]],
    frames: int,
) -> AlignedPairs:
    """Similarities of all ``pairs`` (i, j) into the camera of frame 0, and the points they agree on.

    ``own[:, e]``: P_i(t_i) and P_j(t_j) in the camera of i, in the unit of pair e; weights are log ``confidence``.
    Every pair (0, k) must be there; their camera is the world's, so they get a scale alone, the others a similarity.
    The unit is the geometric mean of those of the pairs (0, k). Distances count, not their squares, so that wrong
    points weigh little: reweighted least squares, similarities and points in turn. Raises UsageError for missing pairs
    and for points that determine no similarity.
    """
    missing = [k for k in range(1, frames) if (0, k) not in pairs]
    if missing or frames < 2:
        raise UsageError(f"aligning pairs needs (0, k) for every other of {frames} frames; {missing} are missing")
    thin = max(1, int((own.shape[-3] * own.shape[-2] / _POINTS_A_MAP) ** 0.5))
    few = own[:, :, :, thin // 2 :: thin, thin // 2 :: thin].flatten(3, 4)
    weights = _weights(confidence[:, :, :, thin // 2 :: thin, thin // 2 :: thin].flatten(3))
    transforms = _first_guess(few, weights, pairs)
    for _ in range(_ROUNDS if len(pairs) > 1 else 0):
        world, mass = _merged(transforms, few, weights, pairs, frames)
        robust = _robust(transforms, few, weights, pairs, world, mass)
        transforms = _unit(_refit(transforms, few, robust, pairs, world), pairs)
    points, _ = _merged(transforms, own.flatten(3, 4), _weights(confidence.flatten(3)), pairs, frames)
    return AlignedPairs(transforms, points.unflatten(2, own.shape[-3:-1]))


def _merged(
    transforms: Similarity,
    maps: Float[Tensor, "batch pairs 2 pixels 3"],
    weights: Float[Tensor, "batch pairs 2 pixels"],
    pairs: Sequence[tuple[int, int]],
    frames: int,
) -> tuple[Float[Tensor, "batch frames pixels 3"], Float[Tensor, "batch frames pixels"]]:
    """Weighted mean, over the pairs a frame is in, of its points in the world; and the sum of their weights."""
    moved = transforms.apply(maps) * weights[..., None]
    total = moved.new_zeros(moved.shape[0], frames, *moved.shape[3:])
    mass = weights.new_zeros(weights.shape[0], frames, weights.shape[-1])
    for side in (0, 1):
        index = torch.tensor([pair[side] for pair in pairs], device=maps.device)
        total.index_add_(1, index, moved[:, :, side])
        mass.index_add_(1, index, weights[:, :, side])
    return total / mass[..., None], mass


def _weights(confidence: Tensor) -> Tensor:
    """log C (as DUSt3R's alignment), never quite zero."""
    return confidence.log() + 1e-4


def _first_guess(few: Tensor, weights: Tensor, pairs: Sequence[tuple[int, int]]) -> Similarity:
    """Scales that give frame 0 the same size in all pairs (0, k); of the rest, what fits the points these give."""
    star = torch.tensor([i == 0 for i, _ in pairs], device=few.device)
    size = (few[:, :, 0].norm(dim=-1) * weights[:, :, 0]).sum(-1) / weights[:, :, 0].sum(-1)
    start = _identity(torch.where(star, 1.0 / size.clamp(min=1e-9), 1.0))
    start = _unit(start, pairs)
    chosen = [e for e, (i, _) in enumerate(pairs) if i == 0]
    of_star = Similarity(*(part[:, chosen] for part in start))
    frames = 1 + max(max(pair) for pair in pairs)
    world, _ = _merged(of_star, few[:, chosen], weights[:, chosen], [pairs[e] for e in chosen], frames)
    return _refit(start, few, weights, pairs, world)


def _robust(
    transforms: Similarity, few: Tensor, weights: Tensor, pairs: Sequence[tuple[int, int]], world: Tensor, mass: Tensor
) -> Tensor:
    """Weights over the distance to what the other pairs say of a point; zero where no other says anything, for such a
    point would hold its pair where it is.
    """
    index = torch.tensor(pairs, device=few.device)
    # The pair's own share of the mean draws the mean towards it.
    others = 1 - weights / mass[:, index]
    goal = world[:, index]
    residual = (transforms.apply(few) - goal).norm(dim=-1) / others.clamp(min=1e-4)
    floor = _SMALLEST * goal.norm(dim=-1).mean(dim=(1, 2, 3), keepdim=True)
    return torch.where(others > 1e-4, weights / torch.maximum(residual, floor), 0.0)


def _refit(
    transforms: Similarity, few: Tensor, weights: Tensor, pairs: Sequence[tuple[int, int]], world: Tensor
) -> Similarity:
    """The similarity of each pair onto ``world`` [batch, frames, pixels, 3]: a scale alone for pairs (0, k).

    Scales are ratios of spreads (Horn's symmetric scale): least squares would make them too small where points are
    noisy, and smaller again in each round.
    """
    goal = world[:, torch.tensor(pairs, device=few.device)]
    scale, rotation, translation = (part.clone() for part in transforms)
    star = [e for e, (i, _) in enumerate(pairs) if i == 0]
    rest = [e for e, (i, _) in enumerate(pairs) if i != 0]
    scale[:, star] = _spread(goal[:, star], weights[:, star]) / _spread(few[:, star], weights[:, star])
    if rest:
        source, target, weight = few[:, rest].flatten(2, 3), goal[:, rest].flatten(2, 3), weights[:, rest].flatten(2)
        turn = umeyama(source, target, weight).rotation
        share = (weight / weight.sum(-1, keepdim=True))[..., None]
        middle, goal_middle = (share * source).sum(-2), (share * target).sum(-2)
        size = _spread(target - goal_middle[:, :, None], weight) / _spread(source - middle[:, :, None], weight)
        scale[:, rest], rotation[:, rest] = size, turn
        translation[:, rest] = goal_middle - size[..., None] * (turn @ middle[..., None])[..., 0]
    return Similarity(scale, rotation, translation)


def _spread(points: Float[Tensor, "batch pairs *some 3"], weights: Float[Tensor, "batch pairs *some"]) -> Tensor:
    """Root of the weighted sum of squared distances from the origin, one number for each pair."""
    return (points.square().sum(-1) * weights).flatten(2).sum(-1).sqrt().clamp(min=1e-9)


def _unit(transforms: Similarity, pairs: Sequence[tuple[int, int]]) -> Similarity:
    """The same with the geometric mean of the scales of pairs (0, k) at 1; or all would shrink from round to round."""
    star = [e for e, (i, _) in enumerate(pairs) if i == 0]
    unit = transforms.scale[:, star].log().mean(1).exp()
    return Similarity(
        transforms.scale / unit[:, None], transforms.rotation, transforms.translation / unit[:, None, None]
    )


def _identity(scale: Tensor) -> Similarity:
    eye = torch.eye(3, dtype=scale.dtype, device=scale.device)
    return Similarity(scale, eye.expand(*scale.shape, 3, 3), scale.new_zeros(*scale.shape, 3))

"""Crowds of small things: scattered on the ground, piled up, or in a swarm."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.hashing import Draws, choose, constant
from vdpm.synthetic.layout import NUM_PARTS, SMALL, Layout, Surroundings, half_height
from vdpm.synthetic.motion import Poses

SCATTERED, PILED, SWARM = range(3)
_LAYERS = ((4, 3, 0), (3, 2, 1), (1, 2, 2))
"""A pile's layers: columns, rows, height."""


def _pile() -> tuple[tuple[float, float, float], ...]:
    """Places in a pile of things of half size 1, from the ground up."""
    places = []
    for columns, rows, level in _LAYERS:
        for i in range(columns * rows):
            x, y = i % columns - 0.5 * (columns - 1), i // columns - 0.5 * (rows - 1)
            places.append((1.95 * x, 1.95 * y, 1.0 + 1.9 * level))
    return tuple(places)


_PILE = _pile()


def place_crowd(
    draws: Draws,
    config: SceneConfig,
    around: Surroundings,
    layout: Layout,
    poses: Poses,
    lively: Bool[Tensor, "batch"],
    clock: Float[Tensor, "batch frames"],
) -> tuple[Layout, Poses]:
    """Makes the small things of a share of scenes one crowd. Those of a pile stay; scattered ones keep their motion."""
    device, stage = draws.device, around.stage
    here = draws.chance("crowds", config.shapes.crowd_share)
    kind = draws.category("crowds.kind", (1.0, 1.0, 1.2))[:, None]
    slots = constant(SMALL, device)
    count = len(SMALL)
    base = stage * draws.log_uniform("crowds.size", low=0.03, high=0.075)
    uneven = base[:, None, None] * draws.log_uniform("crowds.uneven", count, 3, low=0.6, high=1.3)
    alike = draws.chance("crowds.alike", 0.5, 1) | (kind == PILED)
    size = torch.where(alike[..., None], base[:, None, None].expand_as(uneven), uneven)
    middle = 0.45 * stage[:, None] * draws.uniform("crowds.place", 2, low=-1.0, high=1.0)

    spread = stage[:, None] * draws.uniform("crowds.spread", 1, low=0.25, high=0.6)
    around_middle = draws.uniform("crowds.angle", count, high=2 * math.pi)
    away = spread * draws.uniform("crowds.away", count).sqrt()
    scattered = torch.stack([away * torch.cos(around_middle), away * torch.sin(around_middle)], -1)
    rotation = layout.rotation[:, slots]
    upright = torch.where((kind == PILED)[..., None, None], torch.eye(3, device=device), rotation)
    tall = half_height(_spread(layout.size, slots, size), _spread(layout.rotation, slots, upright))[:, slots]
    flat = torch.cat([scattered, tall[..., None]], -1)
    piled = constant(_PILE, device)[:count] * base[:, None, None]
    moves = (draws.chance("crowds.moves", 0.8) & lively)[:, None]
    loose = draws.uniform("crowds.loose", count, 3, low=-1.0, high=1.0)
    swarm = loose * spread[..., None] * constant((1.0, 1.0, 0.6), device)
    height = torch.minimum(stage * draws.uniform("crowds.height", low=0.5, high=1.2), 0.5 * around.ceiling)
    swarm = swarm + height[:, None, None] * constant((0.0, 0.0, 1.0), device)
    rest = choose(kind[..., None].expand(-1, count, 3), flat, piled, swarm)
    rest = torch.cat([rest[..., :2] + middle[:, None], torch.maximum(rest[..., 2:], size.amax(-1, keepdim=True))], -1)

    # A swarm drifts as one while each member circles about its place in it.
    drift = (
        spread[..., None] * draws.uniform("crowds.drift", 1, 3, low=-1.0, high=1.0) * constant((1.0, 1.0, 0.2), device)
    )
    rate = draws.log_uniform("crowds.rate", count, low=2.0, high=12.0)
    phase = draws.uniform("crowds.phase", count, 3, high=2 * math.pi)
    wobble = 0.2 * spread[..., None] * draws.uniform("crowds.wobble", count, 3)
    turn = (rate[:, None] * clock[..., None])[..., None] + phase[:, None]
    swarming = rest[:, None] + drift[:, None] * (clock - 0.5)[..., None, None] + wobble[:, None] * torch.sin(turn)
    swarming = torch.cat([swarming[..., :2], torch.maximum(swarming[..., 2:], size.amax(-1)[:, None, :, None])], -1)
    moved = poses.position[:, :, slots] - layout.position[:, None, slots]
    near = (
        moved
        * (0.5 * base[:, None, None, None] / (0.5 * base[:, None, None, None] + moved.norm(dim=-1, keepdim=True)))
        * 3
    )
    walking = rest[:, None] + torch.cat([near[..., :2], near[..., 2:].clamp_min(0)], -1)
    still = rest[:, None].expand_as(swarming)
    which = kind[:, None, :, None].expand_as(still)
    position = torch.where(moves[:, None, :, None], choose(which, walking, still, swarming), still)
    turned = torch.where(
        (moves & (kind != PILED))[:, None, :, None, None], poses.rotation[:, :, slots], upright[:, None]
    )

    mine = torch.zeros(NUM_PARTS, dtype=torch.bool, device=device)
    mine[slots] = True
    mine = mine & here[:, None]
    layout = layout._replace(
        active=layout.active | mine,
        size=torch.where(mine[..., None], _spread(layout.size, slots, size), layout.size),
    )
    return layout, Poses(
        torch.where(mine[:, None, :, None, None], poses.rotation.index_copy(2, slots, turned), poses.rotation),
        torch.where(mine[:, None, :, None], poses.position.index_copy(2, slots, position), poses.position),
    )


def _spread(values: Tensor, slots: Tensor, new: Tensor) -> Tensor:
    return values.index_copy(1, slots, new)

"""Paths of single parts: where each part is at each time. All in scene space (z up)."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.hashing import Draws, choose
from vdpm.synthetic.layout import FURNITURE, NUM_PARTS, TABLE, TABLETOP, Layout, Surroundings
from vdpm.synthetic.rotations import compose, rotate, rotation_about

NOMINAL_FRAMES = 8
"""Speeds are given as travel over this many frames."""

STRAIGHT, CIRCLE, SWAY, BOUNCE, FALL, SPIN, ROLL, PENDULUM = range(8)
_WEIGHTS = (2.0, 1.0, 1.0, 1.5, 1.0, 1.0, 1.0, 1.0)


class Poses(NamedTuple):
    """Part -> scene at each frame."""

    rotation: Float[Tensor, "batch frames parts 3 3"]
    position: Float[Tensor, "batch frames parts 3"]


def sample_times(
    draws: Draws, config: SceneConfig
) -> tuple[Float[Tensor, "batch frames"], Float[Tensor, "batch frames"]]:
    """Timestamps in seconds, and the same in units of eight mean frame steps. A share has uneven steps.

    With a ``frame_stride`` the frames of a clip are several steps apart.
    """
    step = draws.log_uniform("time.step", 1, low=config.time_step[0], high=config.time_step[1])
    frames = torch.arange(config.num_frames, device=draws.device, dtype=torch.float32)
    jitter = draws.uniform("time.jitter", config.num_frames, low=-0.4, high=0.4)
    jitter[:, 0] = 0
    jitter = jitter * draws.chance("time.uneven", config.uneven_share, 1)
    clock = (frames + jitter) / NOMINAL_FRAMES
    low, high = config.frame_stride
    if high > 1:
        clock = clock * draws.uniform("time.stride", 1, low=float(low), high=float(high + 1)).floor().clamp_max(high)
    return clock * step * NOMINAL_FRAMES, clock


def _fold(x: Tensor, limit: Tensor) -> Tensor:
    """Reflects a straight path at -limit and limit, as a ball between walls."""
    limit = limit.clamp_min(1e-3)
    return ((x + limit) % (4 * limit) - 2 * limit).abs() * -1 + limit


def sample_paths(
    draws: Draws, config: SceneConfig, around: Surroundings, layout: Layout, clock: Float[Tensor, "batch frames"]
) -> tuple[Poses, Bool[Tensor, "batch"]]:
    """Poses of all parts as single objects, and which scenes have motion at all."""
    n, device = NUM_PARTS, draws.device
    lively = ~draws.chance("motion.static", config.static_share)
    share = draws.uniform("motion.share", 1, low=config.moving_share[0], high=config.moving_share[1])
    fixed = torch.zeros(n, dtype=torch.bool, device=device)
    fixed[FURNITURE] = True
    hero = torch.arange(n, device=device) == layout.hero[:, None]
    reluctant = torch.where(fixed, 0.1, 1.0)
    moving = draws.chance("motion.moving", torch.where(hero, 1.0, share * reluctant), n) & lively[:, None]
    is_table = (around.kind[:, None] == TABLETOP) & (torch.arange(n, device=device) == TABLE)
    moving = moving & ~is_table

    kind = draws.category("motion.kind", _WEIGHTS, n)
    reach = layout.size.amax(-1).minimum(around.stage[:, None])
    travel = reach * draws.log_uniform("motion.travel", n, low=config.travel[0], high=config.travel[1])
    travel = torch.minimum(travel, 1.5 * around.stage[:, None]) * moving
    u = clock[:, :, None]

    heading = draws.uniform("motion.heading", n, high=2 * math.pi)
    flat = torch.stack([torch.cos(heading), torch.sin(heading), torch.zeros_like(heading)], -1)
    climb = torch.where(layout.resting, 0.0, draws.uniform("motion.climb", n, low=-0.5, high=0.5))
    direction = torch.cat([flat[..., :2], climb[..., None]], -1)
    accelerate = draws.uniform("motion.accelerate", n, low=-0.6, high=1.2) * draws.chance("motion.speeds_up", 0.3, n)
    along = u + accelerate[:, None] * u * u * 0.5
    phase = draws.uniform("motion.phase", n, high=2 * math.pi)[:, None]
    rate = draws.log_uniform("motion.rate", n, low=1.0, high=8.0)[:, None]

    # Positions relative to the start; each kind as (along the direction, sideways, up).
    length = travel[:, None]
    amplitude = length / 2
    turn = draws.log_uniform("motion.turn", n, low=0.6, high=5.0) * draws.sign("motion.turn_sign", n)
    arc = phase + turn[:, None] * u
    radius = length / turn.abs()[:, None]
    swing = amplitude * (torch.sin(phase + rate * u) - torch.sin(phase))
    hops = draws.log_uniform("motion.hops", n, low=0.7, high=3.0)[:, None]
    part_of_hop = (hops * u + phase / (2 * math.pi)) % 1.0
    hop = 4 * part_of_hop * (1 - part_of_hop) * length * draws.uniform("motion.hop", n, low=0.3, high=1.0)[:, None]
    drop_from = length * draws.uniform("motion.drop", n, low=0.5, high=1.5)[:, None]
    drop = (drop_from - 2.5 * length * (u - 0.2).clamp_min(0).square() * 2).clamp_min(0)
    zero = torch.zeros_like(length * u)
    path = kind[:, None].expand_as(zero)
    forward = choose(
        path, length * along, radius * (torch.cos(arc) - torch.cos(phase)), swing, length * along * 0.7,
        length * u * 0.4, zero, length * along, zero,
    )  # fmt: skip
    sideways = choose(path, zero, radius * (torch.sin(arc) - torch.sin(phase)), *[zero] * 6)
    bob = draws.chance("motion.bob", 0.5, n)[:, None] & ~layout.resting[:, None]
    up = choose(path, zero, zero, torch.where(bob, swing, zero), hop, drop, zero, zero, zero)
    side = torch.stack([-flat[..., 1], flat[..., 0], torch.zeros_like(heading)], -1)
    offset = forward[..., None] * direction[:, None] + sideways[..., None] * side[:, None]
    position = layout.position[:, None] + torch.cat([offset[..., :2], (offset[..., 2] + up)[..., None]], -1)

    # Rotations: about the vertical, a free axis, the rolling axis, or a swing from a pivot above.
    upright = torch.zeros_like(flat)
    upright[..., 2] = 1
    tumble = (kind == BOUNCE) | (kind == FALL) | ~layout.resting
    axis = torch.where(tumble[..., None], draws.direction("motion.axis", n), upright)
    axis = torch.where((kind == ROLL)[..., None], side, axis)
    axis = torch.where((kind == PENDULUM)[..., None], flat, axis)
    spin = draws.log_uniform("motion.spin", n, low=0.1, high=4.0) * draws.sign("motion.spin_sign", n)
    spin = spin * draws.chance("motion.spins", 0.6, n) * moving
    spinning = draws.log_uniform("motion.spin_fast", n, low=0.4, high=6.0) * draws.sign("motion.spin_sign", n) * moving
    rolling = along * length / layout.size[..., 0].clamp_min(1e-4)[:, None]
    swinging = draws.uniform("motion.swing", n, low=0.15, high=0.9)[:, None] * torch.sin(phase + rate * u)
    turning = spin[:, None] * u
    angle = choose(
        path, turning, turn[:, None] * u * moving[:, None], turning, turning, turning, spinning[:, None] * u, rolling,
        swinging * moving[:, None],
    )  # fmt: skip
    turned = rotation_about(axis[:, None], angle)
    rotation = compose(turned, layout.rotation[:, None])
    rope = around.stage[:, None] * draws.log_uniform("motion.rope", n, low=0.2, high=1.2)
    pivot = upright * rope[..., None]
    hangs = (kind == PENDULUM)[:, None, :, None] & moving[:, None, :, None]
    lifted = upright * (0.35 * rope)[..., None]
    position = torch.where(
        hangs, position + lifted[:, None] + pivot[:, None] - rotate(turned, pivot[:, None]), position
    )

    inside = around.half[:, None, None] - reach[:, None, :, None]
    walls = moving[:, None, :, None] & (around.kind != TABLETOP)[:, None, None, None]
    within = layout.position[:, None, :, :2].abs() < inside
    xy = torch.where(walls & within, _fold(position[..., :2], inside), position[..., :2])
    return Poses(rotation, torch.cat([xy, position[..., 2:]], -1)), lively

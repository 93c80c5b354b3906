"""Paths of single parts: where each part is at each time, and how it is squashed and sheared. Scene space (z up)."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.hashing import Draws, choose
from vdpm.synthetic.layout import (
    ELLIPSOIDS,
    FRUSTUMS,
    FURNITURE,
    NUM_PARTS,
    STREET,
    TABLE,
    TABLETOP,
    Layout,
    Surroundings,
    half_height,
)
from vdpm.synthetic.rotations import compose, rotate, rotation_about
from vdpm.synthetic.terrain import terrain_height

NOMINAL_FRAMES = 8
"""Speeds are given as travel over this many frames."""

STRAIGHT, CIRCLE, SWAY, HOP, DROP, SPIN, ROLL, PENDULUM, SLIDE, START_STOP, TOP, DOOR = range(12)
_BOUNCES = 5


class Poses(NamedTuple):
    """Part -> scene at each frame; ``rotation`` also squashes and shears what is soft."""

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


def bouncing(
    time: Float[Tensor, "*#shape"], fall: Float[Tensor, "*#shape"], restitution: Float[Tensor, "*#shape"]
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """A thing let go at time 0 that reaches the ground at ``fall`` and bounces: its height relative to where it was let
    go, and how hard it hits the ground (1 at the first impact, less at later ones, 0 away from impacts).

    Each bounce is a parabola whose speed is ``restitution`` times the last one's; after five it lies still.
    """
    height = torch.where(time < fall, 1 - (time / fall).square(), 0.0)
    start, lasts, strength = fall, 2 * fall * restitution, torch.ones_like(fall * restitution)
    width = 0.22 * fall
    push = (1 - ((time - start) / width).abs()).clamp_min(0) * strength
    for _ in range(_BOUNCES):
        share = (time - start) / lasts.clamp_min(1e-6)
        strength = strength * restitution
        flies = (share >= 0) & (share < 1)
        height = torch.where(flies, 4 * share * (1 - share) * strength.square(), height)
        start, lasts = start + lasts, lasts * restitution
        push = torch.maximum(push, (1 - ((time - start) / width).abs()).clamp_min(0) * strength)
    return height.clamp_min(0), push.square() * (3 - 2 * push)


def sample_paths(
    draws: Draws, config: SceneConfig, around: Surroundings, layout: Layout, clock: Float[Tensor, "batch frames"]
) -> tuple[Poses, Bool[Tensor, "batch"]]:
    """Poses of all parts as single objects on flat ground, and which scenes have motion at all."""
    n, device = NUM_PARTS, draws.device
    weights = config.motions
    lively = ~draws.chance("motion.static", config.static_share)
    share = draws.uniform("motion.share", 1, low=config.moving_share[0], high=config.moving_share[1])
    fixed = torch.zeros(n, dtype=torch.bool, device=device)
    fixed[FURNITURE] = True
    hero = torch.arange(n, device=device) == layout.hero[:, None]
    reluctant = torch.where(fixed, 0.1, 1.0)
    moving = draws.chance("motion.moving", torch.where(hero, 1.0, share * reluctant), n) & lively[:, None]
    is_table = (around.kind[:, None] == TABLETOP) & (torch.arange(n, device=device) == TABLE)
    moving = moving & ~is_table

    kind = draws.category("motion.kind", weights.weights, n)
    rolls, axle = _rollable(layout)
    kind = torch.where((kind == ROLL) & ~rolls, SLIDE, kind)
    kind = torch.where((kind == DROP) & fixed, SLIDE, kind)
    reach = layout.size.amax(-1).minimum(around.stage[:, None])
    travel = reach * draws.log_uniform("motion.travel", n, low=config.travel[0], high=config.travel[1])
    travel = torch.minimum(travel, 1.5 * around.stage[:, None]) * moving
    travel = torch.where((around.kind == TABLETOP)[:, None], torch.minimum(travel, 0.6 * around.stage[:, None]), travel)
    u = clock[:, :, None]

    # Towards the camera's side or away from it: cameras stand at the azimuth of the same draw, or look along a street.
    heading = draws.uniform("motion.heading", n, high=2 * math.pi)
    azimuth = torch.where(around.kind == STREET, 0.5 * math.pi, draws.uniform("camera.azimuth", high=2 * math.pi))
    aside = draws.uniform("motion.aside", n, low=-0.35, high=0.35)
    to_camera = azimuth[:, None] + aside + math.pi * draws.chance("motion.away", 0.5, n)
    heading = torch.where(draws.chance("motion.depth", weights.depth_share, n), to_camera, heading)
    lies = axle[..., :2].square().sum(-1) > 0.5
    heading = torch.where((kind == ROLL) & lies, torch.atan2(-axle[..., 0], axle[..., 1]), heading)
    flat = torch.stack([torch.cos(heading), torch.sin(heading), torch.zeros_like(heading)], -1)
    climb = torch.where(layout.resting, 0.0, draws.uniform("motion.climb", n, low=-0.5, high=0.5))
    direction = torch.cat([flat[..., :2], climb[..., None]], -1)
    accelerate = draws.uniform("motion.accelerate", n, low=-0.6, high=1.2) * draws.chance("motion.speeds_up", 0.3, n)
    along = u + accelerate[:, None] * u * u * 0.5
    phase = draws.uniform("motion.phase", n, high=2 * math.pi)[:, None]
    length = travel[:, None]

    # Friction: full speed until pushed no more, then slower at an even rate until it stands.
    stop = draws.uniform("motion.stop", n, low=0.35, high=1.4)[:, None]
    sliding = torch.minimum(u, stop)
    sliding = 1.4 * (sliding - sliding.square() / (2 * stop))
    # It waits, sets off, runs and stops, each smoothly.
    begin = draws.uniform("motion.begin", n, low=0.0, high=0.45)[:, None]
    run = ((u - begin) / draws.uniform("motion.run", n, low=0.25, high=0.7)[:, None]).clamp(0, 1)
    started = run * run * (3 - 2 * run)

    turn = draws.log_uniform("motion.turn", n, low=0.2, high=3.0) * draws.sign("motion.turn_sign", n)
    radius = length / turn.abs()[:, None]
    arc = phase + turn[:, None] * u
    rate = draws.log_uniform("motion.rate", n, low=2.0, high=12.0)[:, None]
    amplitude = 0.35 * length * draws.uniform("motion.amplitude", n, low=0.3, high=1.0)[:, None]
    swing = amplitude * (torch.sin(phase + rate * u) - torch.sin(phase))
    hops = draws.log_uniform("motion.hops", n, low=0.7, high=3.0)[:, None]
    part_of_hop = (hops * u + phase / (2 * math.pi)) % 1.0
    leap = torch.minimum(length, 1.5 * reach[:, None]) * draws.uniform("motion.hop", n, low=0.3, high=1.0)[:, None]
    hop = 4 * part_of_hop * (1 - part_of_hop) * leap
    landing = (1 - 7 * torch.minimum(part_of_hop, 1 - part_of_hop)).clamp_min(0) ** 2
    highest = 0.5 * torch.minimum(around.ceiling, around.stage * 2)[:, None]
    let_go = torch.minimum(reach * draws.uniform("motion.drop", n, low=1.0, high=4.0), highest) * moving
    fall = draws.uniform("motion.fall", n, low=0.2, high=0.7)[:, None]
    bounce, impact = bouncing(u, fall, draws.uniform("motion.restitution", n, low=0.2, high=0.85)[:, None])
    drop = let_go[:, None] * bounce
    zero = torch.zeros_like(length * u)
    path = kind[:, None].expand_as(zero)
    forward = choose(
        path, length * along, radius * (torch.cos(arc) - torch.cos(phase)), swing, length * along * 0.7,
        length * u * 0.4, zero, length * along, zero, length * sliding, length * started, zero, zero,
    )  # fmt: skip
    sideways = choose(path, zero, radius * (torch.sin(arc) - torch.sin(phase)), *[zero] * 10)
    bob = draws.chance("motion.bob", 0.5, n)[:, None] & ~layout.resting[:, None]
    up = choose(path, zero, zero, torch.where(bob, swing, zero), hop, drop, *[zero] * 7)
    side = torch.stack([-flat[..., 1], flat[..., 0], torch.zeros_like(heading)], -1)
    offset = forward[..., None] * direction[:, None] + sideways[..., None] * side[:, None]
    # What comes straight along is in the middle of its way in the middle of the clip.
    straight = (kind == STRAIGHT) | (kind == ROLL) | (kind == CIRCLE)
    half_way = 0.5 * clock[:, -1, None, None] * travel[..., None] * flat
    start = layout.position - half_way * straight[..., None]
    position = start[:, None] + torch.cat([offset[..., :2], (offset[..., 2] + up)[..., None]], -1)

    # Rotations: about the vertical, a free axis, the rolling axis, or a swing from a pivot above.
    upright = torch.zeros_like(flat)
    upright[..., 2] = 1
    tumble = ~layout.resting & (kind != PENDULUM) & (kind != DOOR)
    axis = torch.where(tumble[..., None], draws.direction("motion.axis", n), upright)
    axis = torch.where((kind == ROLL)[..., None], side, axis)
    axis = torch.where((kind == PENDULUM)[..., None], flat, axis)
    spin = draws.log_uniform("motion.spin", n, low=0.1, high=4.0) * draws.sign("motion.spin_sign", n)
    spin = spin * draws.chance("motion.spins", 0.6, n) * moving
    spinning = draws.log_uniform("motion.spin_fast", n, low=0.4, high=6.0) * draws.sign("motion.spin_sign", n) * moving
    rolling = along * length / layout.size[..., 0].clamp_min(1e-4)[:, None]
    swinging = draws.uniform("motion.swing", n, low=0.15, high=0.9)[:, None] * torch.sin(phase + rate * u)
    opening = (
        draws.uniform("motion.opening", n, low=0.5, high=1.6)[:, None] * torch.sin(0.4 * rate * u) * moving[:, None]
    )
    turning = spin[:, None] * u
    fast = spinning[:, None] * u
    upset = torch.where(layout.resting[:, None], 0.3 * turning, turning)
    angle = choose(
        path, turning, turn[:, None] * u * moving[:, None], turning, turning, upset, fast, rolling,
        swinging * moving[:, None], 0.3 * turning, zero, 2 * fast, opening,
    )  # fmt: skip
    turned = rotation_about(axis[:, None], angle)

    # A top leans, and its lean goes round; it stands on its lowest point. A door turns about its edge.
    lean = draws.uniform("motion.lean", n, low=0.1, high=0.4)[:, None] * ((kind == TOP) & moving)[:, None]
    about = phase + 0.8 * rate * u
    leaning = rotation_about(torch.stack([torch.cos(about), torch.sin(about), zero], -1), lean + zero)
    turned = torch.where((kind == TOP)[:, None, :, None, None], compose(leaning, turned), turned)
    rotation = compose(turned, layout.rotation[:, None])
    high = half_height(layout.size, layout.rotation)
    foot = upright * high[..., None]
    top = (kind == TOP)[:, None, :, None]
    position = torch.where(top, position - foot[:, None] + rotate(turned, foot[:, None]), position)
    hinge = rotate(layout.rotation, torch.nn.functional.pad(layout.size[..., :1], (0, 2))) * (kind == DOOR)[..., None]
    position = position - hinge[:, None] + rotate(turned, hinge[:, None])

    rope = around.stage[:, None] * draws.log_uniform("motion.rope", n, low=0.2, high=1.2)
    pivot = upright * rope[..., None]
    hangs = (kind == PENDULUM)[:, None, :, None] & moving[:, None, :, None]
    lifted = upright * (0.35 * rope)[..., None]
    position = torch.where(
        hangs, position + lifted[:, None] + pivot[:, None] - rotate(turned, pivot[:, None]), position
    )

    # All that moves on a carousel goes round the middle of the stage together.
    carousel = draws.chance("motion.carousel", weights.carousel_share) & lively
    whirl = draws.log_uniform("motion.whirl", low=0.3, high=2.0) * draws.sign("motion.whirl_sign")
    whirled = rotation_about(upright[:, None], (whirl * carousel)[:, None, None] * clock[..., None] + zero)
    joins = (carousel[:, None] & moving)[:, None, :, None]
    near = (layout.position[..., :2].norm(dim=-1) < 1.2 * around.stage[:, None])[:, None, :, None]
    joins = joins & near
    position = torch.where(joins, rotate(whirled, layout.position[:, None]), position)
    rotation = torch.where(joins[..., None], compose(whirled, layout.rotation[:, None]), rotation)

    inside = around.half[:, None, None] - reach[:, None, :, None]
    walls = moving[:, None, :, None] & (around.kind != TABLETOP)[:, None, None, None]
    within = layout.position[:, None, :, :2].abs() < inside
    xy = torch.where(walls & within, _fold(position[..., :2], inside), position[..., :2])
    position = torch.cat([xy, position[..., 2:]], -1)
    squeeze = choose(path, zero, zero, zero, landing, impact, *[zero] * 7) * moving[:, None]
    return _soften(draws, config, clock, moving, high, Poses(rotation, position), squeeze), lively


def _rollable(layout: Layout) -> tuple[Bool[Tensor, "batch parts"], Float[Tensor, "batch parts 3"]]:
    """Parts that roll, spheres and cylinders on their side; and the axles of the latter (0 for the others)."""
    size = layout.size
    level = layout.rotation[..., 2]
    number = torch.arange(NUM_PARTS, device=size.device)
    ball = (number < ELLIPSOIDS.stop) & (size.amax(-1) - size.amin(-1) < 1e-3 * size.amax(-1))
    frustum = (number >= FRUSTUMS.start) & (number < FRUSTUMS.stop)
    even = (size[..., 0] - size[..., 1]).abs() < 1e-3 * size[..., 0]
    barrel = frustum & (layout.taper == 1) & even & (level[..., 2].abs() < 1e-3)
    return (ball | barrel) & layout.resting, level * barrel[..., None]


def _soften(
    draws: Draws, config: SceneConfig, clock: Tensor, moving: Tensor, high: Tensor, poses: Poses, squeeze: Tensor
) -> Poses:
    """Squashes what is soft at impacts, and lets it breathe and sway; its lowest point stays where it was."""
    n = NUM_PARTS
    soft = draws.chance("soft", config.motions.soft_share, n) & moving
    mode = draws.category("soft.mode", (1.0, 1.0, 1.0), n)
    size = draws.uniform("soft.size", n, low=0.08, high=0.35)
    rate = draws.log_uniform("soft.rate", n, low=3.0, high=14.0)
    wave = torch.sin(rate[:, None] * clock[..., None] + draws.uniform("soft.phase", n, high=2 * math.pi)[:, None])
    breath = torch.where((mode == 0)[:, None], size[:, None] * wave, 0.0)
    tall = torch.where(soft[:, None], (1 + breath) * (1 - 0.45 * squeeze), 1.0)
    wide = torch.rsqrt(tall)
    sway = (soft & (mode == 1))[:, None] * size[:, None] * 1.3 * wave
    way = draws.uniform("soft.way", n, high=2 * math.pi)[:, None]
    zero = torch.zeros_like(tall)
    deform = torch.stack(
        [wide, zero, sway * torch.cos(way), zero, wide, sway * torch.sin(way), zero, zero, tall], -1
    ).unflatten(-1, (3, 3))  # fmt: skip
    lift = deform[..., 2] * high[:, None, :, None]
    lift = torch.cat([lift[..., :2], lift[..., 2:] - high[:, None, :, None]], -1)
    here = soft[:, None, :, None]
    return Poses(
        torch.where(here[..., None], compose(deform, poses.rotation), poses.rotation),
        torch.where(here, poses.position + lift, poses.position),
    )


def on_ground(
    poses: Poses, layout: Layout, waves: Float[Tensor, "batch waves 4"], instance: Int[Tensor, "batch parts"]
) -> Poses:
    """The same on rolling ground: each object lifted by the lowest ground below its first part, so that none hovers."""
    first = (instance - 1)[:, None, :, None].expand(-1, poses.position.shape[1], -1, 2)
    below = poses.position[..., :2].gather(2, first)
    wide = 0.6 * layout.size[..., :2].amax(-1).gather(1, instance - 1)[:, None]
    rise = terrain_height(waves, below)
    for x, y in ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)):
        step = torch.stack([x * wide, y * wide], -1)
        rise = torch.minimum(rise, terrain_height(waves, below + step))
    return Poses(poses.rotation, torch.cat([poses.position[..., :2], (poses.position[..., 2] + rise)[..., None]], -1))

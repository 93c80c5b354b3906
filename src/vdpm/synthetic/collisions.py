"""Three balls that meet: the first hits the second, which hits the third.

Balls are spheres of one density that roll without slipping. Between impacts each goes straight; all lose speed at the
same rate, exp(-drag t), so that in the time s = (1 - exp(-drag t)) / drag every path is straight and impacts keep the
momentum as if there were no drag.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.hashing import Draws, constant
from vdpm.synthetic.layout import NUM_PARTS, Layout, Surroundings
from vdpm.synthetic.motion import Poses
from vdpm.synthetic.rotations import compose, rotation_about

BALLS = (4, 5, 6)


def _unit(angle: Tensor) -> Float[Tensor, "batch 2"]:
    return torch.stack([torch.cos(angle), torch.sin(angle)], -1)


def _impact(
    velocity: Tensor, normal: Tensor, mass: Tensor, other: Tensor, restitution: Tensor
) -> tuple[Tensor, Tensor]:
    """Velocities of the moving and of the resting ball after an impact along ``normal`` (towards the resting one)."""
    closing = (velocity * normal).sum(-1)
    impulse = ((1 + restitution) * closing * mass * other / (mass + other))[:, None] * normal
    return velocity - impulse / mass[:, None], impulse / other[:, None]


def _rolled(step: Float[Tensor, "batch frames 2"], radius: Float[Tensor, "batch"]) -> Float[Tensor, "batch frames 3 3"]:
    """The turn of a ball that has rolled straight by ``step``."""
    far = step.norm(dim=-1)
    way = step / far.clamp_min(1e-9)[..., None]
    axle = torch.stack([-way[..., 1], way[..., 0], torch.zeros_like(far)], -1)
    return rotation_about(axle, far / radius[:, None])


def place_collision(
    draws: Draws,
    config: SceneConfig,
    around: Surroundings,
    layout: Layout,
    poses: Poses,
    lively: Bool[Tensor, "batch"],
    clock: Float[Tensor, "batch frames"],
) -> tuple[Layout, Poses, Bool[Tensor, "batch"]]:
    """Puts the three balls on the ground in a share of the scenes, and says in which."""
    here = draws.chance("collision", config.motions.collision_share) & lively
    stage = around.stage
    base = stage * draws.uniform("collision.radius", low=0.06, high=0.12)
    second = base * draws.uniform("collision.second", low=1.0, high=1.4)
    first = second * draws.uniform("collision.first", low=0.6, high=0.9)
    third = base * draws.uniform("collision.third", low=0.6, high=1.5)
    radius = torch.stack([first, second, third], -1)
    mass = radius**3
    restitution = draws.uniform("collision.restitution", low=0.75, high=0.98)

    drag = draws.log_uniform("collision.drag", low=0.1, high=1.5)[:, None]
    time = (1 - torch.exp(-drag * clock)) / drag
    middle = 0.25 * stage[:, None] * draws.uniform("collision.place", 2, low=-1.0, high=1.0)
    line = draws.uniform("collision.line", high=2 * math.pi)
    along, beside = _unit(line), _unit(line + draws.uniform("collision.oblique", low=-0.8, high=0.8))
    speed = base * draws.uniform("collision.speed", low=4.0, high=9.0)
    met = draws.uniform("collision.met", low=0.15, high=0.4)[:, None]
    before = speed[:, None] * beside
    after, pushed = _impact(before, along, mass[:, 0], mass[:, 1], restitution)
    gap = base * draws.uniform("collision.gap", low=0.3, high=2.0)
    met_again = met + gap[:, None] / pushed.norm(dim=-1, keepdim=True)
    beyond = _unit(line + draws.uniform("collision.beyond", low=-0.7, high=0.7))
    slower, last = _impact(pushed, beyond, mass[:, 1], mass[:, 2], restitution)

    touch = middle - (first + second)[:, None] * along
    reached = middle + gap[:, None] * along
    until, since = torch.minimum(time, met) - met, (time - met).clamp_min(0)
    between, later = torch.minimum(since, met_again - met), (time - met_again).clamp_min(0)
    steps = (
        (until[..., None] * before[:, None], since[..., None] * after[:, None]),
        (between[..., None] * pushed[:, None], later[..., None] * slower[:, None]),
        (torch.zeros_like(later)[..., None] * last[:, None], later[..., None] * last[:, None]),
    )
    starts = (touch, middle, reached + (second + third)[:, None] * beyond)
    slots = constant(BALLS, draws.device)
    where = torch.stack([s[:, None] + a + b for s, (a, b) in zip(starts, steps)], 2)
    place = torch.cat([where, radius[:, None, :, None].expand(-1, where.shape[1], -1, -1)], -1)
    turns = torch.stack(
        [compose(_rolled(b, radius[:, i]), _rolled(a, radius[:, i])) for i, (a, b) in enumerate(steps)], 2
    )
    mine = torch.zeros(NUM_PARTS, dtype=torch.bool, device=draws.device)
    mine[slots] = True
    mine = mine & here[:, None]
    rest = torch.cat([torch.stack(starts, 1), radius[..., None]], -1)
    size = layout.size.index_copy(1, slots, radius[..., None].expand(-1, -1, 3).contiguous())
    position = layout.position.index_copy(1, slots, rest)
    layout = layout._replace(
        active=layout.active | mine,
        size=torch.where(mine[..., None], size, layout.size),
        position=torch.where(mine[..., None], position, layout.position),
        resting=layout.resting | mine,
    )
    return (
        layout,
        Poses(
            torch.where(mine[:, None, :, None, None], poses.rotation.index_copy(2, slots, turns), poses.rotation),
            torch.where(mine[:, None, :, None], poses.position.index_copy(2, slots, place), poses.position),
        ),
        here,
    )

"""Rolling ground: a height field that is a sum of four waves, in scene space (z up)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.synthetic.fusing import can_skip, fusable, runs_kernels
from vdpm.synthetic.hashing import Draws, constant

WAVES = 4
Vector = tuple[Tensor, Tensor, Tensor]
_STEPS = 20
_MISS = 1e9


def sample_terrain(
    draws: Draws, share: float, outdoors: Tensor, stage: Float[Tensor, "batch"]
) -> Float[Tensor, "batch waves 4"]:
    """Waves as (x and y of the wave vector, phase, amplitude), long ones high; amplitudes 0 where it is flat."""
    hilly = draws.chance("terrain", share) & outdoors
    length = stage[:, None] * draws.log_uniform("terrain.length", WAVES, low=0.9, high=8.0)
    heading = draws.uniform("terrain.heading", WAVES, high=2 * math.pi)
    dunes = draws.chance("terrain.dunes", 0.3, 1)
    heading = torch.where(dunes, heading[:, :1] + 0.25 * (heading - math.pi) / math.pi, heading)
    slope = draws.log_uniform("terrain.slope", 1, low=0.06, high=0.3)
    number = 2 * math.pi / length
    amplitude = slope / number / WAVES * draws.uniform("terrain.height", WAVES, low=0.5, high=1.5)
    amplitude = torch.minimum(amplitude, 0.3 * stage[:, None]) * hilly[:, None]
    phase = draws.uniform("terrain.phase", WAVES, high=2 * math.pi)
    return torch.stack([number * torch.cos(heading), number * torch.sin(heading), phase, amplitude], -1)


def terrain_height(
    waves: Float[Tensor, "batch waves 4"], xy: Float[Tensor, "batch *shape 2"]
) -> Float[Tensor, "batch *shape"]:
    """Height of the ground below points of the scene."""
    wave = waves.view(len(waves), *[1] * (xy.dim() - 2), WAVES, 4)
    angle = wave[..., 0] * xy[..., :1] + wave[..., 1] * xy[..., 1:] + wave[..., 2]
    return (wave[..., 3] * torch.sin(angle)).sum(-1)


def _level(waves: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """``terrain_height`` for a table [batch, waves, 4, *ones] that broadcasts against x and y."""
    level = waves[:, 0, 3] * torch.sin(waves[:, 0, 0] * x + waves[:, 0, 1] * y + waves[:, 0, 2])
    for i in range(1, WAVES):
        level = level + waves[:, i, 3] * torch.sin(waves[:, i, 0] * x + waves[:, i, 1] * y + waves[:, i, 2])
    return level


@fusable
def _slab(waves: Tensor, z: Tensor, dz: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave the heights between which the ground lies; nowhere (2, 1) where it is flat."""
    highest = waves[:, :, 3].abs().sum(1)[..., None, None]
    fall = torch.where(dz.abs() < 1e-6, -1e-6, dz)
    above, below = (highest - z) / fall, (-highest - z) / fall
    enter = torch.minimum(above, below).clamp_min(0.02)
    leave = torch.minimum(torch.maximum(above, below), far)
    good = (highest > 0) & (leave > enter)
    return torch.where(good, enter, 2.0), torch.where(good, leave, 1.0)


@fusable
def _bracket(waves: Tensor, steps: Tensor, o: Vector, d: Vector, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """The two steps, of those evenly spaced in log t between ``low`` and ``high``, where the ray first goes under the
    ground; (2, 1) where it does not."""
    ratio = torch.log((high / low).clamp_min(1.0))
    t = low[..., None] * torch.exp(ratio[..., None] * steps)
    level = _level(waves[..., None, None, None], *(o[i][..., None] + t * d[i][..., None] for i in range(2)))
    under = o[2][..., None] + t * d[2][..., None] < level
    first = torch.where(under, steps, 2.0).amin(-1)
    found = (first <= 1) & (high > low)
    before = low * torch.exp(ratio * (first - 1 / _STEPS).clamp_min(0.0))
    return torch.where(found, before, 2.0), torch.where(found, low * torch.exp(ratio * first), 1.0)


@fusable
def _crossing(waves: Tensor, o: Vector, d: Vector, low: Tensor, high: Tensor) -> Tensor:
    """Where the straight line through the heights above ground at both ends of a bracket meets the ground."""
    waves = waves[..., None, None]
    over = o[2] + low * d[2] - _level(waves, o[0] + low * d[0], o[1] + low * d[1])
    under = _level(waves, o[0] + high * d[0], o[1] + high * d[1]) - o[2] - high * d[2]
    share = (over / (over + under).clamp_min(1e-9)).clamp(0, 1)
    return torch.where(high >= low, low + (high - low) * share, _MISS)


def terrain_distance(
    waves: Float[Tensor, "batch waves 4"],
    origin: Float[Tensor, "3 batch frames rays"],
    direction: Float[Tensor, "3 batch frames rays"],
    far: Float[Tensor, "batch frames rays"],
) -> Float[Tensor, "batch frames rays"]:
    """Ray length to the ground, for rays of scene space; 1e9 where it is flat or lies beyond ``far``."""
    if can_skip(waves.device) and not bool((waves[..., 3] > 0).any()):
        return torch.full_like(far, _MISS)
    if runs_kernels(far.device):
        from vdpm.synthetic.terrain_kernel import terrain_distance_on_gpu

        return terrain_distance_on_gpu(waves, origin, direction, far, _STEPS, _MISS)
    steps = constant(tuple(i / _STEPS for i in range(_STEPS + 1)), waves.device)
    x, y, z = origin.contiguous().unbind(0)
    dx, dy, dz = direction.contiguous().unbind(0)
    o, d = (x, y, z), (dx, dy, dz)
    low, high = _slab(waves, z, dz, far)
    # Twice the same: the step, then a step within that step.
    for _ in range(2):
        low, high = _bracket(waves, steps, o, d, low, high)
    return _crossing(waves, o, d, low, high)


def terrain_normal(waves: Tensor, x: Tensor, y: Tensor) -> Vector:
    """Unit normals of the ground, upwards, below points [batch, frames, rays] of the scene."""
    slope_x, slope_y = torch.zeros_like(x), torch.zeros_like(y)
    table = waves[..., None, None]
    for i in range(WAVES):
        kx, ky, phase, amplitude = (table[:, i, j] for j in range(4))
        rise = amplitude * torch.cos(kx * x + ky * y + phase)
        slope_x, slope_y = slope_x - kx * rise, slope_y - ky * rise
    inverse = torch.rsqrt(1 + slope_x * slope_x + slope_y * slope_y)
    return slope_x * inverse, slope_y * inverse, inverse

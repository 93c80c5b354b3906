"""Rolling ground: a height field that is a sum of four waves, in scene space (z up)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.synthetic.fusing import fusable, is_fusing
from vdpm.synthetic.hashing import Draws, constant

WAVES = 4
_STEPS = 24
_REFINEMENTS = 6
_MISS = 1e9


def sample_terrain(
    draws: Draws, share: float, outdoors: Tensor, stage: Float[Tensor, "batch"]
) -> Float[Tensor, "batch waves 4"]:
    """Waves as (x and y of the wave vector, phase, amplitude), long ones high; amplitudes are 0 where ground is flat."""
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
def _march(waves: Tensor, steps: Tensor, o: tuple, d: tuple, far: Tensor) -> Tensor:
    waves = waves[..., None, None]
    highest = waves[:, :, 3].abs().sum(1)
    fall = torch.where(d[2].abs() < 1e-6, -1e-6, d[2])
    above, below = (highest - o[2]) / fall, (-highest - o[2]) / fall
    enter = torch.minimum(above, below).clamp_min(0.02)
    leave = torch.minimum(torch.maximum(above, below), far)
    ratio = torch.log((leave / enter).clamp_min(1.0))
    # The first step below the ground, then a bracket that shrinks by the secant and by halves in turn.
    t = enter[..., None] * torch.exp(ratio[..., None] * steps)
    level = _level(waves[..., None], o[0][..., None] + t * d[0][..., None], o[1][..., None] + t * d[1][..., None])
    under = o[2][..., None] + t * d[2][..., None] < level
    first = torch.where(under, steps, 2.0).amin(-1)
    high = enter * torch.exp(ratio * first.clamp_max(1.0))
    low = enter * torch.exp(ratio * (first - 1 / _STEPS).clamp(0.0, 1.0))
    over_low = o[2] + low * d[2] - _level(waves, o[0] + low * d[0], o[1] + low * d[1])
    over_high = o[2] + high * d[2] - _level(waves, o[0] + high * d[0], o[1] + high * d[1])
    for i in range(_REFINEMENTS):
        share = over_low / (over_low - over_high).clamp_min(1e-9)
        share = share.clamp(0.02, 0.98) if i % 3 < 2 else torch.full_like(share, 0.5)
        middle = low + (high - low) * share
        over = o[2] + middle * d[2] - _level(waves, o[0] + middle * d[0], o[1] + middle * d[1])
        low, over_low = torch.where(over > 0, middle, low), torch.where(over > 0, over, over_low)
        high, over_high = torch.where(over > 0, high, middle), torch.where(over > 0, over_high, over)
    t = low + (high - low) * (over_low / (over_low - over_high).clamp_min(1e-9)).clamp(0, 1)
    return torch.where((first <= 1) & (leave > enter) & (highest > 0), t, _MISS)


def terrain_distance(
    waves: Float[Tensor, "batch waves 4"],
    origin: Float[Tensor, "3 batch frames rays"],
    direction: Float[Tensor, "3 batch frames rays"],
    far: Float[Tensor, "batch frames rays"],
) -> Float[Tensor, "batch frames rays"]:
    """Ray length to the ground, for rays of scene space; 1e9 where it is flat or lies beyond ``far``."""
    if not is_fusing() and not bool((waves[..., 3] > 0).any()):
        return torch.full_like(far, _MISS)
    steps = constant(tuple(i / _STEPS for i in range(_STEPS + 1)), waves.device)
    return _march(waves, steps, tuple(origin.contiguous().unbind(0)), tuple(direction.contiguous().unbind(0)), far)


def terrain_normal(
    waves: Float[Tensor, "batch waves 4"], x: Float[Tensor, "batch frames rays"], y: Float[Tensor, "batch frames rays"]
) -> Float[Tensor, "3 batch frames rays"]:
    """Unit normals of the ground, upwards."""
    slope_x, slope_y = torch.zeros_like(x), torch.zeros_like(y)
    for wave in waves.unbind(1):
        kx, ky, phase, amplitude = (value[:, None, None] for value in wave.unbind(-1))
        rise = amplitude * torch.cos(kx * x + ky * y + phase)
        slope_x, slope_y = slope_x - kx * rise, slope_y - ky * rise
    inverse = torch.rsqrt(1 + slope_x * slope_x + slope_y * slope_y)
    return torch.stack([slope_x * inverse, slope_y * inverse, inverse])

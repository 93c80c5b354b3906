"""Rays against rolling ground, as a Triton kernel for GPUs.

The compiler's code for the same search in ``terrain`` does it for all clips; here those of flat ground are passed over,
and they are most.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

_BLOCK = 256


@triton.jit
@no_type_check
def _level(table, x, y, WAVES: tl.constexpr):
    """Height of the ground at (x, y)."""
    level = tl.zeros_like(x)
    for i in tl.static_range(WAVES):
        wave = table + 4 * i
        angle = tl.load(wave) * x + tl.load(wave + 1) * y + tl.load(wave + 2)
        level += tl.load(wave + 3) * tl.sin(angle)
    return level


@triton.jit
@no_type_check
def _kernel(
    waves, origins, directions, fars, distances, rays, frames, all_rays, miss,
    WAVES: tl.constexpr, STEPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1).to(tl.int64)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = column < rays
    here = row * rays + column
    table = waves + (row // frames) * 4 * WAVES
    highest = 0.0
    for number in tl.static_range(WAVES):
        highest += tl.abs(tl.load(table + 4 * number + 3))
    distance = tl.zeros((BLOCK,), tl.float32) + miss
    if highest > 0:
        x = tl.load(origins + here, mask=there, other=0.0)
        y = tl.load(origins + all_rays + here, mask=there, other=0.0)
        z = tl.load(origins + 2 * all_rays + here, mask=there, other=0.0)
        dx = tl.load(directions + here, mask=there, other=0.0)
        dy = tl.load(directions + all_rays + here, mask=there, other=0.0)
        dz = tl.load(directions + 2 * all_rays + here, mask=there, other=0.0)
        far = tl.load(fars + here, mask=there, other=0.0)
        # Where the ray is between the heights that the ground keeps to.
        fall = tl.where(tl.abs(dz) < 1e-6, -1e-6, dz)
        above = (highest - z) / fall
        below = (-highest - z) / fall
        low = tl.maximum(tl.minimum(above, below), 0.02)
        high = tl.minimum(tl.maximum(above, below), far)
        found = (high > low) & there
        # Twice the same: the step, evenly spaced in log t, by which the ray is under ground, then one within that step.
        for _ in range(2):
            if tl.max(found.to(tl.int32), axis=0) > 0:
                ratio = tl.log(tl.maximum(high / low, 1.0))
                first = tl.zeros((BLOCK,), tl.float32) + 2.0
                for i in range(STEPS + 1):
                    step = i / STEPS
                    t = low * tl.exp(ratio * step)
                    under = z + t * dz < _level(table, x + t * dx, y + t * dy, WAVES)
                    first = tl.where(under & (first > 1.0), step, first)
                found = found & (first <= 1.0) & (high > low)
                before = low * tl.exp(ratio * tl.maximum(first - 1.0 / STEPS, 0.0))
                # Where nothing is found there is no bracket any more, but numbers that stay finite.
                high = tl.where(found, low * tl.exp(ratio * tl.minimum(first, 1.0)), 1.0)
                low = tl.where(found, before, 1.0)
        over = z + low * dz - _level(table, x + low * dx, y + low * dy, WAVES)
        beneath = _level(table, x + high * dx, y + high * dy, WAVES) - z - high * dz
        share = tl.minimum(tl.maximum(over / tl.maximum(over + beneath, 1e-9), 0.0), 1.0)
        distance = tl.where(found, low + (high - low) * share, distance)
    tl.store(distances + here, distance, mask=there)


def terrain_distance_on_gpu(
    waves: Float[Tensor, "batch waves 4"],
    origin: Float[Tensor, "3 batch frames rays"],
    direction: Float[Tensor, "3 batch frames rays"],
    far: Float[Tensor, "batch frames rays"],
    steps: int,
    miss: float,
) -> Float[Tensor, "batch frames rays"]:
    """``terrain.terrain_distance`` on a GPU, in ``steps`` steps and again so many within one."""
    waves, origin, direction, far = (value.contiguous() for value in (waves, origin, direction, far))
    batch, frames, rays = far.shape
    distance = torch.empty_like(far)
    grid = (triton.cdiv(rays, _BLOCK), batch * frames)
    _kernel[grid](
        waves, origin, direction, far, distance, rays, frames, far.numel(), miss,
        WAVES=waves.shape[1], STEPS=steps, BLOCK=_BLOCK,
    )  # fmt: skip
    return distance

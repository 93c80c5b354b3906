"""The gathering of blur along motion, as a Triton kernel for GPUs.

What the compiler makes of the same sums in ``blur`` keeps nine samples of five layers for each pixel in memory. Here
they are added up as they are taken, and blocks of pixels that nothing moves in are copied.
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
def _bilinear(layer, top, bottom, left, right, down, across):
    """A layer between four neighbouring pixels."""
    upper = tl.load(layer + top + left) * (1 - across) + tl.load(layer + top + right) * across
    lower = tl.load(layer + bottom + left) * (1 - across) + tl.load(layer + bottom + right) * across
    return upper * (1 - down) + lower * down


@triton.jit
@no_type_check
def _kernel(
    layers, longest, blurred, height, width,
    TAPS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1).to(tl.int64)
    pixels = height * width
    here = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = here < pixels
    # Pixels beyond the end stand in for the last one, so that all samples are in the picture.
    here = tl.minimum(here, pixels - 1)
    own = layers + row * 5 * pixels
    out = blurred + row * 3 * pixels + here
    right_by = tl.load(longest + row * 2 * pixels + here)
    down_by = tl.load(longest + row * 2 * pixels + pixels + here)
    length = tl.sqrt(right_by * right_by + down_by * down_by)
    if tl.max(length, axis=0) > 0:
        x = (here % width).to(tl.float32)
        y = (here // width).to(tl.float32)
        own_reach = tl.load(own + 3 * pixels + here) / 2
        own_near = tl.maximum(tl.load(own + 4 * pixels + here), 1e-9)
        total = tl.zeros((BLOCK,), tl.float32)
        red = tl.zeros((BLOCK,), tl.float32)
        green = tl.zeros((BLOCK,), tl.float32)
        blue = tl.zeros((BLOCK,), tl.float32)
        for tap in range(TAPS):
            step = tap / (TAPS - 1) - 0.5
            at_x = tl.minimum(tl.maximum(x + right_by * step, 0.0), width - 1.0)
            at_y = tl.minimum(tl.maximum(y + down_by * step, 0.0), height - 1.0)
            left = at_x.to(tl.int32)
            top = at_y.to(tl.int32)
            across = at_x - left.to(tl.float32)
            down = at_y - top.to(tl.float32)
            right = tl.minimum(left + 1, width - 1)
            bottom = tl.minimum(top + 1, height - 1) * width
            top = top * width
            reach = _bilinear(own + 3 * pixels, top, bottom, left, right, down, across) / 2
            near = _bilinear(own + 4 * pixels, top, bottom, left, right, down, across)
            away = length * tl.abs(step)
            before = tl.minimum(tl.maximum(0.5 + 5 * (near / own_near - 1), 0.0), 1.0)
            covers = tl.maximum(1 - away / tl.maximum(reach, 0.5), 0.0)
            uncovers = tl.maximum(1 - away / tl.maximum(own_reach, 0.5), 0.0)
            both = tl.minimum(tl.maximum(reach - away + 0.5, 0.0), 1.0)
            both = both * tl.minimum(tl.maximum(own_reach - away + 0.5, 0.0), 1.0)
            weight = before * covers + (1 - before) * uncovers + 2 * both + tl.where(away < 0.5, 1e-4, 0.0)
            total += weight
            red += weight * _bilinear(own, top, bottom, left, right, down, across)
            green += weight * _bilinear(own + pixels, top, bottom, left, right, down, across)
            blue += weight * _bilinear(own + 2 * pixels, top, bottom, left, right, down, across)
        tl.store(out, red / total, mask=there)
        tl.store(out + pixels, green / total, mask=there)
        tl.store(out + 2 * pixels, blue / total, mask=there)
    else:
        tl.store(out, tl.load(own + here), mask=there)
        tl.store(out + pixels, tl.load(own + pixels + here), mask=there)
        tl.store(out + 2 * pixels, tl.load(own + 2 * pixels + here), mask=there)


def gathered_on_gpu(
    layers: Float[Tensor, "count 5 height width"], longest: Float[Tensor, "count 2 height width"], taps: int
) -> Float[Tensor, "count 3 height width"]:
    """``blur._gathered`` on a GPU, with so many ``taps``."""
    layers, longest = layers.contiguous(), longest.contiguous()
    count, _, height, width = layers.shape
    blurred = torch.empty(count, 3, height, width, device=layers.device)
    grid = (triton.cdiv(height * width, _BLOCK), count)
    _kernel[grid](layers, longest, blurred, height, width, TAPS=taps, BLOCK=_BLOCK)
    return blurred

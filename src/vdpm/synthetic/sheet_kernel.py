"""Rays against the triangles of sheets, as a Triton kernel for GPUs.

What the compiler makes of the same sums in ``meshes`` reads every triangle anew for each ray. Here a block of
neighbouring rays reads it once, and passes over the sheets whose cone none of them is in.
"""

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

_BLOCK = 512


@triton.jit
@no_type_check
def _kernel(
    functions, cones, xs, ys, zs, best, index, rays, triangles, miss, seam,
    SHEETS: tl.constexpr, EACH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(1).to(tl.int64)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    there = column < rays
    here = row * rays + column
    x = tl.load(xs + here, mask=there, other=0.0)
    y = tl.load(ys + here, mask=there, other=0.0)
    z = tl.load(zs + here, mask=there, other=0.0)
    length = tl.sqrt(x * x + y * y + z * z)
    top = tl.zeros((BLOCK,), tl.float32) - miss
    which = tl.zeros((BLOCK,), tl.int32)
    table = functions + row * 12 * triangles
    for sheet in range(SHEETS):
        cone = cones + (row * SHEETS + sheet) * 4
        along = tl.load(cone) * x + tl.load(cone + 1) * y + tl.load(cone + 2) * z
        meets = there & (along > tl.load(cone + 3) * length)
        if tl.max(meets.to(tl.int32), axis=0) > 0:
            for t in range(sheet * EACH, (sheet + 1) * EACH):
                f = table + t
                first = tl.load(f) * x + tl.load(f + triangles) * y + tl.load(f + 2 * triangles) * z
                f += 3 * triangles
                second = tl.load(f) * x + tl.load(f + triangles) * y + tl.load(f + 2 * triangles) * z
                f += 3 * triangles
                third = tl.load(f) * x + tl.load(f + triangles) * y + tl.load(f + 2 * triangles) * z
                f += 3 * triangles
                height = tl.load(f) * x + tl.load(f + triangles) * y + tl.load(f + 2 * triangles) * z
                inside = (first > seam) & (second > seam) & (third > seam)
                better = inside & (height > top)
                top = tl.where(better, height, top)
                which = tl.where(better, t, which)
    tl.store(best + here, top, mask=there)
    tl.store(index + here, which, mask=there)


def highest_of_sheets(
    functions: Float[Tensor, "batch frames 12 triangles"],
    cones: Float[Tensor, "batch frames sheets 4"],
    q: Float[Tensor, "3 batch frames rays"],
    miss: float,
    seam: float,
) -> tuple[Float[Tensor, "batch frames rays"], Int[Tensor, "batch frames rays"]]:
    """``meshes.highest`` of rays on a GPU. ``cones``: of each sheet an axis, and the least cosine with it that a ray
    which may meet the sheet has (above 1: none may)."""
    functions, cones, q = functions.contiguous(), cones.contiguous(), q.contiguous()
    batch, frames, rays = q.shape[1:]
    sheets, triangles = cones.shape[2], functions.shape[3]
    best = torch.empty(batch, frames, rays, device=q.device)
    index = torch.empty(batch, frames, rays, dtype=torch.int32, device=q.device)
    grid = (triton.cdiv(rays, _BLOCK), batch * frames)
    _kernel[grid](
        functions, cones, q[0], q[1], q[2], best, index, rays, triangles, miss, seam,
        SHEETS=sheets, EACH=triangles // sheets, BLOCK=_BLOCK,
    )  # fmt: skip
    return best, index.long()

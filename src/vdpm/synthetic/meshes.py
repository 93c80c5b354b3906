"""Sheets: surfaces of triangles whose vertices move, in the renderer.

A sheet has 96 triangles between at most 65 vertices; which, says its topology. Rays of one pass either start in one
point (a camera), or end in one (a lamp), or are parallel (the sun). Seen from there, the three edges of a triangle and
the way to it are four linear functions of a ray, so that a ray and a triangle cost four scalar products.
"""

import functools
import itertools

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vdpm.synthetic.fusing import can_skip, fusable, is_fusing, runs_kernels
from vdpm.synthetic.hashing import constant

GRIDS = ((6, 8), (8, 6), (4, 12))
WIDE, LONG, FLAT = range(3)
"""(rows, columns) of quads, by topology; each makes 48 quads."""
NUM_VERTICES = 65
TRIANGLES = 96
MISS = 1e9
_SEAM = -1e-6
"""Barycentric weights are compared with this and not with 0, so that no ray slips between two triangles."""


@functools.lru_cache(maxsize=16)
def triangle_table(device: torch.device) -> Int[Tensor, "topologies corners triangles"]:
    """Vertex numbers of the corners of each triangle."""
    every = []
    for rows, columns in GRIDS:
        first = torch.arange(rows)[:, None] * (columns + 1) + torch.arange(columns)
        a, b = first.flatten(), first.flatten() + 1
        d, c = a + columns + 1, b + columns + 1
        every.append(torch.stack([torch.cat([a, a]), torch.cat([b, c]), torch.cat([c, d])]))
    return torch.stack(every).to(device)


@functools.lru_cache(maxsize=16)
def grid_coordinates(device: torch.device) -> Float[Tensor, "topologies vertices 2"]:
    """(u, v) in [0, 1] of each vertex: u along a row, v from row to row. Vertices that a topology lacks are at 1, 1."""
    every = torch.ones(len(GRIDS), NUM_VERTICES, 2)
    for number, (rows, columns) in enumerate(GRIDS):
        index = torch.arange((rows + 1) * (columns + 1))
        every[number, : len(index), 0] = (index % (columns + 1)) / columns
        every[number, : len(index), 1] = (index // (columns + 1)) / rows
    return every.to(device)


def corners(
    values: Float[Tensor, "batch *frames sheets vertices 3"], topology: Int[Tensor, "batch sheets"]
) -> Float[Tensor, "batch *frames triangles 3 3"]:
    """Of each triangle, sheet after sheet, the values (last axis) at its corners (last but one)."""
    index = triangle_table(values.device)[topology].transpose(-1, -2).flatten(-2)
    shape = values.shape[:-2]
    index = index.reshape(shape[0], *[1] * (len(shape) - 2), shape[-1], -1, 1).expand(*shape, -1, 3)
    return values.gather(-2, index).unflatten(-2, (-1, 3)).flatten(-4, -3)


@functools.lru_cache(maxsize=16)
def _neighbours(device: torch.device) -> Int[Tensor, "topologies wraps sides vertices"]:
    """Numbers of the vertices before and behind along the row, and above and below, or the vertex itself at an edge."""
    every = torch.arange(NUM_VERTICES).expand(len(GRIDS), 2, 4, -1).clone()
    for number, (rows, columns) in enumerate(GRIDS):
        index = torch.arange((rows + 1) * (columns + 1))
        row, column = index // (columns + 1), index % (columns + 1)
        start = row * (columns + 1)
        for wraps in range(2):
            before, behind = (column - 1).clamp_min(0), (column + 1).clamp_max(columns)
            if wraps:
                before, behind = (column - 1) % columns, (column % columns) + 1
            above, below = (row - 1).clamp_min(0), (row + 1).clamp_max(rows)
            sides = (start + before, start + behind, above * (columns + 1) + column, below * (columns + 1) + column)
            every[number, wraps, :, : len(index)] = torch.stack(sides)
    return every.to(device)


def grid_normals(
    vertices: Float[Tensor, "batch frames sheets vertices 3"],
    topology: Int[Tensor, "batch sheets"],
    wraps: Bool[Tensor, "batch sheets"],
) -> Float[Tensor, "batch frames sheets vertices 3"]:
    """Unit normals of the surface at the vertices; a sheet that ``wraps`` is closed along its rows."""
    index = _neighbours(vertices.device)[topology, wraps.long()].flatten(-2)[:, None, ..., None]
    index = index.expand(-1, vertices.shape[1], -1, -1, 3)
    before, behind, above, below = vertices.gather(3, index).unflatten(3, (4, -1)).unbind(3)
    normal = torch.linalg.cross(behind - before, below - above, dim=-1)
    # At a pole, where a row is a point, the normal leads away from the middle, on the side of the others.
    away = (vertices - vertices.mean(-2, keepdim=True)) * (1e-3 * normal.norm(dim=-1).amax(-1))[..., None, None]
    outwards = torch.where((normal * away).sum((-1, -2)) < 0, -1.0, 1.0)[..., None, None]
    normal = normal + away * outwards
    return normal / normal.norm(dim=-1, keepdim=True).clamp_min(1e-20)


def edge_functions(
    points: Float[Tensor, "batch frames triangles 3 3"],
    active: Bool[Tensor, "batch triangles"],
    place: Float[Tensor, "batch #frames 3"],
    turn: Float[Tensor, "batch 3 3"],
    near: Bool[Tensor, "batch"],
) -> Float[Tensor, "batch frames 12 triangles"]:
    """For the corners of triangles, four linear functions of a ray q: three weights and the height.

    ``near``: rays meet in ``place``, and q is their direction or any point on them as seen from there; a ray meets the
    triangle where all weights are positive, and the height is then 1 / t for the point place + t q. Else rays run along
    the third row of ``turn`` (world -> light), q is (x, y, 1) in the light's frame, and the height is the z there.
    """
    return _edge_functions(points, active, place, turn, near, constant((0.0, 0.0, -MISS), near.device))


@fusable
def _edge_functions(points: Tensor, active: Tensor, place: Tensor, turn: Tensor, near: Tensor, far: Tensor) -> Tensor:
    meet = near[:, None, None, None, None]
    offset = points - torch.where(meet, place[:, :, None, None], 0.0)
    local = (turn[:, None, None, None] * offset[..., None, :]).sum(-1)
    depth = torch.where(meet[..., 0], 1.0, local[..., 2])
    local = torch.where(meet, local, torch.cat([local[..., :2], torch.ones_like(local[..., 2:])], -1))
    ahead, behind = local[..., (1, 2, 0), :], local[..., (2, 0, 1), :]
    # With differences of corners what is degenerate gives zeros, and small triangles far away keep their digits.
    edges = torch.linalg.cross(ahead, behind - ahead, dim=-1)
    first, sides = local[..., 0, :], local[..., 1:, :] - local[..., :1, :]
    volume = (first * torch.linalg.cross(sides[..., 0, :], sides[..., 1, :], dim=-1)).sum(-1)
    scale = first.norm(dim=-1) * sides.square().sum((-1, -2))
    good = (volume.abs() > 1e-6 * scale) & active[:, None]
    edges = torch.where(good[..., None, None], edges / torch.where(good, volume, 1.0)[..., None, None], 0.0)
    height = (edges * depth[..., None]).sum(-2)
    # What is no triangle has all weights 0 and lies infinitely far from where the rays meet.
    none = torch.where(near[:, None], 0.0, far)[:, None, None]
    height = torch.where(good[..., None], height, none)
    return torch.cat([edges, height[..., None, :]], -2).flatten(-2).transpose(-1, -2).contiguous()


@fusable
def _highest(functions: Tensor, x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    x, y, z = x[..., None], y[..., None], z[..., None]
    f = functions[:, :, :, None].unbind(2)
    first, second, third, height = [f[i] * x + f[i + 1] * y + f[i + 2] * z for i in range(0, 12, 3)]
    inside = torch.minimum(torch.minimum(first, second), third) > _SEAM
    best, index = torch.where(inside, height, -MISS).max(-1)
    return best, index


def highest(
    functions: Float[Tensor, "batch frames 12 triangles"], q: Float[Tensor, "3 batch frames rays"]
) -> tuple[Float[Tensor, "batch frames rays"], Int[Tensor, "batch frames rays"]]:
    """The height of the highest triangle on each ray, -MISS where there is none, and which triangle."""
    if runs_kernels(q.device):
        from vdpm.synthetic.sheet_kernel import highest_of_sheets

        return highest_of_sheets(functions, sheet_cones(functions), q, MISS, _SEAM)
    x, y, z = q.contiguous().unbind(0)
    if not can_skip(q.device):
        # By sheets, as without the compiler a value for each ray and triangle would be too much for memory.
        size = functions.shape[-1] if is_fusing() else TRIANGLES
        first, *others = [_highest(sheet, x, y, z) for sheet in functions.split(size, -1)]
        best, index = first
        for number, (value, which) in enumerate(others, start=1):
            index = torch.where(value > best, which + number * TRIANGLES, index)
            best = torch.maximum(value, best)
        return best, index
    # On a CPU each sheet is tried only by the rays that pass the cone around it.
    best = torch.full_like(x, -MISS)
    index = torch.zeros_like(x, dtype=torch.long)
    cones, length = sheet_cones(functions), q.norm(dim=0)
    for batch, frame, number in itertools.product(*map(range, cones.shape[:3])):
        *axis, least = cones[batch, frame, number]
        along = sum(a * component[batch, frame] for a, component in zip(axis, (x, y, z)))
        here = (along > least * length[batch, frame]).nonzero()[:, 0]
        if not len(here):
            continue
        start = number * TRIANGLES
        some = functions[batch, frame, :, start : start + TRIANGLES]
        value, which = _highest(some[None, None], *q[:, batch, frame, here][:, None, None].unbind(0))
        better = value[0, 0] > best[batch, frame, here]
        best[batch, frame, here] = torch.where(better, value[0, 0], best[batch, frame, here])
        index[batch, frame, here] = torch.where(better, which[0, 0] + start, index[batch, frame, here])
    return best, index


@fusable
def sheet_cones(functions: Float[Tensor, "batch frames 12 triangles"]) -> Float[Tensor, "batch frames sheets 4"]:
    """Around the corners of each sheet, as seen from where the rays meet, a cone: its axis, and the least cosine with
    it of a ray that may meet the sheet; -2 where every ray may, 2 where none may."""
    edges = functions[:, :, :9].unflatten(3, (-1, TRIANGLES)).unflatten(2, (3, 3))
    good = (edges != 0).any(3).any(2)[:, :, None, None]
    # Corner k is the one whose weight is positive where the two others are 0. [batch, frames, corner, axis, ...].
    first, second = edges[:, :, (1, 2, 0)], edges[:, :, (2, 0, 1)]
    corner = torch.linalg.cross(first, second, dim=3)
    corner = corner * (corner * edges).sum(3, keepdim=True).sign()
    corner = corner / corner.norm(dim=3, keepdim=True).clamp_min(1e-30) * good
    axis = corner.sum((2, 5))
    axis = axis / axis.norm(dim=2, keepdim=True).clamp_min(1e-30)
    cosine = torch.where(good[:, :, :, 0], (corner * axis[:, :, None, :, :, None]).sum(3), 2.0)
    least = cosine.amin((2, 4))
    # Cones wider than a half space hold everything.
    least = torch.where(least < 0.05, -2.0, torch.where(least > 1.5, 2.0, least - 1e-3))
    return torch.cat([axis.transpose(2, 3), least[..., None]], -1)

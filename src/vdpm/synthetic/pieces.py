"""Everything that a ray can end on, as rows of tables: the parts, the surroundings, and each triangle of the sheets.

Each piece has an affine map from its own coordinates to the world at every time. A triangle's own coordinates are the
weights of its second and third corner and the height above it, so a point on it stays where it is on the surface.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdpm.synthetic.fusing import fusable
from vdpm.synthetic.intersect import Parts, Rays, Vector, nearest_hit, surface_normal
from vdpm.synthetic.layout import SHEETS, SURROUNDINGS
from vdpm.synthetic.meshes import TRIANGLES, corners, grid_normals
from vdpm.synthetic.tables import rows_of
from vdpm.synthetic.terrain import terrain_normal


class Contact(NamedTuple):
    """Where rays end. ``piece``: row of the tables; ``part``: the part it belongs to; ``face`` of the surroundings.

    ``own``: the point in the piece's own coordinates. ``material``, ``own_normal``: the point and the normal on the
    object at rest, which textures are made of. ``normal``: of the world, towards the viewer.
    """

    length: Float[Tensor, "batch frames rays"]
    piece: Int[Tensor, "batch frames rays"]
    part: Int[Tensor, "batch frames rays"]
    face: Int[Tensor, "batch frames rays"]
    own: Rays
    material: Rays
    own_normal: Rays
    normal: Rays


def piece_poses(parts: Parts) -> Float[Tensor, "batch frames pieces 12"]:
    """Own coordinates -> world of every piece: a 3 x 3 matrix by rows, then the place of its origin."""
    solid = torch.cat([parts.turn.flatten(-2), parts.position], -1)
    a, b, c = corners(parts.vertices, parts.topology).unbind(-2)
    first, second = b - a, c - a
    turn = torch.stack([first, second, torch.linalg.cross(first, second, dim=-1)], -1)
    return torch.cat([solid, torch.cat([turn.flatten(-2), a], -1)], 2)


def _rows(parts: Parts, poses: Float[Tensor, "batch frames pieces 12"]) -> Float[Tensor, "batch frames pieces 36"]:
    """For points of the world: world -> own (9) and its origin (3); own normal -> world (9); own -> rest (12); rest
    normal (3). A triangle's "own normal" is (1, weights), its rest normal is what the row says."""
    batch, frames = poses.shape[:2]
    solids = parts.turn.shape[2]
    eye = torch.eye(3, device=poses.device).flatten()
    still = torch.cat([eye, torch.zeros_like(eye[:6])]).expand(batch, frames, solids, 15)
    solid = torch.cat(
        [parts.inverse.flatten(-2), parts.position, parts.inverse.transpose(-1, -2).flatten(-2), still], -1
    )
    matrix = poses[:, :, solids:, :9].unflatten(-1, (3, 3))
    first, second, normal = matrix.unbind(-1)
    square = (normal * normal).sum(-1, keepdim=True).clamp_min(1e-30)
    inverse = torch.stack(
        [torch.linalg.cross(second, normal, dim=-1), torch.linalg.cross(normal, first, dim=-1), normal], -2
    ) / square[..., None]  # fmt: skip
    smooth = corners(grid_normals(parts.vertices, parts.topology, parts.wraps), parts.topology)
    flat = (normal * torch.rsqrt(square))[..., None, :].expand_as(smooth)
    smooth = torch.where(parts.creased.repeat_interleave(TRIANGLES, 1)[:, None, :, None, None], flat, smooth)
    bend = torch.stack(
        [smooth[..., 0, :], smooth[..., 1, :] - smooth[..., 0, :], smooth[..., 2, :] - smooth[..., 0, :]], -1
    )
    a, b, c = corners(parts.rest, parts.topology).unbind(-2)
    up = torch.linalg.cross(b - a, c - a, dim=-1)
    up = up * torch.rsqrt((up * up).sum(-1, keepdim=True).clamp_min(1e-30))
    rest = torch.cat([torch.stack([b - a, c - a, torch.zeros_like(a)], -1).flatten(-2), a, up], -1)
    rest = rest[:, None].expand(-1, frames, -1, -1)
    place = poses[:, :, solids:, 9:]
    return torch.cat([solid, torch.cat([inverse.flatten(-2), place, bend.flatten(-2), rest], -1)], 2)


def contact(parts: Parts, poses: Float[Tensor, "batch frames pieces 12"], origin: Rays, direction: Rays) -> Contact:
    """What each ray meets first, and where."""
    length, piece, face = nearest_hit(parts, origin, direction)
    batch = torch.arange(piece.shape[0], device=piece.device)[:, None, None]
    frame = torch.arange(piece.shape[1], device=piece.device)[None, :, None]
    row = rows_of(_rows(parts, poses).flatten(0, 1), batch * piece.shape[1] + frame, piece)
    part = torch.where(
        piece > SURROUNDINGS,
        SHEETS.start + torch.div(piece - (SURROUNDINGS + 1), TRIANGLES, rounding_mode="floor"),
        piece,
    )
    shapes = rows_of(torch.cat([parts.size, parts.shape], -1), batch, part)
    own, material, own_normal, normal = _on_surface(row, shapes, parts.waves, piece, face, length, origin, direction)
    return Contact(length, piece, part, face, own, material, own_normal, normal)


def _matrix(rows: tuple[Tensor, ...], vector: Vector) -> Vector:
    x, y, z = (rows[3 * i] * vector[0] + rows[3 * i + 1] * vector[1] + rows[3 * i + 2] * vector[2] for i in range(3))
    return x, y, z


@fusable
def _on_surface(
    row: Tensor, shapes: Tensor, waves: Tensor, piece: Tensor, face: Tensor, length: Tensor, origin: Tensor,
    direction: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """From rows of the tables to the point in own and in rest coordinates, and the normal at rest and in the world.

    Plain tensors component by component, since the compiler makes one kernel of it all.
    """
    column = row.unbind(0)
    ox, oy, oz = origin.unbind(0)
    dx, dy, dz = direction.unbind(0)
    place = (ox + length * dx - column[9], oy + length * dy - column[10], oz + length * dz - column[11])
    own = _matrix(column[:9], place)
    sheet = piece > SURROUNDINGS
    at_rest = _matrix(column[21:30], own)
    material = [torch.where(sheet, r + c, o) for r, c, o in zip(at_rest, column[30:33], own)]

    solid = surface_normal(piece, face, own, shapes.unbind(0))
    rolling = (piece == SURROUNDINGS) & (face == 4)
    ground = terrain_normal(waves, own[0], own[1])
    nx, ny, nz = (torch.where(rolling, g, n) for g, n in zip(ground, solid))
    one = torch.ones_like(nx)
    bent = (torch.where(sheet, one, nx), torch.where(sheet, own[0], ny), torch.where(sheet, own[1], nz))
    x, y, z = _matrix(column[12:21], bent)
    size = torch.rsqrt((x * x + y * y + z * z).clamp_min(1e-20))
    size = torch.where(sheet & (x * dx + y * dy + z * dz > 0), -size, size)
    own_normal = [torch.where(sheet, u, n) for u, n in zip(column[33:36], (nx, ny, nz))]
    return torch.stack(own), torch.stack(material), torch.stack(own_normal), torch.stack([x * size, y * size, z * size])


def instance_of_pieces(parts: Parts) -> Int[Tensor, "batch pieces"]:
    """Which object each piece belongs to."""
    return torch.cat([parts.instance, parts.instance[:, SHEETS].repeat_interleave(TRIANGLES, 1)], 1)

"""Rays against the parts of a scene. A ray and a part meet in the part's own frame, scaled to a unit shape.

Rays have shape [batch, frames, rays], parts of one kind [batch, frames, 1, parts]. Vectors have their three numbers
along the first axis, so that one kernel does for all three; where the compiler fuses kernels anyhow they are triples of
tensors. Sums are written out: matrix products would lose digits to TF32.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vdpm.synthetic.fusing import can_skip, fusable
from vdpm.synthetic.layout import BOXES, CAPSULES, ELLIPSOIDS, FRUSTUMS, SHEETS, SUPERQUADRICS, SURROUNDINGS
from vdpm.synthetic.meshes import TRIANGLES, corners, edge_functions, highest
from vdpm.synthetic.rotations import turned
from vdpm.synthetic.terrain import terrain_distance

Vector = tuple[Tensor, Tensor, Tensor]
Rays = Float[Tensor, "3 batch frames #rays"]
MISS = 1e9
_NEWTON_STEPS = 6


class Lamp(NamedTuple):
    """Where light comes from: a lamp in ``place``, or the sun, along the third row of ``turn`` (world -> light)."""

    is_near: Bool[Tensor, "batch"]
    place: Float[Tensor, "batch 3"]
    turn: Float[Tensor, "batch 3 3"]


class Parts(NamedTuple):
    """Parts of a scene as the renderer wants them; the last one is the surroundings.

    ``turn``: any invertible matrix, so that parts may be squashed and sheared; with ``position``, part -> world.
    ``inverse``: world -> part; ``unit``: the same scaled to the unit shape, for all parts but sheets and surroundings.
    ``shape``: taper of frustums, the two exponents of superquadrics. ``waves``: the ground, in the frame of the
    surroundings. ``vertices`` of the sheets in the world, and as they are at rest. ``lamp``: what shadow rays have in
    common (``meshes.edge_functions``).
    """

    turn: Float[Tensor, "batch frames parts 3 3"]
    position: Float[Tensor, "batch frames parts 3"]
    inverse: Float[Tensor, "batch frames parts 3 3"]
    unit: Float[Tensor, "batch frames solids 3 3"]
    size: Float[Tensor, "batch parts 3"]
    shape: Float[Tensor, "batch parts 2"]
    active: Bool[Tensor, "batch solids_and_sheets"]
    instance: Int[Tensor, "batch parts"]
    half: Float[Tensor, "batch 2"]
    floor: Float[Tensor, "batch"]
    ceiling: Float[Tensor, "batch"]
    waves: Float[Tensor, "batch waves 4"]
    vertices: Float[Tensor, "batch frames sheets vertices 3"]
    rest: Float[Tensor, "batch sheets vertices 3"]
    topology: Int[Tensor, "batch sheets"]
    wraps: Bool[Tensor, "batch sheets"]
    creased: Bool[Tensor, "batch sheets"]
    lamp: Lamp


def dot(a: Float[Tensor, "3 *#shape"], b: Float[Tensor, "3 *#shape"]) -> Float[Tensor, "*shape"]:
    product = a * b
    return product[0] + product[1] + product[2]


def unit(a: Float[Tensor, "3 *shape"]) -> Float[Tensor, "3 *shape"]:
    """The direction of ``a``."""
    return a * torch.rsqrt(dot(a, a).clamp_min(1e-20))


def _dot(a: Vector, b: Vector) -> Tensor:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _ellipsoid(o: Vector, d: Vector) -> Tensor:
    a, b, c = _dot(d, d), _dot(o, d), _dot(o, o) - 1
    disc = b * b - a * c
    return torch.where(disc > 0, (-b - disc.clamp_min(0).sqrt()) / a, MISS)


def _box(o: Vector, d: Vector) -> Tensor:
    inverse = [1 / torch.where(x.abs() < 1e-9, 1e-9, x) for x in d]
    near = [-x * i - i.abs() for x, i in zip(o, inverse)]
    far = [-x * i + i.abs() for x, i in zip(o, inverse)]
    enter = torch.maximum(torch.maximum(near[0], near[1]), near[2])
    leave = torch.minimum(torch.minimum(far[0], far[1]), far[2])
    return torch.where(enter < leave, enter, MISS)


def _frustum(o: Vector, d: Vector, top: Tensor, behind: Tensor) -> Tensor:
    slope, middle = (top - 1) / 2, (top + 1) / 2
    radius, change = middle + slope * o[2], slope * d[2]
    a = d[0] * d[0] + d[1] * d[1] - change * change
    b = o[0] * d[0] + o[1] * d[1] - change * radius
    c = o[0] * o[0] + o[1] * o[1] - radius * radius
    a = torch.where(a.abs() < 1e-9, 1e-9, a)
    disc = b * b - a * c
    root = disc.clamp_min(0).sqrt()
    best = torch.full_like(disc, MISS)
    for t in ((-b - root) / a, (-b + root) / a):
        z = o[2] + t * d[2]
        good = (disc > 0) & (z.abs() < 1) & (middle + slope * z > 0) & (t > behind)
        best = torch.where(good & (t < best), t, best)
    rise = torch.where(d[2].abs() < 1e-9, 1e-9, d[2])
    for level, limit in ((-1.0, torch.ones_like(top)), (1.0, top)):
        t = (level - o[2]) / rise
        x, y = o[0] + t * d[0], o[1] + t * d[1]
        good = (x * x + y * y <= limit * limit) & (t > behind)
        best = torch.where(good & (t < best), t, best)
    return best


def _capsule(o: Vector, d: Vector, half: Tensor) -> Tensor:
    # Unit radius, axis along z from -half to half. The wall first, else the cap on the side the ray comes from.
    a = d[0] * d[0] + d[1] * d[1]
    b = o[0] * d[0] + o[1] * d[1]
    c = o[0] * o[0] + o[1] * o[1] - 1
    disc = b * b - a * c
    t = (-b - disc.clamp_min(0).sqrt()) / a.clamp_min(1e-12)
    z = o[2] + t * d[2]
    wall = (disc > 0) & (z.abs() < half)
    end = torch.where(z > 0, half, -half)
    height = o[2] - end
    square, across, rest = a + d[2] * d[2], b + height * d[2], c + height * height
    cap_disc = across * across - square * rest
    cap = torch.where((cap_disc > 0) & (disc > 0), (-across - cap_disc.clamp_min(0).sqrt()) / square, MISS)
    return torch.where(wall, t, cap)


def _superquadric(o: Vector, d: Vector, shape: Tensor) -> Tensor:
    # The surface is where a norm is 1: ((|x|^p + |y|^p)^(q/p) + |z|^q)^(1/q), p and q from 1 up. A norm is convex along
    # a ray, so Newton's steps from outside never pass the first meeting. The unit box holds the shape.
    p, q = shape[..., 0], shape[..., 1]
    t = _box(o, d)
    meets = t < MISS
    t = torch.where(meets, t, 0.0)
    norm = torch.zeros_like(t)
    for _ in range(_NEWTON_STEPS):
        x, y, z = o[0] + t * d[0], o[1] + t * d[1], o[2] + t * d[2]
        norm, (gx, gy, gz) = _norm_and_gradient(x, y, z, p, q)
        slope = gx * d[0] + gy * d[1] + gz * d[2]
        out = norm > 1 + 1e-6
        meets = meets & ~(out & (slope >= 0))
        t = torch.where(out & meets, t + (1 - norm) / slope.clamp_max(-1e-9), t)
    return torch.where(meets & (norm < 1.002), t, MISS)


def _norm_and_gradient(x: Tensor, y: Tensor, z: Tensor, p: Tensor, q: Tensor) -> tuple[Tensor, Vector]:
    lx, ly, lz = (torch.log2(v.abs().clamp_min(1e-12)) for v in (x, y, z))
    flat = torch.log2(torch.exp2(p * lx) + torch.exp2(p * ly)) / p
    whole = torch.log2(torch.exp2(q * flat) + torch.exp2(q * lz)) / q
    ring = (q - 1) * (flat - whole)
    gx = torch.exp2(ring + (p - 1) * (lx - flat)) * x.sign()
    gy = torch.exp2(ring + (p - 1) * (ly - flat)) * y.sign()
    return torch.exp2(whole), (gx, gy, torch.exp2((q - 1) * (lz - whole)) * z.sign())


def _pick(parts: Parts, chosen: slice) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of one kind of part: position, world -> unit shape, shape, half length in radii, whether it is there, number."""
    number = torch.arange(chosen.start, chosen.stop, device=parts.size.device)
    size = parts.size[:, chosen]
    active, position, unit_shape = parts.active[:, chosen], parts.position[:, :, chosen], parts.unit[:, :, chosen]
    shape, length = parts.shape[:, chosen], size[..., 2] / size[..., 0]
    if can_skip(size.device):
        # Parts that no clip has cost nothing; one stays, so that there is a nearest.
        here = active.any(0).nonzero()[:, 0]
        here = here if len(here) else here.new_zeros(1)
        position, unit_shape = position[:, :, here], unit_shape[:, :, here]
        shape, length, active, number = shape[:, here], length[:, here], active[:, here], number[here]
    return position, unit_shape, shape, length, active, number


def _kind(chosen: slice) -> Callable[[Parts, Vector, Vector], tuple[Tensor, Tensor]]:
    """For one kind of part: ray length to the nearest, MISS where all are missed, and which it is. The one place with a
    value for each ray and part.

    Rays are taken to the unit shape's frame from the point nearest to each part's centre, which lies ``ahead``: this
    keeps far and small parts exact, since the quadratics then hold numbers of order one.
    """

    @fusable
    def nearest(
        position: Tensor, unit_shape: Tensor, shape: Tensor, length: Tensor, active: Tensor, origin: Vector,
        direction: Vector,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        centre = position[:, :, None].unbind(-1)
        way = [x[..., None] for x in direction]
        to = [c - x[..., None] for c, x in zip(centre, origin)]
        ahead = to[0] * way[0] + to[1] * way[1] + to[2] * way[2]
        near = [ahead * x - y for x, y in zip(way, to)]
        m = unit_shape[:, :, None]
        a, b, c = (m[..., i, 0] * near[0] + m[..., i, 1] * near[1] + m[..., i, 2] * near[2] for i in range(3))
        e, f, g = (m[..., i, 0] * way[0] + m[..., i, 1] * way[1] + m[..., i, 2] * way[2] for i in range(3))
        o, d = (a, b, c), (e, f, g)
        if chosen == ELLIPSOIDS:
            t = _ellipsoid(o, d)
        elif chosen == BOXES:
            t = _box(o, d)
        elif chosen == FRUSTUMS:
            t = _frustum(o, d, shape[:, None, None, :, 0], -ahead)
        elif chosen == CAPSULES:
            t = _capsule(o, d, length[:, None, None])
        else:
            t = _superquadric(o, d, shape[:, None, None])
        t = torch.where(t < 0.5 * MISS, t + ahead, MISS)
        best, index = torch.where((t > 0) & active[:, None, None], t, MISS).min(-1)
        return best, index

    def of_parts(parts: Parts, origin: Vector, direction: Vector) -> tuple[Tensor, Tensor]:
        position, unit_shape, shape, length, active, number = _pick(parts, chosen)
        t, index = nearest(position, unit_shape, shape, length, active, origin, direction)
        return t, number[index]

    return of_parts


_KINDS = tuple(_kind(chosen) for chosen in (ELLIPSOIDS, BOXES, FRUSTUMS, CAPSULES, SUPERQUADRICS))


def surroundings_exit(parts: Parts, origin: Rays, direction: Rays) -> tuple[Tensor, Tensor]:
    """Ray length to the surroundings ahead, and which face: 0 to 3 walls (-x, x, -y, y), 4 ground, 5 ceiling."""
    inverse = parts.inverse[:, :, SURROUNDINGS, :, :, None].movedim((2, 3), (0, 1))
    position = parts.position[:, :, SURROUNDINGS, None].movedim(-1, 0)
    high = torch.stack([parts.half[:, 0], parts.half[:, 1], parts.ceiling])[..., None, None]
    low = torch.stack([-parts.half[:, 0], -parts.half[:, 1], parts.floor])[..., None, None]
    o, d, length, face = _box_exit(inverse, position, low, high, origin, direction)
    hill = terrain_distance(parts.waves, o, d, length)
    return torch.minimum(hill, length), torch.where(hill < length, 4, face)


@fusable
def _box_exit(
    inverse: Tensor, position: Tensor, low: Tensor, high: Tensor, origin: Tensor, direction: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rays in the frame of the surroundings, and where they leave the box from ``low`` to ``high``, by which face."""
    o, d = turned(inverse, origin - position), turned(inverse, direction)
    step = torch.where(d.abs() < 1e-9, 1e-9, d)
    ahead = step > 0
    x, y, z = ((torch.where(ahead, high, low) - o) / step).unbind(0)
    by_x, by_y, by_z = ahead.long().unbind(0)
    side, across = torch.where(y < x, y, x), torch.where(y < x, 2 + by_y, by_x)
    return o, d, torch.where(z < side, z, side), torch.where(z < side, 4 + by_z, across)


def nearest_hit(
    parts: Parts, origin: Rays, direction: Rays
) -> tuple[Tensor, Int[Tensor, "batch frames rays"], Int[Tensor, "batch frames rays"]]:
    """Ray length of the first hit, and its piece: a part or, from NUM_PARTS + 1 on, a triangle of a sheet; and the face
    of the surroundings behind it. All rays of a frame start in one point.
    """
    best, face = surroundings_exit(parts, origin, direction)
    piece = torch.full_like(face, SURROUNDINGS)
    for nearest in _KINDS:
        t, index = nearest(parts, _vector(origin), _vector(direction))
        piece = torch.where(t < best, index, piece)
        best = torch.minimum(t, best)
    everywhere = torch.ones_like(parts.lamp.is_near)
    as_is = torch.eye(3, device=best.device).expand(len(best), 3, 3)
    functions = _edges(parts, origin[..., 0].movedim(0, -1), as_is, everywhere)
    height, index = highest(functions, direction)
    t = torch.where(height > 0, 1 / height.clamp_min(1e-12), MISS)
    piece = torch.where(t < best, index + SURROUNDINGS + 1, piece)
    return torch.minimum(t, best), piece, face


def blocked(parts: Parts, origin: Rays, direction: Rays, length: Tensor) -> Bool[Tensor, "batch frames rays"]:
    """Whether a part lies on the way to the light, which is in ``direction`` at ``length``."""
    hit = torch.zeros_like(length, dtype=torch.bool)
    for nearest in _KINDS:
        hit = hit | (nearest(parts, _vector(origin), _vector(direction))[0] < length)
    lamp = parts.lamp
    functions = _edges(parts, lamp.place[:, None], lamp.turn, lamp.is_near)
    q, own_height = _from_lamp(lamp.is_near, lamp.place, lamp.turn, origin)
    height, _ = highest(functions, q)
    return hit | (height > own_height)


@fusable
def _from_lamp(is_near: Tensor, place: Tensor, turn: Tensor, origin: Tensor) -> tuple[Tensor, Tensor]:
    """The q of ``meshes.edge_functions`` for rays to the lamp, and the height of their origins."""
    near, place = is_near[:, None, None], place.movedim(-1, 0)[..., None, None]
    q = turned(turn.movedim(0, -1)[..., None, None], origin - torch.where(near, place, 0.0))
    return torch.stack([q[0], q[1], torch.where(near, q[2], 1.0)]), torch.where(near, 1.0 + 1e-4, q[2])


def _edges(parts: Parts, place: Tensor, turn: Tensor, near: Tensor) -> Float[Tensor, "batch frames 12 triangles"]:
    active = parts.active[:, SHEETS].repeat_interleave(TRIANGLES, 1)
    return edge_functions(corners(parts.vertices, parts.topology), active, place, turn, near)


def surface_normal(part: Tensor, face: Tensor, own: Vector, shapes: tuple[Tensor, ...]) -> Vector:
    """Outward normal (inward for walls, floor and ceiling) in the part's frame, at a point on its surface.

    ``shapes``: sizes and shape parameters of the part. Not for sheets and for rolling ground.
    """
    capsule = (part >= CAPSULES.start) & (part < CAPSULES.stop)
    sx, sy, sz, taper, exponent = shapes
    scale = (sx, sy, torch.where(capsule, sx, sz))
    x, y, z = (o / s for o, s in zip(own, scale))
    along = torch.where(capsule, sz / sx, 0.0)
    core = z - torch.maximum(torch.minimum(z, along), -along)
    rounded = (x / scale[0], y / scale[1], core / scale[2])

    ax, ay, az = x.abs(), y.abs(), z.abs()
    on_x = (ax >= ay) & (ax >= az)
    on_y = ~on_x & (ay >= az)
    flat = (x.sign() * on_x, y.sign() * on_y, z.sign() * ~(on_x | on_y))

    slope, middle = (taper - 1) / 2, (taper + 1) / 2
    radius = middle + slope * z
    cap = (az > 0.9995) & (x * x + y * y < (radius * radius) * 0.999)
    none = torch.zeros_like(z)
    side = (x / sx, y / sy, -slope * radius / sz)
    end = (none, none, z.sign())

    curved = (part >= SUPERQUADRICS.start) & (part < SUPERQUADRICS.stop)
    _, gradient = _norm_and_gradient(
        x, y, z, torch.where(curved, taper, 2.0), torch.where(curved, exponent, 2.0)
    )  # fmt: skip

    box = (part >= BOXES.start) & (part < BOXES.stop)
    frustum = (part >= FRUSTUMS.start) & (part < FRUSTUMS.stop)
    inwards = (1 - 2 * (face % 2)).to(z.dtype)
    axis = torch.div(face, 2, rounding_mode="floor")
    normal = []
    for i in range(3):
        n = torch.where(curved, gradient[i] / scale[i], rounded[i])
        n = torch.where(frustum, torch.where(cap, end[i], side[i]), n)
        n = torch.where(box, flat[i], n)
        normal.append(torch.where(part >= SURROUNDINGS, torch.where(axis == i, inwards, 0.0), n))
    size = torch.rsqrt((normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2]).clamp_min(1e-20))
    return normal[0] * size, normal[1] * size, normal[2] * size


def _vector(stacked: Rays) -> Vector:
    x, y, z = stacked.contiguous().unbind(0)
    return x, y, z

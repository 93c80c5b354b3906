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

from vdpm.synthetic.fusing import fusable
from vdpm.synthetic.hashing import constant
from vdpm.synthetic.layout import BOXES, CAPSULES, ELLIPSOIDS, FRUSTUMS, NUM_PARTS, SURROUNDINGS
from vdpm.synthetic.rotations import turned_back

Vector = tuple[Tensor, Tensor, Tensor]
Rays = Float[Tensor, "3 batch frames #rays"]
MISS = 1e9
_WALLS = ((1.0, 0.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, -1.0))
"""Normals of the surroundings' faces, inwards."""


class Parts(NamedTuple):
    """Parts of a scene as the renderer wants them; the last one is the surroundings. Poses: part -> world."""

    rotation: Float[Tensor, "batch frames parts 3 3"]
    position: Float[Tensor, "batch frames parts 3"]
    size: Float[Tensor, "batch parts 3"]
    taper: Float[Tensor, "batch parts"]
    active: Bool[Tensor, "batch parts"]
    instance: Int[Tensor, "batch parts"]
    half: Float[Tensor, "batch 2"]
    floor: Float[Tensor, "batch"]
    ceiling: Float[Tensor, "batch"]


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


def _local(parts: Parts, chosen: slice, origin: Vector, direction: Vector) -> tuple[Vector, Vector, Tensor]:
    """Rays in the scaled frames of the chosen parts, from the point nearest each part's centre, which lies ``ahead``.

    Starting there keeps far and small parts exact: the quadratics then hold numbers of order one.
    """
    centre = parts.position[:, :, None, chosen].unbind(-1)
    o = [x[..., None] for x in origin]
    d = [x[..., None] for x in direction]
    to = [c - x for c, x in zip(centre, o)]
    ahead = to[0] * d[0] + to[1] * d[1] + to[2] * d[2]
    nearest = [ahead * x - y for x, y in zip(d, to)]
    rotation = parts.rotation[:, :, None, chosen]
    scale = _scale(parts, chosen)
    r = [[rotation[..., i, j] for j in range(3)] for i in range(3)]
    local_o = [(r[0][j] * nearest[0] + r[1][j] * nearest[1] + r[2][j] * nearest[2]) / scale[j] for j in range(3)]
    local_d = [(r[0][j] * d[0] + r[1][j] * d[1] + r[2][j] * d[2]) / scale[j] for j in range(3)]
    return (local_o[0], local_o[1], local_o[2]), (local_d[0], local_d[1], local_d[2]), ahead


def _scale(parts: Parts, chosen: slice) -> list[Tensor]:
    size = parts.size[:, None, None, chosen]
    if chosen == CAPSULES:
        return [size[..., 0]] * 3
    return list(size.unbind(-1))


def _distances(parts: Parts, chosen: slice, origin: Vector, direction: Vector) -> Tensor:
    """Ray length to each chosen part, MISS where it is missed or behind: [batch, frames, rays, parts]."""
    o, d, ahead = _local(parts, chosen, origin, direction)
    if chosen == ELLIPSOIDS:
        t = _ellipsoid(o, d)
    elif chosen == BOXES:
        t = _box(o, d)
    elif chosen == FRUSTUMS:
        t = _frustum(o, d, parts.taper[:, None, None, chosen], -ahead)
    else:
        size = parts.size[:, None, None, chosen]
        t = _capsule(o, d, size[..., 2] / size[..., 0])
    t = torch.where(t < 0.5 * MISS, t + ahead, MISS)
    return torch.where((t > 0) & parts.active[:, None, None, chosen], t, MISS)


def surroundings_exit(parts: Parts, origin: Rays, direction: Rays) -> tuple[Tensor, Tensor]:
    """Ray length to the surroundings ahead, and which face: 0 to 3 walls (-x, x, -y, y), 4 floor, 5 ceiling."""
    rotation = parts.rotation[:, :, SURROUNDINGS, None].movedim((-2, -1), (0, 1))
    position = parts.position[:, :, SURROUNDINGS, None].movedim(-1, 0)
    o, d = turned_back(rotation, origin - position), turned_back(rotation, direction)
    high = torch.stack([parts.half[:, 0], parts.half[:, 1], parts.ceiling])[..., None, None]
    low = torch.stack([-parts.half[:, 0], -parts.half[:, 1], parts.floor])[..., None, None]
    step = torch.where(d.abs() < 1e-9, 1e-9, d)
    ahead = step > 0
    length, axis = ((torch.where(ahead, high, low) - o) / step).min(0)
    return length, 2 * axis + ahead.gather(0, axis[None])[0]


def _nearest(chosen: slice) -> Callable[[Parts, Vector, Vector], tuple[Tensor, Tensor]]:
    """For one kind of part: ray length to the nearest, and which it is. The one place with a value for each
    ray and part.
    """

    def nearest(parts: Parts, origin: Vector, direction: Vector) -> tuple[Tensor, Tensor]:
        t, index = _distances(parts, chosen, origin, direction).min(-1)
        return t, index + chosen.start

    return fusable(nearest)


_KINDS = tuple(_nearest(chosen) for chosen in (ELLIPSOIDS, BOXES, FRUSTUMS, CAPSULES))


def nearest_hit(parts: Parts, origin: Rays, direction: Rays) -> tuple[Tensor, Int[Tensor, "batch frames rays"], Tensor]:
    """Ray length of the first hit, the part, and the face of the surroundings behind it."""
    best, face = surroundings_exit(parts, origin, direction)
    part = torch.full_like(face, SURROUNDINGS)
    for nearest in _KINDS:
        t, index = nearest(parts, _vector(origin), _vector(direction))
        part = torch.where(t < best, index, part)
        best = torch.minimum(t, best)
    return best, part, face


def blocked(parts: Parts, origin: Rays, direction: Rays, length: Tensor) -> Bool[Tensor, "batch frames rays"]:
    """Whether a part lies on the ray within ``length``."""
    hit = torch.zeros_like(length, dtype=torch.bool)
    for nearest in _KINDS:
        hit = hit | (nearest(parts, _vector(origin), _vector(direction))[0] < length)
    return hit


def surface_normal(part: Tensor, face: Tensor, material: Rays, size: Rays, taper: Tensor) -> Rays:
    """Outward normal (inward for the surroundings) in the part's frame, at the material point on its surface."""
    capsule = part >= CAPSULES.start
    sx, sy, sz = size.unbind(0)
    scale = torch.stack([sx, sy, torch.where(capsule, sx, sz)])
    p = material / scale
    pz = p[2]
    along = torch.where(capsule, sz / sx, 0.0)
    core = pz - torch.maximum(torch.minimum(pz, along), -along)
    rounded = torch.stack([p[0], p[1], core]) / scale

    ax, ay, az = p.abs().unbind(0)
    on_x = (ax >= ay) & (ax >= az)
    on_y = ~on_x & (ay >= az)
    flat = p.sign() * torch.stack([on_x, on_y, ~(on_x | on_y)])

    slope, middle = (taper - 1) / 2, (taper + 1) / 2
    radius = middle + slope * pz
    cap = (az > 0.9995) & (p[0] * p[0] + p[1] * p[1] < (radius * radius) * 0.999)
    side = torch.stack([p[0] / sx, p[1] / sy, -slope * radius / sz])
    end = torch.stack([torch.zeros_like(pz), torch.zeros_like(pz), pz.sign()])

    box = (part >= BOXES.start) & (part < BOXES.stop)
    frustum = (part >= FRUSTUMS.start) & (part < FRUSTUMS.stop)
    wall = constant(_WALLS, part.device)[face].movedim(-1, 0)
    normal = torch.where(frustum, torch.where(cap, end, side), rounded)
    return unit(torch.where(part >= NUM_PARTS, wall, torch.where(box, flat, normal)))


def _vector(stacked: Rays) -> Vector:
    x, y, z = stacked.contiguous().unbind(0)
    return x, y, z

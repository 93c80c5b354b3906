"""From scenes to pixels and their ground truth. World: the reference camera; vectors are triples of tensors."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vdpm.synthetic.hashing import lattice
from vdpm.synthetic.intersect import Parts, Vector, blocked, dot, nearest_hit, normalize, surface_normal
from vdpm.synthetic.layout import NUM_PARTS, SURROUNDINGS
from vdpm.synthetic.lighting import Light
from vdpm.synthetic.scene import Scene
from vdpm.synthetic.texture import FIELDS, albedo, noise

_OFFSETS = {
    1: ((0.0, 0.0),),
    3: ((0.0, 0.0), (-0.28, 0.24), (0.28, -0.24)),
    5: ((0.0, 0.0), (-0.15, -0.35), (0.35, -0.15), (0.15, 0.35), (-0.35, 0.15)),
}
"""Where in a pixel its colour is sampled, relative to its centre; the first sample gives the ground truth."""


class Pixels(NamedTuple):
    """What tracing gives for each ray; ``displacement``: how far its point moves from its own place in the clip;
    ``parts``: which part of the scene it is on."""

    radiance: Float[Tensor, "batch frames rays 3"]
    points: Float[Tensor, "batch frames rays 3"]
    target_points: Float[Tensor, "batch targets frames rays 3"]
    valid: Bool[Tensor, "batch frames rays"]
    instances: Int[Tensor, "batch frames rays"]
    displacement: Float[Tensor, "batch frames rays"]
    parts: UInt8[Tensor, "batch frames rays"]


class _Hit(NamedTuple):
    length: Tensor
    part: Tensor
    face: Tensor
    material: Vector
    sky: Tensor


def trace(
    scene: Scene,
    pixels: Float[Tensor, "rays 2"],
    targets: Int[Tensor, "batch targets"],
    width: int,
    height: int,
    samples: int,
) -> Pixels:
    """Colour and ground truth of the given pixel positions (x, y) in every frame of every scene."""
    # All colour samples are traced as one set of rays; the first set, through the centres, comes first.
    count = len(pixels)
    x = torch.cat([pixels[:, 0] + dx for dx, _ in _OFFSETS[samples]])
    y = torch.cat([pixels[:, 1] + dy for _, dy in _OFFSETS[samples]])
    origin, direction = _rays(scene, x, y, width, height)
    hit = _hit(scene, origin, direction)
    colour = torch.stack(_shade(scene, origin, direction, hit, width), -1)
    radiance = colour.unflatten(2, (samples, count)).mean(2)

    x, y, z = hit.material
    first = _Hit(
        hit.length[:, :, :count],
        hit.part[:, :, :count],
        hit.face[:, :, :count],
        (x[:, :, :count], y[:, :, :count], z[:, :, :count]),
        hit.sky[:, :, :count],
    )
    valid = ~first.sky
    frames = scene.c2w.shape[1]
    batch = torch.arange(targets.shape[0], device=targets.device)[:, None, None]
    own = torch.arange(frames, device=targets.device)[None, :, None]
    here = _place(scene.parts, batch, own, first)
    moved = []
    for k in range(targets.shape[1]):
        moved.append(torch.stack(_place(scene.parts, batch, targets[:, k, None, None], first), -1))
    displacement = torch.zeros_like(here[0])
    for j in range(frames):
        displacement = _further(displacement, scene.parts, batch, torch.full_like(own, j), first, here)
    return Pixels(
        radiance=radiance,
        points=torch.stack(here, -1) * valid[..., None],
        target_points=torch.stack(moved, 1) * valid[:, None, ..., None],
        valid=valid,
        instances=scene.parts.instance[batch, first.part],
        displacement=displacement * valid,
        parts=first.part.to(torch.uint8),
    )


def _rays(scene: Scene, x: Tensor, y: Tensor, width: int, height: int) -> tuple[Vector, Vector]:
    focal = scene.focal[..., None] * width
    cx, cy = (x - 0.5 * width) / focal, (y - 0.5 * height) / focal
    r = scene.c2w[:, :, None]
    direction = [r[..., i, 0] * cx + r[..., i, 1] * cy + r[..., i, 2] for i in range(3)]
    origin = [r[..., i, 3] for i in range(3)]
    return (origin[0], origin[1], origin[2]), normalize((direction[0], direction[1], direction[2]))


def _position(parts: Parts, batch: Tensor, frame: Tensor, hit: _Hit) -> Vector:
    """World position of the hit material point at the time of ``frame``."""
    rotation, position = parts.rotation, parts.position
    r = rotation[batch, frame, hit.part].flatten(-2).unbind(-1)
    t = position[batch, frame, hit.part].unbind(-1)
    x, y, z = hit.material
    return tuple(r[3 * i] * x + r[3 * i + 1] * y + r[3 * i + 2] * z + t[i] for i in range(3))  # type: ignore[return-value]


_place = _position


def _further(so_far: Tensor, parts: Parts, batch: Tensor, frame: Tensor, hit: _Hit, here: Vector) -> Tensor:
    """The larger of ``so_far`` and the distance of the hit point's place at ``frame`` from ``here``."""
    there = _position(parts, batch, frame, hit)
    step = (there[0] - here[0]) ** 2 + (there[1] - here[1]) ** 2 + (there[2] - here[2]) ** 2
    return torch.maximum(so_far, step.sqrt())


def _hit(scene: Scene, origin: Vector, direction: Vector) -> _Hit:
    length, part, face = nearest_hit(scene.parts, origin, direction)
    return _touched(scene, origin, direction, length, part, face)


def _touched(scene: Scene, origin: Vector, direction: Vector, length: Tensor, part: Tensor, face: Tensor) -> _Hit:
    """The material point at ``length`` along each ray, and whether it is sky instead."""
    parts = scene.parts
    batch = torch.arange(length.shape[0], device=length.device)[:, None, None]
    frame = torch.arange(length.shape[1], device=length.device)[None, :, None]
    r = parts.rotation[batch, frame, part].flatten(-2).unbind(-1)
    t = parts.position[batch, frame, part].unbind(-1)
    rel = [origin[i] + length * direction[i] - t[i] for i in range(3)]
    x, y, z = (r[j] * rel[0] + r[3 + j] * rel[1] + r[6 + j] * rel[2] for j in range(3))

    base, rise, period, blocks = scene.skyline[:, None, None].unbind(-1)
    along = torch.where(face < 2, y, x) / period
    cell = along.floor()
    smooth = noise(
        along, face.float() * 7.3, torch.zeros_like(along), scene.light.sky_seed[:, None, None].to(torch.int32)
    )
    column = lattice(
        cell.to(torch.int32), face.to(torch.int32), torch.zeros_like(face, dtype=torch.int32),
        scene.light.sky_seed[:, None, None].to(torch.int32),
    )  # fmt: skip
    skyline = base + rise * torch.where(blocks > 0.5, column, smooth)
    sky = (part == SURROUNDINGS) & (face != 4) & ((z > skyline) | (face == 5) & (base < 1e4))
    return _Hit(length, part, face, (x, y, z), sky)


def _shade(scene: Scene, origin: Vector, direction: Vector, hit: _Hit, width: int) -> Vector:
    pixel = 1 / (scene.focal * width)
    surface = _surface(scene, origin, direction, hit, pixel)
    material = dict(zip(FIELDS, surface.material.unbind(-1)))
    colour = albedo(material, hit.material, surface.own_normal, surface.footprint)
    dark = blocked(scene.parts, surface.start, surface.to_light, surface.light_distance)
    sky = _sky(scene.light, direction)
    return _illuminate(scene.light, direction, hit, surface, material, colour, dark, sky)


class _Surface(NamedTuple):
    """The surface that a ray meets: material row, normals (of the part's frame and world), and the way to the light."""

    material: Tensor
    own_normal: Vector
    normal: Vector
    footprint: Tensor
    start: Vector
    to_light: Vector
    light_distance: Tensor


def _surface(scene: Scene, origin: Vector, direction: Vector, hit: _Hit, pixel: Tensor) -> _Surface:
    parts, light = scene.parts, scene.light
    batch = torch.arange(hit.part.shape[0], device=hit.part.device)[:, None, None]
    frame = torch.arange(hit.part.shape[1], device=hit.part.device)[None, :, None]
    size = parts.size[batch, hit.part].unbind(-1)
    normal = surface_normal(hit.part, hit.face, hit.material, (size[0], size[1], size[2]), parts.taper[batch, hit.part])
    r = parts.rotation[batch, frame, hit.part].flatten(-2).unbind(-1)
    n: Vector = tuple(dot((r[3 * i], r[3 * i + 1], r[3 * i + 2]), normal) for i in range(3))  # type: ignore[assignment]
    row = torch.where(hit.part == SURROUNDINGS, NUM_PARTS + hit.face, hit.part)
    footprint = hit.length * pixel[..., None] / (-dot(direction, n)).clamp_min(0.2)

    point: Vector = tuple(origin[i] + hit.length * direction[i] for i in range(3))  # type: ignore[assignment]
    lamp = light.is_lamp[:, None, None]
    place = light.place[:, None, None].unbind(-1)
    to: Vector = tuple(torch.where(lamp, place[i] - point[i], place[i]) for i in range(3))  # type: ignore[assignment]
    far = dot(to, to).clamp_min(1e-12).sqrt()
    to = (to[0] / far, to[1] / far, to[2] / far)
    lift = 1e-3 * hit.length
    start: Vector = tuple(point[i] + lift * n[i] for i in range(3))  # type: ignore[assignment]
    return _Surface(scene.materials[batch, row], normal, n, footprint, start, to, torch.where(lamp, far, 1e6))


def _illuminate(
    light: Light,
    direction: Vector,
    hit: _Hit,
    surface: _Surface,
    material: dict[str, Tensor],
    colour: Vector,
    dark: Tensor,
    sky: Vector,
) -> Vector:
    n, to, far = surface.normal, surface.to_light, surface.light_distance
    lamp = light.is_lamp[:, None, None]
    lambert = dot(n, to).clamp_min(0)
    lit = torch.where(dark, 1 - light.shadow[:, None, None], 1.0)
    strength = torch.where(lamp, 1 / (1 + light.falloff[:, None, None] * far * far), 1.0) * lit
    key = lambert * strength
    half = normalize((to[0] - direction[0], to[1] - direction[1], to[2] - direction[2]))
    glint = material["shine"] * dot(n, half).clamp_min(0) ** material["gloss"] * strength * (lambert > 0)
    sky_share = 0.5 + 0.5 * dot(n, _per_clip(light.up))
    second = dot(n, _per_clip(light.fill)).clamp_min(0) * light.fill_strength[:, None, None]
    mist = 1 - torch.exp(-light.haze[:, None, None] * hit.length)
    result = []
    for i in range(3):
        ambient = torch.lerp(light.bounce[:, i, None, None], light.ambient[:, i, None, None], sky_share)
        source = light.colour[:, i, None, None]
        seen = colour[i] * (ambient + source * key + second + material["glow"]) + source * glint
        seen = torch.lerp(seen, light.horizon[:, i, None, None], mist)
        result.append(torch.where(hit.sky, sky[i], seen))
    return result[0], result[1], result[2]


def _per_clip(vector: Float[Tensor, "batch 3"]) -> Vector:
    x, y, z = vector[:, None, None].unbind(-1)
    return x, y, z


def _sky(light: Light, direction: Vector) -> Vector:
    """A gradient from horizon to zenith with clouds on a plane high above."""
    up = _per_clip(light.up)
    rise = dot(direction, up).clamp_min(0.0)
    flat = 2.5 / (rise + 0.15)
    seed = light.sky_seed[:, None, None].to(torch.int32)
    x, y, z = direction[0] * flat, direction[1] * flat, direction[2] * flat
    cloud = noise(x, y, z, seed) + 0.5 * noise(2.1 * x, 2.1 * y, 2.1 * z, seed + 1) - 0.75
    cover = light.clouds[:, None, None] * (2.5 * cloud + 0.3).clamp(0, 1)
    blend = rise.sqrt()
    channels = []
    for i in range(3):
        base = torch.lerp(light.horizon[:, i, None, None], light.zenith[:, i, None, None], blend)
        channels.append(base + (1.0 - base) * cover)
    return channels[0], channels[1], channels[2]


def develop(
    scene: Scene, radiance: Float[Tensor, "batch frames rays 3"], width: int, height: int
) -> Float[Tensor, "batch frames 3 height width"]:
    """Exposure by the clip's mean, tone curve, vignette, sensor noise: RGB in [0, 1]."""
    response = scene.response
    luminance = radiance.clamp_max(3.0).mean((1, 2, 3)).clamp_min(1e-4)
    gain = (response.brightness / luminance)[:, None] * response.flicker
    x = radiance * gain[:, :, None, None] * response.balance[:, None, None]
    pixel = torch.arange(width * height, device=x.device)
    dx, dy = (pixel % width + 0.5) / width - 0.5, (pixel // width + 0.5) / height - 0.5
    x = x * (1 - response.vignette[:, None, None, None] * (2 * (dx * dx + dy * dy))[:, None])
    bend = response.contrast[:, None, None, None]
    x = x * (1 + bend * x * 0.25) / (1 + bend * x)
    x = x.clamp(1e-6, 1.0) ** response.gamma[:, None, None, None]
    frame = torch.arange(x.shape[1], device=x.device, dtype=torch.int32)[None, :, None, None]
    channel = torch.arange(3, device=x.device, dtype=torch.int32)
    seed = response.noise_seed.to(torch.int32)[:, None, None, None]
    grain = lattice(*torch.broadcast_tensors(pixel.to(torch.int32)[:, None], frame, channel, seed))
    grain = grain + lattice(*torch.broadcast_tensors(pixel.to(torch.int32)[:, None], frame + 7919, channel, seed)) - 1
    x = (x + response.noise[:, None, None, None] * 2.4 * grain).clamp(0, 1)
    return x.unflatten(2, (height, width)).permute(0, 1, 4, 2, 3).contiguous()

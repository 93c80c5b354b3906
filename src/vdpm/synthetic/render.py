"""From scenes to pixels and their ground truth. World: the reference camera; vectors stand along the first axis."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vdpm.synthetic.hashing import constant, lattice
from vdpm.synthetic.intersect import Rays, blocked, dot, nearest_hit, surface_normal, unit
from vdpm.synthetic.layout import NUM_PARTS, SURROUNDINGS
from vdpm.synthetic.lighting import Light
from vdpm.synthetic.rotations import turned, turned_back
from vdpm.synthetic.scene import Scene
from vdpm.synthetic.texture import Material, albedo, noise, unpack_materials

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
    """Where rays end: the part with its turn (part -> world), its face, and the point in the part's frame."""

    length: Float[Tensor, "batch frames rays"]
    part: Int[Tensor, "batch frames rays"]
    face: Int[Tensor, "batch frames rays"]
    turn: Float[Tensor, "3 3 batch frames rays"]
    material: Float[Tensor, "3 batch frames rays"]
    sky: Bool[Tensor, "batch frames rays"]


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
    offsets = constant(_OFFSETS[samples], pixels.device)
    x, y = (pixels + offsets[:, None]).flatten(0, 1).unbind(-1)
    origin, direction = _rays(scene, x, y, width, height)
    poses = torch.cat([scene.parts.rotation.flatten(-2), scene.parts.position], -1)
    hit = _hit(scene, poses, origin, direction)
    colour = _shade(scene, origin, direction, hit, width).movedim(0, -1)
    radiance = colour.unflatten(2, (samples, count)).mean(2)

    part, valid = hit.part[..., :count], ~hit.sky[..., :count]
    batch, own = _indices(part)
    # Where each point is at the times of the targets, then at those of all frames: [batch, times, frames, rays].
    times = torch.cat([targets, own.view(1, -1).expand(len(targets), -1)], 1)
    pose = poses[batch[..., None], times[..., None, None], part[:, None]]
    turn = pose[..., :9].unflatten(-1, (3, 3))
    px, py, pz = hit.material[:, :, None, :, :count, None]
    points = turn[..., 0] * px + turn[..., 1] * py + turn[..., 2] * pz + pose[..., 9:]
    moved, everywhere = points.split([targets.shape[1], poses.shape[1]], 1)
    frames = own.flatten()
    here = everywhere[:, frames, frames]
    displacement = (everywhere - here[:, None]).square().sum(-1).amax(1).sqrt()
    return Pixels(
        radiance=radiance,
        points=here * valid[..., None],
        target_points=moved * valid[:, None, ..., None],
        valid=valid,
        instances=scene.parts.instance[batch, part],
        displacement=displacement * valid,
        parts=part.to(torch.uint8),
    )


def _indices(like: Tensor) -> tuple[Int[Tensor, "batch 1 1"], Int[Tensor, "1 frames 1"]]:
    batch, frames = like.shape[:2]
    return (
        torch.arange(batch, device=like.device)[:, None, None],
        torch.arange(frames, device=like.device)[None, :, None],
    )


def _rays(scene: Scene, x: Tensor, y: Tensor, width: int, height: int) -> tuple[Rays, Rays]:
    focal = scene.focal[..., None] * width
    cx, cy = (x - 0.5 * width) / focal, (y - 0.5 * height) / focal
    columns = scene.c2w[:, :, :3, :, None].permute(3, 2, 0, 1, 4)
    # Both contiguous, and an origin for each ray, as shadow rays have them: for another layout all that is compiled
    # would be compiled again.
    direction = unit(columns[0] * cx + columns[1] * cy + columns[2]).contiguous()
    return columns[3].expand_as(direction).contiguous(), direction


def _hit(scene: Scene, poses: Float[Tensor, "batch frames parts 12"], origin: Rays, direction: Rays) -> _Hit:
    """The material point that each ray meets first, and whether it is sky instead."""
    length, part, face = nearest_hit(scene.parts, origin, direction)
    batch, frame = _indices(part)
    # One gather of rows, then one copy that puts the columns first: all that follows reads whole columns.
    pose = poses[batch, frame, part].movedim(-1, 0).contiguous()
    turn = pose[:9].unflatten(0, (3, 3))
    material = turned_back(turn, origin + length * direction - pose[9:])

    x, y, z = material
    seed = scene.light.sky_seed[:, None, None].to(torch.int32)
    base, rise, period, blocks = scene.skyline[:, None, None].unbind(-1)
    along = torch.where(face < 2, y, x) / period
    smooth = noise(torch.stack([along, face.float() * 7.3, torch.zeros_like(along)]), seed)
    none = torch.zeros_like(face, dtype=torch.int32)
    column = lattice(along.floor().to(torch.int32), face.to(torch.int32), none, seed)
    skyline = base + rise * torch.where(blocks > 0.5, column, smooth)
    sky = (part == SURROUNDINGS) & (face != 4) & ((z > skyline) | (face == 5) & (base < 1e4))
    return _Hit(length, part, face, turn, material, sky)


class _Surface(NamedTuple):
    """The surface that a ray meets: what it is made of, its normals (of the part's frame and of the world), a pixel's
    width on it, and the way to the light."""

    material: Material
    own_normal: Rays
    normal: Rays
    footprint: Float[Tensor, "batch frames rays"]
    start: Rays
    to_light: Rays
    light_distance: Float[Tensor, "batch frames rays"]


def _shade(scene: Scene, origin: Rays, direction: Rays, hit: _Hit, width: int) -> Rays:
    surface = _surface(scene, origin, direction, hit, 1 / (scene.focal * width))
    colour = albedo(surface.material, hit.material, surface.own_normal, surface.footprint)
    dark = blocked(scene.parts, surface.start, surface.to_light, surface.light_distance)
    seen = _illuminate(scene.light, direction, hit, surface, colour, dark)
    return torch.where(hit.sky, _sky(scene.light, direction), seen)


def _surface(scene: Scene, origin: Rays, direction: Rays, hit: _Hit, pixel: Tensor) -> _Surface:
    parts, light = scene.parts, scene.light
    batch, _ = _indices(hit.part)
    shapes = torch.cat([parts.size, parts.taper[..., None]], -1)
    shape = shapes[batch, hit.part].movedim(-1, 0).contiguous()
    own_normal = surface_normal(hit.part, hit.face, hit.material, shape[:3], shape[3])
    normal = turned(hit.turn, own_normal)
    row = torch.where(hit.part == SURROUNDINGS, NUM_PARTS + hit.face, hit.part)
    rows = scene.materials[batch, row].movedim(-1, 0).contiguous()
    footprint = hit.length * pixel[..., None] / (-dot(direction, normal)).clamp_min(0.2)

    point = origin + hit.length * direction
    lamp, place = light.is_lamp[:, None, None], _per_clip(light.place)
    to = torch.where(lamp, place - point, place)
    far = dot(to, to).clamp_min(1e-12).sqrt()
    start = point + 1e-3 * hit.length * normal
    return _Surface(unpack_materials(rows), own_normal, normal, footprint, start, to / far, torch.where(lamp, far, 1e6))


def _illuminate(light: Light, direction: Rays, hit: _Hit, surface: _Surface, colour: Rays, dark: Tensor) -> Rays:
    n, to, far, material = surface.normal, surface.to_light, surface.light_distance, surface.material
    lamp = light.is_lamp[:, None, None]
    lambert = dot(n, to).clamp_min(0)
    lit = torch.where(dark, 1 - light.shadow[:, None, None], 1.0)
    strength = torch.where(lamp, 1 / (1 + light.falloff[:, None, None] * far * far), 1.0) * lit
    key = lambert * strength
    half = unit(to - direction)
    glint = material.shine * dot(n, half).clamp_min(0) ** material.gloss * strength * (lambert > 0)
    sky_share = 0.5 + 0.5 * dot(n, _per_clip(light.up))
    second = dot(n, _per_clip(light.fill)).clamp_min(0) * light.fill_strength[:, None, None]
    mist = 1 - torch.exp(-light.haze[:, None, None] * hit.length)
    ambient = torch.lerp(_per_clip(light.bounce), _per_clip(light.ambient), sky_share)
    source = _per_clip(light.colour)
    seen = colour * (ambient + source * key + second + material.glow) + source * glint
    return torch.lerp(seen, _per_clip(light.horizon), mist)


def _per_clip(vector: Float[Tensor, "batch 3"]) -> Float[Tensor, "3 batch 1 1"]:
    return vector.movedim(-1, 0)[..., None, None]


def _sky(light: Light, direction: Rays) -> Rays:
    """A gradient from horizon to zenith with clouds on a plane high above."""
    rise = dot(direction, _per_clip(light.up)).clamp_min(0.0)
    seed = light.sky_seed[:, None, None].to(torch.int32)
    flat = direction * (2.5 / (rise + 0.15))
    scales = constant((1.0, 2.1), rise.device)[:, None, None, None]
    numbers = constant((0, 1), rise.device).to(torch.int32)[:, None, None, None]
    broad, fine = noise(flat[:, None] * scales, seed + numbers)
    cloud = broad + 0.5 * fine - 0.75
    cover = light.clouds[:, None, None] * (2.5 * cloud + 0.3).clamp(0, 1)
    base = torch.lerp(_per_clip(light.horizon), _per_clip(light.zenith), rise.sqrt())
    return base + (1.0 - base) * cover


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
    frame = torch.arange(x.shape[1], device=x.device, dtype=torch.int32)[:, None, None]
    twice = torch.stack([frame, frame + 7919])[:, None]
    channel = torch.arange(3, device=x.device, dtype=torch.int32)
    seed = response.noise_seed.to(torch.int32)[:, None, None, None]
    grain = lattice(pixel.to(torch.int32)[:, None], twice, channel, seed)
    x = (x + response.noise[:, None, None, None] * 2.4 * (grain[0] + grain[1] - 1)).clamp(0, 1)
    return x.unflatten(2, (height, width)).permute(0, 1, 4, 2, 3).contiguous()

"""The colour of what rays meet: surface, light, sky and haze. World: the reference camera."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vdpm.synthetic.hashing import constant
from vdpm.synthetic.intersect import Rays, blocked, dot, surface_normal, unit
from vdpm.synthetic.layout import NUM_PARTS, SURROUNDINGS
from vdpm.synthetic.lighting import Light
from vdpm.synthetic.rotations import turned
from vdpm.synthetic.scene import Scene
from vdpm.synthetic.texture import albedo, noise, unpack_materials


class Hit(NamedTuple):
    """Where rays end: the part with its turn (part -> world), its face, and the point in the part's frame."""

    length: Float[Tensor, "batch frames rays"]
    part: Int[Tensor, "batch frames rays"]
    face: Int[Tensor, "batch frames rays"]
    turn: Float[Tensor, "3 3 batch frames rays"]
    material: Float[Tensor, "3 batch frames rays"]
    sky: Bool[Tensor, "batch frames rays"]


def indices(like: Tensor) -> tuple[Int[Tensor, "batch 1 1"], Int[Tensor, "1 frames 1"]]:
    """What picks, of each clip and frame of ``like``, its own row of a table."""
    batch, frames = like.shape[:2]
    return (
        torch.arange(batch, device=like.device)[:, None, None],
        torch.arange(frames, device=like.device)[None, :, None],
    )


class _Surface(NamedTuple):
    """The surface that a ray meets: its row of the table of materials, its normals (of the part's frame and of
    the world), a pixel's width on it, and the way to the light."""

    rows: Float[Tensor, "fields batch frames rays"]
    own_normal: Rays
    normal: Rays
    footprint: Float[Tensor, "batch frames rays"]
    start: Rays
    to_light: Rays
    light_distance: Float[Tensor, "batch frames rays"]


def shade(scene: Scene, origin: Rays, direction: Rays, hit: Hit, width: int) -> Rays:
    surface = _surface(scene, origin, direction, hit, 1 / (scene.focal * width))
    colour = albedo(surface.rows, hit.material, surface.own_normal, surface.footprint)
    dark = blocked(scene.parts, surface.start, surface.to_light, surface.light_distance)
    seen = _illuminate(scene.light, direction, hit, surface, colour, dark)
    return torch.where(hit.sky, _sky(scene.light, direction), seen)


def _surface(scene: Scene, origin: Rays, direction: Rays, hit: Hit, pixel: Tensor) -> _Surface:
    parts, light = scene.parts, scene.light
    batch, _ = indices(hit.part)
    shapes = torch.cat([parts.size, parts.taper[..., None]], -1)
    shape = shapes[batch, hit.part].movedim(-1, 0).contiguous()
    own_normal = surface_normal(hit.part, hit.face, hit.material, shape[:3], shape[3])
    normal = turned(hit.turn, own_normal)
    row = torch.where(hit.part == SURROUNDINGS, NUM_PARTS + hit.face, hit.part)
    rows = scene.materials[batch, row].movedim(-1, 0).contiguous()
    # On a slanted surface a pixel is long and narrow: the mean of both, since a pixel has several samples.
    footprint = hit.length * pixel[..., None] * (-dot(direction, normal)).clamp_min(0.04).rsqrt()

    point = origin + hit.length * direction
    lamp, place = light.is_lamp[:, None, None], _per_clip(light.place)
    to = torch.where(lamp, place - point, place)
    far = dot(to, to).clamp_min(1e-12).sqrt()
    start = point + 1e-3 * hit.length * normal
    return _Surface(rows, own_normal, normal, footprint, start, to / far, torch.where(lamp, far, 1e6))


def _illuminate(light: Light, direction: Rays, hit: Hit, surface: _Surface, colour: Rays, dark: Tensor) -> Rays:
    n, to, far = surface.normal, surface.to_light, surface.light_distance
    material = unpack_materials(surface.rows)
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

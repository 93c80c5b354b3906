"""The colour of what rays meet: surface, light, sky and haze. World: the reference camera."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vdpm.synthetic.fusing import fusable
from vdpm.synthetic.hashing import constant
from vdpm.synthetic.intersect import Rays, blocked, dot, unit
from vdpm.synthetic.layout import NUM_PARTS, SURROUNDINGS
from vdpm.synthetic.lighting import Light
from vdpm.synthetic.scene import Scene
from vdpm.synthetic.tables import rows_of
from vdpm.synthetic.texture import albedo, noise, unpack_materials


class Hit(NamedTuple):
    """Where rays end: the part and its face; the point and the normal on the object at rest, which textures are made
    of; and the normal in the world."""

    length: Float[Tensor, "batch frames rays"]
    part: Int[Tensor, "batch frames rays"]
    face: Int[Tensor, "batch frames rays"]
    material: Float[Tensor, "3 batch frames rays"]
    own_normal: Float[Tensor, "3 batch frames rays"]
    normal: Float[Tensor, "3 batch frames rays"]
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


_SPREAD = ((0.0, 0.0, 0.0), (0.8, 0.5, -0.3), (-0.8, -0.4, 0.4), (0.3, -0.8, 0.5), (-0.4, 0.8, -0.5))
"""Where on the light each colour sample of a pixel looks, in radii of the light: soft shadows for no more rays."""


def shade(scene: Scene, origin: Rays, direction: Rays, hit: Hit, width: int, samples: int = 1) -> Rays:
    """Colour of what each ray meets; ``samples`` sets of rays follow each other, one for each colour sample."""
    parts, light = scene.parts, scene.light
    batch, _ = indices(hit.part)
    rows = rows_of(scene.materials, batch, torch.where(hit.part == SURROUNDINGS, NUM_PARTS + hit.face, hit.part))
    surface = _surface(light, rows, origin, direction, hit, 1 / (scene.focal * width), samples)
    colour = albedo(rows, hit.material, surface.own_normal, surface.footprint)
    dark = blocked(parts, surface.start, surface.to_light, surface.light_distance)
    ground = parts.position[:, :, SURROUNDINGS]
    return _seen(light, parts.half, parts.floor, ground, direction, hit, surface, colour, dark)


@fusable
def _seen(
    light: Light, half: Tensor, floor: Tensor, ground: Tensor, direction: Tensor, hit: Hit, surface: _Surface,
    colour: Tensor, dark: Tensor,
) -> Tensor:  # fmt: skip
    open_to = _openness(light, half, floor, ground, hit, surface)
    seen = _illuminate(light, direction, hit, surface, colour, dark, open_to)
    return torch.where(hit.sky, _sky(light, direction), seen)


@fusable
def _surface(
    light: Light, rows: Tensor, origin: Tensor, direction: Tensor, hit: Hit, pixel: Tensor, samples: int
) -> _Surface:
    normal = hit.normal
    # On a slanted surface a pixel is long and narrow: the mean of both, since a pixel has several samples.
    footprint = hit.length * pixel[..., None] * (-dot(direction, normal)).clamp_min(0.04).rsqrt()

    point = origin + hit.length * direction
    lamp = light.is_lamp[:, None, None]
    spread = constant(_SPREAD[:samples], point.device).T[:, None] * light.size[:, None]
    place = (light.place.T[..., None] + spread).repeat_interleave(point.shape[-1] // samples, -1)[:, :, None]
    to = torch.where(lamp, place - point, place)
    far = dot(to, to).clamp_min(1e-12).sqrt()
    start = point + 1e-3 * hit.length * normal
    return _Surface(rows, hit.own_normal, normal, footprint, start, to / far, torch.where(lamp, far, 1e6))


def _illuminate(
    light: Light, direction: Rays, hit: Hit, surface: _Surface, colour: Rays, dark: Tensor, open_to: Tensor
) -> Rays:
    n, to, far = surface.normal, surface.to_light, surface.light_distance
    material = unpack_materials(surface.rows)
    lamp = light.is_lamp[:, None, None]
    lambert = dot(n, to).clamp_min(0)
    lit = torch.where(dark, 1 - light.shadow[:, None, None], 1.0)
    strength = torch.where(lamp, 1 / (1 + light.falloff[:, None, None] * far * far), 1.0) * lit
    key = lambert * strength
    half = unit(to - direction)
    glint = material.shine * dot(n, half).clamp_min(0) ** material.gloss * strength * (lambert > 0)
    towards = dot(n, direction)
    sky_share = 0.5 + 0.5 * dot(n, _per_clip(light.up))
    second = dot(n, _per_clip(light.fill)).clamp_min(0) * _per_clip(light.fill_colour)
    mist = 1 - torch.exp(-light.haze[:, None, None] * hit.length)
    ambient = torch.lerp(_per_clip(light.bounce), _per_clip(light.ambient), sky_share) * open_to
    source = _per_clip(light.colour)
    graze = (1 + towards).clamp(0, 1)
    rim = graze * graze * graze * light.rim[:, None, None] * sky_share
    seen = colour * (ambient + source * (key + rim) + second + material.glow) + source * glint
    # Polished things mirror a blurred picture of what is around: ground below, sky above (Schlick's approximation).
    mirrored = direction - 2 * towards * n
    above = (0.5 + 1.5 * dot(mirrored, _per_clip(light.up))).clamp(0, 1)
    around = torch.lerp(0.5 * _per_clip(light.bounce), _per_clip(light.ambient) + 0.3 * _per_clip(light.horizon), above)
    fresnel = material.polish * (0.25 + 0.75 * graze**4)
    seen = torch.lerp(seen, around, fresnel)
    return torch.lerp(seen, _per_clip(light.horizon), mist)


def _openness(
    light: Light,
    half: Float[Tensor, "batch 2"],
    floor: Float[Tensor, "batch"],
    ground: Float[Tensor, "batch frames 3"],
    hit: Hit,
    surface: _Surface,
) -> Float[Tensor, "batch frames rays"]:
    """How much of the ambient light arrives: less in the corners of a room and on what faces the ground near it."""
    x, y, z = hit.material.unbind(0)
    sides = half[:, None, None]
    gaps = torch.stack([sides[..., 0] - x.abs(), sides[..., 1] - y.abs(), z - floor[:, None, None]])
    near = torch.exp(-3 * gaps.clamp_min(0))
    # The face itself is at distance 0 from its own plane; only the other two count.
    corner = 0.5 * (near.sum(0) - near.amax(0)).clamp(0, 1.5)
    bottom = ground.movedim(-1, 0)[..., None]
    height = dot(surface.start - bottom, _per_clip(light.up)).clamp_min(0)
    down = 0.5 - 0.5 * dot(surface.normal, _per_clip(light.up))
    low = down * torch.exp(-2.5 * height / half[:, :1, None].clamp_max(3.0))
    shut = torch.where(hit.part == SURROUNDINGS, corner, low)
    return 1 - light.dusk[:, None, None] * shut


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
    base = base + (1.0 - base) * cover
    sun = dot(direction, _per_clip(light.place)).clamp(0, 1) ** 24
    return base + (light.halo[:, None, None] * sun) * _per_clip(light.colour)

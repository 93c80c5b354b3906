"""Colours of surfaces as functions of material coordinates, so that a texture sticks to what it is on."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.hashing import Draws, constant, lattice, lattice_corners
from vdpm.synthetic.layout import FIGURE_PARTS, NUM_PARTS, OPEN, STREET, Layout, Surroundings
from vdpm.synthetic.rotations import compose, rotation_about, turned

_SCALES = (1.0, 2.03, 2.03**2, 2.03**3)
PLAIN, CLOUDS, CHECKER, STRIPES, TILES, WOOD, DOTS, GRADIENT = range(8)
NUM_MATERIALS = NUM_PARTS + 6
"""One a part, then one for each face of the surroundings."""

_NUMBERS = (
    "family", "seed", "frequency", "warp", "mortar", "aspect", "stagger", "contrast", "grime", "gloss", "shine", "glow",
)  # fmt: skip


class Material(NamedTuple):
    """What the surface is made of at each ray's hit. ``turn``, ``offset``: part -> pattern; colours are linear RGB."""

    family: Float[Tensor, "*shape"]
    seed: Float[Tensor, "*shape"]
    frequency: Float[Tensor, "*shape"]
    warp: Float[Tensor, "*shape"]
    mortar: Float[Tensor, "*shape"]
    aspect: Float[Tensor, "*shape"]
    stagger: Float[Tensor, "*shape"]
    contrast: Float[Tensor, "*shape"]
    grime: Float[Tensor, "*shape"]
    gloss: Float[Tensor, "*shape"]
    shine: Float[Tensor, "*shape"]
    glow: Float[Tensor, "*shape"]
    offset: Float[Tensor, "3 *shape"]
    turn: Float[Tensor, "3 3 *shape"]
    first: Float[Tensor, "3 *shape"]
    second: Float[Tensor, "3 *shape"]
    third: Float[Tensor, "3 *shape"]


def unpack_materials(rows: Float[Tensor, "fields *shape"]) -> Material:
    """Rows of the table of ``sample_materials``, with its columns first, by name."""
    numbers = len(_NUMBERS)
    offset, turn, first, second, third = rows[numbers:].split([3, 9, 3, 3, 3])
    return Material(*(*rows[:numbers].unbind(0), offset, turn.unflatten(0, (3, 3)), first, second, third))


def sample_materials(
    draws: Draws, config: SceneConfig, around: Surroundings, layout: Layout
) -> Float[Tensor, "batch materials fields"]:
    """Materials of parts and walls, as a table that ``unpack_materials`` reads."""
    m = NUM_MATERIALS
    plain = config.plain_share
    rest = 1 - plain
    family = draws.category("texture.family", (plain, *(rest * w for w in (0.28, 0.1, 0.13, 0.2, 0.1, 0.1, 0.09))), m)
    # A wall keeps its family on all sides in most rooms; outdoors walls are far and get clouds or tiles (windows).
    wall = slice(NUM_PARTS, NUM_PARTS + 4)
    same = draws.chance("texture.same_walls", 0.7, 1)
    family[:, wall] = torch.where(same, family[:, NUM_PARTS : NUM_PARTS + 1], family[:, wall])
    family[:, wall] = torch.where(around.kind[:, None] == STREET, TILES, family[:, wall])
    family[:, wall] = torch.where(around.kind[:, None] == OPEN, CLOUDS, family[:, wall])
    floor = NUM_PARTS + 4
    poor = (family[:, floor] == PLAIN) | (family[:, floor] == GRADIENT)
    family[:, floor] = torch.where(poor & draws.chance("texture.rich_floor", 0.7), CLOUDS, family[:, floor])

    extent = torch.cat(
        [layout.size.amax(-1), (around.stage[:, None] * 1.2).expand(-1, 4), around.stage[:, None].expand(-1, 2)], 1
    )
    frequency = draws.log_uniform("texture.frequency", m, low=0.8, high=7.0) / extent
    frequency[:, wall] = torch.where(same, frequency[:, NUM_PARTS : NUM_PARTS + 1], frequency[:, wall])

    turn = rotation_about(draws.direction("texture.axis", m), draws.uniform("texture.turn", m, high=2 * math.pi))
    aligned = draws.chance("texture.aligned", 0.55, m) | (family == TILES)
    eye = torch.eye(3, device=draws.device)
    turn = torch.where(aligned[..., None, None], eye, turn)
    upright = draws.chance("texture.upright", 0.5, m)[..., None, None] & (family != TILES)[..., None, None]
    swap = constant(((0.0, 0, 1), (1, 0, 0), (0, 1, 0)), draws.device)
    turn = torch.where(upright, compose(swap, turn), turn)

    first = _colours(draws, "texture.first", m)
    second = _colours(draws, "texture.second", m)
    third = _colours(draws, "texture.third", m)
    related = draws.chance("texture.related", 0.5, m)[..., None]
    second = torch.where(related, first * draws.log_uniform("texture.shade", m, 1, low=0.3, high=1.8), second)
    pale = draws.chance("texture.pale", 0.5, 1, 1)
    walls = torch.zeros(m, 1, dtype=torch.bool, device=draws.device)
    walls[wall] = True
    walls[NUM_PARTS + 5] = True
    first = torch.where(walls & pale, 0.35 + 0.5 * first, first)
    first[:, wall] = torch.where(same[..., None], first[:, NUM_PARTS : NUM_PARTS + 1], first[:, wall])
    second[:, wall] = torch.where(same[..., None], second[:, NUM_PARTS : NUM_PARTS + 1], second[:, wall])
    # Limbs of one figure share two materials' colours, so that it looks like one body in clothes.
    for slots in FIGURE_PARTS:
        clothes = (slots[0],) * 2 + (slots[2],) * 4 + (slots[0],) * 4 + (slots[1],)
        source, target = constant(clothes, draws.device), constant(slots, draws.device)
        first[:, target[2:]] = first[:, source[2:]]
        second[:, target[2:]] = second[:, source[2:]]
        family[:, target[2:]] = family[:, source[2:]]

    columns = {
        "family": family.float(),
        "seed": (draws.bits("texture.seed", m) >> 9).float(),
        "frequency": frequency,
        "warp": draws.uniform("texture.warp", m, high=0.8) * draws.chance("texture.warps", 0.5, m),
        "mortar": draws.log_uniform("texture.mortar", m, low=0.03, high=0.35),
        "aspect": draws.log_uniform("texture.aspect", m, low=0.4, high=1.6),
        "stagger": 0.5 * draws.chance("texture.stagger", 0.5, m),
        "contrast": draws.log_uniform("texture.contrast", m, low=1.0, high=6.0),
        "grime": draws.uniform("texture.grime", m, low=0.03, high=0.35),
        "gloss": draws.log_uniform("texture.gloss", m, low=6.0, high=120.0),
        "shine": draws.uniform("texture.shine", m, high=0.5) * draws.chance("texture.shines", 0.4, m),
        "glow": draws.uniform("texture.glow", m, low=0.3, high=1.2) * draws.chance("texture.glows", 0.03, m),
    }  # fmt: skip
    columns["glow"][:, NUM_PARTS:] = 0
    offset = draws.uniform("texture.offset", m, 3, low=-20.0, high=20.0)
    numbers = torch.stack([columns[name] for name in _NUMBERS], -1)
    return torch.cat([numbers, offset, turn.flatten(-2), first, second, third], -1)


def _colours(draws: Draws, name: str, count: int) -> Float[Tensor, "batch count 3"]:
    """Linear RGB of random hue; saturations lean towards the muted ones of real surfaces."""
    hue = draws.uniform(name + ".hue", count)
    saturation = draws.uniform(name + ".saturation", count).square() * 0.9
    value = draws.uniform(name + ".value", count, low=0.15, high=0.95)
    shifts = constant((0.0, 2 / 3, 1 / 3), draws.device)
    ramp = ((((hue[..., None] + shifts) % 1.0) * 6 - 3).abs() - 1).clamp(0, 1)
    return (value[..., None] * (1 - saturation[..., None] * (1 - ramp))) ** 2.2


def noise(point: Float[Tensor, "3 *shape"], seed: Int[Tensor, "*#shape"]) -> Float[Tensor, "*shape"]:
    """Value noise in [0, 1): random values on the integer lattice, smoothly interpolated."""
    cell = point.floor()
    u = point - cell
    wx, wy, wz = (u * u * (3 - 2 * u)).unbind(0)
    value = lattice_corners(cell.to(torch.int32), seed)
    value = value[:, :, 0] + (value[:, :, 1] - value[:, :, 0]) * wx
    value = value[:, 0] + (value[:, 1] - value[:, 0]) * wy
    return value[0] + (value[1] - value[0]) * wz


def _edge(signed: Tensor, width: Tensor) -> Tensor:
    """0 to 1 across an edge at 0, blurred over a pixel's footprint."""
    return (0.5 + signed / width.clamp_min(1e-4)).clamp(0, 1)


def _band(x: Tensor, width: Tensor, duty: float | Tensor = 0.5) -> Tensor:
    """A square wave of period 1, filtered over ``width``: 1 on a share ``duty`` of the period."""
    distance = (x - x.floor() - 0.5).abs()
    wave = _edge(distance - 0.5 * (1 - duty), width)
    return torch.lerp(wave, torch.zeros_like(wave) + duty, ((width - 0.3) * 2).clamp(0, 1))


def albedo(
    material: Material,
    point: Float[Tensor, "3 *shape"],
    normal: Float[Tensor, "3 *shape"],
    footprint: Float[Tensor, "*shape"],
) -> Float[Tensor, "3 *shape"]:
    """Linear RGB at a material point; ``normal`` in the part's frame; ``footprint``: a pixel's width on the surface."""
    plain = point * material.frequency
    place = turned(material.turn, plain) + material.offset
    width = footprint * material.frequency
    seed = material.seed.to(torch.int32)
    blend, third, shade = _pattern(material, plain, place, width, seed, normal)
    base = material.first + (material.second - material.first) * blend
    return ((base + (material.third - base) * third) * shade).clamp(0.0, 1.0)


def _octaves(
    place: Float[Tensor, "3 *shape"], width: Float[Tensor, "*shape"], seed: Int[Tensor, "*shape"]
) -> Float[Tensor, "4 *shape"]:
    """Noise in -0.5 to 0.5 on lattices each about twice as fine as the last, faded where it would alias."""
    many = (-1, *[1] * seed.dim())
    scales = constant(_SCALES, seed.device).view(many)
    numbers = constant(tuple(range(len(_SCALES))), seed.device).to(torch.int32).view(many)
    fade = (1.5 - 2 * width * scales).clamp(0, 1)
    return (noise(place[:, None] * scales, seed + numbers) - 0.5) * fade


def _pattern(
    m: Material, plain: Tensor, place: Tensor, width: Tensor, seed: Tensor, normal: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """How far each point goes from the first colour to the second, then to the third, and its brightness.

    ``plain``: the point in units of the pattern; ``place``: the same turned and moved; ``width``: a pixel's width.
    """
    octaves = _octaves(place, width, seed)
    broad, second, _, fine = octaves.unbind(0)
    fbm = broad + 0.55 * second + 0.3 * octaves[2] + 0.2 * fine
    x, y, z = place.unbind(0)

    bend = m.warp * (broad + 0.5 * second)
    wx = x + bend
    clouds = (0.5 + m.contrast * fbm).clamp(0, 1)
    checks = _band(place, width) * 2 - 1
    checker = 0.5 - 0.5 * checks[0] * checks[1] * checks[2]
    stripes = _band(wx, width, 0.3 + 0.4 * m.aspect.clamp_max(1))
    rings = ((y * y + z * z).sqrt() * 2 + 0.8 * broad + bend) % 1.0
    wood = torch.lerp(rings, 0.5 + 0 * rings, (width * 2).clamp(0, 1))
    brick, tint = _tiles(m, plain, width, seed, normal)
    cell = place.floor()
    ix, iy, iz = cell.to(torch.int32).unbind(0)
    seeds = seed + constant((11, 12, 13), seed.device).to(torch.int32).view(-1, *[1] * seed.dim())
    jitter = 0.5 + 0.4 * (lattice(ix, iy, iz, seeds) - 0.5)
    away = (place - cell - jitter) ** 2
    dots = _edge(0.3 - (away[0] + away[1] + away[2]).sqrt(), width) * (1.5 - 1.5 * width).clamp(0, 1)
    gradient = 0.5 + 0.5 * torch.sin(wx * 0.7)

    # In the order of PLAIN, CLOUDS, CHECKER, STRIPES, TILES, WOOD, DOTS, GRADIENT.
    blends = torch.stack([torch.zeros_like(x), clouds, checker, stripes, brick, wood, dots, gradient])
    blend = blends.gather(0, m.family.long()[None])[0]
    third = torch.where(m.family == CLOUDS, (2 * m.contrast * (second + fine) - 0.4).clamp(0, 1), 0.0)
    shade = 1 + m.grime * (fbm + 0.6 * fine) * 1.5
    return blend, third, shade * torch.where(m.family == TILES, tint, 1.0)


def _tiles(m: Material, plain: Tensor, width: Tensor, seed: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
    """Bricks against mortar, and the brightness of each brick. They lie in the plane that faces the normal most."""
    px, py, pz = plain.unbind(0)
    nx, ny, nz = normal.abs().unbind(0)
    on_x = (nx >= ny) & (nx >= nz)
    on_y = ~on_x & (ny >= nz)
    u = torch.where(on_x, py, px) + m.offset[0]
    v = torch.where(on_x | on_y, pz, py) * (1 / m.aspect) + m.offset[1]
    row = v.floor()
    u = u + m.stagger * (row - 2 * (row * 0.5).floor())
    inside_u = 0.5 - (u - u.floor() - 0.5).abs()
    inside_v = (0.5 - (v - v.floor() - 0.5).abs()) * m.aspect
    brick = _edge(torch.minimum(inside_u, inside_v) - m.mortar, width)
    mean = ((1 - 2 * m.mortar) * (1 - 2 * m.mortar / m.aspect)).clamp(0, 1)
    brick = torch.lerp(brick, mean, ((width - 0.25) * 3).clamp(0, 1))
    cell = lattice(u.floor().to(torch.int32), row.to(torch.int32), seed, seed)
    return brick, 1 + (cell - 0.5) * 0.5 * (1.5 - 2 * width).clamp(0, 1)

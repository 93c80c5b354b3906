"""Colours of surfaces as functions of material coordinates, so that a texture sticks to what it is on."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.hashing import Draws, constant, lattice
from vdpm.synthetic.intersect import Vector
from vdpm.synthetic.layout import FIGURE_PARTS, NUM_PARTS, OPEN, STREET, Layout, Surroundings
from vdpm.synthetic.rotations import compose, rotation_about

_SCALES = (1.0, 2.03, 2.03**2, 2.03**3)
PLAIN, CLOUDS, CHECKER, STRIPES, TILES, WOOD, DOTS, GRADIENT = range(8)
NUM_MATERIALS = NUM_PARTS + 6
"""One a part, then one for each face of the surroundings."""

FIELDS = (
    "family", "seed", "frequency", "warp", "mortar", "aspect", "stagger", "contrast", "grime", "gloss", "shine", "glow",
    "ox", "oy", "oz", "r00", "r01", "r02", "r10", "r11", "r12", "r20", "r21", "r22",
    "ar", "ag", "ab", "br", "bg", "bb", "cr", "cg", "cb",
)  # fmt: skip


def sample_materials(
    draws: Draws, config: SceneConfig, around: Surroundings, layout: Layout
) -> Float[Tensor, "batch materials fields"]:
    """Materials of parts and walls, as a table whose columns are FIELDS. Colours are linear RGB."""
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
    return torch.cat([torch.stack(list(columns.values()), -1), offset, turn.flatten(-2), first, second, third], -1)


def _colours(draws: Draws, name: str, count: int) -> Float[Tensor, "batch count 3"]:
    """Linear RGB of random hue; saturations lean towards the muted ones of real surfaces."""
    hue = draws.uniform(name + ".hue", count)
    saturation = draws.uniform(name + ".saturation", count).square() * 0.9
    value = draws.uniform(name + ".value", count, low=0.15, high=0.95)
    shifts = constant((0.0, 2 / 3, 1 / 3), draws.device)
    ramp = ((((hue[..., None] + shifts) % 1.0) * 6 - 3).abs() - 1).clamp(0, 1)
    return (value[..., None] * (1 - saturation[..., None] * (1 - ramp))) ** 2.2


def noise(x: Tensor, y: Tensor, z: Tensor, seed: Tensor) -> Tensor:
    """Value noise in [0, 1): random values on the integer lattice, smoothly interpolated."""
    fx, fy, fz = x.floor(), y.floor(), z.floor()
    ux, uy, uz = x - fx, y - fy, z - fz
    ix, iy, iz = fx.to(torch.int32), fy.to(torch.int32), fz.to(torch.int32)
    wx, wy, wz = (u * u * (3 - 2 * u) for u in (ux, uy, uz))

    def edge(j: int, k: int) -> Tensor:
        a, b = lattice(ix, iy + j, iz + k, seed), lattice(ix + 1, iy + j, iz + k, seed)
        return a + (b - a) * wx

    low = edge(0, 0) + (edge(1, 0) - edge(0, 0)) * wy
    high = edge(0, 1) + (edge(1, 1) - edge(0, 1)) * wy
    return low + (high - low) * wz


def _edge(signed: Tensor, width: Tensor) -> Tensor:
    """0 to 1 across an edge at 0, blurred over a pixel's footprint."""
    return (0.5 + signed / width.clamp_min(1e-4)).clamp(0, 1)


def _band(x: Tensor, width: Tensor, duty: float | Tensor = 0.5) -> Tensor:
    """A square wave of period 1, filtered over ``width``: 1 on a share ``duty`` of the period."""
    distance = (x - x.floor() - 0.5).abs()
    wave = _edge(distance - 0.5 * (1 - duty), width)
    return torch.lerp(wave, torch.zeros_like(wave) + duty, ((width - 0.3) * 2).clamp(0, 1))


def albedo(material: dict[str, Tensor], point: Vector, normal: Vector, footprint: Tensor) -> Vector:
    """Linear RGB at a material point; ``normal`` in the part's frame; ``footprint``: a pixel's width on the surface."""
    placed = _place(material, point, footprint)
    x, y, z, width, seed = placed[3:]
    scales = constant(_SCALES, x.device)
    numbers = constant(tuple(range(len(_SCALES))), x.device).to(torch.int32)
    octaves = [_octave(x, y, z, width, seed, scales[i], numbers[i]) for i in range(len(_SCALES))]
    return _pattern(material, placed, normal, octaves)


def _octave(x: Tensor, y: Tensor, z: Tensor, width: Tensor, seed: Tensor, scale: Tensor, number: Tensor) -> Tensor:
    """Noise in -0.5 to 0.5 on a lattice ``scale`` times as fine, faded where it would alias."""
    fade = (1.5 - 2 * width * scale).clamp(0, 1)
    return (noise(x * scale, y * scale, z * scale, seed + number) - 0.5) * fade


def _place(m: dict[str, Tensor], point: Vector, footprint: Tensor) -> tuple[Tensor, ...]:
    """The point in units of the pattern, plain and turned (x, y, z); a pixel's width there; the pattern's seed."""
    px, py, pz = (point[i] * m["frequency"] for i in range(3))
    x = m["r00"] * px + m["r01"] * py + m["r02"] * pz + m["ox"]
    y = m["r10"] * px + m["r11"] * py + m["r12"] * pz + m["oy"]
    z = m["r20"] * px + m["r21"] * py + m["r22"] * pz + m["oz"]
    return px, py, pz, x, y, z, footprint * m["frequency"], m["seed"].to(torch.int32)


def _pattern(m: dict[str, Tensor], placed: tuple[Tensor, ...], normal: Vector, octaves: list[Tensor]) -> Vector:
    px, py, pz, x, y, z, width, seed = placed
    broad, fine = octaves[0], octaves[3]
    fbm = octaves[0] + 0.55 * octaves[1] + 0.3 * octaves[2] + 0.2 * octaves[3]

    bend = m["warp"] * (octaves[0] + 0.5 * octaves[1])
    wx = x + bend
    clouds = (0.5 + m["contrast"] * fbm).clamp(0, 1)
    checks = [_band(v, width) * 2 - 1 for v in (x, y, z)]
    checker = 0.5 - 0.5 * checks[0] * checks[1] * checks[2]
    stripes = _band(wx, width, 0.3 + 0.4 * m["aspect"].clamp_max(1))
    rings = ((y * y + z * z).sqrt() * 2 + 0.8 * broad + bend) % 1.0
    wood = torch.lerp(rings, 0.5 + 0 * rings, (width * 2).clamp(0, 1))

    # Tiles lie in the plane that faces the normal most.
    nx, ny, nz = (v.abs() for v in normal)
    on_x = (nx >= ny) & (nx >= nz)
    on_y = ~on_x & (ny >= nz)
    u = torch.where(on_x, py, px) + m["ox"]
    v = torch.where(on_x | on_y, pz, py) * (1 / m["aspect"]) + m["oy"]
    row = v.floor()
    u = u + m["stagger"] * (row - 2 * (row * 0.5).floor())
    inside_u = 0.5 - (u - u.floor() - 0.5).abs()
    inside_v = (0.5 - (v - v.floor() - 0.5).abs()) * m["aspect"]
    mortar = m["mortar"]
    brick = _edge(torch.minimum(inside_u, inside_v) - mortar, width)
    mean = ((1 - 2 * mortar) * (1 - 2 * mortar / m["aspect"])).clamp(0, 1)
    brick = torch.lerp(brick, mean, ((width - 0.25) * 3).clamp(0, 1))
    cell = lattice(u.floor().to(torch.int32), row.to(torch.int32), seed, seed)
    tint = 1 + (cell - 0.5) * 0.5 * (1.5 - 2 * width).clamp(0, 1)

    cx, cy, cz = x.floor(), y.floor(), z.floor()
    at = (cx.to(torch.int32), cy.to(torch.int32), cz.to(torch.int32))
    jitter = [0.5 + 0.4 * (lattice(*at, seed + 11 + i) - 0.5) for i in range(3)]
    away = ((x - cx - jitter[0]) ** 2 + (y - cy - jitter[1]) ** 2 + (z - cz - jitter[2]) ** 2).sqrt()
    dots = _edge(0.3 - away, width) * (1.5 - 1.5 * width).clamp(0, 1)
    gradient = 0.5 + 0.5 * torch.sin(wx * 0.7)

    family = m["family"]
    blend = torch.zeros_like(x)
    patterns = ((CLOUDS, clouds), (CHECKER, checker), (STRIPES, stripes), (TILES, brick), (WOOD, wood), (DOTS, dots))
    for number, pattern in (*patterns, (GRADIENT, gradient)):
        blend = torch.where(family == number, pattern, blend)
    third = torch.where(family == CLOUDS, (2 * m["contrast"] * (octaves[1] + fine) - 0.4).clamp(0, 1), 0.0)
    shade = 1 + m["grime"] * (fbm + 0.6 * fine) * 1.5
    shade = shade * torch.where(family == TILES, tint, 1.0)

    channels = []
    for a, b, c in (("ar", "br", "cr"), ("ag", "bg", "cg"), ("ab", "bb", "cb")):
        base = m[a] + (m[b] - m[a]) * blend
        channels.append(((base + (m[c] - base) * third) * shade).clamp(0.0, 1.0))
    return channels[0], channels[1], channels[2]

"""Colours of surfaces as functions of material coordinates, so that a texture sticks to what it is on."""

import math
from enum import IntEnum
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdpm.synthetic.fusing import fusable
from vdpm.synthetic.hashing import choose, constant, lattice, lattice_corners
from vdpm.synthetic.rotations import turned

_SCALES = (1.0, 2.57, 2.57**2, 2.57**3)


class Pattern(IntEnum):
    """How a material varies. NOISE, VEINS, RINGS and SPOTS fill space, the others lie in planes.

    The compiler compares tensors with ``value`` of a member, not with a member.
    """

    NOISE = 0
    VEINS = 1
    RINGS = 2
    SPOTS = 3
    CELLS = 4
    CHECKER = 5
    STRIPES = 6
    PLAID = 7
    WEAVE = 8
    MARKS = 9
    FLOWERS = 10
    GRADIENT = 11
    SCALES = 12
    CIRCLES = 13
    TRUCHET = 14
    HEXAGONS = 15
    ZIGZAG = 16


_DETAIL = (0.0, 0.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 10.0, 1.5, 0.1, 1.0, 4.0, 1.0, 1.0, 1.0)
"""How many of a pattern's finest periods lie in one cell; 0 where octaves of noise fade one by one."""
_MEAN = (0.5, 0.5, 0.5, 0.15, 0.2, 0.5, 0.5, 0.5, 0.5, 0.15, 0.3, 0.5, 0.6, 0.5, 0.35, 0.2, 0.5)
"""What a pattern is where a pixel holds many cells."""

NUMBERS = (
    "pattern", "seed", "frequency", "persistence", "warp", "aspect", "stagger", "gap", "contrast", "tint", "mix",
    "stretch", "angle", "grime", "gloss", "shine", "polish", "glow",
)  # fmt: skip


class Material(NamedTuple):
    """What the surface is made of at each ray's hit.

    ``frequency``: lattice cells a unit of length; ``persistence``: strength of each octave of noise relative to the
    last; ``warp``: how crooked; ``aspect``: height of a cell; ``stagger``: shift of every second row; ``gap``: half
    width of mortar, or width of stripes and sizes of spots; ``tint``: how cells differ in brightness; ``mix``: share
    of cells in the third colour; ``stretch``: length of noise along the grain; ``angle``: turn in the plane;
    ``grime``: unevenness; ``shine``, ``gloss``: strength and sharpness of highlights; ``polish``: how much of the
    surroundings it mirrors; ``glow``: light of its own. ``turn``, ``offset``: part -> pattern; colours: linear RGB.
    """

    pattern: Float[Tensor, "*shape"]
    seed: Float[Tensor, "*shape"]
    frequency: Float[Tensor, "*shape"]
    persistence: Float[Tensor, "*shape"]
    warp: Float[Tensor, "*shape"]
    aspect: Float[Tensor, "*shape"]
    stagger: Float[Tensor, "*shape"]
    gap: Float[Tensor, "*shape"]
    contrast: Float[Tensor, "*shape"]
    tint: Float[Tensor, "*shape"]
    mix: Float[Tensor, "*shape"]
    stretch: Float[Tensor, "*shape"]
    angle: Float[Tensor, "*shape"]
    grime: Float[Tensor, "*shape"]
    gloss: Float[Tensor, "*shape"]
    shine: Float[Tensor, "*shape"]
    polish: Float[Tensor, "*shape"]
    glow: Float[Tensor, "*shape"]
    offset: Float[Tensor, "3 *shape"]
    turn: Float[Tensor, "3 3 *shape"]
    first: Float[Tensor, "3 *shape"]
    second: Float[Tensor, "3 *shape"]
    third: Float[Tensor, "3 *shape"]


def unpack_materials(rows: Float[Tensor, "fields *shape"]) -> Material:
    """Rows of the table of ``sample_materials``, with its columns first, by name."""
    numbers = len(NUMBERS)
    offset, turn, first, second, third = rows[numbers:].split([3, 9, 3, 3, 3])
    return Material(*(*rows[:numbers].unbind(0), offset, turn.unflatten(0, (3, 3)), first, second, third))


def noise(point: Float[Tensor, "3 *shape"], seed: Int[Tensor, "*#shape"]) -> Float[Tensor, "*shape"]:
    """Value noise in [0, 1): random values on the integer lattice, smoothly interpolated."""
    cell = point.floor()
    u = point - cell
    wx, wy, wz = (u * u * (3 - 2 * u)).unbind(0)
    value = lattice_corners(cell.to(torch.int32), seed)
    value = value[:, :, 0] + (value[:, :, 1] - value[:, :, 0]) * wx
    value = value[:, 0] + (value[:, 1] - value[:, 0]) * wy
    return value[0] + (value[1] - value[0]) * wz


@fusable
def albedo(
    rows: Float[Tensor, "fields *shape"],
    point: Float[Tensor, "3 *shape"],
    normal: Float[Tensor, "3 *shape"],
    footprint: Float[Tensor, "*shape"],
) -> Float[Tensor, "3 *shape"]:
    """Linear RGB at a material point; ``rows`` as ``unpack_materials`` reads them; ``normal`` in the part's frame;
    ``footprint``: a pixel's width on the surface."""
    m = unpack_materials(rows)
    plain = point * m.frequency
    width = footprint * m.frequency
    code = m.pattern.to(torch.int32)
    seed = m.seed.to(torch.int32)
    cells = _cells(m, plain, normal, seed, code)
    place = turned(m.turn, plain) + m.offset
    planar = code >= Pattern.CELLS.value
    grain = m.tint * 40 * cells.chance
    x, y, z = torch.where(planar, torch.stack([cells.u, cells.v, cells.plane + grain]), place).unbind(0)
    octaves = _octaves(torch.stack([x / m.stretch, y, z]), width, seed) * _strengths(m.persistence)
    fbm = octaves[0] + octaves[1] + octaves[2] + octaves[3]

    blend, third = _pattern(m, code, cells, place, octaves, fbm, width, seed)
    index = code.long()
    mean = constant(_MEAN, code.device)[index]
    fade = ((width * constant(_DETAIL, code.device)[index] - 0.3) * 3).clamp(0, 1)
    blend = torch.lerp(blend, mean, fade)
    third = third * (1 - fade)
    # Ceilings of the changes in brightness: unevenness everywhere, cells that differ, threads that are round.
    near = (1.5 - 2 * width).clamp(0, 1)
    thread = torch.where(cells.odd, cells.down, cells.across)
    round_thread = torch.where(code == Pattern.WEAVE.value, 1.2 * thread * thread, 0.0)
    shade = (1 + 1.8 * m.grime * fbm) * (1 + near * (m.tint * (cells.chance - 0.5) * planar - round_thread))
    base = m.first + (m.second - m.first) * blend
    return ((base + (m.third - base) * third) * shade).clamp(0.0, 1.0)


class _Cells(NamedTuple):
    """A point on the plane that faces the normal most, in units of the pattern, and in its cell. ``across``, ``down``:
    from the cell's middle, in cells; ``inside``: to its nearest side; ``chance``, ``other``: random numbers of the
    cell; ``column_chance``, ``row_chance``: of its column and row; ``plane``: which plane."""

    u: Tensor
    v: Tensor
    plane: Tensor
    across: Tensor
    down: Tensor
    inside: Tensor
    odd: Tensor
    chance: Tensor
    other: Tensor
    column_chance: Tensor
    row_chance: Tensor


def _cells(m: Material, plain: Tensor, normal: Tensor, seed: Tensor, code: Tensor) -> _Cells:
    px, py, pz = plain.unbind(0)
    nx, ny, nz = normal.abs().unbind(0)
    on_x = (nx >= ny) & (nx >= nz)
    on_y = ~on_x & (ny >= nz)
    a = torch.where(on_x, py, px)
    b = torch.where(on_x | on_y, pz, py)
    plane = on_x.float() * 37.3 + on_y * 71.9
    cosine, sine = torch.cos(m.angle), torch.sin(m.angle)
    bend = 0.3 * m.warp
    u = cosine * a - sine * b + m.offset[0]
    v = sine * a + cosine * b + m.offset[1]
    u, v = u + bend * torch.sin(1.9 * v + m.offset[2]), v + bend * torch.sin(2.3 * u)
    level = v / m.aspect
    row = level.floor()
    shifted = u + m.stagger * (row - 2 * (row * 0.5).floor())
    column = shifted.floor()
    across, down = shifted - column - 0.5, level - row - 0.5
    inside = torch.minimum(0.5 - across.abs(), (0.5 - down.abs()) * m.aspect)
    i, j = column.to(torch.int32), row.to(torch.int32)
    face = plane.to(torch.int32)
    # One hash for four numbers: of the cell twice, of its column, of its row.
    zero = torch.zeros_like(i)
    chance, other, column_chance, row_chance = lattice(
        torch.stack([i, i, i, zero]), torch.stack([j, j, zero, j]), torch.stack([face, face + 5, face + 9, face + 13]),
        seed,
    ).unbind(0)  # fmt: skip
    odd = ((i + j) & 1) == 1
    return _Cells(shifted, v, plane, across, down, inside, odd, chance, other, column_chance, row_chance)


def _strengths(persistence: Float[Tensor, "*shape"]) -> Float[Tensor, "4 *shape"]:
    """Strengths of four octaves, each ``persistence`` times the last; their squares add up to 1.5."""
    square = persistence * persistence
    first = (1.5 / (1 + square * (1 + square * (1 + square)))).sqrt()
    second = first * persistence
    third = second * persistence
    return torch.stack([first, second, third, third * persistence])


def _octaves(
    place: Float[Tensor, "3 *shape"], width: Float[Tensor, "*shape"], seed: Int[Tensor, "*shape"]
) -> Float[Tensor, "4 *shape"]:
    """Noise in -0.5 to 0.5 on lattices each about twice as fine as the last, faded where it would alias."""
    many = (-1, *[1] * seed.dim())
    scales = constant(_SCALES, seed.device).view(many)
    numbers = constant(tuple(range(len(_SCALES))), seed.device).to(torch.int32).view(many)
    fade = (2 - 2 * width * scales).clamp(0, 1)
    return (noise(place[:, None] * scales, seed + numbers) - 0.5) * fade


def _edge(signed: Tensor, width: Tensor) -> Tensor:
    """0 to 1 across an edge at 0, blurred over a pixel's footprint."""
    return (0.5 + signed / width.clamp_min(1e-4)).clamp(0, 1)


def _pattern(
    m: Material, code: Tensor, cells: _Cells, place: Tensor, octaves: Tensor, fbm: Tensor, width: Tensor, seed: Tensor
) -> tuple[Tensor, Tensor]:
    """How far each point goes from the first colour to the second, then to the third."""
    across, down, aspect, gap = cells.across, cells.down, m.aspect, m.gap
    chosen = cells.other < m.mix

    noisy = (0.5 + m.contrast * fbm).clamp(0, 1)
    blotches = ((m.mix - 0.35) * 2 + m.contrast * (octaves[1] - octaves[0] + octaves[3])).clamp(0, 1) * (m.mix > 0)
    veins = (1 - 2.5 * m.contrast * fbm.abs()).clamp(0, 1)
    x, y, _ = place.unbind(0)
    rings = ((x * x + y * y).sqrt() * 1.5 + (1 + 2 * m.warp) * octaves[0] + 0.5 * octaves[1]) % 1.0

    spot = place.floor()
    sx, sy, sz = spot.to(torch.int32).unbind(0)
    steps = constant((11, 12, 13, 14), seed.device).to(torch.int32).view(-1, *[1] * seed.dim())
    random = lattice(sx, sy, sz, seed + steps)
    away = place - spot - 0.5 - 0.4 * (random[:3] - 0.5)
    radius = gap * (0.16 + 0.26 * random[3])
    far = (away[0] * away[0] + away[1] * away[1] + away[2] * away[2]).sqrt() + 0.3 * m.warp * octaves[2]
    spots = _edge(radius - far, width)

    mortar = 1 - _edge(cells.inside - gap, width)
    half = cells.inside / width.clamp_min(1e-4)
    checker = 0.5 + torch.where(cells.odd, half, -half).clamp(-0.5, 0.5)
    one = _edge(0.5 * gap * (0.4 + 1.2 * cells.column_chance) - across.abs(), width)
    two = _edge(0.5 * gap * (0.4 + 1.2 * cells.row_chance) - down.abs(), width / aspect)

    # Pages: lines of marks of which some are left out, within a margin.
    line = down * (5 + 6 * cells.row_chance) + 40
    step = (line.floor()).to(torch.int32)
    letter = (across * 14 / aspect.clamp_max(1.0) + 40 + cells.chance * 40).floor().to(torch.int32)
    ink = lattice(torch.stack([letter, letter >> 2]), torch.stack([step, step]), seed, seed)
    written = (ink[0] > 0.35) & (ink[1] > 0.2) & ((line - line.floor() - 0.5).abs() < 0.28)
    page = _edge(cells.inside - gap, width)
    marks = written * page

    flat = (across * across + down * down * aspect * aspect).sqrt()
    angle = torch.atan2(down, across + 1e-6)
    petals = torch.cos((3 + (cells.other * 4).floor()) * angle + 6.3 * cells.chance)
    flower = _edge((0.22 + 0.18 * cells.chance) * (0.7 + 0.3 * petals) - flat, width)
    heart = _edge(0.08 - flat, width)

    gradient = 0.5 + 0.5 * torch.sin(0.7 * cells.u)
    arch = (across * across + (down + 0.5) ** 2).sqrt()
    circles = _edge((4 * flat) % 1.0 - 0.5, 4 * width)
    flip = torch.where(cells.chance < 0.5, across, -across)
    corner = torch.minimum(
        (((flip + 0.5) ** 2 + (down + 0.5) ** 2).sqrt() - 0.5).abs(),
        (((flip - 0.5) ** 2 + (down - 0.5) ** 2).sqrt() - 0.5).abs(),
    )
    tooth = (cells.v - cells.v.floor() - 0.5).abs()
    wave = (cells.u + 0.8 * tooth) % 1.0 - 0.5

    # In the order of Pattern.
    blend = choose(
        code, noisy, veins, rings, spots, mortar, checker, one, 0.5 * (one + two), cells.odd.float(), marks, flower,
        gradient, arch.clamp(0, 1), circles, _edge(gap - corner, width), _hexagons(cells, gap, width),
        _edge(0.5 * gap - wave.abs(), width),
    )  # fmt: skip
    pictures = page * (cells.chance < m.mix) * _edge(0.3 - down.abs(), width)
    third = choose(
        code, blotches, 0.0, 0.0, spots * (random[0] < m.mix), chosen * (1 - mortar), 0.0, one * chosen,
        one * two * (m.mix > 0), 0.0, pictures, heart,
    )  # fmt: skip
    return blend, torch.where(code > Pattern.FLOWERS.value, 0.0, third)


def _hexagons(cells: _Cells, gap: Tensor, width: Tensor) -> Tensor:
    """Seams of a honeycomb: 1 near the border between two centres of a triangular lattice of side 1."""
    tall = math.sqrt(3)
    u, v = cells.u, cells.v
    ax, ay = u - u.floor() - 0.5, v - (v / tall).floor() * tall - tall / 2
    bx, by = (u + 0.5) - (u + 0.5).floor() - 0.5, (v + tall / 2) - ((v + tall / 2) / tall).floor() * tall - tall / 2
    nearer = ax * ax + ay * ay < bx * bx + by * by
    px, py = torch.where(nearer, ax, bx).abs(), torch.where(nearer, ay, by).abs()
    return _edge(torch.maximum(px, 0.5 * px + 0.5 * tall * py) - (0.5 - gap), width)

"""Sheets: cloth, flags, snakes, fish, birds, blobs, and extruded outlines, as grids of vertices that move.

A sheet has coordinates u (along its rows) and v (from row to row) in [0, 1]; its shape at a time is a function of u, v
and the phase of its motion. All in scene space (z up).
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.hashing import Draws, choose, constant
from vdpm.synthetic.layout import POLE, SHEETS, STREET, Layout, Surroundings
from vdpm.synthetic.meshes import FLAT, LONG, WIDE, grid_coordinates
from vdpm.synthetic.motion import Poses
from vdpm.synthetic.outlines import outlines
from vdpm.synthetic.rotations import axis_rotation, rotate
from vdpm.synthetic.terrain import terrain_height

(
    CURTAIN, FLAG, FALLING, CARPET, SNAKE, TENTACLE, FISH, BIRD, BLOB, PRISM, TORUS, COLUMN, MOEBIUS, BURR,
) = range(14)  # fmt: skip
_TOPOLOGY = (WIDE, WIDE, WIDE, WIDE, LONG, LONG, LONG, FLAT, WIDE, FLAT, LONG, FLAT, FLAT, WIDE)
_WRAPS = (SNAKE, TENTACLE, FISH, BLOB, TORUS, BURR)
_CREASED = (PRISM, COLUMN)
_TAU = 2 * math.pi


class Sheets(NamedTuple):
    """``vertices`` in scene space, and ``rest``: undeformed, in the sheet's own frame, for textures."""

    kind: Int[Tensor, "batch sheets"]
    vertices: Float[Tensor, "batch frames sheets vertices 3"]
    rest: Float[Tensor, "batch sheets vertices 3"]
    topology: Int[Tensor, "batch sheets"]
    wraps: Bool[Tensor, "batch sheets"]
    creased: Bool[Tensor, "batch sheets"]
    height: Float[Tensor, "batch sheets"]
    width: Float[Tensor, "batch sheets"]


class _Form(NamedTuple):
    """Numbers that a sheet's shape depends on, each [batch, 1, sheets, 1]: length of its longest side, aspect, and
    four free ones in [0, 1)."""

    kind: Tensor
    length: Tensor
    aspect: Tensor
    a: Tensor
    b: Tensor
    c: Tensor
    d: Tensor


def sample_sheets(
    draws: Draws,
    config: SceneConfig,
    around: Surroundings,
    layout: Layout,
    poses: Poses,
    lively: Bool[Tensor, "batch"],
    clock: Float[Tensor, "batch frames"],
) -> Sheets:
    """The sheets of each scene where ``layout`` puts them; rigid ones move as ``poses`` says, others by themselves."""
    n, device = SHEETS.stop - SHEETS.start, draws.device
    kind = draws.category("sheet.kind", config.sheets.weights, n)
    topology = constant(_TOPOLOGY, device)[kind]
    stage, ceiling = around.stage[:, None], around.ceiling[:, None]
    length = stage * draws.log_uniform("sheet.length", n, low=0.22, high=0.75)
    length = torch.where((kind == CURTAIN) | (kind == FLAG), torch.minimum(length * 1.4, 0.55 * ceiling), length)
    main = (torch.arange(n, device=device) == 0) & (layout.hero == SHEETS.start)[:, None]
    length = torch.where(main | (kind == TENTACLE) | (kind == SNAKE), 1.3 * length, length)
    free = draws.uniform("sheet.free", n, 4)
    form = _Form(
        *(x[:, None, :, None] for x in (kind, length, draws.log_uniform("sheet.aspect", n, low=0.5, high=1.3))),
        *(x[:, None, :, None] for x in free.unbind(-1)),
    )
    u, v = grid_coordinates(device)[topology][:, None].unbind(-1)

    moving = draws.chance("sheet.moving", 0.9, n) & lively[:, None]
    rate = draws.log_uniform("sheet.rate", n, low=3.0, high=13.0) * moving
    phase = draws.uniform("sheet.phase", n, high=_TAU)[:, None] + rate[:, None] * clock[..., None]
    strength = torch.ones_like(phase)
    local = _shape(form, u, v, phase[..., None], strength[..., None])
    rest = _shape(form, u, v, torch.zeros_like(phase[:, :1, :, None]), torch.zeros_like(phase[:, :1, :, None]))[:, 0]

    # Where the frame of a sheet is: rigid ones as any other part, the others on a path of their own.
    heading = draws.uniform("sheet.heading", n, high=_TAU)
    heading = torch.where((around.kind == STREET)[:, None] & (kind < FLAG), 0.5 * math.pi, heading)
    curve = draws.uniform("sheet.curve", n, low=-1.2, high=1.2)
    travels = (kind == FISH) | (kind == BIRD)
    curve = torch.where(travels, torch.where(curve.abs() < 0.05, 0.05, curve), 0.0) * moving
    step = length * draws.log_uniform("sheet.speed", n, low=0.3, high=2.5) * (moving & travels)
    middle = 0.5 * clock[:, -1:, None]
    yaw = heading[:, None] + curve[:, None] * (clock[..., None] - middle)
    bend = torch.where(curve == 0, 1.0, curve)[:, None]
    arc = torch.stack([torch.sin(yaw) - torch.sin(heading)[:, None], torch.cos(heading)[:, None] - torch.cos(yaw)], -1)
    path = (step[:, None] / bend)[..., None] * arc
    floating = (kind == FISH) | (kind == BIRD) | (kind == FALLING)
    altitude = torch.minimum(stage * draws.uniform("sheet.altitude", n, low=0.25, high=1.0), 0.7 * ceiling)
    altitude = torch.where(floating, torch.maximum(altitude, 0.4 * length), 0.0)
    sink = torch.where(kind == FALLING, altitude * draws.uniform("sheet.fall", n, low=0.5, high=1.6) * moving, 0.0)
    rise = altitude[:, None] - sink[:, None] * clock[..., None]
    base = layout.position[:, None, SHEETS, :2]
    place = torch.cat([base + path, rise[..., None]], -1)
    turn = axis_rotation(2, yaw)
    rigid = kind >= PRISM
    turn = torch.where(rigid[:, None, :, None, None], poses.rotation[:, :, SHEETS], turn)
    place = torch.where(rigid[:, None, :, None], poses.position[:, :, SHEETS], place)
    # Rigid forms fill the size of their part.
    local = torch.where(
        rigid[:, None, :, None, None],
        local / length[:, None, :, None, None] * layout.size[:, None, SHEETS, None],
        local,
    )
    rest = torch.where(rigid[..., None, None], rest / length[..., None, None] * layout.size[:, SHEETS, None], rest)
    vertices = rotate(turn[:, :, :, None], local) + place[:, :, :, None]
    # What falls comes to lie on the ground.
    least = 0.01 * length[:, None, :, None] * (1 + u)
    lying = torch.where((kind == FALLING)[:, None, :, None], torch.maximum(vertices[..., 2], least), vertices[..., 2])
    return Sheets(
        kind=kind,
        vertices=torch.cat([vertices[..., :2], lying[..., None]], -1),
        rest=rest,
        topology=topology,
        wraps=_among(kind, _WRAPS),
        creased=_among(kind, _CREASED),
        height=form.length[:, 0, :, 0] * (1 + 0.8 * form.c[:, 0, :, 0]),
        width=form.length[:, 0, :, 0] * form.aspect[:, 0, :, 0],
    )


def lift_sheets(
    sheets: Sheets, waves: Float[Tensor, "batch waves 4"]
) -> Float[Tensor, "batch frames sheets vertices 3"]:
    """The vertices on rolling ground; what lies on the ground follows it everywhere."""
    kind, xy = sheets.kind[:, None, :, None], sheets.vertices[..., :2]
    lies = (kind == CARPET) | (kind == SNAKE) | (kind == FALLING)
    rise = torch.where(lies, terrain_height(waves, xy), terrain_height(waves, xy.mean(-2, keepdim=True)))
    return torch.cat([xy, (sheets.vertices[..., 2] + rise)[..., None]], -1)


def place_pole(
    sheets: Sheets, layout: Layout, poses: Poses, instance: Int[Tensor, "batch parts"]
) -> tuple[Layout, Poses, Int[Tensor, "batch parts"]]:
    """A pole for the first sheet where it is a flag, a rod and where it is a curtain."""
    kind, height, width = sheets.kind[:, 0], sheets.height[:, 0], sheets.width[:, 0]
    flag, curtain = kind == FLAG, kind == CURTAIN
    here = (flag | curtain) & layout.active[:, SHEETS.start]
    thin = 0.018 * height + 0.004
    half = torch.where(flag, 0.78 * height, 0.56 * width)
    size = torch.stack([thin, thin, half], -1)
    # Vertices of a sheet's top row: from the first one the pole goes down, or through them the rod goes along.
    start, end = sheets.vertices[:, 0, 0, 0], sheets.vertices[:, 0, 0, 8]
    along = torch.nn.functional.normalize((end - start) * constant((1.0, 1.0, 0.0), size.device), dim=-1)
    upright = constant((0.0, 0.0, 1.0), size.device).expand_as(along)
    axis = torch.where(flag[:, None], upright, along)
    other = torch.where(flag[:, None], constant((1.0, 0.0, 0.0), size.device), upright)
    rotation = torch.stack([other, torch.linalg.cross(axis, other), axis], -1)
    foot = torch.cat([start[:, :2], 0.79 * height[:, None]], -1)
    place = torch.where(flag[:, None], foot, 0.5 * (start + end) + upright * thin[:, None])
    pole = (torch.arange(layout.size.shape[1], device=size.device) == POLE) & here[:, None]
    layout = layout._replace(active=layout.active | pole, size=torch.where(pole[..., None], size[:, None], layout.size))
    poses = Poses(
        torch.where(pole[:, None, :, None, None], rotation[:, None, None], poses.rotation),
        torch.where(pole[:, None, :, None], place[:, None, None], poses.position),
    )
    return layout, poses, torch.where(pole, SHEETS.start + 1, instance)


def _among(kind: Tensor, members: tuple[int, ...]) -> Tensor:
    result = kind == members[0]
    for member in members[1:]:
        result = result | (kind == member)
    return result


def _shape(f: _Form, u: Tensor, v: Tensor, w: Tensor, on: Tensor) -> Float[Tensor, "batch frames sheets vertices 3"]:
    """Points of all sheets in their own frames (x ahead, z up). ``w``: phase; ``on``: 0 for the undeformed sheet."""
    zero = torch.zeros_like(u + w)
    u, v, w, on = u + zero, v + zero, w + zero, on + zero
    length, around = f.length + zero, _TAU * u
    wide, high = length * f.aspect, length * (1 + 0.8 * f.c)
    ripple = length * (0.03 + 0.1 * f.a) * on
    waves = _TAU * (0.7 + 1.6 * f.b)

    hanging = v * (torch.sin(waves * u + w) + 0.5 * torch.sin(1.7 * waves * u - 1.3 * w + 3 * f.d))
    curtain = (wide * (u - 0.5) * (1 - 0.12 * v * on), ripple * hanging, high * 0.08 + high * (1 - v))
    fly = u * torch.sin(waves * u - w + 0.6 * v)
    drop = length * (0.1 + 0.3 * f.d) * u * u * on
    flag = (length * u * (1 - 0.1 * f.a * on), 1.4 * ripple * fly, high * 1.5 - 0.6 * wide * v - drop)
    tilt = on * (0.5 * torch.sin(w) + 0.4 * (f.d - 0.5))
    x, y = length * (u - 0.5), wide * (v - 0.5)
    broad = 0.6 * waves
    cup = 0.7 * ripple * (torch.sin(broad * u + w) + torch.sin(broad * v - 0.7 * w))
    falling = (x * torch.cos(tilt) + length * 0.4 * on * torch.cos(w), y, x * torch.sin(tilt) + cup)
    bump = torch.sin(waves * u + (f.d - 0.5) * 4 * v - w).clamp_min(0)
    carpet = (x, y, ripple * bump * bump + 0.015 * length)

    # Tubes: a line, and rings around it.
    thick = length * (0.06 + 0.06 * f.a) * (1 - 0.75 * v) * torch.where(v > 0.999, 0.0, 1.0)
    nose = torch.where(v < 0.001, 0.0, 1.0)
    number = _TAU * (1.0 + 0.8 * f.b) / length
    along = 1.5 * length * (0.5 - v) + 0.5 * length * on * (w / _TAU)
    side = length * (0.05 + 0.1 * f.c) * on
    slope = side * number * torch.cos(number * along)
    across = torch.rsqrt(1 + slope * slope)
    ring, up = thick * nose * torch.cos(around), thick * (1 + nose * torch.sin(around))
    snake = (along - ring * slope * across, side * torch.sin(number * along) + ring * across, up)

    bend = on * (0.5 * f.b + (0.3 + 0.9 * f.a) * torch.sin(w - 1.5 * v))
    mean = 0.5 * bend * v
    reach = (
        length * v * torch.where(bend.abs() > 1e-3, torch.sin(mean) / torch.where(mean.abs() < 1e-4, 1.0, mean), 1.0)
    )
    reach = torch.where(mean.abs() < 1e-4, length * v, reach)
    lean = 2 * mean
    stem = length * (0.08 + 0.1 * f.d) * (1 - 0.8 * v) * torch.where(v > 0.999, 0.0, 1.0)
    out = stem * torch.cos(around)
    tentacle = (
        reach * torch.sin(mean) + out * torch.cos(lean), stem * torch.sin(around),
        reach * torch.cos(mean) - out * torch.sin(lean),
    )  # fmt: skip

    body = (math.pi * (v * 0.92).clamp(0, 1)).sin().clamp_min(0) ** 0.7
    fin = ((v - 0.8).clamp_min(0) * 5) ** 2
    tall = length * (0.14 + 0.1 * f.a) * torch.where(v < 0.001, 0.0, body * (v < 0.95) + 0.9 * fin)
    slim = length * (0.06 + 0.06 * f.c) * torch.where((v < 0.001) | (v > 0.999), 0.0, body * (1 - 0.6 * v))
    beat = length * 0.14 * on * (0.15 + v * v) * torch.sin(w - (3 + 2 * f.b) * v)
    fish = (length * (0.5 - v), beat + slim * torch.cos(around), tall * torch.sin(around))

    span = 2 * u - 1
    flap = on * (0.5 + 0.3 * f.a) * torch.sin(w) + 0.15
    fold = on * 0.5 * torch.sin(w - 0.9)
    outer = (span.abs() - 0.5).clamp_min(0)
    chord = length * (0.12 + 0.12 * f.b) * (1 - 0.7 * span * span) * (1 + 0.8 * torch.exp(-60 * span * span))
    bird = (
        chord * (1 - 2 * v) - 0.25 * length * span * span, 0.6 * length * span * torch.cos(flap),
        0.6 * length * (span.abs() * torch.sin(flap) + outer * fold) + 0.1 * length * on * torch.cos(w)
        + 0.05 * length * torch.exp(-60 * span * span) * torch.sin(math.pi * v),
    )  # fmt: skip

    polar = math.pi * v
    lobes = torch.sin(2 * around + w + 3 * f.d) * torch.sin(polar) ** 2 + torch.sin(2 * polar - w)
    swell = 0.3 * length * (1 + on * (0.08 + 0.16 * f.a) * lobes)
    squat = 1 + 0.18 * on * torch.sin(1.3 * w)
    disc = torch.where((v < 0.001) | (v > 0.999), 0.0, swell * torch.sin(polar) / squat.sqrt())
    blob = (
        disc * torch.cos(around),
        disc * torch.sin(around),
        0.3 * length * squat * 1.3 + swell * torch.cos(polar) * squat,
    )

    # Rigid ones fill a box of half sides length.
    outline = outlines(f.d, u)
    rim = torch.where((v > 0.1) & (v < 0.6), 1.0, 0.0)
    deep = torch.where(v < 0.4, 1.0, -1.0)
    prism = (length * outline[0] * rim, length * outline[1] * rim, length * deep)
    inner = 0.2 + 0.2 * f.a
    tube = 1 - inner + inner * torch.cos(_TAU * u)
    torus = (
        length * tube * torch.cos(_TAU * v), length * tube * torch.sin(_TAU * v), length * inner * torch.sin(_TAU * u)
    )  # fmt: skip
    edge = math.pi / 4
    fold_in = around - edge * 2 * torch.round(around / (2 * edge))
    square = 0.72 / torch.cos(fold_in)
    whirl = around + (1.0 + 2.0 * f.b) * v
    end = torch.where((v < 0.001) | (v > 0.999), 0.0, 1.0) * square
    level = ((v - 0.25) * 2).clamp(0, 1)
    column = (length * end * torch.cos(whirl), length * end * torch.sin(whirl), length * (1 - 2 * level))
    band = (v - 0.5) * 0.7
    strip = 0.65 + band * torch.cos(math.pi * u)
    moebius = (
        length * strip * torch.cos(around), length * strip * torch.sin(around),
        length * 2 * band * torch.sin(math.pi * u),
    )  # fmt: skip
    spikes = 0.6 + 0.38 * torch.cos(4 * around) * torch.sin(polar) ** 2 + 0.3 * torch.cos(6 * polar)
    pole = torch.where((v < 0.001) | (v > 0.999), 0.0, 1.0) * torch.sin(polar)
    burr = (
        length * spikes * pole * torch.cos(around), length * spikes * pole * torch.sin(around),
        length * spikes * torch.cos(polar),
    )  # fmt: skip

    kinds = (
        curtain, flag, falling, carpet, snake, tentacle, fish, bird, blob, prism, torus, column, moebius, burr,
    )  # fmt: skip
    index = f.kind.expand_as(zero)
    return torch.stack([choose(index, *(kind[axis] for kind in kinds)) for axis in range(3)], -1)

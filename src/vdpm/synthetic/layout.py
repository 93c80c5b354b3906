"""Where things stand: the surroundings of a scene and its parts, in scene space (z up, the ground at z = 0).

A scene has a fixed number of parts, ordered by the kind of shape so that the renderer never branches over kinds:
ellipsoids, boxes, frustums (cylinders, cones), capsules, superquadrics, sheets (deformable surfaces of triangles). The
first ellipsoids and the capsules belong to two figures where a scene has them, else they are objects of their own; the
small ellipsoids and boxes make crowds. The surroundings are one more part, a box seen from inside.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.hashing import Draws, choose, constant
from vdpm.synthetic.rotations import axis_rotation, compose
from vdpm.synthetic.terrain import sample_terrain

ELLIPSOIDS = slice(0, 21)
BOXES = slice(21, 37)
FRUSTUMS = slice(37, 49)
CAPSULES = slice(49, 68)
SUPERQUADRICS = slice(68, 70)
SHEETS = slice(70, 73)
NUM_PARTS = 73
SURROUNDINGS = NUM_PARTS
FIGURE_PARTS = ((0, 1, *range(49, 58)), (2, 3, *range(58, 67)))
POLE = 67
"""What the first sheet hangs on, where it is a flag or a curtain."""
TABLE = 21
FURNITURE = slice(21, 26)
SMALL = (*range(9, 21), *range(29, 37))
"""Ellipsoids and boxes of crowds; two of the boxes are a vehicle's where there is one."""
VEHICLE = (35, 36, 45, 46, 47, 48)
"""Body, cabin and four wheels."""
LATHE = (44, 45, 46, 47, 48)
"""Frustums that stand on each other as one turned body, where there is no vehicle."""

HEROES = (4, 26, 37, 5, 68, 70)
"""One of these is what a scene without a figure is about: present, near the middle, moving if anything is."""

ROOM, OPEN, STREET, TABLETOP = range(4)
_OPEN_SKY = 1e4


class Surroundings(NamedTuple):
    """A box seen from inside: walls at +-half, floor and ceiling; outdoors the walls end in a skyline.

    ``stage`` is the radius of the region where things happen. Above ``skyline_base + skyline_rise * noise`` a wall
    is sky. ``waves``: rolling ground outdoors (``terrain``), where the floor lies below the deepest valley.
    """

    kind: Int[Tensor, "batch"]
    half: Float[Tensor, "batch 2"]
    floor: Float[Tensor, "batch"]
    ceiling: Float[Tensor, "batch"]
    stage: Float[Tensor, "batch"]
    table: Float[Tensor, "batch 2"]
    skyline_base: Float[Tensor, "batch"]
    skyline_rise: Float[Tensor, "batch"]
    skyline_period: Float[Tensor, "batch"]
    skyline_blocks: Bool[Tensor, "batch"]
    waves: Float[Tensor, "batch waves 4"]


class Layout(NamedTuple):
    """The parts at rest. ``size``: half extents (capsule: radius, radius, half length of its axis); ``taper``: radius
    of a frustum's top relative to its bottom; ``exponents`` of superquadrics (across, upwards). ``rotation``,
    ``position``: part -> scene."""

    active: Bool[Tensor, "batch parts"]
    size: Float[Tensor, "batch parts 3"]
    taper: Float[Tensor, "batch parts"]
    exponents: Float[Tensor, "batch parts 2"]
    rotation: Float[Tensor, "batch parts 3 3"]
    position: Float[Tensor, "batch parts 3"]
    resting: Bool[Tensor, "batch parts"]
    hero: Int[Tensor, "batch"]


def sample_surroundings(draws: Draws, config: SceneConfig) -> Surroundings:
    """Rooms, open ground, streets and table tops."""
    kind = draws.category("scene.kind", config.scene_weights)
    pair = kind[:, None]
    half = choose(
        pair,
        draws.log_uniform("room.half", 2, low=1.8, high=5.0),
        draws.log_uniform("open.half", 1, low=12.0, high=50.0)
        * draws.log_uniform("open.aspect", 2, low=0.8, high=1.25),
        torch.stack(
            [draws.uniform("street.width", low=4.0, high=9.0), draws.log_uniform("street.length", low=20.0, high=60.0)],
            -1,
        ),
        draws.log_uniform("tabletop.half", 2, low=1.5, high=4.0),
    )
    height = draws.uniform("ceiling")
    ceiling = choose(kind, 2.3 + 1.4 * height, _OPEN_SKY, _OPEN_SKY, 1.3 + 0.8 * height)
    stage = choose(
        kind,
        0.75 * half.amin(-1),
        draws.log_uniform("open.stage", low=2.0, high=7.0),
        0.8 * half[:, 0],
        draws.uniform("tabletop.stage", low=0.25, high=0.55),
    )
    reach = half.amin(-1)
    waves = sample_terrain(draws, config.shapes.terrain_share, kind == OPEN, stage)
    deep = -2 * waves[..., 3].sum(-1)
    floor = choose(kind, 0.0, deep, 0.0, draws.uniform("tabletop.floor", low=-0.9, high=-0.6))
    return Surroundings(
        kind=kind,
        half=half,
        floor=floor,
        ceiling=ceiling,
        stage=stage,
        table=stage[:, None] * draws.uniform("table.size", 2, low=1.1, high=1.8),
        skyline_base=choose(kind, 1e5, reach * draws.uniform("open.horizon", low=-0.04, high=0.08), reach * 0.8, 1e5),
        skyline_rise=choose(
            kind, 0.0, reach * draws.uniform("open.rise", low=0.0, high=0.4), reach * draws.uniform("street.rise"), 0.0
        ),
        skyline_period=choose(
            kind,
            1.0,
            reach * draws.log_uniform("open.period", low=0.1, high=1.0),
            draws.uniform("street.period", low=3.0, high=9.0),
            1.0,
        ),
        skyline_blocks=torch.where(
            kind == STREET, draws.chance("street.blocks", 0.9), draws.chance("open.blocks", 0.25)
        ),
        waves=waves,
    )


def sample_layout(draws: Draws, config: SceneConfig, around: Surroundings) -> Layout:
    """Objects on the ground, hung or flying, sizes and distances log-uniform; furniture along the walls."""
    n = NUM_PARTS
    device = draws.device
    kind, stage = around.kind[:, None], around.stage[:, None]

    # A low-discrepancy sequence with a random shift keeps objects apart without looking at pairs.
    counter = torch.arange(n, device=device, dtype=torch.float32)
    steps = torch.stack([counter * 0.7548776662, counter * 0.5698402910], -1)
    plane = (draws.uniform("place.shift", 1, 2) + steps + 0.25 * draws.uniform("place.jitter", n, 2)) % 1.0
    reach = torch.minimum(around.half.amin(-1)[:, None] * 0.9, stage * 12)
    radius = 0.25 * stage * (reach / (0.25 * stage)) ** plane[..., 1]
    angle = plane[..., 0] * (2 * math.pi)
    polar = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], -1)
    extent = choose(
        around.kind[:, None],
        around.half * 0.85,
        around.half,
        torch.stack([around.half[:, 0] * 0.85, torch.minimum(around.half[:, 1], 4 * around.stage)], -1),
        around.table * 0.85,
    )
    square = (plane * 2 - 1) * extent[:, None]
    xy = torch.where((kind == OPEN)[..., None], polar, square)

    base = stage * draws.log_uniform("size.base", n, low=0.06, high=0.36)
    base = torch.where(kind == OPEN, base * (radius / stage).clamp_min(1.0) ** 0.8, base)
    size = base[..., None] * draws.log_uniform("size.aspect", n, 3, low=0.5, high=2.0)
    round_parts = draws.chance("size.round", 0.5, n)[..., None]
    size = torch.where(round_parts, torch.cat([size[..., :1], size[..., :1], size[..., 2:]], -1), size)
    sphere = draws.chance("size.sphere", 0.4, n)[..., None]
    balls = torch.where(sphere[:, ELLIPSOIDS], size[:, ELLIPSOIDS, :1], size[:, ELLIPSOIDS])
    size = torch.cat([balls, size[:, ELLIPSOIDS.stop :]], 1)

    shares = (2 * config.shapes.superquadric_share, 8 * config.sheets.sheet_share)
    hero = draws.category("hero", (1.0, 1.0, 1.0, 0.7, *shares))
    hero = constant(HEROES, device)[hero]
    is_hero = torch.arange(n, device=device) == hero[:, None]
    xy = torch.where(is_hero[..., None], 0.35 * stage[..., None] * (plane * 2 - 1), xy)
    main = stage[..., None] * draws.log_uniform("hero.size", 1, 3, low=0.12, high=0.4)
    main = torch.where((hero == HEROES[0])[:, None, None], main[..., :1].expand_as(main), main)
    size = torch.where(is_hero[..., None], main, size)

    furniture = torch.zeros(n, dtype=torch.bool, device=device)
    furniture[FURNITURE] = True
    large = stage[..., None] * draws.log_uniform("furniture.size", n, 3, low=0.12, high=0.45)
    large = torch.where((kind == OPEN)[..., None], large * (radius / stage).clamp_min(1.0)[..., None] ** 0.8, large)
    tall = choose(kind, 1.0, 1.0, 1.0, 0.6)[..., None]
    large = torch.cat([large[..., :2], large[..., 2:] * tall], -1)
    size = torch.where(furniture[:, None], large, size)
    ceiling = (around.ceiling * 0.42)[:, None, None]
    size = torch.minimum(size, ceiling)
    wall = draws.category("furniture.wall", (1.0, 1.0, 1.0, 1.0, 2.0), n)
    edge = around.half[:, None] - size[..., :2] * draws.uniform("furniture.gap", n, 1, low=1.0, high=1.4)
    by_wall = torch.stack(
        [
            choose(wall, -edge[..., 0], edge[..., 0], xy[..., 0], xy[..., 0], xy[..., 0]),
            choose(wall, xy[..., 1], xy[..., 1], -edge[..., 1], edge[..., 1], xy[..., 1]),
        ],
        -1,
    )
    indoors_or_street = (kind == ROOM) | (kind == STREET)
    xy = torch.where((furniture & indoors_or_street)[..., None], by_wall, xy)

    # Capsules are thin; half of them stand as poles.
    thin = base * draws.log_uniform("capsule.radius", n, low=0.08, high=0.6)
    length = base * draws.log_uniform("capsule.length", n, low=0.5, high=3.5)
    capsule = torch.stack([thin, thin, torch.minimum(length, around.ceiling[:, None] * 0.4)], -1)
    size = torch.cat([size[:, : CAPSULES.start], capsule[:, CAPSULES], size[:, CAPSULES.stop :]], 1)

    # In some scenes things are drawn out to rods and pressed to slabs; the small ones are small.
    thin_scene = draws.chance("thin", config.shapes.thin_share, 1)
    thin_part = thin_scene & draws.chance("thin.part", 0.35, n) & ~is_hero & ~furniture
    rod = draws.chance("thin.rod", 0.6, n)[..., None]
    thinner = draws.log_uniform("thin.width", n, 1, low=0.05, high=0.2)
    longer = torch.where(rod, constant((0.0, 0.0, 1.0), device), constant((1.0, 1.0, 0.0), device))
    rods = size.amax(-1, keepdim=True) * torch.where(longer > 0, 1.3, thinner)
    bars = slice(BOXES.start, FRUSTUMS.stop)
    size = torch.cat(
        [size[:, : bars.start], torch.where(thin_part[..., None], rods, size)[:, bars], size[:, bars.stop :]], 1
    )
    small = torch.zeros(n, dtype=torch.bool, device=device)
    small[constant(SMALL, device)] = True
    size = torch.where(small[:, None], size * 0.35, size)

    taper = choose(
        draws.category("taper.kind", (3.0, 1.5, 1.5), n), 1.0, 0.0, draws.uniform("taper", n, low=0.2, high=0.95)
    )
    yaw = draws.uniform("yaw", n, high=2 * math.pi)
    yaw = torch.where(furniture & indoors_or_street, 0.0, yaw)
    tilt = choose(
        draws.category("tilt.kind", (6.0, 2.0, 2.0), n), 0.0, math.pi / 2, draws.uniform("tilt", n, high=math.pi)
    )
    tilt = torch.where(furniture, 0.0, tilt)
    rotation = compose(axis_rotation(2, yaw), axis_rotation(0, tilt))
    curved = draws.log_uniform("exponents", n, 2, low=1.15, high=8.0)
    thick = torch.cat([size[..., :2], size[..., 2:] * draws.uniform("sheet.thick", n, 1, low=0.15, high=0.6)], -1)
    even = torch.cat([thick[..., :1], thick[..., :1], thick[..., 2:]], -1)
    size = torch.cat([size[:, : SHEETS.start], even[:, SHEETS]], 1)

    flying = draws.chance("flying", 0.18, n) & ~furniture
    altitude = torch.minimum(stage * draws.uniform("altitude", n, low=0.1, high=0.9), around.ceiling[:, None] * 0.7)
    z = half_height(size, rotation) + torch.where(flying, altitude, 0.0)
    position = torch.cat([xy, z[..., None]], -1)

    density = draws.uniform("density", 1, low=config.density[0], high=config.density[1])
    thinned = torch.ones(n, device=device)
    thinned[CAPSULES] = 0.25
    crowd = draws.chance("crowd", 0.15, 1)
    thinned[constant(SMALL, device)] = 0.12
    thinned[POLE] = 0.0
    thinned[SUPERQUADRICS] = config.shapes.superquadric_share
    thinned[SHEETS] = config.sheets.sheet_share
    thinned[constant(LATHE, device)] = 0.3
    active = draws.chance("active", density * torch.where(crowd, thinned.sqrt(), thinned), n) | is_hero

    on_table = kind == TABLETOP
    is_table = on_table & (torch.arange(n, device=device) == TABLE)
    slab = torch.cat([around.table, around.stage[:, None] * 0.06], -1)[:, None]
    size = torch.where(is_table[..., None], slab, size)
    position = torch.where(
        is_table[..., None], torch.cat([torch.zeros_like(slab[..., :2]), -slab[..., 2:]], -1), position
    )
    rotation = torch.where(is_table[..., None, None], torch.eye(3, device=device), rotation)
    return Layout(active | is_table, size, taper, curved, rotation, position, ~flying, hero)


def half_height(
    size: Float[Tensor, "batch parts 3"], rotation: Float[Tensor, "batch parts 3 3"]
) -> Float[Tensor, "batch parts"]:
    """How far each part reaches above its centre (its support function along z; at most that, for superquadrics)."""
    up = rotation[..., 2, :].abs() * size
    ellipsoid = up.square().sum(-1).sqrt()
    box = up.sum(-1)
    frustum = up[..., 2] + up[..., :2].square().sum(-1).sqrt()
    capsule = up[..., 2] + size[..., 0]
    return torch.cat(
        [ellipsoid[:, ELLIPSOIDS], box[:, BOXES], frustum[:, FRUSTUMS], capsule[:, CAPSULES], box[:, CAPSULES.stop :]],
        1,
    )


def half_extents(size: Float[Tensor, "batch parts 3"]) -> Float[Tensor, "batch parts 3"]:
    """Half sides of each part's box in its own frame."""
    capsule = torch.cat([size[..., :2], size[..., 2:] + size[..., :1]], -1)
    return torch.cat([size[:, : CAPSULES.start], capsule[:, CAPSULES], size[:, CAPSULES.stop :]], 1)

"""What surfaces are made of: families of materials, where each occurs, and the table that the renderer reads."""

import math
from dataclasses import astuple, dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.hashing import Draws, constant
from vdpm.synthetic.layout import FIGURE_PARTS, NUM_PARTS, OPEN, STREET, Layout, Surroundings
from vdpm.synthetic.looks import MaterialWeights
from vdpm.synthetic.palettes import EVERY, group, sample_colours
from vdpm.synthetic.rotations import compose, rotation_about
from vdpm.synthetic.texture import NUMBERS, Pattern

NUM_MATERIALS = NUM_PARTS + 6
"""One a part, then one for each face of the surroundings."""

Range = tuple[float, float]


@dataclass(frozen=True)
class Family:
    """One family of materials: its pattern, its colours (indices into palettes.ANCHORS) and ranges of its numbers.

    ``frequency`` is relative to the size of what it is on: that many lattice cells along half of it. ``shade``:
    brightness of the second colour, where it is related to the first. See texture.Material for the other numbers.
    """

    pattern: Pattern
    first: tuple[int, ...] = EVERY
    second: tuple[int, ...] = EVERY
    third: tuple[int, ...] = EVERY
    related: float = 0.4
    frequency: Range = (1.0, 9.0)
    persistence: Range = (0.5, 1.1)
    warp: Range = (0.0, 0.3)
    aspect: Range = (1.0, 1.0)
    stagger: Range = (0.0, 0.0)
    gap: Range = (0.03, 0.2)
    contrast: Range = (1.0, 4.0)
    tint: Range = (0.0, 0.1)
    mix: Range = (0.0, 0.0)
    stretch: Range = (1.0, 1.0)
    grime: Range = (0.05, 0.5)
    shade: Range = (0.3, 1.8)
    shine: Range = (0.0, 0.25)
    polish: Range = (0.0, 0.05)


_CLOTH = group("cloth", "neutral")
_WOOD = group("earth", "sand")
_STONE = group("grey", "neutral", "sand")
_WALL = group("neutral", "grey", "sand", "water", "skin")

FAMILIES: dict[str, Family] = {
    "plain": Family(Pattern.NOISE, _WALL + EVERY, contrast=(0.02, 0.25), grime=(0.0, 0.06), polish=(0.0, 0.15)),
    "clouds": Family(Pattern.NOISE, contrast=(0.6, 4.0), related=0.6, mix=(0.0, 0.3)),
    "camouflage": Family(Pattern.NOISE, group("leaves", "earth", "fur"), group("leaves", "earth", "fur", "neutral"),
                         contrast=(6.0, 25.0), persistence=(0.2, 0.5), mix=(0.3, 1.0)),
    "ground": Family(Pattern.NOISE, group("leaves", "sand", "earth", "grey"), related=0.9, frequency=(4.0, 30.0),
                     persistence=(0.8, 1.5), contrast=(0.8, 4.0), grime=(0.2, 1.0), shade=(0.3, 1.7),
                     mix=(0.0, 0.3), shine=(0.0, 0.05)),
    "hair": Family(Pattern.NOISE, group("fur", "skin", "leaves"), related=0.9, frequency=(5.0, 24.0),
                   persistence=(0.7, 1.1), contrast=(0.8, 3.0), stretch=(4.0, 16.0), grime=(0.2, 0.8),
                   shade=(0.3, 1.6)),
    "wood": Family(Pattern.RINGS, _WOOD, related=1.0, frequency=(0.5, 3.0), warp=(0.1, 0.9), stretch=(3.0, 12.0),
                   shade=(0.55, 0.9), grime=(0.1, 0.4), polish=(0.0, 0.12)),
    "planks": Family(Pattern.CELLS, _WOOD + group("grey"), group("neutral", "earth"), related=0.8,
                     frequency=(0.5, 2.5), aspect=(0.08, 0.3), stagger=(0.0, 0.5), gap=(0.002, 0.012),
                     stretch=(4.0, 20.0), tint=(0.1, 0.5), warp=(0.0, 0.03), grime=(0.2, 0.7), shade=(0.2, 0.5),
                     polish=(0.0, 0.12)),
    "brick": Family(Pattern.CELLS, group("brick", "grey", "sand"), group("grey", "neutral"), group("brick", "grey"),
                    related=0.1, frequency=(1.5, 8.0), aspect=(0.3, 0.6), stagger=(0.5, 0.5), gap=(0.02, 0.06),
                    tint=(0.1, 0.5), mix=(0.0, 0.4), warp=(0.0, 0.03), grime=(0.1, 0.5), shine=(0.0, 0.05)),
    "tiles": Family(Pattern.CELLS, _WALL + EVERY, group("grey", "neutral"), frequency=(1.0, 6.0), aspect=(0.5, 2.0),
                    stagger=(0.0, 0.5), gap=(0.008, 0.06), tint=(0.0, 0.3), mix=(0.0, 0.5), warp=(0.0, 0.02),
                    grime=(0.02, 0.3), polish=(0.0, 0.4)),
    "facade": Family(Pattern.CELLS, group("water", "neutral", "grey"), group("grey", "sand", "brick", "neutral"),
                     warp=(0.0, 0.01), frequency=(1.5, 6.0), aspect=(0.7, 1.8), gap=(0.1, 0.3), tint=(0.2, 0.9),
                     mix=(0.0, 0.4), related=0.1, polish=(0.0, 0.5)),
    "checker": Family(Pattern.CHECKER, warp=(0.0, 0.1), polish=(0.0, 0.3)),
    "stripes": Family(Pattern.STRIPES, _CLOTH + EVERY, _CLOTH + EVERY, frequency=(1.0, 10.0), gap=(0.15, 0.8),
                      mix=(0.0, 0.5), warp=(0.0, 0.5)),
    "plaid": Family(Pattern.PLAID, _CLOTH, _CLOTH, _CLOTH, frequency=(1.5, 10.0), aspect=(0.8, 1.25), gap=(0.2, 0.7),
                    mix=(0.0, 0.6), persistence=(0.9, 1.4), shine=(0.0, 0.05)),
    "weave": Family(Pattern.WEAVE, _CLOTH + group("sand"), related=0.8, frequency=(6.0, 30.0), aspect=(0.6, 1.6),
                    tint=(0.1, 0.5), shade=(0.6, 1.5), shine=(0.0, 0.05)),
    "marble": Family(Pattern.VEINS, _STONE, group("grey", "neutral", "earth"), contrast=(0.6, 2.5), shade=(0.2, 0.8),
                     persistence=(0.5, 0.8), polish=(0.0, 0.5), grime=(0.02, 0.2)),
    "scratches": Family(Pattern.VEINS, group("grey", "cloth", "signs", "neutral"), related=0.7, contrast=(2.0, 6.0),
                        stretch=(3.0, 14.0), frequency=(2.0, 10.0), shade=(0.3, 1.8), shine=(0.1, 0.6),
                        polish=(0.05, 0.6)),
    "rust": Family(Pattern.NOISE, group("grey", "cloth", "signs"), group("brick", "earth"),
                   group("earth", "brick", "neutral"), related=0.0, contrast=(3.0, 8.0), persistence=(0.7, 1.1),
                   mix=(0.2, 0.8), grime=(0.1, 0.5)),
    "stone": Family(Pattern.SPOTS, _STONE, _STONE + group("earth"), _STONE + group("brick"), frequency=(5.0, 22.0),
                    warp=(0.5, 1.5), gap=(0.5, 1.0), mix=(0.2, 0.7), tint=(0.0, 0.4), polish=(0.0, 0.25)),
    "spots": Family(Pattern.SPOTS, group("fur", "sand", "cloth"), group("fur", "neutral", "cloth", "signs"),
                    frequency=(2.0, 9.0), gap=(0.4, 1.0), mix=(0.0, 0.3), warp=(0.0, 0.8)),
    "text": Family(Pattern.MARKS, group("neutral", "signs", "cloth"), group("neutral", "cloth", "signs"),
                   group("signs", "cloth", "water", "leaves"), related=0.1, shade=(0.05, 0.3), warp=(0.0, 0.04),
                   frequency=(0.5, 3.0), aspect=(0.4, 1.6), gap=(0.02, 0.1), mix=(0.0, 0.5), contrast=(1.0, 3.0)),
    "flowers": Family(Pattern.FLOWERS, _CLOTH + group("leaves"), group("cloth", "signs"), group("neutral", "signs"),
                      frequency=(1.5, 8.0), stagger=(0.0, 0.5)),
    "gradient": Family(Pattern.GRADIENT, related=0.5, grime=(0.0, 0.1), frequency=(0.5, 2.5)),
    "scales": Family(Pattern.SCALES, frequency=(2.0, 10.0), aspect=(0.5, 0.9), stagger=(0.5, 0.5), tint=(0.1, 0.5)),
    "circles": Family(Pattern.CIRCLES, frequency=(0.8, 4.0), stagger=(0.0, 0.5)),
    "truchet": Family(Pattern.TRUCHET, frequency=(1.5, 7.0), gap=(0.06, 0.25)),
    "hexagons": Family(Pattern.HEXAGONS, frequency=(1.5, 7.0), gap=(0.03, 0.12), tint=(0.1, 0.6)),
    "zigzag": Family(Pattern.ZIGZAG, frequency=(1.5, 7.0), aspect=(0.6, 1.6), gap=(0.3, 0.6)),
}  # fmt: skip
NAMES = tuple(FAMILIES)
_RANGES = tuple(f.name for f in fields(Family) if f.type is Range)

# How much likelier than elsewhere a family is in each place; families not named have the last number.
_OBJECT: dict[str, float] = {"facade": 0.2, "ground": 0.5, "": 1.0}
_BODY = {"plain": 3.0, "hair": 3.0, "stripes": 1.5, "plaid": 1.5, "weave": 1.5, "spots": 1.5, "camouflage": 1.5,
         "clouds": 1.0, "gradient": 1.0, "text": 0.5, "": 0.1}  # fmt: skip
_WALLS = {"plain": 6.0, "clouds": 2.0, "brick": 2.0, "tiles": 2.0, "planks": 1.5, "text": 1.5, "gradient": 2.0,
          "stripes": 0.7, "ground": 0.1, "hair": 0.05, "facade": 0.1, "": 0.4}  # fmt: skip
_FLOOR = {"plain": 1.0, "planks": 4.0, "tiles": 3.0, "plaid": 1.0, "weave": 2.0, "wood": 2.0, "stone": 2.0,
          "marble": 2.0, "clouds": 2.0, "ground": 1.5, "": 0.25}  # fmt: skip
_EARTH = {"ground": 14.0, "clouds": 2.0, "tiles": 1.5, "brick": 1.0, "stone": 2.0, "plain": 0.4, "planks": 0.3,
          "hair": 0.5, "": 0.06}  # fmt: skip
_FRONTS = {"facade": 12.0, "brick": 4.0, "plain": 0.7, "text": 1.0, "tiles": 1.0, "clouds": 1.0, "": 0.1}
_HILLS = {"ground": 6.0, "clouds": 4.0, "camouflage": 3.0, "plain": 0.5, "": 0.1}
_PLACES = (_OBJECT, _BODY, _WALLS, _FLOOR, _EARTH, _FRONTS, _HILLS)


def place_weights(weights: MaterialWeights) -> tuple[tuple[float, ...], ...]:
    """Weights of the families in each kind of place: object, body, wall, floor, earth, house front, hills."""
    own = dict(zip((f.name for f in fields(weights)), astuple(weights)))
    return tuple(tuple(own[name] * place.get(name, place[""]) for name in NAMES) for place in _PLACES)


def sample_materials(
    draws: Draws, config: SceneConfig, around: Surroundings, layout: Layout
) -> Float[Tensor, "batch materials fields"]:
    """Materials of parts and walls, as a table that ``texture.unpack_materials`` reads."""
    m = NUM_MATERIALS
    wall, roof = slice(NUM_PARTS, NUM_PARTS + 4), NUM_PARTS + 5
    family = _sample_family(draws, config, around)
    # A wall keeps its family on all sides in most rooms.
    same = draws.chance("texture.same_walls", 0.7, 1)
    source = torch.arange(m, device=draws.device).expand(draws.batch, -1).clone()
    source[:, wall] = torch.where(same, NUM_PARTS, source[:, wall])
    # Limbs of one figure share two materials, so that it looks like one body in clothes.
    for slots in FIGURE_PARTS:
        clothes = ((slots[0],) * 2 + (slots[2],) * 4 + (slots[0],) * 4 + (slots[1],) * len(slots))[: len(slots)]
        source[:, constant(tuple(slots[2:]), draws.device)] = constant(clothes[2:], draws.device)
    family = family.gather(1, source)

    table, palette, palette_sizes = _tables(draws.device)
    spread = table[family]
    unit = draws.uniform("texture.numbers", m, len(_RANGES))
    numbers = spread[..., 0] + (spread[..., 1] - spread[..., 0]) * unit
    column = dict(zip(_RANGES, numbers.unbind(-1)))
    stage = around.stage[:, None]
    extent = torch.cat([layout.size.amax(-1).clamp_min(1e-3), (stage * 1.2).expand(-1, 4), stage.expand(-1, 2)], 1)
    column["frequency"] = column["frequency"].exp() / extent
    column["aspect"] = column["aspect"].exp()

    anchors = [
        palette[family, which].gather(
            -1, (draws.uniform(f"texture.{name}.anchor", m) * palette_sizes[family, which]).long()[..., None]
        )[..., 0]
        for which, name in enumerate(("first", "second", "third"))
    ]
    first, second, third = (
        sample_colours(draws, f"texture.{name}", anchor, config.wild_colour_share)
        for name, anchor in zip(("first", "second", "third"), anchors)
    )
    chance_related = constant(tuple(f.related for f in FAMILIES.values()), draws.device)[family]
    related = draws.chance("texture.related", chance_related, m)[..., None]
    second = torch.where(related, (first * column["shade"][..., None]).clamp_max(0.95), second)
    pale = draws.chance("texture.pale", 0.4, 1, 1)
    walls = torch.zeros(m, 1, dtype=torch.bool, device=draws.device)
    walls[wall] = True
    walls[roof] = True
    first = torch.where(walls & pale, 0.4 + 0.5 * first, first)
    colours = torch.cat([first, second, third], -1)
    # Every scene has its own loudness and cast, as films and rooms have.
    loudness = draws.uniform("texture.loudness", 1, 1, 1, low=0.35, high=1.3)
    colours = colours.unflatten(-1, (3, 3))
    grey = colours.mean(-1, keepdim=True)
    colours = (grey + (colours - grey) * loudness).clamp(0.005, 0.97).flatten(-2)

    turn = rotation_about(draws.direction("texture.axis", m), draws.uniform("texture.turn", m, high=2 * math.pi))
    swap = constant(((0.0, 0, 1), (1, 0, 0), (0, 1, 0)), draws.device)
    eye = torch.eye(3, device=draws.device)
    turn = torch.where(draws.chance("texture.aligned", 0.55, m)[..., None, None], eye, turn)
    turn = torch.where(draws.chance("texture.upright", 0.5, m)[..., None, None], compose(swap, turn), turn)
    angle = draws.uniform("texture.angle", m, low=-math.pi, high=math.pi) * draws.chance("texture.askew", 0.3, m)
    level = constant(tuple(f.pattern in _LEVEL for f in FAMILIES.values()), draws.device)[family]
    column["angle"] = torch.where(level, 0.0, angle)

    codes = constant(tuple(float(f.pattern) for f in FAMILIES.values()), draws.device)
    column["pattern"] = codes[family]
    column["seed"] = (draws.bits("texture.seed", m) >> 9).float()
    column["gloss"] = draws.log_uniform("texture.gloss", m, low=6.0, high=150.0)
    column["glow"] = draws.uniform("texture.glow", m, low=0.3, high=1.5) * draws.chance("texture.glows", 0.03, m)
    column["glow"][:, NUM_PARTS:] = 0
    offset = draws.uniform("texture.offset", m, 3, low=-20.0, high=20.0)
    stacked = torch.stack([column[name] for name in NUMBERS], -1)
    rows = torch.cat([stacked, offset, turn.flatten(-2), colours], -1)
    # Shared rows keep their own place on the pattern, and their own scale.
    shared = rows.gather(1, source[..., None].expand_as(rows))
    own = torch.zeros(rows.shape[-1], dtype=torch.bool, device=draws.device)
    own[NUMBERS.index("frequency")] = True
    own[len(NUMBERS) : len(NUMBERS) + 3] = True
    own = own & (torch.arange(m, device=draws.device) < NUM_PARTS)[:, None]
    return torch.where(own, rows, shared)


_LEVEL = (Pattern.CELLS, Pattern.MARKS)
"""Patterns that stand upright: bricks and letters do not lean."""


def _sample_family(draws: Draws, config: SceneConfig, around: Surroundings) -> Int[Tensor, "batch materials"]:
    """Drawn with the weights of the place; a place without any family of its own takes those of objects."""
    m = NUM_MATERIALS
    place = torch.zeros(draws.batch, m, dtype=torch.long, device=draws.device)
    place[:, constant(tuple(p for slots in FIGURE_PARTS for p in slots), draws.device)] = _PLACES.index(_BODY)
    street, open_air = around.kind == STREET, around.kind == OPEN
    walls = torch.where(street, _PLACES.index(_FRONTS), _PLACES.index(_WALLS))
    walls = torch.where(open_air, _PLACES.index(_HILLS), walls)
    place[:, NUM_PARTS : NUM_PARTS + 4] = walls[:, None]
    place[:, NUM_PARTS + 4] = torch.where(street | open_air, _PLACES.index(_EARTH), _PLACES.index(_FLOOR))
    place[:, NUM_PARTS + 5] = _PLACES.index(_WALLS)
    weights = place_weights(config.material_weights)
    sums = []
    for row in weights:
        chosen = row if sum(row) > 0 else weights[0]
        total = sum(chosen)
        sums.append(tuple(sum(chosen[: i + 1]) / total for i in range(len(chosen) - 1)))
    steps = constant(tuple(sums), draws.device)
    return (draws.uniform("texture.family", m)[..., None] >= steps[place]).sum(-1)


def _tables(
    device: torch.device,
) -> tuple[Float[Tensor, "families ranges 2"], Int[Tensor, "families 3 most"], Int[Tensor, "families 3"]]:
    """Ranges of all families (frequency and aspect as logarithms); their palettes, padded, and how long each is."""
    spread = []
    for f in FAMILIES.values():
        ranges = {name: getattr(f, name) for name in _RANGES}
        for name in ("frequency", "aspect"):
            ranges[name] = (math.log(ranges[name][0]), math.log(ranges[name][1]))
        spread.append(tuple(ranges[name] for name in _RANGES))
    palettes = [(f.first, f.second, f.third) for f in FAMILIES.values()]
    most = max(len(p) for three in palettes for p in three)
    padded = tuple(tuple(p + (0,) * (most - len(p)) for p in three) for three in palettes)
    sizes = tuple(tuple(len(p) for p in three) for three in palettes)
    return constant(tuple(spread), device), constant(padded, device), constant(sizes, device)

"""Each family of materials: colours in range, varied from near, and even where a pixel holds much of it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.synthetic import SceneConfig
from vdpm.synthetic.hashing import Draws
from vdpm.synthetic.layout import NUM_PARTS, sample_layout, sample_surroundings
from vdpm.synthetic.looks import MaterialWeights
from vdpm.synthetic.materials import FAMILIES, NAMES, place_weights, sample_materials
from vdpm.synthetic.texture import NUMBERS, albedo

NOTHING = dict.fromkeys(NAMES, 0.0)


def _rows(weights: MaterialWeights, seeds: range = range(6)) -> Tensor:
    """[fields, materials]: of the parts of some scenes."""
    config = SceneConfig(material_weights=weights)
    draws = Draws(torch.tensor(list(seeds)))
    around = sample_surroundings(draws, config)
    table = sample_materials(draws, config, around, sample_layout(draws, config, around))
    return table[:, 4:NUM_PARTS:5].flatten(0, 1).T


def _painted(rows: Tensor, cells: float, pixels: float) -> Tensor:
    """Colours [3, materials, points] over a square with sides of ``cells`` of the pattern, pixels that many cells."""
    place = torch.linspace(0, cells, 48)
    grid = torch.stack([place.expand(48, -1), place[:, None].expand(-1, 48), torch.full((48, 48), 0.37)]).flatten(1)
    frequency = rows[NUMBERS.index("frequency")]
    point = grid[:, None] / frequency[:, None]
    normal = torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand_as(point)
    footprint = (pixels / frequency)[:, None].expand(-1, point.shape[-1])
    return albedo(rows[..., None].expand(-1, -1, point.shape[-1]), point, normal, footprint)


def test_every_family_has_a_weight_and_the_last_ones_none() -> None:
    assert tuple(vars(MaterialWeights())) == NAMES
    unseen = [name for name, weight in vars(MaterialWeights()).items() if weight == 0]
    assert unseen == ["scales", "circles", "truchet", "hexagons", "zigzag"]


@pytest.mark.parametrize("name", NAMES)
def test_colours_of_a_family(name: str) -> None:
    rows = _rows(MaterialWeights(**NOTHING | {name: 1.0}))
    assert (rows[NUMBERS.index("pattern")] == float(FAMILIES[name].pattern)).all()
    near = _painted(rows, cells=5.0, pixels=0.02)
    far = _painted(rows, cells=500.0, pixels=12.0)
    for colours in (near, far):
        assert torch.isfinite(colours).all()
        assert colours.min() >= 0
        assert colours.max() <= 1
    # Band-limited: from afar, nothing is left of the pattern but its mean.
    assert far.std(-1).max() < 0.02
    varied = near.std(-1).mean()
    assert varied < 0.05 if name == "plain" else varied > 0.01


def test_a_pattern_does_not_depend_on_the_rays_beside_it() -> None:
    rows = _rows(MaterialWeights())
    whole = _painted(rows, cells=4.0, pixels=0.1)
    some = _painted(rows[:, 3:11], cells=4.0, pixels=0.1)
    assert torch.equal(whole[:, 3:11], some)


def test_weights_say_what_occurs_and_where() -> None:
    only = place_weights(MaterialWeights(**NOTHING | {"truchet": 2.0}))
    assert all(row[NAMES.index("truchet")] > 0 and sum(row) == row[NAMES.index("truchet")] for row in only)
    default = dict(
        zip(("object", "body", "wall", "floor", "earth", "front", "hills"), place_weights(MaterialWeights()))
    )
    grass, windows = NAMES.index("ground"), NAMES.index("facade")
    assert default["earth"][grass] == max(default["earth"])
    assert default["front"][windows] == max(default["front"])
    assert default["wall"][grass] < 0.1 * default["earth"][grass]


def test_colours_are_mostly_muted_and_sometimes_loud() -> None:
    def saturation(config_share: float) -> Tensor:
        config = SceneConfig(wild_colour_share=config_share)
        draws = Draws(torch.arange(1000))
        around = sample_surroundings(draws, config)
        table = sample_materials(draws, config, around, sample_layout(draws, config, around))
        shown = table[:, :NUM_PARTS, -9:-6].flatten(0, 1) ** (1 / 2.2)
        return (shown.amax(-1) - shown.amin(-1)) / shown.amax(-1)

    usual, wild = saturation(0.1), saturation(1.0)
    assert 0.15 < usual.median() < 0.45
    assert (usual > 0.7).float().mean() > 0.05
    assert wild.median() > usual.median() + 0.2


def test_wrong_weights_are_refused() -> None:
    with pytest.raises(UsageError, match="material wood is -1"):
        replace(MaterialWeights(), wood=-1.0)
    with pytest.raises(UsageError, match="all weights"):
        MaterialWeights(**NOTHING)

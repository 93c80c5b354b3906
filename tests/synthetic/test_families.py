"""Seeds of the families, and that their scenes show what the family is about."""

from dataclasses import replace

import pytest
import torch

from vdpm.errors import UsageError
from vdpm.synthetic import HELD_OUT_START, SceneConfig, generate
from vdpm.synthetic.demo_clip import DEMO_SEED
from vdpm.synthetic.families import FAMILIES, SEEDS_PER_FAMILY, SNIPPETS, family_seeds


def test_families_have_seeds_of_their_own() -> None:
    seeds = torch.cat([family_seeds(family) for family in FAMILIES])
    assert len(seeds.unique()) == SNIPPETS * len(FAMILIES)
    assert int(seeds.min()) >= HELD_OUT_START + SEEDS_PER_FAMILY
    assert int(seeds.min()) > DEMO_SEED
    assert int(family_seeds("rigid", 1, start=7)) == int(family_seeds("rigid")[7])
    with pytest.raises(UsageError, match="no family"):
        family_seeds("static")
    with pytest.raises(UsageError, match="numbered"):
        family_seeds("rigid", 2, start=SEEDS_PER_FAMILY - 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_things_and_cameras_move(family: str) -> None:
    config = replace(FAMILIES[family], height=16, width=24, colour_samples=1)
    snippet = generate(family_seeds(family, 12), config)
    assert snippet.num_frames == 10
    assert torch.allclose(snippet.timestamps.diff(dim=1), torch.tensor(2 / 24))
    assert (snippet.dynamic.float().mean((1, 2, 3)) > 0.005).float().mean() > 0.7
    assert (snippet.valid.float().mean((1, 2, 3)) > 0.2).all()
    turned = (snippet.c2w[:, 9] - torch.eye(4)).abs().amax((1, 2))
    assert (turned > 0.01).float().mean() > 0.8


def test_unseen_has_what_training_has_not() -> None:
    """Materials and sheets of weight 0 in training, and no others; the other families have none of them."""
    trained = SceneConfig()
    for part in ("material_weights", "sheets"):
        default, unseen = vars(getattr(trained, part)), vars(getattr(FAMILIES["unseen"], part))
        names = [name for name in default if not name.endswith("_share")]
        new = {name for name in names if default[name] == 0}
        assert new
        assert {name for name in names if unseen[name] > 0} == new
        for family in ("rigid", "articulated"):
            assert all(vars(getattr(FAMILIES[family], part))[name] == 0 for name in new)

"""What an update can hold: the nearest of it is what is stored and loaded."""

from functools import partial
from pathlib import Path

import pytest
import torch

from vdpm.errors import CheckpointError, UsageError
from vdpm.model import VDPM
from vdpm.model.convert_update import convert_update
from vdpm.model.factors import IntegerFactors
from vdpm.model.rounding import Compacted
from vdpm.model.update_grid import UpdateGrid, on_grid, read_update_grid, update_with_steps_of


@pytest.fixture
def folder(tiny: VDPM, tmp_path: Path) -> Path:
    """``earlier``, and ``later`` as an update of it with steps of 2 ** -6."""
    tiny.save_pretrained(tmp_path / "earlier")
    before = {name: value.clone() for name, value in tiny.state_dict().items()}
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in tiny.parameters():
            value.add_(0.02 * torch.randn(value.shape, generator=generator))
    tiny.save_pretrained(tmp_path / "later")
    scales = {name: torch.full((len(value),), 2.0**-6) for name, value in before.items() if value.ndim >= 2}
    convert_update(
        tmp_path / "later",
        tmp_path / "earlier",
        tmp_path / "update",
        compacted_by=lambda model, before: UpdateGrid(before, scales).update_to(model.state_dict()),
    )
    return tmp_path


def test_entries_go_to_the_nearest_integer_within_reach() -> None:
    base = torch.tensor([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0]])
    values = torch.tensor([[1.1, 1.4, 9.0], [2.1, 1.0, 2.0]])
    scale = torch.tensor([[0.25], [0.5]])
    assert on_grid(values, base, scale).tolist() == [[1.0, 1.5, 2.75], [2.0, 1.0, 2.0]]
    # What is no matrix keeps 8 binary digits of its difference.
    found = on_grid(torch.tensor([1.0 + 2.0**-3 + 2.0**-12]), torch.ones(1), torch.zeros(()))
    assert found.tolist() == [1.0 + 2.0**-3]


def test_what_is_loaded_is_the_nearest_and_stored_again_the_same(folder: Path) -> None:
    grid = read_update_grid(folder / "update")
    loaded = VDPM.from_pretrained(folder / "update").state_dict()
    later = VDPM.from_pretrained(folder / "later").state_dict()
    for found in (grid.nearest_to(later), grid.nearest_to(loaded)):
        assert all(torch.equal(found[name], value) for name, value in loaded.items())
    for source in ("later", "update"):
        convert_update(
            folder / source,
            folder / "earlier",
            folder / "again",
            compacted_by=lambda model, before: update_with_steps_of(folder / "update", model, before),
            overwrite=(folder / "again").exists(),
        )
        again = VDPM.from_pretrained(folder / "again").state_dict()
        assert all(torch.equal(again[name], value) for name, value in loaded.items()), source


def test_rows_with_a_scale_of_zero_stay() -> None:
    base, later = {"x.weight": torch.ones(2, 3)}, {"x.weight": torch.full((2, 3), 1.6)}
    grid = UpdateGrid(base, {"x.weight": torch.tensor([0.0, 0.5])})
    assert grid.nearest_to(later)["x.weight"].tolist() == [[1.0] * 3, [1.5] * 3]
    integers, scale = grid.update_to(later).integers["x.weight"]
    assert (base["x.weight"] + integers * scale[:, None]).tolist() == [[1.0] * 3, [1.5] * 3]


def test_the_grid_of_the_last_update_counts(folder: Path) -> None:
    """Of two, the base is the network with the first."""
    grid = read_update_grid(folder / "update")
    convert_update(
        folder / "earlier",
        folder / "update",
        folder / "two",
        compacted_by=lambda model, before: UpdateGrid(
            before, {name: 2 * scale for name, scale in grid.scales.items()}
        ).update_to(model.state_dict()),
    )
    second = read_update_grid(folder / "two")
    loaded = VDPM.from_pretrained(folder / "update").state_dict()
    assert all(torch.equal(second.base[name], value) for name, value in loaded.items())
    assert all(torch.equal(second.scales[name], 2 * scale) for name, scale in grid.scales.items())
    assert second.fingerprint != grid.fingerprint == read_update_grid(folder / "update").fingerprint


def test_an_update_with_factors_has_no_grid_but_may_stand_before_one_that_has(folder: Path) -> None:
    name = "aggregator.frame_blocks.0.mlp.fc1.weight"
    before = VDPM.from_pretrained(folder / "earlier").state_dict()[name]
    whole = torch.ones(len(before), 2).to(torch.int8), torch.ones(2, before.shape[1]).to(torch.int8)
    factors = {name: IntegerFactors(*whole, torch.tensor([2.0**-8, 2.0**-9]).to(torch.bfloat16))}
    convert_update(
        folder / "later",
        folder / "earlier",
        folder / "thin",
        compacted_by=lambda model, before: Compacted({}, {}, factors),
    )
    found = VDPM.from_pretrained(folder / "thin").state_dict()[name]
    assert torch.equal(found, before + 2.0**-8 + 2.0**-9)
    with pytest.raises(CheckpointError, match="low rank") as caught:
        read_update_grid(folder / "thin")
    assert "\n" not in str(caught.value)
    grid = read_update_grid(folder / "update")
    convert_update(
        folder / "later",
        folder / "thin",
        folder / "after",
        compacted_by=lambda model, before: UpdateGrid(before, grid.scales).update_to(model.state_dict()),
    )
    assert torch.equal(read_update_grid(folder / "after").base[name], found)


def test_folders_without_an_update_have_no_grid(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no update"):
        read_update_grid(folder / "later")


def test_known_steps_are_multiplied_by_one_factor_to_reach_a_size(folder: Path) -> None:
    grid = read_update_grid(folder / "update")
    later = VDPM.from_pretrained(folder / "later")
    found = {}
    for share in (0.7, 1.3):
        mib = share * (folder / "update" / "update-1.safetensors.xz").stat().st_size / 2**20
        convert_update(
            folder / "later",
            folder / "earlier",
            folder / f"{share}",
            compacted_by=partial(update_with_steps_of, folder / "update", mib=mib),
        )
        size = (folder / f"{share}" / "update-1.safetensors.xz").stat().st_size / 2**20
        # In so small a network entries change their integer many at a time.
        assert 0.9 * mib < size <= mib
        scales = read_update_grid(folder / f"{share}").scales
        factors = {float(ratio) for name in scales for ratio in scales[name] / grid.scales[name]}
        assert len(factors) == 1
        found[share] = factors.pop()
    assert found[1.3] < 1 < found[0.7]
    with pytest.raises(UsageError, match=r"no smaller than .* MiB"):
        update_with_steps_of(folder / "update", later, grid.base, 1e-4)
    with pytest.raises(UsageError, match="above 0"):
        update_with_steps_of(folder / "update", later, grid.base, -1.0)


def test_a_generous_size_takes_no_steps_that_cut_off_what_goes_far(folder: Path) -> None:
    grid = read_update_grid(folder / "update")
    later = VDPM.from_pretrained(folder / "later")

    def lost(update: Compacted) -> float:
        return sum(
            float(
                (later.state_dict()[name] - grid.base[name] - integers * scale.reshape(-1, *[1] * (integers.ndim - 1)))
                .square()
                .sum()
            )
            for name, (integers, scale) in update.integers.items()
        )

    generous = update_with_steps_of(folder / "update", later, grid.base, 1.0)
    factors = [2.0**-power for power in range(5)]
    others = [
        lost(
            UpdateGrid(grid.base, {name: factor * value for name, value in grid.scales.items()}).update_to(
                later.state_dict()
            )
        )
        for factor in factors
    ]
    # With the finest of these most entries would lie beyond the last integer.
    assert others[-1] > 2 * min(others)
    assert lost(generous) <= 1.05 * min(others)


def test_what_was_not_trained_has_not_gone_any_way_in_half_as_many_bits(folder: Path) -> None:
    grid = read_update_grid(folder / "update")
    later = VDPM.from_pretrained(folder / "later").state_dict()
    mixed = {name: later[name] if name.startswith("decoder.") else value for name, value in grid.base.items()}
    stored = {name: value.to(torch.bfloat16) for name, value in mixed.items()}
    fine = UpdateGrid(grid.base, {name: value / 64 for name, value in grid.scales.items()})
    update = fine.update_to(stored)
    for name, way in {**{n: i for n, (i, _) in update.integers.items()}, **update.rest}.items():
        assert way.any() == (name.startswith("decoder.") and not torch.equal(later[name], grid.base[name])), name

"""Training on the grid of an update: what is trained is what can be stored."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fixtures.ranks import on_ranks
from fixtures.tiny_run import ALONE, RUN, TINY, losses
from vdpm.errors import CheckpointError, UsageError, VDPMError
from vdpm.model import VDPM
from vdpm.model.convert_update import convert_update
from vdpm.model.rounding import Compacted, grid_scales
from vdpm.model.update_grid import UpdateGrid, read_update_grid, update_with_steps_of
from vdpm.training.checkpoint import load_state
from vdpm.training.config import LossConfig, OptimizerConfig, TrainConfig
from vdpm.training.distributed import join_ranks, leave_ranks
from vdpm.training.grid import ParametersGrid
from vdpm.training.onward import ONWARD, begin
from vdpm.training.parameters import FlatParameters
from vdpm.training.run import train
from vdpm.training.trainer import Trainer
from vdpm.training.update import Update

STEP = 1.0
FALLING = dataclasses.replace(
    RUN, model=TINY, optimizer=OptimizerConfig(lr=2e-3, warmup_steps=2, cooldown_steps=3), steps=6, ema_decay=0.9
)


def coarse(model: VDPM, before: Mapping[str, Tensor]) -> Compacted:
    """Integers a root mean square of the row apart."""
    scales = {
        n: grid_scales(v.flatten(1), STEP) for n, v in model.state_dict().items() if v.ndim >= 2 and "weight" in n
    }
    return UpdateGrid(before, scales).update_to(model.state_dict())


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``before`` and ``start``: a network and one not far from it; ``update``: the way from the one to the other."""
    folder = tmp_path_factory.mktemp("start")
    torch.manual_seed(0)
    model = VDPM(TINY)
    model.save_pretrained(folder / "before")
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.3 * value.std(correction=0) * torch.randn(value.shape))
    model.save_pretrained(folder / "start")
    convert_update(folder / "start", folder / "before", folder / "update", compacted_by=coarse)
    return folder


def run_from(start: Path, output: Path, config: TrainConfig = FALLING, **options: object) -> Path:
    train(config, output, device="cpu", init=str(start / "start"), **options)  # type: ignore[arg-type]
    return output


def stored(start: Path, source: Path, destination: Path) -> dict[str, Tensor]:
    """``source`` as an update with the steps of ``start``, loaded again."""
    steps = partial(update_with_steps_of, start / "update")
    convert_update(source, start / "before", destination, compacted_by=steps)
    return VDPM.from_pretrained(destination).state_dict()


def test_passes_see_what_an_update_would_hold_and_the_weights_come_back(start: Path, tmp_path: Path) -> None:
    model, expected = VDPM.from_pretrained(start / "start"), stored(start, start / "start", tmp_path / "stored")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    grid = ParametersGrid(FlatParameters(model, ALONE, muon=True), read_update_grid(start / "update"))
    inside = {}

    def fail() -> None:
        with grid.entered():
            inside.update({name: value.clone() for name, value in model.state_dict().items()})
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        fail()
    for name, value in inside.items():
        assert torch.equal(value, expected[name]), name
    assert sum(not torch.equal(value, before[name]) for name, value in inside.items()) >= 50
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_gradients_on_the_grid_move_the_weights_themselves(start: Path) -> None:
    """The step that the rounded network's gradient asks for is taken from the weights as they were."""
    grid = read_update_grid(start / "update")
    images, target = torch.rand(1, 2, 3, 16, 24, generator=torch.Generator().manual_seed(6)), torch.zeros(1, 1).long()

    def backward(model: VDPM) -> None:
        model(images, target).time_variant.points.square().mean().backward()

    model, other, rounded = (VDPM.from_pretrained(start / name) for name in ("start", "start", "update"))
    updates = [Update(FlatParameters(each, ALONE, muon=True), OptimizerConfig(lr=0.01)) for each in (model, other)]
    with ParametersGrid(updates[0].parameters, grid).entered():
        backward(model)
    backward(rounded)
    for theirs, values in zip(other.parameters(), rounded.parameters(), strict=True):
        theirs.grad = values.grad
    for update in updates:
        update(0.01, 0.9)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], msg=name)


def test_a_network_trained_on_the_grid_loses_less_by_it(start: Path, tmp_path: Path) -> None:
    """One batch over and over; the loss of what is stored at the end, trained with and without the grid."""
    config = dataclasses.replace(
        RUN,
        model=TINY,
        buckets=RUN.buckets[:1],
        optimizer=OptimizerConfig(lr=5e-3, warmup_steps=3, cooldown_steps=80),
        loss=LossConfig(alpha=0.05),
        steps=120,
        log_every=60,
        ema_decay=0.98,
    )
    grid = read_update_grid(start / "update")
    exact, rounded = {}, {}
    for name, given in (("with", grid), ("without", None)):
        run = Trainer(VDPM.from_pretrained(start / "start"), config, tmp_path / name, ALONE, grid=given)
        batch = run.supply.batch(0, 0.0)
        run.supply.batch = lambda step, position, batch=batch: batch  # type: ignore[method-assign]
        run.run()
        for found, weights in (
            (exact, load_state(tmp_path / name / "state.pt").average),
            (rounded, stored(start, tmp_path / name / ONWARD, tmp_path / f"{name} stored")),
        ):
            run.model.load_state_dict(weights)
            with torch.no_grad():
                found[name] = float(run._losses(batch[1])["epe_p"])
    # Nothing is to be won by what the grid takes away.
    assert exact["without"] < rounded["with"]
    assert rounded["with"] < 0.5 * rounded["without"]


def test_what_is_saved_is_what_an_update_holds(start: Path, tmp_path: Path) -> None:
    """From ``onward``, whose 8 bits are coarser than the average, to the integers that were trained."""
    run_from(start, tmp_path / "run", round_as=str(start / "update"))
    state = load_state(tmp_path / "run/state.pt")
    expected = read_update_grid(start / "update").nearest_to(state.average)
    found = stored(start, tmp_path / "run" / ONWARD, tmp_path / "stored")
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    # Weights go on as they are.
    raw = begin(str(tmp_path / "run" / ONWARD), None, 0.9).model.state_dict()
    apart = [float((raw[name] - value).norm() / value.norm().clamp_min(1e-6)) for name, value in state.weights.items()]
    assert max(apart) < 0.02


def test_where_the_rate_falls_from_the_start_the_updates_own_network_begins(start: Path, tmp_path: Path) -> None:
    """Not the nearest integers: those that were chosen for it. Inside their reach weights stay as they are."""

    def upwards(model: VDPM, before: Mapping[str, Tensor]) -> Compacted:
        up = {name: value + 0.3 * STEP * value.square().mean().sqrt() for name, value in model.state_dict().items()}
        scales = coarse(model, before).integers
        return UpdateGrid(before, {name: scale for name, (_, scale) in scales.items()}).update_to(up)

    convert_update(start / "start", start / "before", tmp_path / "update", compacted_by=upwards)
    held, grid = VDPM.from_pretrained(tmp_path / "update").state_dict(), read_update_grid(tmp_path / "update")
    before = VDPM.from_pretrained(start / "start").state_dict()
    assert any(not torch.equal(value, held[name]) for name, value in grid.nearest_to(before).items())
    whole = dataclasses.replace(FALLING, optimizer=dataclasses.replace(FALLING.optimizer, cooldown_steps=6))
    run = Trainer(VDPM.from_pretrained(start / "start"), whole, tmp_path / "run", ALONE, grid=grid)
    weights = run.update.weights()
    for name, value in grid.nearest_to(weights).items():
        if name in grid.scales:
            assert torch.equal(value, held[name]), name
            near = (before[name] - held[name]).abs() < 0.48 * grid.scale_of(name)
            assert torch.equal(weights[name][near], before[name][near]), name
            assert near.float().mean() > 0.3, name
        else:
            assert torch.equal(weights[name], before[name]), name
    # Only there: a run that rounds later begins with the weights that it was given.
    later = Trainer(VDPM.from_pretrained(start / "start"), FALLING, tmp_path / "later", ALONE, grid=grid)
    assert all(torch.equal(value, before[name]) for name, value in later.update.weights().items())


def test_the_average_begins_anew_where_rounding_does(start: Path, tmp_path: Path) -> None:
    run = run_from(start, tmp_path / "run", round_as=str(start / "update"), clips_seen=1000)
    plain = run_from(start, tmp_path / "plain", clips_seen=1000)
    # Of six steps the last three.
    assert losses(run)[:3] == losses(plain)[:3]
    assert losses(run)[3] != losses(plain)[3]
    state, other = (load_state(folder / "state.pt") for folder in (run, plain))
    assert (state.averaged, other.averaged) == (3, 6)
    assert json.loads((run / ONWARD / "progress.json").read_text())["averaged"] == 3
    assert (bool(state.grid), other.grid) == (True, "")


CUTS = (2, 3, 5)
"""Before rounding has begun, when it is about to, and after."""
SAVED_OFTEN = dataclasses.replace(FALLING, save_every_seconds=0.0)


@pytest.fixture(scope="module")
def whole(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the grid, and what lay in its folder after steps 2, 3 and 5 in ``2``, ``3`` and ``5`` beside it."""
    folder = tmp_path_factory.mktemp("cuts") / "whole"
    grid = read_update_grid(start / "update")
    run = Trainer(VDPM.from_pretrained(start / "start"), SAVED_OFTEN, folder, ALONE, grid=grid)
    save = run.save

    def keep(wait: bool = True) -> None:
        save()
        if run.step in CUTS:
            shutil.copytree(folder, folder.with_name(str(run.step)))

    run.save = keep  # type: ignore[method-assign]
    run.run()
    return folder


@pytest.mark.parametrize("cut", CUTS)
def test_a_run_cut_and_resumed_is_the_same_to_the_bit(start: Path, whole: Path, cut: int) -> None:
    folder, grid = whole.with_name(str(cut)), read_update_grid(start / "update")
    assert len(losses(folder)) == load_state(folder / "state.pt").step == cut
    train(SAVED_OFTEN, folder, device="cpu", resume=True, round_as=str(start / "update"))
    one, resumed = (load_state(each / "state.pt") for each in (whole, folder))
    assert losses(whole) == losses(folder)
    assert (
        (one.step, one.averaged, one.grid) == (resumed.step, resumed.averaged, resumed.grid) == (6, 3, grid.fingerprint)
    )
    for name, value in one.weights.items():
        assert torch.equal(value, resumed.weights[name]), name
        assert torch.equal(one.average[name], resumed.average[name]), name


def in_each_of_two(folder: Path) -> None:
    ranks = join_ranks("cpu")
    grid = read_update_grid(folder / "update")
    run = Trainer(VDPM.from_pretrained(folder / "start"), FALLING, folder / "two", ranks, grid=grid)
    run.run()
    torch.save(run.model.state_dict(), folder / f"rank{ranks.rank}.pt")
    leave_ranks()


def test_ranks_stay_together_on_the_grid(start: Path) -> None:
    on_ranks(in_each_of_two, start)
    one, other = (torch.load(start / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
    assert load_state(start / "two/state.pt").averaged == 3


def test_what_does_not_go_together_is_refused(start: Path, tmp_path: Path) -> None:
    def refusal(kind: type[VDPMError], config: TrainConfig = FALLING, **options: object) -> str:
        with pytest.raises(kind) as caught:
            run_from(start, tmp_path / "none", config, **options)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "none").exists()
        return str(caught.value)

    VDPM(dataclasses.replace(TINY, dim=64)).save_pretrained(tmp_path / "wide")
    convert_update(tmp_path / "wide", tmp_path / "wide", tmp_path / "wider", compacted_by=coarse)
    assert "of another network" in refusal(CheckpointError, round_as=str(tmp_path / "wider"))
    with pytest.raises(CheckpointError, match="of another network"):
        update_with_steps_of(tmp_path / "wider", VDPM(TINY), VDPM(TINY).state_dict())
    assert "holds no update" in refusal(CheckpointError, round_as=str(start / "start"))
    good = str(start / "update")
    assert "--cooldown-share" in refusal(UsageError, round_as=good, cooldown_share=0.0)
    frozen = dataclasses.replace(FALLING, freeze_patch_encoder=True)
    for config in (frozen, dataclasses.replace(FALLING, parts=("decoder",))):
        assert "the whole network" in refusal(UsageError, config, round_as=good)
    # What was trained on a grid does not go on without, or on another one.
    run = run_from(start, tmp_path / "run", round_as=good)
    convert_update(start / "start", start / "start", tmp_path / "moved", compacted_by=coarse)
    for given in (None, str(tmp_path / "moved")):
        with pytest.raises(CheckpointError, match="--round-as it was begun with"):
            train(FALLING, run, device="cpu", resume=True, round_as=given)

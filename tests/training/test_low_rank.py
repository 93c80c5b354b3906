"""Training of low rank: what moves, that it is one run when cut, what is saved, what is refused."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fixtures.tiny_run import RUN, TINY, losses
from vdpm.errors import CheckpointError, UsageError
from vdpm.model import VDPM
from vdpm.model.factor_rounding import thin_matrices
from vdpm.model.factors import factors_of
from vdpm.training.checkpoint import load_state, save_state
from vdpm.training.config import TrainConfig
from vdpm.training.low_rank import BASE, LEFT, RIGHT, make_low_rank, merged
from vdpm.training.run import train

RANK = 3
LOW = dataclasses.replace(RUN, model=TINY, parts=("decoder",), rank=RANK, steps=2)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network with random weights, as a folder."""
    folder = tmp_path_factory.mktemp("plain") / "model"
    torch.manual_seed(3)
    VDPM(TINY).save_pretrained(folder)
    return folder


def tensors(folder: Path) -> dict[str, Tensor]:
    return VDPM.from_pretrained(folder, dtype=torch.float32).state_dict()


def in_blocks(name: str) -> bool:
    return name.startswith(("aggregator.frame_blocks", "aggregator.global_blocks"))


def assert_of_rank(difference: Tensor, rank: int) -> None:
    values = torch.linalg.svdvals(difference)
    assert values[0] > 0
    assert values[rank] < 1e-4 * values[0]


def run(output: Path, config: TrainConfig = LOW, **options: object) -> None:
    train(config, output, device="cpu", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("m", "n"), [(12, 20), (20, 12), (9, 9)])
def test_factors_are_the_largest_singular_values_and_what_is_missing_is_drawn(m: int, n: int) -> None:
    drawn = torch.Generator().manual_seed(0)
    matrix = torch.randn(m, n, generator=drawn)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    factors = factors_of(matrix, RANK, drawn)
    expected = (left[:, :RANK] * values[:RANK]) @ right[:RANK]
    torch.testing.assert_close(factors.left @ factors.right, expected, atol=1e-5, rtol=1e-5)

    one = torch.outer(torch.randn(m, generator=drawn), torch.randn(n, generator=drawn))
    for given, held in ((one, 1), (torch.zeros(m, n), 0)):
        factors = factors_of(given, RANK, drawn)
        torch.testing.assert_close(factors.left @ factors.right, given, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(factors.right @ factors.right.T, torch.eye(RANK), atol=1e-5, rtol=1e-5)
        assert int((factors.left.abs().amax(0) > 0).sum()) == held


def test_a_network_made_low_rank_computes_the_same(plain: Path) -> None:
    torch.manual_seed(4)
    images, times = torch.rand(1, 2, 3, 16, 24), torch.tensor([[1]])
    model = VDPM.from_pretrained(plain, dtype=torch.float32)
    before, expected = {k: v.clone() for k, v in model.state_dict().items()}, model(images, times)
    base = {
        name: value + torch.outer(torch.randn(len(value)), torch.randn(value.shape[1])) / 100
        if in_blocks(name) and value.ndim == 2
        else value
        for name, value in before.items()
    }
    for start in (None, base):
        model = VDPM.from_pretrained(plain, dtype=torch.float32)
        names = make_low_rank(model, RANK, torch.Generator().manual_seed(0), start)
        output = model(images, times)
        torch.testing.assert_close(output.decoded.points, expected.decoded.points, atol=1e-4, rtol=1e-4)
        state = model.state_dict()
        assert {f"{name}.weight" for name in names} == {k for k, v in before.items() if in_blocks(k) and v.ndim == 2}
        stays = before if start is None else start
        assert all(torch.equal(state[name + BASE], stays[f"{name}.weight"]) for name in names)
        whole = merged(state)
        assert whole.keys() == before.keys()
        for name, value in whole.items():
            torch.testing.assert_close(value, before[name], atol=1e-5, rtol=1e-4)


def test_what_moves_has_that_rank_and_a_run_cut_and_resumed_is_the_same(tmp_path: Path, plain: Path) -> None:
    run(tmp_path / "whole", init=str(plain))
    run(tmp_path / "cut", dataclasses.replace(LOW, steps=1), init=str(plain))
    run(tmp_path / "cut", resume=True)
    whole, cut = load_state(tmp_path / "whole" / "state.pt"), load_state(tmp_path / "cut" / "state.pt")
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")
    assert all(torch.equal(value, cut.weights[name]) for name, value in whole.weights.items())
    assert all(torch.equal(value, cut.average[name]) for name, value in whole.average.items())

    before, factors = tensors(plain), 0
    for name, value in whole.weights.items():
        if name.endswith((LEFT, RIGHT)):
            factors += 1
            assert value.shape[1 if name.endswith(LEFT) else 0] == RANK
            continue
        free = name.startswith("decoder.") or (in_blocks(name) and value.ndim == 1)
        assert torch.equal(value, before[name.replace(BASE, ".weight")]) or free, name
    assert factors == 2 * sum(in_blocks(name) and value.ndim == 2 for name, value in before.items())

    saved = merged(whole.average)
    for name, value in tensors(tmp_path / "whole" / "model").items():
        assert torch.equal(value, saved[name])
        if in_blocks(name) and value.ndim == 2:
            assert_of_rank(value - before[name], RANK)
    assert set(thin_matrices(saved, before, RANK)) == {k for k, v in before.items() if in_blocks(k) and v.ndim == 2}

    with pytest.raises(CheckpointError, match=r"the rank \(--rank\) is 3 there and 2 here"):
        run(tmp_path / "cut", dataclasses.replace(LOW, rank=2), resume=True)


def test_other_modules_move_in_few_numbers_too(tmp_path: Path, plain: Path) -> None:
    thin = ("fusion", "camera_head")
    run(tmp_path / "run", dataclasses.replace(LOW, parts=("point_head",), thin=thin), init=str(plain))
    before, after = tensors(plain), tensors(tmp_path / "run" / "model")
    # All of these modules have moved, what is too small for factors (last layers of three rows or less) as it is.
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in moved} == {"aggregator", "point_head", *thin}
    found = thin_matrices(after, before, RANK)
    for name in moved:
        if name.startswith(thin) and after[name].ndim == 2 and min(after[name].shape) > RANK:
            assert name in found
            assert_of_rank(after[name] - before[name], RANK)
    assert "camera_head.pose_branch.fc2.weight" in found
    assert not any(name.startswith("point_head") for name in found)

    with pytest.raises(CheckpointError, match="the thin module is fusion, camera_head there and none here"):
        run(tmp_path / "run", dataclasses.replace(LOW, parts=("point_head",)), resume=True)
    with pytest.raises(UsageError, match="no part 'nose'"):
        run(tmp_path / "a", dataclasses.replace(LOW, thin=("nose",)), init=str(plain))
    for rank, wrong in ((0, thin), (RANK, ("decoder",))):
        with pytest.raises(UsageError, match="it goes with a rank, and its modules are not in parts"):
            dataclasses.replace(LOW, rank=rank, thin=wrong)


def test_a_state_from_before_there_were_ranks_goes_on(tmp_path: Path) -> None:
    plain = dataclasses.replace(LOW, rank=0)
    run(tmp_path / "old", dataclasses.replace(plain, steps=1))
    state = load_state(tmp_path / "old" / "state.pt")
    del state.config["rank"]
    save_state(state, tmp_path / "old" / "state.pt")
    run(tmp_path / "old", plain, resume=True)
    assert load_state(tmp_path / "old" / "state.pt").step == 2


def test_the_next_run_leads_on_from_the_same_weights(tmp_path: Path, plain: Path) -> None:
    run(tmp_path / "first", init=str(plain))
    run(tmp_path / "next", init=str(tmp_path / "first" / "onward"), rank_of=str(plain), seed=1)
    before = tensors(plain)
    for name, value in merged(load_state(tmp_path / "next" / "state.pt").average).items():
        if in_blocks(name) and value.ndim == 2:
            assert_of_rank(value - before[name], RANK)
    # A run that is not of low rank takes what one has come to.
    run(tmp_path / "further", dataclasses.replace(LOW, rank=0, parts=()), init=str(tmp_path / "first"), seed=2)


def test_ranks_that_make_no_sense_are_refused(tmp_path: Path, plain: Path) -> None:
    with pytest.raises(UsageError, match="rank is -1; it must not be negative"):
        dataclasses.replace(LOW, rank=-1)
    with pytest.raises(UsageError, match="rank is 3; it goes with parts"):
        dataclasses.replace(LOW, parts=())
    with pytest.raises(UsageError, match="trained weights a little; give them with --init"):
        run(tmp_path / "a")
    with pytest.raises(UsageError, match="--rank-of goes with --rank and --init"):
        run(tmp_path / "a", dataclasses.replace(LOW, rank=0), init=str(plain), rank_of=str(plain))
    with pytest.raises(UsageError, match="--rank-of goes with --rank and --init"):
        run(tmp_path / "a", resume=True, rank_of=str(plain))
    with pytest.raises(UsageError, match="rank of 1000; the sides of the backbone's matrices begin at 32: give 1 to"):
        run(tmp_path / "a", dataclasses.replace(LOW, rank=1000), init=str(plain))
    with pytest.raises(CheckpointError, match="the weights to start from have no aggregator"):
        run(tmp_path / "a", init=str(plain), rank_of="vdpm-small")
    assert not (tmp_path / "a").exists()

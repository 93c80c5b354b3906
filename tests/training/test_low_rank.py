"""Training of low rank: what moves, that it is one run when cut, what is saved, what is refused."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fixtures.tiny_run import RUN, TINY, losses
from vdpm.errors import CheckpointError, UsageError
from vdpm.model import VDPM
from vdpm.model.factors import factors_of
from vdpm.training.checkpoint import load_state, save_state
from vdpm.training.config import TrainConfig
from vdpm.training.low_rank import LEFT, RIGHT, make_low_rank, merged
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
        assert all(
            torch.equal(state[f"{name}.weight"], (before if start is None else start)[f"{name}.weight"])
            for name in names
        )
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
        assert torch.equal(value, before[name]) or free, name
    assert factors == 2 * sum(in_blocks(name) and value.ndim == 2 for name, value in before.items())

    saved = merged(whole.average)
    for name, value in tensors(tmp_path / "whole" / "model").items():
        torch.testing.assert_close(value, saved[name], atol=1e-3, rtol=1e-2)
        if in_blocks(name) and value.ndim == 2:
            values = torch.linalg.svdvals(saved[name] - before[name])
            assert values[0] > 0, name
            assert values[RANK] < 1e-4 * values[0], name

    with pytest.raises(CheckpointError, match=r"the rank \(--rank\) is 3 there and 2 here"):
        run(tmp_path / "cut", dataclasses.replace(LOW, rank=2), resume=True)


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
            values = torch.linalg.svdvals(value - before[name])
            assert values[RANK] < 1e-4 * values[0], name
    # A run that is not of low rank takes what one has come to.
    run(tmp_path / "further", dataclasses.replace(LOW, rank=0, parts=()), init=str(tmp_path / "first"), seed=2)


def test_ranks_that_make_no_sense_are_refused(tmp_path: Path, plain: Path) -> None:
    with pytest.raises(UsageError, match="rank is -1; it must not be negative"):
        dataclasses.replace(LOW, rank=-1)
    with pytest.raises(UsageError, match="rank is 3; it goes with parts"):
        dataclasses.replace(LOW, parts=())
    with pytest.raises(UsageError, match="trained weights a little; give them with --init"):
        run(tmp_path / "a")
    with pytest.raises(UsageError, match="--rank-of goes with a --rank"):
        run(tmp_path / "a", dataclasses.replace(LOW, rank=0), init=str(plain), rank_of=str(plain))
    with pytest.raises(UsageError, match="no rank 1000 for aggregator"):
        run(tmp_path / "a", dataclasses.replace(LOW, rank=1000), init=str(plain))
    with pytest.raises(CheckpointError, match="the weights to start from have no aggregator"):
        run(tmp_path / "a", init=str(plain), rank_of="vdpm-small")
    assert not (tmp_path / "a").exists()

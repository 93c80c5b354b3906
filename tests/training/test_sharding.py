"""Processes on the CPU: a network cut up learns what a replicated one does, and its state goes anywhere."""

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor

from fixtures.ranks import on_ranks
from fixtures.tiny_run import ALONE, RUN, TINY, losses, trainer
from vdpm.errors import UsageError
from vdpm.model import VDPM
from vdpm.training.checkpoint import load_state
from vdpm.training.config import OptimizerConfig, TrainConfig
from vdpm.training.distributed import join_ranks, leave_ranks
from vdpm.training.supply import SceneSupply
from vdpm.training.trainer import Trainer

REPLICATED = dataclasses.replace(
    RUN,
    optimizer=OptimizerConfig(kind="adamw", lr=2e-3, warmup_steps=2, clip_norm=0.5),
    steps=3,
    freeze_patch_encoder=True,
)
SHARDED = dataclasses.replace(REPLICATED, parallel="shard", checkpoint_blocks=True)


def both(output: Path) -> None:
    ranks = join_ranks("cpu")

    def run(config: TrainConfig, name: str, *, resume: bool = False) -> None:
        torch.manual_seed(ranks.rank)  # rank 0's weights are the ones that count
        Trainer(VDPM(TINY), config, output / name, ranks, resume=resume).run()
        dist.barrier()  # rank 0 has written its files

    run(REPLICATED, "replicated")
    run(SHARDED, "sharded")
    run(dataclasses.replace(SHARDED, steps=2), "cut")
    run(SHARDED, "cut", resume=True)
    leave_ranks()


def test_a_sharded_run_is_the_replicated_run_and_goes_on_on_any_number_of_ranks(tmp_path: Path) -> None:
    on_ranks(both, tmp_path)
    assert len(losses(tmp_path / "sharded")) == 3
    assert losses(tmp_path / "sharded") == pytest.approx(losses(tmp_path / "replicated"), rel=1e-4)
    assert losses(tmp_path / "cut") == losses(tmp_path / "sharded")
    replicated, sharded, cut = (load_state(tmp_path / n / "state.pt") for n in ("replicated", "sharded", "cut"))
    assert replicated.updates == sharded.updates == cut.updates == 3
    pairs = [(sharded.weights, replicated.weights), (sharded.average, replicated.average)]
    pairs += [(sharded.moments[kind], replicated.moments[kind]) for kind in ("exp_avg", "exp_avg_sq")]
    for ours, theirs in pairs:
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(ours[name], value, atol=2e-5, rtol=1e-3, msg=name)
    for name, value in sharded.weights.items():
        assert torch.equal(value, cut.weights[name]), name

    # One rank alone sees half of the clips, so it goes on from there but does not do the same.
    longer = dataclasses.replace(SHARDED, steps=4)
    alone = trainer(tmp_path / "sharded", longer, resume=True)
    for name, value in alone.update.averages().items():
        assert torch.equal(value, sharded.average[name]), name
    alone.run()
    assert len(losses(tmp_path / "sharded")) == 4
    assert alone.clips == sharded.clips + SceneSupply(longer, ALONE).bucket(3, 3.0).batch


def one(output: Path) -> None:
    ranks = join_ranks("cpu")
    for name, config in (("replicated", REPLICATED), ("sharded", SHARDED)):
        torch.manual_seed(3)
        run = Trainer(VDPM(TINY), config, output / name, ranks)
        assert any(isinstance(value, DTensor) for value in run.model.parameters()) == (name == "sharded")
        run.run()
    leave_ranks()


def test_one_process_of_torchrun_shards_as_many_do(tmp_path: Path) -> None:
    on_ranks(one, tmp_path, 1)
    assert len(losses(tmp_path / "sharded")) == 3
    assert losses(tmp_path / "sharded") == pytest.approx(losses(tmp_path / "replicated"), rel=1e-4)


def test_muon_is_refused_where_matrices_are_cut_up() -> None:
    with pytest.raises(UsageError, match="Muon needs whole matrices"):
        dataclasses.replace(RUN, parallel="shard")

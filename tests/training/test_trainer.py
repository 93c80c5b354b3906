import dataclasses
from pathlib import Path
from typing import Literal

import pytest
import torch

from fixtures.tiny_run import RUN, losses, trainer
from vdpm.errors import CheckpointError, OutputError, UsageError, VDPMError
from vdpm.model import VDPM
from vdpm.training.checkpoint import load_state
from vdpm.training.config import LossConfig, OptimizerConfig
from vdpm.training.run import train
from vdpm.training.trainer import _add


def test_a_run_cut_and_resumed_is_the_same_run_to_the_bit(tmp_path: Path) -> None:
    trainer(tmp_path / "whole").run()
    trainer(tmp_path / "cut", dataclasses.replace(RUN, steps=2)).run()
    trainer(tmp_path / "cut", resume=True).run()
    whole, cut = load_state(tmp_path / "whole" / "state.pt"), load_state(tmp_path / "cut" / "state.pt")
    assert (whole.step, whole.clips) == (cut.step, cut.clips)
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")
    for name, value in whole.weights.items():
        assert torch.equal(value, cut.weights[name]), name
        assert torch.equal(whole.average[name], cut.average[name]), name


def test_one_batch_is_learnt_by_heart(tmp_path: Path) -> None:
    config = dataclasses.replace(
        RUN, buckets=RUN.buckets[:1], optimizer=OptimizerConfig(lr=5e-3, warmup_steps=3), loss=LossConfig(alpha=0.05)
    )
    run = trainer(tmp_path, config)
    _, snippet = run.supply.batch(0, 0.0)
    errors = []
    for _ in range(240):
        parts = run._losses(snippet)
        errors.append(float(parts["epe_p"]))
        parts["loss"].backward()
        run._update()
        run.position += 1
    assert errors[-1] < 0.25 * errors[0]


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_bad_steps_change_nothing_are_counted_and_in_the_end_fatal(
    tmp_path: Path, kind: Literal["muon", "adamw"]
) -> None:
    config = dataclasses.replace(RUN, max_bad_steps=1, optimizer=OptimizerConfig(kind=kind))
    run = trainer(tmp_path, config)
    _, snippet = run.supply.batch(0, 0.0)

    def everything() -> dict[str, torch.Tensor]:
        update = run.update
        moments = {f"{kind} {name}": v for kind, named in update.moments().items() for name, v in named.items()}
        averages = {f"average {name}": v for name, v in update.averages().items()}
        return moments | averages | update.weights() | {"updates": torch.tensor(update.updates)}

    run._losses(snippet)["loss"].backward()
    assert run._update()
    before = everything()
    for worst in (float("nan"), float("inf")):
        (run._losses(snippet)["loss"] * worst).backward()
        assert not run._update()
    after = everything()
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert torch.equal(value, after[name]), name
    assert int(run.update.bad_steps) == 2
    totals = _add(None, run._losses(snippet), torch.tensor(False))
    with pytest.raises(VDPMError, match="2 steps had a non-finite gradient"):
        run._log(totals, 1, 1.0)
    run._losses(snippet)["loss"].backward()
    assert run._update()
    assert any(not torch.equal(value, everything()[name]) for name, value in before.items())


def test_the_log_averages_over_steps_that_were_taken() -> None:
    good, bad = {"loss": torch.tensor(2.0)}, {"loss": torch.tensor(float("nan"))}
    totals = _add(None, good, torch.tensor(True))
    totals = _add(totals, bad, torch.tensor(False))
    assert totals.sums.tolist() == [2.0, 1.0]


def test_a_frozen_patch_encoder_stays_and_checkpointed_blocks_learn_the_same(tmp_path: Path) -> None:
    frozen = dataclasses.replace(RUN, freeze_patch_encoder=True)
    run = trainer(tmp_path / "frozen", frozen)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    run.run()
    state = load_state(tmp_path / "frozen" / "state.pt")
    for name, value in state.weights.items():
        fixed = name.startswith("aggregator.patch_embed.")
        assert torch.equal(value, before[name]) or not fixed, name
        assert torch.equal(state.average[name], before[name]) or not fixed, name
        assert (name in state.moments["exp_avg"] or name in state.moments["momentum"]) != fixed, name
    trainer(tmp_path / "again", dataclasses.replace(frozen, checkpoint_blocks=True)).run()
    assert losses(tmp_path / "again") == pytest.approx(losses(tmp_path / "frozen"), rel=1e-5)
    trainer(tmp_path / "frozen", dataclasses.replace(frozen, steps=5), resume=True).run()


def test_parts_of_the_network_are_trained_alone(tmp_path: Path) -> None:
    config = dataclasses.replace(RUN, parts=("decoder", "point_head"))
    run = trainer(tmp_path / "parts", config)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    run.run()
    state = load_state(tmp_path / "parts" / "state.pt")
    moved = {name for name, value in state.weights.items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in moved} == {"decoder", "point_head"}
    for name in before.keys() - moved:
        assert torch.equal(state.average[name], before[name]), name
        kept = state.moments["exp_avg"].get(name, state.moments["momentum"].get(name))
        assert kept is None or name.startswith(config.parts), name
    for other in (RUN, dataclasses.replace(RUN, parts=("decoder",))):
        with pytest.raises(CheckpointError, match=r"trained part \(--parts\) is decoder, point_head there"):
            trainer(tmp_path / "parts", other, resume=True)
    trainer(tmp_path / "parts", dataclasses.replace(config, steps=5), resume=True).run()
    with pytest.raises(UsageError, match="no part 'head' in vdpm-small to be trained; it has aggregator, "):
        train(dataclasses.replace(RUN, model="vdpm-small"), tmp_path / "none", parts=["head"])
    assert not (tmp_path / "none").exists()


def test_saved_model_folder_holds_the_averaged_weights(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.run()
    loaded = VDPM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    state = load_state(tmp_path / "state.pt")
    for name, value in loaded.state_dict().items():
        torch.testing.assert_close(value, state.average[name], atol=1e-3, rtol=1e-2)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no training state"):
        trainer(tmp_path / "nothing", resume=True)
    (tmp_path / "state.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="cannot be read"):
        trainer(tmp_path, resume=True)
    with pytest.raises(OutputError, match="holds a training run"):
        train(RUN, tmp_path)
    with pytest.raises(UsageError, match="seed is 300"):
        dataclasses.replace(RUN, seed=300)
    with pytest.raises(UsageError, match="at least one bucket"):
        dataclasses.replace(RUN, buckets=())

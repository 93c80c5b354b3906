"""Arguments, files and interruptions of a training run."""

import dataclasses
import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from fixtures.tiny_run import ALONE, RUN, TINY, losses, trainer
from vdpm.errors import CheckpointError, OutputError, UsageError
from vdpm.model import VDPM
from vdpm.recipes import RECIPES, SMALL
from vdpm.synthetic import HELD_OUT_START, SceneConfig
from vdpm.training.checkpoint import load_state, save_state
from vdpm.training.config import SEEDS, SEEDS_PER_STEP, STEPS_PER_SEED, Bucket, LossConfig, OptimizerConfig, TrainConfig
from vdpm.training.distributed import Ranks
from vdpm.training.journal import Journal
from vdpm.training.run import train
from vdpm.training.supply import STEPS_AHEAD, SceneSupply
from vdpm.training.trainer import Trainer


def test_recipes_are_valid_and_named() -> None:
    named = {"small", "small-further", "small-short", "paper", "paper-short", "smoke"}
    assert named <= set(RECIPES)
    assert all(name == recipe.name for name, recipe in RECIPES.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps is 0"),
        ({"steps": STEPS_PER_SEED + 1}, "steps is"),
        ({"steps": 1000}, "give --cooldown-steps of at most 1000"),
        ({"picture_every": 0}, "picture_every is 0"),
        ({"targets": 0}, "targets is 0; it must be at least 1"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": SEEDS}, "training seeds go from 0 to 255"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0"),
        ({"model": "vdpm-huge"}, "no preset"),
        ({"buckets": (Bucket(frames=6, height=100, width=128, batch=2),)}, "multiples of 8"),
        (
            {"buckets": (Bucket(frames=6, height=96, width=128, batch=2, last_step=2000),)},
            "no bucket is open at step 2000",
        ),
    ],
)
def test_wrong_runs_are_refused_when_made(change: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(SMALL, **change)  # type: ignore[arg-type]


def test_the_paper_recipe_is_the_papers() -> None:
    paper = RECIPES["paper"]
    assert [(b.frames, b.batch) for b in paper.buckets] == [(5, 4), (9, 2), (13, 1), (19, 1)]
    assert (paper.optimizer.kind, paper.optimizer.lr, paper.optimizer.schedule) == ("adamw", 1.5e-4, "cosine")
    assert (paper.reference, paper.loss.average, paper.freeze_patch_encoder) == ("central", "example", True)
    assert paper.network.name == "vdpm-1b"


def test_wrong_parts_are_refused_when_made() -> None:
    with pytest.raises(UsageError, match="not positive"):
        Bucket(frames=0, height=96, width=128, batch=2)
    with pytest.raises(UsageError, match="never open"):
        Bucket(frames=2, height=96, width=128, batch=2, first_step=5, last_step=5)
    with pytest.raises(UsageError, match="lr is nan"):
        OptimizerConfig(lr=float("nan"))
    with pytest.raises(UsageError, match="camera is -1"):
        LossConfig(camera=-1.0)


def test_training_scenes_never_reach_the_held_out_ones_nor_another_seed() -> None:
    last = SceneSupply(dataclasses.replace(RUN, seed=SEEDS - 1), ALONE)
    bucket = RUN.buckets[0]
    seeds = last.plan(STEPS_PER_SEED - 1, bucket).seeds
    assert int(seeds.max()) < HELD_OUT_START
    assert int(seeds.min()) == HELD_OUT_START - SEEDS_PER_STEP
    with pytest.raises(UsageError, match="another --seed"):
        last.plan(STEPS_PER_SEED, bucket)


def test_every_rank_and_step_has_scenes_of_its_own() -> None:
    supplies = [SceneSupply(RUN, Ranks(rank, 3, torch.device("cpu"))) for rank in range(3)]
    seeds = [int(s) for supply in supplies for step in range(4) for s in supply.plan(step, RUN.buckets[0]).seeds]
    assert len(set(seeds)) == len(seeds) == 3 * 4 * 2
    assert [supply.bucket(7, 7.0) for supply in supplies] == [supplies[0].bucket(7, 7.0)] * 3
    with pytest.raises(UsageError, match="lower the batch"):
        SceneSupply(RUN, Ranks(0, 4096, torch.device("cpu")))


def test_scenes_of_few_shapes_are_compiled_for_each() -> None:
    shapes = [Bucket(frames=frames, height=16, width=16, batch=1) for frames in (2, 3, 4, 5)]
    for count, sizes in ((1, "fixed"), (3, "fixed"), (4, "open")):
        supply = SceneSupply(dataclasses.replace(RUN, buckets=tuple(shapes[:count])), ALONE)
        assert {generator.sizes for generator in supply.generators.values()} == {sizes}


@pytest.mark.parametrize(("compiles", "rank"), [(True, 0), (True, 1), (False, 0)])
def test_what_takes_minutes_is_announced_once_a_shape(
    compiles: bool, rank: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(SceneSupply, "_scenes", lambda self, number, _, bucket: (self.plan(number, bucket), None))
    made = SceneSupply(dataclasses.replace(RUN, compile=compiles), Ranks(rank, 2, torch.device("cpu")))
    shapes = {made._made(step, float(step)).plan.bucket for step in range(8)}
    assert len(shapes) == 2
    lines = capsys.readouterr().err.splitlines()
    announced = [f"first clips of {b.frames} x {b.height} x {b.width}: compiling" for b in shapes]
    assert sorted(line.split(",")[0] for line in lines) == (sorted(announced) if compiles and rank == 0 else [])


def test_batches_do_not_depend_on_where_the_run_began() -> None:
    whole, late = SceneSupply(RUN, ALONE), SceneSupply(RUN, ALONE)
    batches = [whole.batch(step, float(step)) for step in range(5)]
    bucket, again = late.batch(4, 4.0)
    assert bucket == batches[4][0]
    assert torch.equal(again.images, batches[4][1].images)
    assert torch.equal(again.points, batches[4][1].points)
    assert torch.equal(again.target_points, batches[4][1].target_points)


def test_scenes_sampled_for_another_shape_are_dropped() -> None:
    """The clock may open a bucket earlier than the steps did when the row of steps was sampled."""
    first, second = Bucket(frames=2, height=16, width=24, batch=2, last_step=90), Bucket(2, 16, 16, 1, first_step=90)
    supply = SceneSupply(dataclasses.replace(RUN, buckets=(first, second), steps=100), ALONE)
    assert supply.batch(0, 0.0)[0] == first
    bucket, snippet = supply.batch(1, 95.0)
    assert bucket == second
    assert snippet.size == (16, 16)
    assert supply.batch(STEPS_AHEAD, 0.0)[0] == first


@pytest.mark.parametrize("damage", ["missing", "extra", "kind", "format"])
def test_states_of_another_make_are_refused_in_one_line(tmp_path: Path, damage: str) -> None:
    run = trainer(tmp_path)
    run.save()
    raw = torch.load(tmp_path / "state.pt", weights_only=True)
    match damage:
        case "missing":
            del raw["clips"]
        case "extra":
            raw["surprise"] = 1
        case "kind":
            raw["weights"] = [1, 2]
        case "format":
            raw["format"] = "vdpm-training-2"
    torch.save(raw, tmp_path / "state.pt")
    with pytest.raises(CheckpointError, match="start a new run") as caught:
        load_state(tmp_path / "state.pt")
    assert "\n" not in str(caught.value)


def test_a_state_of_another_run_is_refused(tmp_path: Path) -> None:
    trainer(tmp_path, dataclasses.replace(RUN, steps=1)).run()
    with pytest.raises(CheckpointError, match="the recipe is test there and other here"):
        trainer(tmp_path, dataclasses.replace(RUN, name="other"), resume=True)
    with pytest.raises(CheckpointError, match="the --seed is 0 there and 5 here; resume with 0"):
        trainer(tmp_path, dataclasses.replace(RUN, seed=5), resume=True)
    wider = dataclasses.replace(TINY, dim=64)
    with pytest.raises(CheckpointError, match="network's dim is 32 there and 64 here"):
        Trainer(VDPM(wider), RUN, tmp_path, ALONE, resume=True)
    adamw = dataclasses.replace(RUN, optimizer=OptimizerConfig(kind="adamw"))
    with pytest.raises(CheckpointError, match="does not fit this run"):
        trainer(tmp_path, adamw, resume=True)


def test_a_failed_save_keeps_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(tmp_path)
    run.save()
    before = (tmp_path / "state.pt").read_bytes()

    def full(*_: object) -> None:
        raise RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed\nmore")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match="file write failed") as caught:
        save_state(load_state(tmp_path / "state.pt"), tmp_path / "state.pt")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "state.pt").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "onward", "state.pt"]


def test_an_output_that_cannot_be_written_stops_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    run = trainer(tmp_path / "file" / "run")
    with pytest.raises(OutputError, match="cannot be written"):
        run.run()
    assert run.step == 0


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    VDPM(TINY).save_pretrained(tmp_path / "tiny")
    with pytest.raises(CheckpointError, match="start from weights of vdpm-small"):
        train(RECIPES["smoke"], tmp_path / "run", init=str(tmp_path / "tiny"), device="cpu")
    assert not (tmp_path / "run").exists()


def test_arguments_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a time"):
        train(RUN, tmp_path, minutes=0.0)
    with pytest.raises(UsageError, match="not a time"):
        train(RUN, tmp_path, minutes=float("nan"))
    with pytest.raises(UsageError, match="either --init or --resume"):
        train(RUN, tmp_path, resume=True, init="vdpm-small")
    with pytest.raises(UsageError, match="lr is -1"):
        train(RUN, tmp_path, learning_rate=-1.0)
    with pytest.raises(UsageError, match="clips_seen is -1"):
        train(RUN, tmp_path, clips_seen=-1)
    assert not list(tmp_path.iterdir())


def test_a_signal_saves_is_passed_on_and_the_run_goes_on_later(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    run = trainer(tmp_path / "cut")
    update = run._update

    def interrupted() -> torch.Tensor:
        if run.step == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return update()

    run._update = interrupted  # type: ignore[method-assign]
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert signal.getsignal(signal.SIGTERM) == before
    assert "stopped, go on with --resume: step 2" in capfd.readouterr().err
    assert load_state(tmp_path / "cut" / "state.pt").step == 2
    trainer(tmp_path / "cut", resume=True).run()
    trainer(tmp_path / "whole").run()
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_a_second_signal_does_not_wait_unless_torchrun_sends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(tmp_path)
    run._on_signal(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        run._on_signal(signal.SIGINT, None)
    # torchrun passes on what a terminal sends to all, to a single process as well.
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    run._on_signal(signal.SIGINT, None)
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    run.ranks = Ranks(1, 2, torch.device("cpu"))
    run._on_signal(signal.SIGTERM, None)
    assert run.stop_signal == signal.SIGTERM


def test_the_clock_can_rule_the_schedule(tmp_path: Path) -> None:
    """A run of no time at all ends at the second entry of the log, with the learning rate at its lowest."""
    config = dataclasses.replace(RUN, steps=4000)
    torch.manual_seed(3)
    run = Trainer(VDPM(TINY), config, tmp_path, ALONE, seconds=1e-6)
    run.run()
    assert run.step == 2
    assert run.position >= config.steps


def test_a_deadline_counts_what_comes_before_the_first_line(tmp_path: Path) -> None:
    """The schedule spans what is left when the first line is written: of a deadline that has passed, nothing."""
    config = dataclasses.replace(RUN, steps=4000)
    torch.manual_seed(3)
    run = Trainer(VDPM(TINY), config, tmp_path, ALONE, deadline=time.monotonic())
    run.run()
    assert run.step == 2
    assert run.position >= config.steps
    with pytest.raises(UsageError, match="give one of them"):
        train(RUN, tmp_path / "other", minutes=1.0, within=1.0)


def test_a_resumed_log_holds_each_step_once(tmp_path: Path) -> None:
    entry = {"loss": float("nan"), "epe_p": 1.0, "epe_q": 1.0, "epe_moving": 1.0, "zero_motion": 1.0, "camera": 1.0}
    entry |= {"clips": 8, "clips_per_second": 4.0, "bad_steps": 1}
    path = tmp_path / "log.jsonl"
    journal = Journal(path)
    journal.open()
    for step in (10, 20, 30):
        journal.write({"step": step, **entry}, step / 40)
    path.write_text(path.read_text() + '{"step": 4')
    resumed = Journal(path, after=20)
    resumed.open()
    resumed.write({"step": 30, **entry}, 0.75)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30]
    assert lines[0]["loss"] is None
    Journal(path).open()
    assert path.read_text() == ""


def test_entries_are_readable(capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([100.0, 160.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    entry = {"loss": 1.2345, "epe_p": 0.2, "epe_q": 0.3, "epe_moving": 0.25, "zero_motion": 0.1, "camera": 0.05}
    entry |= {"clips": 64, "match_top1": 0.5, "clips_per_second": 870.2, "bad_steps": 0}
    journal = Journal(tmp_path / "log.jsonl")
    journal.write({"step": 20, **entry}, 0.25)
    journal.write({"step": 40, **entry}, 0.5)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("step 40, 64 clips | loss 1.234 | error of P 0.200, Q 0.300")
    assert last.endswith("matched 50% | 870 clips/s | 50% done, 0:02:00 left")


def test_training_config_goes_into_the_state(tmp_path: Path) -> None:
    trainer(tmp_path, dataclasses.replace(RUN, scenes=SceneConfig(colour_samples=1, static_share=0.5))).save()
    state = load_state(tmp_path / "state.pt")
    assert state.config["scenes"]["static_share"] == 0.5
    assert state.network["dim"] == TINY.dim
    assert isinstance(RUN, TrainConfig)

"""Training in slices: what one hands to the next, exact or compact, and what is refused."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fixtures.tiny_run import ALONE, RUN, TINY, losses, trainer
from vdpm.errors import CheckpointError, UsageError
from vdpm.model import VDPM, preset_config
from vdpm.training.checkpoint import load_state
from vdpm.training.config import OptimizerConfig, TrainConfig
from vdpm.training.onward import ONWARD, Progress, begin, decay_after, write_onward
from vdpm.training.optimizer import build_optimizers
from vdpm.training.run import train
from vdpm.training.saving import Writer
from vdpm.training.supply import SceneSupply
from vdpm.training.trainer import Trainer

SLICE = dataclasses.replace(
    RUN, model=TINY, ema_decay=0.9, optimizer=OptimizerConfig(lr=2e-3, warmup_steps=0), steps=6, scene_uses=2
)
DECAY = SLICE.ema_decay


def start(output: Path, config: TrainConfig = SLICE, init: Path | None = None, **options: object) -> dict[str, Tensor]:
    """A slice into ``output``; what its state holds, weights and averages under names of their own."""
    torch.manual_seed(3)
    train(config, output, init=None if init is None else str(init), device="cpu", **options)  # type: ignore[arg-type]
    state = load_state(output / "state.pt")
    return state.weights | {f"average {name}": value for name, value in state.average.items()}


def apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Norm of the difference, relative to the norm of ``one``."""
    return float(
        (sum((other[n] - v).square().sum() for n, v in one.items()) / sum(v.square().sum() for v in one.values()))
        ** 0.5
    )


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor], list[float]]:
    """Two slices in one process, weights and average never leaving it; only the optimisers begin anew."""
    folder = tmp_path_factory.mktemp("uncut")
    torch.manual_seed(SLICE.seed)
    run = Trainer(VDPM(TINY), SLICE, folder / "first", ALONE)
    run.run()
    run.config = dataclasses.replace(SLICE, seed=1)
    run.supply, run.writer = SceneSupply(run.config, ALONE), Writer()
    run.update.optimizers = build_optimizers(run.update.parameters, run.config.optimizer)
    run.step, run.position, run.output = 0, 0.0, folder / "second"
    run.journal.path, run.journal.after = folder / "second" / "log.jsonl", 0
    (folder / "second").mkdir()
    run.run()
    state = load_state(folder / "second" / "state.pt")
    both = state.weights | {f"average {name}": value for name, value in state.average.items()}
    return folder / "first", both, losses(folder / "second")


def test_two_slices_are_one_run_but_for_the_moments(
    tmp_path: Path, uncut: tuple[Path, dict[str, Tensor], list[float]]
) -> None:
    first, expected, log = uncut
    exact = start(tmp_path / "exact", init=first, seed=1)
    assert losses(tmp_path / "exact") == log
    for name, value in expected.items():
        assert torch.equal(value, exact[name]), name
    # From the folder that travels: as near as 8 bits of the average, and the weights nearer.
    compact = start(tmp_path / "compact", init=first / ONWARD, seed=1)
    assert losses(tmp_path / "compact") == pytest.approx(log, rel=5e-3)
    assert apart(expected, compact) < 0.01
    # Without its average it is another run's average, of the same weights.
    alone = start(tmp_path / "alone", init=first / "model", seed=1)
    assert apart(expected, alone) > 3 * apart(expected, compact)


def test_counts_are_carried_on(tmp_path: Path, uncut: tuple[Path, dict[str, Tensor], list[float]]) -> None:
    first = load_state(uncut[0] / "state.pt")
    start(tmp_path / "second", init=uncut[0] / ONWARD, seed=1)
    second = load_state(tmp_path / "second" / "state.pt")
    entry = json.loads((tmp_path / "second" / "log.jsonl").read_text().splitlines()[-1])
    assert (second.averaged, second.seeds) == (2 * first.averaged, [0, 1]) == (12, [0, 1])
    assert (entry["clips"], entry["scenes"]) == (second.clips, second.scenes)
    assert second.clips > first.clips
    assert second.scenes == second.clips
    with pytest.raises(UsageError, match="has seen the scenes of seed 1; go on with another --seed"):
        start(tmp_path / "third", init=tmp_path / "second" / ONWARD, seed=1)
    with pytest.raises(UsageError, match="knows its clips"):
        start(tmp_path / "third", init=tmp_path / "second", seed=2, clips_seen=5)
    start(tmp_path / "plain", init=uncut[0] / "model", seed=1, clips_seen=100)
    assert load_state(tmp_path / "plain" / "state.pt").scenes == 100 + second.clips - first.clips


def test_the_folder_is_small_and_holds_a_network_to_use(tmp_path: Path) -> None:
    """``vdpm-small``: weights and average in less than 45 MB, the weights near to 16 bits."""
    torch.manual_seed(0)
    average = VDPM(preset_config("vdpm-small")).state_dict()
    weights = {name: value + 0.1 * value.std() * torch.randn_like(value) for name, value in average.items()}
    weights = {name: value if torch.isfinite(value).all() else average[name] for name, value in weights.items()}
    config = preset_config("vdpm-small")
    write_onward(tmp_path / ONWARD, weights, average, config, Progress(10, 5, 3, (0, 4)))
    assert sum(path.stat().st_size for path in (tmp_path / ONWARD).iterdir()) < 43e6
    beginning = begin(str(tmp_path / ONWARD), None, DECAY)
    assert beginning.progress == Progress(10, 5, 3, (0, 4))
    assert beginning.average is not None
    half = {name: value.to(torch.bfloat16).float() for name, value in weights.items()}
    assert apart(weights, beginning.model.state_dict()) < 1.2 * apart(weights, half)
    assert apart(average, dict(beginning.average)) < 0.01
    used = VDPM.from_pretrained(tmp_path / ONWARD).state_dict()
    assert all(torch.equal(used[name], value) for name, value in beginning.average.items())


def test_an_average_may_be_given_beside_plain_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    VDPM(TINY).save_pretrained(tmp_path / "weights")
    other = VDPM(TINY)
    other.save_pretrained(tmp_path / "average")
    still = dataclasses.replace(SLICE, steps=1, optimizer=dataclasses.replace(SLICE.optimizer, lr=1e-12))
    held = start(tmp_path / "run", still, tmp_path / "weights", init_average=str(tmp_path / "average"), seed=1)
    # It moves by a tenth of the way, from the first step on: it is not a young one.
    for name, value in other.state_dict().items():
        torch.testing.assert_close(held[f"average {name}"], 0.9 * value + 0.1 * held[name], atol=1e-6, rtol=1e-5)
    with pytest.raises(UsageError, match="goes with the weights of --init"):
        start(tmp_path / "none", init_average=str(tmp_path / "average"))
    with pytest.raises(UsageError, match="an average of its own"):
        start(tmp_path / "none", init=tmp_path / "run", init_average=str(tmp_path / "average"), seed=2)
    VDPM(dataclasses.replace(TINY, dim=64)).save_pretrained(tmp_path / "wide")
    with pytest.raises(CheckpointError, match="of another network"):
        begin(str(tmp_path / "weights"), str(tmp_path / "wide"), DECAY)


@pytest.mark.parametrize("damage", ["other weights", "no progress", "no numbers"])
def test_files_that_do_not_belong_together_are_refused(tmp_path: Path, damage: str) -> None:
    run = trainer(tmp_path, SLICE)
    run.save()
    folder = tmp_path / ONWARD
    match damage:
        case "other weights":
            torch.manual_seed(8)
            VDPM(TINY).save_pretrained(folder, dtype="int8")
        case "no progress":
            (folder / "progress.json").unlink()
        case "no numbers":
            (folder / "progress.json").write_text("[]")
    shutil.move(str(folder), tmp_path / "fetched")
    with pytest.raises(CheckpointError, match="again") as caught:
        begin(str(tmp_path / "fetched"), None, DECAY)
    assert "\n" not in str(caught.value)


def test_the_rate_stays_up_unless_a_cool_down_is_asked_for(tmp_path: Path) -> None:
    falling = dataclasses.replace(SLICE, optimizer=dataclasses.replace(SLICE.optimizer, cooldown_steps=6))
    for share, rates in ((0.0, [2e-3] * 6), (0.5, [2e-3] * 4 + [2e-3 * (0.01 + 0.99 * k / 3) for k in (2, 1)])):
        start(tmp_path / str(share), falling, cooldown_share=share)
        lines = (tmp_path / str(share) / "log.jsonl").read_text().splitlines()
        assert [json.loads(line)["lr"] for line in lines] == pytest.approx(rates, abs=1e-6)
    with pytest.raises(UsageError, match="give one of them"):
        start(tmp_path / "none", cooldown_share=0.5, cooldown_steps=3)
    with pytest.raises(UsageError, match=r"cooldown_share is 1\.5"):
        start(tmp_path / "none", cooldown_share=1.5)


def test_young_averages_follow_faster() -> None:
    assert decay_after(0, 0.999) == 0.1
    assert decay_after(89, 0.999) == pytest.approx(90 / 99)
    assert decay_after(10**6, 0.999) == 0.999

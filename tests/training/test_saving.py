"""Files of a run are written while it goes on."""

import dataclasses
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fixtures.tiny_run import RUN, losses, trainer
from vdpm.errors import OutputError
from vdpm.training import saving
from vdpm.training import trainer as training
from vdpm.training.checkpoint import TrainingState, load_state
from vdpm.training.onward import begin

OFTEN = dataclasses.replace(RUN, steps=4, log_every=1, save_every_seconds=0.0)


def test_training_goes_on_while_files_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first files are held up until a later step: a run that waited for them would never get there."""
    run = trainer(tmp_path / "beside", OFTEN)
    later = threading.Event()
    written: list[int] = []

    def write(output: Path, state: TrainingState, grid: object = None) -> None:
        if not written:
            assert later.wait(60), "the run waits for its files"
        saving.write_run(output, state)
        written.append(load_state(output / "state.pt").step)

    update = run._update

    def tell() -> Tensor:
        if run.step == 1:
            later.set()
        return update()

    monkeypatch.setattr(training, "write_run", write)
    run._update = tell  # type: ignore[method-assign]
    run.run()
    assert written == [1, 2, 3, 4, 4]
    trainer(tmp_path / "alone", dataclasses.replace(OFTEN, save_every_seconds=1e9)).run()
    assert losses(tmp_path / "beside") == losses(tmp_path / "alone")
    beside, alone = (begin(str(tmp_path / name / "onward"), None, RUN.ema_decay) for name in ("beside", "alone"))
    assert beside.progress == alone.progress
    assert beside.average is not None
    assert alone.average is not None
    assert all(torch.equal(beside.average[name], value) for name, value in alone.average.items())
    assert all(torch.equal(beside.model.state_dict()[n], v) for n, v in alone.model.state_dict().items())


def test_what_is_being_written_is_of_its_own_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights move on while they are written; the file has those of the step at which it was begun."""
    run = trainer(tmp_path, OFTEN)
    written: list[TrainingState] = []
    monkeypatch.setattr(training, "write_run", lambda output, state, grid=None: written.append(state))
    update, kept = run._update, {}

    def keep() -> Tensor:
        if run.step == 1:
            kept.update({name: value.clone() for name, value in run.model.state_dict().items()})
        return update()

    run._update = keep  # type: ignore[method-assign]
    run.run()
    assert written[0].step == 1
    assert all(torch.equal(written[0].weights[name], value) for name, value in kept.items())
    assert not all(torch.equal(written[-1].weights[name], value) for name, value in kept.items())


def test_a_disk_that_is_full_is_told_before_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(output: Path, state: TrainingState, grid: object = None) -> None:
        raise OutputError(f"{output}: no space left")

    monkeypatch.setattr(training, "write_run", full)
    run = trainer(tmp_path, OFTEN)
    with pytest.raises(OutputError, match="no space left"):
        run.run()
    assert run.step <= 2

"""A run writes into a folder of its own, and leaves those of others alone."""

from pathlib import Path

import pytest

from fixtures.tiny_run import RUN
from vdpm.errors import OutputError, UsageError
from vdpm.training import run
from vdpm.training.run import train


class Begun(Exception):
    pass


@pytest.fixture(autouse=True)
def begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after the checks."""

    def join(device: str | None) -> None:
        raise Begun

    monkeypatch.setattr(run, "join_ranks", join)


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(OutputError, match=r"holds other files and no training run \(thesis.tex\).*another folder"):
        train(RUN, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    (tmp_path / "log.jsonl").write_text("")
    with pytest.raises(OutputError, match=r"thesis.tex"):
        train(RUN, tmp_path)
    with pytest.raises(OutputError, match="is not a folder"):
        train(RUN, tmp_path / "thesis.tex")


@pytest.mark.parametrize("name", ["log.jsonl", "tensorboard", ".state.pt.77", ".DS_Store", "output.txt", "slurm-7.out"])
def test_a_run_that_ended_before_its_first_state_begins_again(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(Begun):
        train(RUN, tmp_path)


def test_new_and_empty_folders_and_resumed_runs(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises(Begun):
            train(RUN, folder)
    (tmp_path / "state.pt").touch()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(OutputError, match="go on with --resume"):
        train(RUN, tmp_path)
    with pytest.raises(Begun):
        train(RUN, tmp_path, resume=True)
    with pytest.raises(UsageError, match="leave out"):
        train(RUN, tmp_path, resume=True, init="vdpm-small")

"""A run writes into a folder of its own, and leaves those of others alone."""

from pathlib import Path

import pytest

from fixtures.tiny_run import RUN
from vdpm.cli import main
from vdpm.errors import OutputError, UsageError
from vdpm.training import run
from vdpm.training.run import check_new_folder, train


class Begun(Exception):
    pass


@pytest.fixture(autouse=True)
def begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after the checks."""

    def join(device: str | None) -> None:
        raise Begun

    monkeypatch.setattr(run, "join_ranks", join)


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    for name in ("thesis.tex", "log.jsonl"):
        (tmp_path / name).touch()
        assert main(["train", "smoke", "-o", str(tmp_path)]) == OutputError.exit_code
        (line,) = capsys.readouterr().err.splitlines()
        assert "holds other files and no training run (thesis.tex), so it is left alone; choose another folder" in line
    assert main(["train", "smoke", "-o", str(tmp_path / "thesis.tex")]) == OutputError.exit_code
    assert "is not a folder" in capsys.readouterr().err
    assert (tmp_path / "thesis.tex").read_text() == "mine"
    # A program that calls train() knows what it keeps there.
    with pytest.raises(Begun):
        train(RUN, tmp_path)


@pytest.mark.parametrize("name", ["log.jsonl", "tensorboard", ".state.pt.77", ".DS_Store", "output.txt", "slurm-7.out"])
def test_a_run_that_ended_before_its_first_state_begins_again(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    check_new_folder(tmp_path)
    with pytest.raises(Begun):
        train(RUN, tmp_path)


def test_new_and_empty_folders_and_resumed_runs(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "new"):
        check_new_folder(folder)
        with pytest.raises(Begun):
            train(RUN, folder)
    (tmp_path / "state.pt").touch()
    (tmp_path / "notes.tex").touch()
    check_new_folder(tmp_path)
    with pytest.raises(OutputError, match="go on with --resume"):
        train(RUN, tmp_path)
    with pytest.raises(Begun):
        train(RUN, tmp_path, resume=True)
    with pytest.raises(UsageError, match="leave out"):
        train(RUN, tmp_path, resume=True, init="vdpm-small")

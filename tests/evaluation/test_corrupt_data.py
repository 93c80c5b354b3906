"""Data that cannot be read: the run stops, or counts and names what it lost; nothing is dropped in silence."""

import shutil
from pathlib import Path

import pytest

from fixtures.outcome import Outcome, Run
from fixtures.scores import scores_in
from vdpm.cli import main
from vdpm.data.quarantine import Quarantine, TooManyCorrupt

SCENES = 3


@pytest.fixture
def kubric(data_root: Path, tmp_path: Path) -> Path:
    """Three scenes, the last of which has a picture that cannot be read."""
    root = tmp_path / "movi"
    for number in range(SCENES):
        shutil.copytree(data_root / "kubric" / "0000", root / f"{number:04d}")
    damaged(root).write_bytes(b"")
    return root


def damaged(root: Path) -> Path:
    return root / f"{SCENES - 1:04d}" / "rgba_00002.png"


@pytest.fixture
def track(capsys: pytest.CaptureFixture[str], kubric: Path, tmp_path: Path) -> Run:
    """``track(folder, ...)``: Table 2 on these scenes."""

    def call(folder: str, *words: object) -> Outcome:
        capsys.readouterr()
        given = ("--data", kubric, "--dataset", "kubric", "--frames", 5, "--stride", 1, "-o", tmp_path / folder)
        code = main(["evaluate", "tracking", *map(str, (*given, *words))])
        return Outcome(code, *capsys.readouterr())

    return call


def complaints(done: Outcome) -> list[str]:
    return [line for line in done.err.splitlines() if "error" in line]


def test_the_first_one_stops_the_run(track: Run, kubric: Path, tmp_path: Path) -> None:
    done = track("out", "--model", "zero-motion")
    assert done.code == 3
    (line,) = complaints(done)
    assert str(damaged(kubric)) in line
    assert not (tmp_path / "out" / "scores.json").exists()
    # A third of the clips are lost: more than a fifth.
    assert track("out", "--model", "zero-motion", "--max-corrupt", 0.2).code == 3
    assert track("out", "--model", "zero-motion", "--max-corrupt", 1.5).code == 2


def test_what_is_lost_is_counted_and_named_and_in_no_mean(track: Run, kubric: Path, tmp_path: Path) -> None:
    words = ("--model", "zero-motion", "--max-corrupt", 0.4)
    predicted = track("lost", *words, "--step", "predict")
    assert "2 clips predicted, 0 were there, 1 cannot be read" in predicted.out
    done = track("lost", *words)
    assert done.code == 0, done.err
    said = scores_in(tmp_path / "lost")
    assert said["clips"] == len(said["samples"]) == SCENES
    (lost,) = [sample for sample in said["samples"] if sample["corrupt"] is not None]
    assert lost["sequence"] == "0002"
    assert str(damaged(kubric)) in lost["corrupt"]
    assert lost["scores"] == {}
    assert "zero-motion: 2 of 3 clips" in done.out
    assert f"1 cannot be read, and are in no mean: {lost['name']}" in done.out
    assert "undefined" not in done.out
    # The mean is that of the others, scored without the damaged scene.
    others = track("others", "--model", "zero-motion", "--sequences", "0000,0001")
    assert others.code == 0
    rest = scores_in(tmp_path / "others")
    assert rest["means"][""]["epe"]["mean"] == said["means"][""]["epe"]["mean"] > 0
    assert said["means"][""]["epe"]["snippets"] == 2


def test_rows_with_and_without_a_clip_are_not_compared(
    track: Run, kubric: Path, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The plan is the same; what is scored of it is not."""
    track("lost", "--model", "zero-motion", "--max-corrupt", 0.4)
    shutil.copy(data_root / "kubric" / "0000" / damaged(kubric).name, damaged(kubric))
    assert track("whole", "--model", "oracle").code == 0
    report = ["evaluate", "report", str(tmp_path / "lost"), str(tmp_path / "whole"), "-o", str(tmp_path / "both")]
    assert main(report) == 0
    assert "not over the same clips" in capsys.readouterr().out
    # Mended, the run goes on at the clip that it lacks.
    again = track("lost", "--model", "zero-motion", "--step", "predict")
    assert "1 clips predicted, 2 were there\n" in again.out
    assert track("lost", "--model", "zero-motion").code == 0
    assert all(sample["corrupt"] is None for sample in scores_in(tmp_path / "lost")["samples"])
    assert main(report) == 0
    assert "not over the same clips" not in capsys.readouterr().out


def test_answers_of_another_program(track: Run, kubric: Path, tmp_path: Path) -> None:
    """It cannot answer either where the data cannot be read; what else it did not answer is still missed."""
    track("made", "--model", "oracle", "--max-corrupt", 0.4)
    words = ("--model", "files", "--max-corrupt", 0.4)
    track("theirs", *words, "--step", "plan")
    shutil.copytree(tmp_path / "made" / "predictions", tmp_path / "theirs" / "predictions")
    assert track("theirs", *words).code == 0
    assert [sample["corrupt"] is None for sample in scores_in(tmp_path / "theirs")["samples"]] == [True, True, False]
    next((tmp_path / "theirs" / "predictions").iterdir()).unlink()
    lacking = track("theirs", *words)
    assert lacking.code == 3
    assert "1 of 3 answers are missing" in complaints(lacking)[0]
    assert track("theirs", "--max-corrupt", 0.4, "--step", "score").code == 3


def test_a_scene_that_cannot_be_opened(track: Run, kubric: Path, tmp_path: Path) -> None:
    path = damaged(kubric).with_name("metadata.json")
    path.write_text("{")
    refused = track("out", "--model", "oracle")
    assert refused.code == 3
    assert str(path) in complaints(refused)[0]
    done = track("out", "--model", "oracle", "--max-corrupt", 0.4)
    assert done.code == 0, done.err
    assert "left out 1: 0002/metadata.json cannot be read" in done.out
    assert len(scores_in(tmp_path / "out")["samples"]) == 2


@pytest.mark.parametrize("table", ["video-depth", "camera-pose"])
def test_whole_sequences(capsys: pytest.CaptureFixture[str], data_root: Path, tmp_path: Path, table: str) -> None:
    for part in ("final", "depth", "camdata_left"):
        for name in ("alley_2", "ambush_4"):
            shutil.copytree(data_root / "sintel/training" / part / "alley_2", tmp_path / "s/training" / part / name)
    (tmp_path / "s/training/depth/ambush_4/frame_0003.dpt").unlink()
    words = ["evaluate", table, "--data", str(tmp_path / "s"), "--dataset", "sintel", "--model", "oracle"]
    assert main([*words, "-o", str(tmp_path / "a")]) == 3
    assert "frame_0003.dpt: is missing" in capsys.readouterr().err
    assert main([*words, "-o", str(tmp_path / "b"), "--max-corrupt", "0.5"]) == 0
    out = capsys.readouterr().out
    assert "oracle: 1 of 2 sequences" in out
    assert "1 cannot be read, and are in no mean: ambush_4" in out


def test_a_share_of_all_that_are_expected() -> None:
    """One of forty is let through at 5 %, the third is not; without a number of all, patience counts."""
    lost = [("a.png", "a.png: damaged")]
    known = Quarantine(max_share=0.05, expected=40)
    known.count(1, lost)
    known.count(1, lost)
    with pytest.raises(TooManyCorrupt, match="3 of 40 reads"):
        known.count(1, lost)
    unknown = Quarantine(max_share=0.05)
    unknown.count(3, lost)
    with pytest.raises(TooManyCorrupt, match="1 of 3 reads"):
        unknown.close()

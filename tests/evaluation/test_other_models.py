"""Models of other people: files that another program made, and classes of the protocol."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fixtures.outcome import Run
from fixtures.scores import scores_in
from vdpm.evaluation.benchmark import Sample
from vdpm.evaluation.clips import open_clips
from vdpm.evaluation.prediction_run import read_plan
from vdpm.evaluation.protocol import Prediction


def test_predictions_of_another_program(evaluate: Run, data_root: Path, tmp_path: Path) -> None:
    """Dense maps at half the size, in another unit, without cameras: errors that need cameras are not scored."""
    words = ("tracking", "kubric", "--model", "files", "--name", "theirs", "-o", tmp_path)
    assert "2 clips" in evaluate(*words, "--step", "plan").out
    missing = evaluate(*words)
    assert missing.code == 3
    assert "2 of 2 answers are missing" in missing.err
    clips = open_clips("kubric", data_root / "kubric", "tracking")
    for said in read_plan(tmp_path)["samples"]:
        sample = Sample(said["name"], said["sequence"], tuple(said["frames"]))
        truth = clips.map_truth(sample, range(5), [0])
        (tmp_path / "predictions").mkdir(exist_ok=True)
        points = 3 * truth.points.reshape(5, 1, 24, 2, 32, 2, 3).mean((3, 5))
        np.savez(tmp_path / "predictions" / f"{sample.name}.npz", points=points.numpy())
    done = evaluate(*words)
    assert done.code == 0, done.err
    means = scores_in(tmp_path)["means"][""]
    assert 0 < means["epe"]["mean"] < 0.1
    assert means["tapvid3d_aj"]["mean"] is None
    assert "undefined, and not in the mean, for 2" in done.out


@pytest.mark.parametrize("way", ["--mirror", "--pairwise"])
def test_answers_that_are_there_are_not_asked_for_in_any_way(evaluate: Run, tmp_path: Path, way: str) -> None:
    done = evaluate("tracking", "kubric", "--model", "files", way, "-o", tmp_path / "t")
    assert done.code == 2
    assert f"{way} is a way of asking a network, and --model files is none" in done.err
    assert not (tmp_path / "t").exists()


class Answers:
    """What someone else's class may look like: a wall at depth 2."""

    def predict(self, images: Tensor, targets: Sequence[int], sources: Sequence[int] | None = None) -> Prediction:
        frames, _, height, width = images.shape
        chosen = range(frames) if sources is None else sources
        wall = torch.full((frames, height, width, 3), 2.0)
        eye = torch.eye(4).repeat(frames, 1, 1)
        at = torch.full((len(targets), len(chosen), height, width, 3), 2.0)
        return Prediction(wall, at, eye, torch.diag(torch.tensor([50.0, 50, 1])).repeat(frames, 1, 1))


def test_a_class_of_someone_else(evaluate: Run, tmp_path: Path) -> None:
    model = ("--model", f"python:{__name__}:Answers")
    done = evaluate("tracking", "kubric", *model, "-o", tmp_path / "t")
    assert done.code == 0, done.err
    assert "| Answers |" in done.out
    assert evaluate("video-depth", "sintel", *model, "-o", tmp_path / "d").code == 0
    # A camera that stands still leaves the path open: counted and named, not dropped in silence.
    pose = evaluate("camera-pose", "sintel", *model, "-o", tmp_path / "p")
    assert "| Answers | n/a | n/a | n/a |" in pose.out
    assert "undefined, and not in the mean, for 1: alley_2" in pose.out
    for words in ("python:nowhere:Answers", f"python:{__name__}:Gone", "python:x", "python:pathlib:Path"):
        refused = evaluate("tracking", "kubric", "--model", words, "-o", tmp_path / "r")
        assert (refused.code, len(refused.err.splitlines())) == (2, 1), words


def test_answers_of_other_shapes_are_refused(evaluate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = Answers.predict

    def small(self: Answers, images: Tensor, *given: Any) -> Prediction:
        return sound(self, images[..., ::2, ::2], *given)

    monkeypatch.setattr(Answers, "predict", small)
    for table, dataset in (("tracking", "kubric"), ("video-depth", "sintel")):
        done = evaluate(table, dataset, "--model", f"python:{__name__}:Answers", "-o", tmp_path / table)
        assert done.code == 2
        assert "time_variant is of shape [5, 24, 32, 3], not [5, 48, 64, 3]" in done.err


def test_answers_that_are_not_finite_are_refused(
    evaluate: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Answers, *given: Any) -> Prediction:
        said = Answers.sound(self, *given)  # type: ignore[attr-defined]
        return Prediction(said.time_variant * torch.nan, said.at_targets, said.c2w, said.intrinsics)

    monkeypatch.setattr(Answers, "sound", Answers.predict, raising=False)
    monkeypatch.setattr(Answers, "predict", broken)
    done = evaluate("tracking", "kubric", "--model", f"python:{__name__}:Answers", "-o", tmp_path)
    assert done.code == 3
    assert "not finite" in done.err
    assert not list(tmp_path.rglob("*.npz"))

"""Plan, predict, score and report, one by one: what is there already, what is damaged, what is of another run."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.outcome import Run
from fixtures.scores import scores_in
from vdpm.cli import main
from vdpm.evaluation.benchmark import Drawn, Sample
from vdpm.evaluation.contenders import OfNetwork
from vdpm.evaluation.protocol import Prediction


def test_a_killed_prediction_goes_on(
    evaluate: Run, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, ...]] = []
    maps, killed = OfNetwork.maps, [True]

    def counted(self: OfNetwork, truth: Any) -> Prediction:
        if len(asked) == 2 and killed.pop():
            killed.append(False)
            raise KeyboardInterrupt
        asked.append(truth.targets)
        return maps(self, truth)

    monkeypatch.setattr(OfNetwork, "maps", counted)
    words = ("--model", tiny_folder, "--size", 32, "-o", tmp_path)
    assert evaluate("two-view", "kubric", *words).code == 130
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    assert len(made) == 2
    assert not (tmp_path / "scores.json").exists()
    assert evaluate("two-view", "kubric", *words).code == 0
    assert len(asked) == 4
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert not list(tmp_path.rglob("*.tmp"))


def test_steps_one_by_one(evaluate: Run, tiny_folder: Path, tmp_path: Path) -> None:
    words = ("--model", tiny_folder, "--size", 32, "-o", tmp_path)
    assert "4 clips" in evaluate("two-view", "kubric", *words, "--step", "plan").out
    early = evaluate("two-view", "kubric", *words, "--step", "score")
    assert (early.code, len(early.err.splitlines()[-1:])) == (3, 1)
    assert "4 clips predicted" in evaluate("two-view", "kubric", *words, "--step", "predict").out
    assert "0 clips predicted, 4 were there" in evaluate("two-view", "kubric", *words, "--step", "predict").out
    # Scoring needs no network.
    score = ("two-view", "kubric", "-o", tmp_path, "--step", "score")
    assert evaluate(*score).code == 0
    first = scores_in(tmp_path)
    assert evaluate(*score, "--own-time", "decoded", "--name", "another").code == 0
    assert scores_in(tmp_path)["model"] == "another"
    assert scores_in(tmp_path)["means"]["2"]["p0_t0"] != first["means"]["2"]["p0_t0"]
    assert scores_in(tmp_path)["scoring"]["protocol"]["own_time"] == "decoded"
    assert not (tmp_path / "tables.md").exists()
    assert evaluate("two-view", "kubric", "-o", tmp_path, "--step", "report").code == 0
    latex = (tmp_path / "tables.tex").read_text()
    assert r"$P_0(t_1)$" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2


def test_plans_are_checked(evaluate: Run, data_root: Path, tmp_path: Path) -> None:
    words = ("two-view", "kubric", "-o", tmp_path, "--step", "score")
    assert evaluate(*words).code == 3
    assert evaluate("two-view", "kubric", "--model", "oracle", "-o", tmp_path, "--step", "predict").code == 0
    path = tmp_path / "plan.json"
    plan = json.loads(path.read_text())

    def refused(change: dict[str, Any]) -> None:
        path.write_text(json.dumps(plan | change))
        done = evaluate(*words)
        assert done.code == 3, (change, done.err)
        assert len([line for line in done.err.splitlines() if "error" in line]) == 1

    first = plan["samples"][0]
    for change in (
        {"format": "other"},
        {"format_version": 9},
        {"table": "chess"},
        {"digest": "0" * 12},
        {"samples": [first | {"name": "../../etc/passwd"}]},
        {"samples": [first | {"frames": ["0", "2"]}]},
        {"samples": [first | {"frames": []}]},
        {"samples": [{}]},
        {"benchmark": {"dataset": "kubric"}},
        {"options": {"fit": {"size": 1, "nothing": 2}}},
        {"left_out": []},
    ):
        refused(change)
    gone = Sample(first["name"], "gone", tuple(first["frames"]), first["group"])
    refused({"samples": [gone.to_json()], "digest": Drawn((gone,), {}).digest()})
    path.write_text(json.dumps(plan))
    assert evaluate(*words).code == 0
    assert evaluate("tracking", "kubric", "-o", tmp_path, "--step", "score").code == 2
    assert main(["evaluate", "two-view", "-o", str(tmp_path), "--step", "score"]) == 2


def test_a_folder_holds_one_run(evaluate: Run, tiny_folder: Path, tmp_path: Path) -> None:
    assert evaluate("two-view", "kubric", "--model", "oracle", "-o", tmp_path).code == 0
    for words in (
        ("two-view", "kubric", "--model", tiny_folder),
        ("two-view", "kubric", "--model", "oracle", "--margins", 1),
        ("two-view", "kubric", "--model", "oracle", "--pixels", 10),
        ("tracking", "kubric", "--model", "oracle"),
    ):
        refused = evaluate(*words, "-o", tmp_path)
        assert refused.code == 5, words
        assert "choose another folder" in refused.err
        assert len(refused.err.splitlines()) == 1
    # The same frames of the same sequences, with other depth or other pictures.
    words = ("video-depth", "bonn", "--model", "oracle", "--first", 0, "--sequences", "all", "--align", "median")
    assert evaluate(*words, "-o", tmp_path / "bonn").code == 0
    for changed in (("--pairing", "time"), ("--undistort",)):
        refused = evaluate(*words, *changed, "-o", tmp_path / "bonn")
        assert refused.code == 5, changed
        assert f"whose {changed[0][2:]} is" in refused.err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("")
    assert evaluate("two-view", "kubric", "--model", "oracle", "-o", tmp_path / "mine").code == 5


def test_damaged_predictions_are_refused_in_one_line(evaluate: Run, tmp_path: Path) -> None:
    words = ("two-view", "kubric", "--model", "oracle", "-o", tmp_path)
    assert evaluate(*words, "--step", "predict").code == 0
    path = sorted(tmp_path.rglob("*.npz"))[0]
    whole = path.read_bytes()
    middle = len(whole) // 2

    def refused(content: bytes) -> None:
        path.write_bytes(content)
        done = evaluate(*words)
        assert done.code == 3, done.err
        (line,) = [line for line in done.err.splitlines() if "error" in line]
        assert path.name in line
        assert "predict again" in line
        assert not (tmp_path / "scores.json").exists()

    refused(whole[:middle])
    refused(whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :])
    refused(b"")
    with np.load(path if path.stat().st_size else sorted(tmp_path.rglob("*.npz"))[1]) as file:
        arrays = dict(file)
    for change in (
        {"points": arrays["points"] * np.nan},
        {"points": arrays["points"][:-1]},
        {"points": arrays["points"].astype(object)},
        {"stored": arrays["stored"][..., :-1]},
        {"stored": arrays["stored"] * 0, "points": arrays["points"][:0]},
        {"size": arrays["size"] + 8},
    ):
        with path.open("wb") as stream:
            np.savez(stream, **(arrays | change))
        refused(path.read_bytes())
    path.write_bytes(whole)
    assert evaluate(*words).code == 0


def test_disk_is_checked_after_the_first_answer(evaluate: Run, tmp_path: Path) -> None:
    done = evaluate("tracking", "kubric", "--model", "oracle", "--max-disk", 1e-6, "-o", tmp_path)
    assert "--max-disk" in done.err
    assert len(list(tmp_path.rglob("*.npz"))) == 1

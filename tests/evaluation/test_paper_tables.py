"""The four tables from end to end: data sets in their own formats, a family, a tiny network, other people's files."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fixtures.outcome import Outcome
from fixtures.tiny_network import tiny_network
from vdpm.cli import main
from vdpm.evaluation import manifest, prediction_run
from vdpm.evaluation.benchmark import Drawn, Sample, load_benchmark
from vdpm.evaluation.clips import FamilyClips, open_clips
from vdpm.evaluation.contenders import Fit, OfNetwork
from vdpm.evaluation.held_out import score_family
from vdpm.evaluation.manifest import FamilyManifest
from vdpm.evaluation.prediction_run import AnswerOptions, make_plan, read_plan
from vdpm.evaluation.protocol import NetworkPredictor, Prediction
from vdpm.evaluation.table_scores import TableOptions, score

Evaluate = Callable[..., Outcome]

SMALL = {
    "two-view": ("--margins", 2, 4),
    "tracking": ("--frames", 5, "--stride", 1),
    "video-depth": (),
    "camera-pose": (),
}
"""Options that fit data sets of five frames."""


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture[str], data_root: Path) -> Evaluate:
    """``evaluate(table, dataset, ...)`` on the small data sets."""

    def call(table: str, dataset: str, *words: object) -> Outcome:
        capsys.readouterr()
        where = ("--data", data_root / dataset, "--dataset", dataset, *SMALL[table])
        code = main(["evaluate", table, *map(str, (*where, *words))])
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    tiny_network().save_pretrained(folder)
    return folder


def scores_in(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "scores.json").read_text())


def is_perfect(name: str, value: float) -> bool:
    """Shares are 1 and errors 0, up to rounding of what is fitted."""
    if name == "moving_share" or name.endswith("own_still"):
        return value > 0
    share = name.endswith("delta_125") or "apd" in name or name.startswith("tapvid3d")
    return value == 1 if share else abs(value) < 2e-5


@pytest.mark.parametrize(
    ("table", "dataset", "words"),
    [
        ("two-view", "kubric", ()),
        ("two-view", "pointodyssey", ()),
        ("tracking", "kubric", ()),
        ("tracking", "pointodyssey", ()),
        ("tracking", "7scenes", ()),
        ("two-view", "waymo", ()),
        ("tracking", "waymo", ()),
        ("video-depth", "sintel", ("--per-frame",)),
        ("video-depth", "bonn", ("--first", 0)),
        ("camera-pose", "sintel", ()),
        ("camera-pose", "tum", ("--stride", 1)),
    ],
)
def test_the_oracle_is_perfect(
    evaluate: Evaluate, tmp_path: Path, table: str, dataset: str, words: tuple[object, ...]
) -> None:
    done = evaluate(table, dataset, "--model", "oracle", "-o", tmp_path, *words)
    assert done.code == 0, done.err
    said = scores_in(tmp_path)
    assert said["samples"]
    for sample in said["samples"]:
        for name, value in sample["scores"].items():
            # A static scene has no moving points.
            if value is None:
                assert dataset == "7scenes"
                assert "dynamic" in name or "moving" in name
            elif dataset == "7scenes" and name == "moving_share":
                assert value == 0
            else:
                assert is_perfect(name, value), (sample["name"], name, value)
    exact = [sample["scores"].get(name) for sample in said["samples"] for name in ("epe", "p0_t1", "median.abs_rel")]
    assert all(value in (None, 0.0) for value in exact)
    if dataset != "7scenes":
        assert "V-DPM (paper)" in done.out
    assert "| oracle" in done.out


@pytest.fixture
def small_family(monkeypatch: pytest.MonkeyPatch) -> None:
    """The families' snippets at 24 x 16, unprobed."""
    load = manifest.load_manifest

    def small(name: str) -> FamilyManifest:
        found = load(name)
        return replace(found, config=replace(found.config, height=16, width=24, colour_samples=1))

    monkeypatch.setattr(manifest, "load_manifest", small)
    monkeypatch.setattr(FamilyManifest, "differences", lambda self: ("of another size",))


@pytest.mark.usefixtures("small_family")
@pytest.mark.parametrize("table", list(SMALL))
def test_the_oracle_is_perfect_on_a_family(capsys: pytest.CaptureFixture[str], tmp_path: Path, table: str) -> None:
    words = ["evaluate", table, "--family", "rigid", "--clips", "1", "--model", "oracle", "-o", str(tmp_path)]
    assert main(words) == 0, capsys.readouterr().err
    said = scores_in(tmp_path)
    assert said["title"] == "held-out rigid"
    clips = 2 if table == "two-view" else 1
    assert len(said["samples"]) == clips
    for sample in said["samples"]:
        assert all(is_perfect(name, value) for name, value in sample["scores"].items()), sample
    assert said["notes"] == ["of another size", f"{clips} of {200 * clips} clips"]
    assert "of another size" in (tmp_path / "tables.md").read_text()
    capsys.readouterr()
    assert main([*words, "--frames", "5"]) == 2
    assert main([*words, "--margins", "3"]) == 2


def test_tables_and_summary_of_a_family_agree(tmp_path: Path) -> None:
    """Two ways to the same errors: snippets in memory, and through files."""
    rigid = manifest.load_manifest("rigid")
    config = replace(rigid.config, height=16, width=24, colour_samples=1)
    (summary,) = score_family(NetworkPredictor(tiny_network()), rigid, clips=1, config=config, batch=1)
    errors = summary.by["network"]
    clips = FamilyClips(rigid, config)
    contender = OfNetwork(tiny_network(), "tiny", Fit())
    for table in ("two-view", "tracking"):
        plan = make_plan(
            clips, load_benchmark("rigid", table), "tiny", contender.identity, AnswerOptions(precision="float32"), 1
        )
        prediction_run.predict(contender, clips, plan, tmp_path / table)
        for one in score(clips, plan, tmp_path / table, TableOptions()):
            before = f"margin{one.sample.group}." if one.sample.group else ""
            names = [name for name in one.scores if before + name in errors]
            assert len(names) >= 4
            for name in names:
                assert one.scores[name] == pytest.approx(errors[before + name], rel=1e-4, abs=1e-6), name


def test_baselines_are_as_wrong_as_what_they_leave_out(evaluate: Evaluate, tmp_path: Path) -> None:
    for model in ("zero-motion", "constant-depth"):
        assert evaluate("tracking", "kubric", "--model", model, "-o", tmp_path / model).code == 0
    still, plane = (scores_in(tmp_path / model)["means"][""] for model in ("zero-motion", "constant-depth"))
    assert still["epe_moving_own_still"]["mean"] == still["epe_moving"]["mean"]
    assert 0 < still["epe"]["mean"] < still["epe_moving"]["mean"] < plane["epe_moving"]["mean"]
    assert still["world_apd"]["mean"] > plane["world_apd"]["mean"]
    assert evaluate("video-depth", "bonn", "--first", 0, "--model", "constant-depth", "-o", tmp_path / "d").code == 0
    depth = scores_in(tmp_path / "d")["means"][""]
    assert depth["scale_shift_lsq.abs_rel"]["mean"] > depth["scale_lad.abs_rel"]["mean"] * 0.9 > 0.1
    for table, model in (("video-depth", "zero-motion"), ("camera-pose", "constant-depth")):
        refused = evaluate(table, "sintel", "--model", model, "-o", tmp_path / "r")
        assert (refused.code, len(refused.err.splitlines())) == (2, 1)


@pytest.mark.parametrize("table", list(SMALL))
def test_a_network_through_all_tables(evaluate: Evaluate, tiny_folder: Path, tmp_path: Path, table: str) -> None:
    dataset = "kubric" if table in ("two-view", "tracking") else "sintel"
    done = evaluate(
        table, dataset, "--model", tiny_folder, "--device", "cpu", "--size", 32, "-o", tmp_path, "--name", "tiny"
    )
    assert done.code == 0, done.err
    assert "| tiny" in done.out
    for sample in scores_in(tmp_path)["samples"]:
        errors = [v for k, v in sample["scores"].items() if k.split(".")[-1] in ("epe", "p0_t1", "abs_rel", "ate")]
        assert errors
        assert min(errors) > 0.01
    if table != "two-view":
        return
    again = evaluate(
        table, dataset, "--model", tiny_folder, "--device", "cpu", "--size", 32, "-o", tmp_path, "--name", "tiny"
    )
    assert again.out == done.out


def test_float16_keeps_the_numbers(evaluate: Evaluate, tiny_folder: Path, tmp_path: Path) -> None:
    means = []
    for precision in ("float16", "float32"):
        words = ("--model", tiny_folder, "--size", 32, "--precision", precision, "-o", tmp_path / precision)
        assert evaluate("tracking", "kubric", *words).code == 0
        means.append(scores_in(tmp_path / precision)["means"][""])
    for name, interval in means[0].items():
        if "apd" not in name and not name.startswith("tapvid3d"):
            assert interval["mean"] == pytest.approx(means[1][name]["mean"], rel=2e-4), name
    small, large = (sum(p.stat().st_size for p in (tmp_path / n).rglob("*.npz")) for n in ("float16", "float32"))
    assert small < 0.6 * large


def test_pairs_alone_and_fewer_pixels(evaluate: Evaluate, tiny_folder: Path, tmp_path: Path) -> None:
    words = ("--model", tiny_folder, "--size", 32, "--pairwise", "--pixels", 100, "--clips", 1, "-o", tmp_path)
    done = evaluate("tracking", "kubric", *words)
    assert done.code == 0, done.err
    assert "tiny by pairs" in done.out
    with np.load(next(tmp_path.rglob("*.npz"))) as file:
        assert file["points"].shape == (5 * 100, 3)


def test_a_killed_prediction_goes_on(
    evaluate: Evaluate, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_steps_one_by_one(evaluate: Evaluate, tiny_folder: Path, tmp_path: Path) -> None:
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


def test_plans_are_checked(evaluate: Evaluate, data_root: Path, tmp_path: Path) -> None:
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


def test_a_folder_holds_one_run(evaluate: Evaluate, tiny_folder: Path, tmp_path: Path) -> None:
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
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "note.txt").write_text("")
    assert evaluate("two-view", "kubric", "--model", "oracle", "-o", tmp_path / "mine").code == 5


def test_damaged_predictions_are_refused_in_one_line(evaluate: Evaluate, tmp_path: Path) -> None:
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


def test_predictions_of_another_program(evaluate: Evaluate, data_root: Path, tmp_path: Path) -> None:
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


class Answers:
    """What someone else's class may look like: a wall at depth 2."""

    def predict(self, images: Tensor, targets: Sequence[int], sources: Sequence[int] | None = None) -> Prediction:
        frames, _, height, width = images.shape
        chosen = range(frames) if sources is None else sources
        wall = torch.full((frames, height, width, 3), 2.0)
        eye = torch.eye(4).repeat(frames, 1, 1)
        at = torch.full((len(targets), len(chosen), height, width, 3), 2.0)
        return Prediction(wall, at, eye, torch.diag(torch.tensor([50.0, 50, 1])).repeat(frames, 1, 1))


def test_a_class_of_someone_else(evaluate: Evaluate, tmp_path: Path) -> None:
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


def test_answers_of_other_shapes_are_refused(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = Answers.predict

    def small(self: Answers, images: Tensor, *given: Any) -> Prediction:
        return sound(self, images[..., ::2, ::2], *given)

    monkeypatch.setattr(Answers, "predict", small)
    for table, dataset in (("tracking", "kubric"), ("video-depth", "sintel")):
        done = evaluate(table, dataset, "--model", f"python:{__name__}:Answers", "-o", tmp_path / table)
        assert done.code == 2
        assert "time_variant is of shape [5, 24, 32, 3], not [5, 48, 64, 3]" in done.err


def test_answers_that_are_not_finite_are_refused(
    evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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


def test_rows_of_several_models(evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model in ("oracle", "zero-motion"):
        evaluate("tracking", "kubric", "--model", model, "-o", tmp_path / model)
    folders = [str(tmp_path / model) for model in ("oracle", "zero-motion")]
    assert main(["evaluate", "report", *folders, "-o", str(tmp_path / "both")]) == 0
    text = (tmp_path / "both" / "tables.md").read_text()
    first = text.split("## ")[1].splitlines()
    assert [line.split(" |")[0] for line in first if line.startswith("| ")][2:] == [
        "| St4RTrack (paper)",
        "| TraceAnything (paper)",
        "| DPM (paper)",
        "| V-DPM (paper)",
        "| oracle",
        "| zero-motion",
    ]
    assert "| V-DPM (paper) | 0.027 |" in text
    assert "cannot be compared" not in text
    evaluate("tracking", "kubric", "--model", "oracle", "--clips", 1, "-o", tmp_path / "fewer")
    assert main(["evaluate", "report", *folders, str(tmp_path / "fewer"), "-o", str(tmp_path / "both")]) == 0
    assert "not over the same clips" in (tmp_path / "both" / "tables.md").read_text()
    capsys.readouterr()
    (tmp_path / "oracle" / "scores.json").write_text("{")
    assert main(["evaluate", "report", *folders, "-o", str(tmp_path / "both")]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_data_sets_side_by_side(evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the paper prints them: its rows and ours over all data sets, then a table for each."""
    runs = [("tracking", "kubric", "oracle"), ("tracking", "waymo", "oracle"), ("tracking", "waymo", "zero-motion")]
    runs += [
        ("camera-pose", "sintel", "oracle"),
        ("video-depth", "sintel", "oracle"),
        ("video-depth", "7scenes", "oracle"),
    ]
    for number, (table, dataset, model) in enumerate(runs):
        words = ("--align", "median") if table == "video-depth" else ()
        done = evaluate(table, dataset, "--model", model, "-o", tmp_path / str(number), *words)
        assert done.code == 0, done.err
    folders = [str(tmp_path / str(number)) for number in range(len(runs))]
    assert main(["evaluate", "report", *folders, "-o", str(tmp_path / "all")]) == 0
    parts = (tmp_path / "all" / "tables.md").read_text().split("## ")[1:]
    titles = [part.splitlines()[0] for part in parts]
    assert titles[:2] == ["Tracking EPE (Table 2)", "Video depth (Table 3)"]
    assert "Camera pose (Table 4), Sintel" in titles
    assert "several runs" not in parts[0]
    assert main(["evaluate", "report", *folders[:2], folders[1], "-o", str(tmp_path / "twice")]) == 0
    assert "several runs are called oracle" in (tmp_path / "twice" / "tables.md").read_text()
    lines = parts[0].splitlines()
    assert "| method | Kubric-F: EPE | Waymo: EPE |" in lines
    assert "| V-DPM (paper) | 0.027 | 0.042 |" in lines
    assert "| oracle | 0.000 [0.000, 0.000] | 0.000 [0.000, 0.000] |" in lines
    assert next(line for line in lines if line.startswith("| zero-motion")).split(" | ")[1] == "—"
    depth = parts[1].splitlines()
    assert "| V-DPM (paper) | 0.247 | 69.4 | — | — |" in depth
    ours = "0.000 [0.000, 0.000] | 100.0 [100.0, 100.0]"
    assert f"| oracle | {ours} | {ours} |" in depth


def test_mistakes(evaluate: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, code in (
        (("tracking", "sintel", "--model", "oracle"), 2),
        (("tracking", "kubric", "--model", "oracle", "--frames", 50), 2),
        (("tracking", "kubric", "--model", "oracle", "--clips", 0), 2),
        (("tracking", "kubric", "--model", "oracle", "--max-disk", 1e-6), 5),
        (("tracking", "kubric", "--model", "oracle", "--horizon", 0.5), 2),
        (("tracking", "kubric", "--model", "oracle", "--family", "rigid"), 2),
        (("video-depth", "sintel", "--model", "oracle", "--align", "best"), 2),
        (("video-depth", "sintel", "--model", "oracle", "--sequences", "gone"), 2),
        (("video-depth", "sintel", "--model", "oracle", "--pairing", "index"), 2),
        (("camera-pose", "tum", "--model", "oracle", "--delta", 0), 2),
        (("tracking", "kubric", "--model", tmp_path / "nothing"), 4),
    ):
        done = evaluate(*words, "-o", tmp_path / "out")
        assert done.code == code, (words, done.err)
        assert len([line for line in done.err.splitlines() if "error" in line]) == 1
    assert main(["evaluate", "tracking", "-o", str(tmp_path / "out")]) == 2
    assert "--data ROOT --dataset NAME, or --family NAME" in capsys.readouterr().err


def test_disk_is_checked_after_the_first_answer(evaluate: Evaluate, tmp_path: Path) -> None:
    done = evaluate("tracking", "kubric", "--model", "oracle", "--max-disk", 1e-6, "-o", tmp_path)
    assert "--max-disk" in done.err
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    assert prediction_run.PREDICTIONS == "predictions"

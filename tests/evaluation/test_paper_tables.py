"""The four tables: the oracle, baselines and a tiny network on data sets in their own formats, and on a family."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fixtures.outcome import Run
from fixtures.scores import scores_in
from fixtures.tiny_network import tiny_network
from vdpm.cli import main
from vdpm.evaluation import manifest, prediction_run
from vdpm.evaluation.benchmark import TABLES, load_benchmark
from vdpm.evaluation.clips import FamilyClips
from vdpm.evaluation.contenders import Fit, OfNetwork
from vdpm.evaluation.held_out import score_family
from vdpm.evaluation.manifest import FamilyManifest
from vdpm.evaluation.prediction_run import AnswerOptions, make_plan
from vdpm.evaluation.protocol import NetworkPredictor
from vdpm.evaluation.table_scores import TableOptions, score


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
    evaluate: Run, tmp_path: Path, table: str, dataset: str, words: tuple[object, ...]
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
@pytest.mark.parametrize("table", TABLES)
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
    if table in ("video-depth", "camera-pose"):
        capsys.readouterr()
        assert main([*words, "--undistort"]) == 2
        assert "have no distortion" in capsys.readouterr().err


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


def test_baselines_are_as_wrong_as_what_they_leave_out(evaluate: Run, tmp_path: Path) -> None:
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


@pytest.mark.parametrize("table", TABLES)
def test_a_network_through_all_tables(evaluate: Run, tiny_folder: Path, tmp_path: Path, table: str) -> None:
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


def test_float16_keeps_the_numbers(evaluate: Run, tiny_folder: Path, tmp_path: Path) -> None:
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


def test_pairs_alone_and_fewer_pixels(evaluate: Run, tiny_folder: Path, tmp_path: Path) -> None:
    words = ("--model", tiny_folder, "--size", 32, "--pairwise", "--pixels", 100, "--clips", 1, "-o", tmp_path)
    done = evaluate("tracking", "kubric", *words)
    assert done.code == 0, done.err
    assert "tiny by pairs" in done.out
    with np.load(next(tmp_path.rglob("*.npz"))) as file:
        assert file["points"].shape == (5 * 100, 3)


def test_rows_of_several_models(evaluate: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert "not scored by" not in (tmp_path / "both" / "tables.md").read_text()
    name = r"[50 % of A_b & c] \pi^{2}~$x$ #1|"
    evaluate("tracking", "kubric", "--model", "oracle", "--moving", 0.2, "--name", name, "-o", tmp_path / "moving")
    assert main(["evaluate", "report", *folders, str(tmp_path / "moving"), "-o", str(tmp_path / "both")]) == 0
    text = (tmp_path / "both" / "tables.md").read_text()
    assert "not scored by the same rules and cannot be compared (moving: 0.01, 0.2)" in text
    assert "not over the same clips" not in text
    # Every row of every LaTeX table has all of its columns, and nothing that means something to TeX is left bare.
    latex = (tmp_path / "both" / "tables.tex").read_text()
    body = re.sub(r"\\[%_&#${}]", "", "".join(line for line in latex.splitlines(True) if not line.startswith("%")))
    assert r"{}[50 \% of A\_b \& c] \textbackslash{}pi\textasciicircum{}\{2\}" in latex
    assert body.count("{") == body.count("}")
    assert not re.search(r"[%#~^|]", body)
    for table in body.split(r"\begin{tabular}")[1:]:
        columns = len(re.match(r"\{(l?c+)\}", table)[1])
        rows = [line for line in table.splitlines() if line.endswith(r" \\")]
        assert len(rows) > 3
        assert {row.count("&") + 1 for row in rows} == {columns}
    capsys.readouterr()
    (tmp_path / "oracle" / "scores.json").write_text("{")
    assert main(["evaluate", "report", *folders, "-o", str(tmp_path / "both")]) == 3
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_data_sets_side_by_side(evaluate: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_mistakes(evaluate: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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

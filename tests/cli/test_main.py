"""What the command line promises for every verb: exit codes, one line a failure, quick help."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import vdpm
from fixtures.outcome import Run
from vdpm.cli import info


def test_help_names_every_verb_without_torch() -> None:
    code = "import sys; from vdpm.cli import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "False", "help must not wait for torch"
    for verb in ("reconstruct", "info", "demo", "convert", "train", "evaluate", "scenes"):
        assert f" {verb} " in done.stdout


VERBS = ("reconstruct", "info", "page", "app", "view", "render", "export", "demo", "convert", "scenes")


@pytest.mark.parametrize("verb", [*VERBS, "evaluate families", "train", "data check"])
def test_help_tells_no_default_that_says_nothing(run: Run, verb: str) -> None:
    done = run(*verb.split(), "--help")
    assert done.code == 0
    for nothing in ("(default: None)", "(default: )", "(default: False)", "(default: True)"):
        assert nothing not in " ".join(done.out.split())


@pytest.mark.parametrize("verb", [*VERBS, "evaluate families", "evaluate tracking", "train", "data check"])
def test_help_names_types_without_what_stands_for_nothing(run: Run, verb: str) -> None:
    assert "None" not in run(*verb.split(), "--help").out


@pytest.mark.parametrize("way", ["families", "two-view", "tracking", "video-depth", "camera-pose", "report"])
def test_help_of_a_verb_below_another_describes_it_once(run: Run, way: str) -> None:
    described = next(line for line in run("evaluate", "--help").out.splitlines() if f" {way} " in line)
    words = described.strip("\u2502 ").partition(way)[2].strip()
    text = run("evaluate", way, "--help").out
    assert text.count(words) == 1
    assert "what options" not in text, "all of them stand together"


def test_help_names_types_of_what_may_be_left_out(run: Run) -> None:
    text = " ".join(run("train", "--help").out.replace("\u2502", " ").split())
    for option in ("--steps INT", "--lr FLOAT", "--init STR", "--device {cuda,cpu}", "--cuda-graphs {True,False}"):
        assert f" {option} " in text
    assert " --round-as DIR " in text, "as it is told beside the option"
    assert "[TRAIN OPTIONS] RECIPE" in text


def test_help_flows_over_the_lines_of_the_source(run: Run) -> None:
    lines = [line.strip("\u2502 ") for line in run("train", "--help").out.splitlines()]
    at = next(number for number, line in enumerate(lines) if "weights, to use), onward/" in line)
    assert lines[at + 1] == "another run to go on from), log.jsonl and tensorboard/."


def test_help_tells_the_other_defaults(run: Run) -> None:
    text = " ".join(run("page", "--help").out.replace("\u2502", " ").split())
    assert "a slider shows them. (default: 20.0)" in text
    assert "--overwrite Replace a file that exists." in text


def test_nothing_to_do_shows_help(run: Run) -> None:
    done = run()
    assert done.code == 0
    assert "usage: vdpm" in done.out


def test_version(run: Run) -> None:
    assert run("--version").out == f"vdpm {vdpm.__version__}\n"


def test_version_is_that_of_the_package() -> None:
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    assert f'version = "{vdpm.__version__}"' in text


MORE = "; --help tells more"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("reconstrct", "a.mp4"), "there is no verb 'reconstrct'; did you mean reconstruct"),
        (("zzz",), "there is no verb 'zzz'; vdpm --help names those that there are"),
        (("reconstruct", "a.mp4"), "Missing from vdpm reconstruct: -o DIR, --output DIR" + MORE),
        (
            ("page", "a", "--point", "3"),
            "Unrecognized options: --point, 3; perhaps you meant --points N" + MORE,
        ),
        (("page", "a", "--open", "no"), "Unrecognized options: --open, no" + MORE),
        (
            ("page", "a", "--max-points", "3"),
            "Unrecognized options: --max-points, 3; perhaps you meant --points N" + MORE,
        ),
        (
            ("evaluate", "tracking", "-o", "a", "--clps", "3"),
            "Unrecognized options: --clps, 3; perhaps you meant --clips N" + MORE,
        ),
        (("evaluate", "trackng", "-o", "a"), "evaluate has no 'trackng'; did you mean tracking"),
        (
            ("evaluate", "all"),
            "evaluate has no 'all'; there are families, two-view, tracking, video-depth, camera-pose, report",
        ),
        (("reconstruct", "a", "-o", "b", "--max-frames", "nan"), "--max-frames 'nan' is not a whole number" + MORE),
        (("reconstruct", "a", "-o", "b", "--fps", "x"), "--fps 'x' is not a number" + MORE),
        (("scenes", "-o", "a.png", "--count", "nan"), "--count 'nan' is not a whole number" + MORE),
        (("scenes", "-o", "a.png", "--size", "9"), "--size '9' is not two whole numbers" + MORE),
        (("info", "a", "b"), "Unrecognized options: b" + MORE),
        (("info",), "Missing from vdpm info: DIR" + MORE),
        (("page", ""), "an argument is empty; write a value, or set the variable that it comes from"),
        (("page", "a", "-o", ""), "-o '' is empty; write a value, or set the variable that it comes from"),
    ],
)
def test_wrong_words_are_told_in_one_line(words: tuple[str, ...], said: str) -> None:
    for encoding in ("utf-8", "ascii"):
        done = subprocess.run(
            [sys.executable, "-m", "vdpm", *words],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )
        assert (done.returncode, done.stderr) == (2, f"vdpm: error: {said}\n")


def test_a_fault_of_ours_is_one_line_with_a_hint(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("wires\ncrossed")

    monkeypatch.delenv("VDPM_TRACEBACK", raising=False)
    monkeypatch.setattr(info.Info, "run", fail)
    done = run("info", tmp_path)
    assert done.code == 70
    assert done.err.splitlines() == [
        "vdpm: error: RuntimeError: wires crossed (this is a fault of vdpm; VDPM_TRACEBACK=1 shows where)"
    ]
    monkeypatch.setenv("VDPM_TRACEBACK", "1")
    assert "Traceback" in run("info", tmp_path).err


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")]
)
def test_out_of_memory_names_the_remedy(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr(info.Info, "run", fail)
    done = run("info", tmp_path)
    assert done.code == 1
    assert done.err == "vdpm: error: out of memory; use fewer frames (--max-frames) or a smaller --size\n"


def test_interrupt(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(info.Info, "run", interrupt)
    done = run("info", tmp_path)
    assert (done.code, done.err) == (130, "vdpm: error: interrupted\n")


def test_reader_that_leaves(tmp_path: Path) -> None:
    """``vdpm ... | head -0``: no complaint about the closed pipe."""
    command = f"{sys.executable} -c 'from vdpm.cli import main; raise SystemExit(main([\"--help\"]))' | true"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""


def test_public_names_load() -> None:
    for name in vdpm.__all__:
        assert getattr(vdpm, name) is not None
    assert set(vdpm.__all__) <= set(dir(vdpm))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = vdpm.no_such_name

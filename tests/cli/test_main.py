"""What the command line promises for every verb: exit codes, one line a failure, quick help."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

import vdpm
from fixtures.outcome import Outcome, Run
from vdpm.cli import info


def test_help_names_every_verb_without_torch() -> None:
    code = "import sys; from vdpm.cli import main\ntry: main(['--help'])\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "False", "help must not wait for torch"
    for verb in ("reconstruct", "info", "demo", "convert", "train", "evaluate", "scenes"):
        assert f" {verb} " in done.stdout


HELPS: dict[str, Outcome] = {}
VERBS = ("reconstruct", "info", "page", "app", "view", "render", "export", "demo", "convert", "scenes")


@pytest.fixture
def help_of(run: Run) -> Callable[[str], str]:
    """The help of a verb, asked for once by all tests."""

    def call(verb: str) -> str:
        if verb not in HELPS:
            HELPS[verb] = run(*verb.split(), "--help")
        assert HELPS[verb].code == 0
        return HELPS[verb].out

    return call


@pytest.mark.parametrize("verb", [*VERBS, "evaluate families", "train", "data check"])
def test_help_tells_no_default_that_says_nothing(help_of: Callable[[str], str], verb: str) -> None:
    text = help_of(verb)
    for nothing in ("(default: None)", "(default: )", "(default: False)", "(default: True)"):
        assert nothing not in " ".join(text.split())


@pytest.mark.parametrize("verb", [*VERBS, "evaluate families", "evaluate tracking", "train", "data check"])
def test_help_names_types_without_what_stands_for_nothing(help_of: Callable[[str], str], verb: str) -> None:
    assert "None" not in help_of(verb)


@pytest.mark.parametrize("way", ["families", "two-view", "tracking", "video-depth", "camera-pose", "report"])
def test_help_of_a_verb_below_another_describes_it_once(help_of: Callable[[str], str], way: str) -> None:
    described = next(line for line in help_of("evaluate").splitlines() if f" {way} " in line)
    words = described.strip("\u2502 ").partition(way)[2].strip()
    text = help_of(f"evaluate {way}")
    assert text.count(words) == 1
    assert "what options" not in text, "all of them stand together"


def test_help_names_types_of_what_may_be_left_out(help_of: Callable[[str], str]) -> None:
    text = " ".join(help_of("train").replace("\u2502", " ").split())
    for option in ("--steps INT", "--lr FLOAT", "--init STR", "--device {cuda,cpu}", "--cuda-graphs {True,False}"):
        assert f" {option} " in text
    assert " --round-as DIR " in text, "as it is told beside the option"
    assert "[TRAIN OPTIONS] RECIPE" in text


def test_help_flows_over_the_lines_of_the_source(help_of: Callable[[str], str]) -> None:
    lines = [line.strip("\u2502 ") for line in help_of("train").splitlines()]
    at = next(number for number, line in enumerate(lines) if "weights, to use), onward/" in line)
    assert lines[at + 1] == "another run to go on from), log.jsonl and tensorboard/."


def test_help_tells_the_other_defaults(help_of: Callable[[str], str]) -> None:
    text = " ".join(help_of("page").replace("\u2502", " ").split())
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
ENCODINGS = ("utf-8", "ascii")
# Reads words and a file's name from each line, and runs vdpm with the words in a copy of itself, errors in the file.
COPIES = """
import importlib, json, os, sys
import tyro
from vdpm.cli import main
for verb in json.loads(sys.argv[1]):
    importlib.import_module(f"vdpm.cli.{verb}")
for line in sys.stdin:
    words, errors = json.loads(line)
    if os.fork() == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        sys.exit(main(words))
    print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
"""
ToldElsewhere = dict[str, Callable[[tuple[str, ...]], tuple[int, str]]]


@pytest.fixture(scope="module")
def told_elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToldElsewhere]:
    """``told_elsewhere[encoding](words)``: exit code and errors of ``vdpm`` where a terminal has this encoding.

    In a process for each encoding, copied for every call, so that what all calls import is imported once.
    """
    errors = tmp_path_factory.mktemp("told") / "errors"
    verbs = json.dumps([*VERBS, "train", "evaluate", "data"])
    waiting = {
        encoding: subprocess.Popen(
            [sys.executable, "-c", COPIES, verbs],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )
        for encoding in ENCODINGS
    }

    def call(encoding: str, words: tuple[str, ...]) -> tuple[int, str]:
        process = waiting[encoding]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([words, str(errors)]) + "\n")
        process.stdin.flush()
        code = process.stdout.readline()
        return int(code), errors.read_text(encoding=encoding)

    yield {encoding: partial(call, encoding) for encoding in ENCODINGS}
    for process in waiting.values():
        process.communicate(timeout=60)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_wrong_words_end_the_process_itself(encoding: str) -> None:
    command = [sys.executable, "-m", "vdpm", "page", "a", "--point", "3"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    said = f"vdpm: error: Unrecognized options: --point, 3; perhaps you meant --points N{MORE}\n"
    assert (done.returncode, done.stderr) == (2, said)


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
def test_wrong_words_are_told_in_one_line(words: tuple[str, ...], said: str, told_elsewhere: ToldElsewhere) -> None:
    for encoding in ENCODINGS:
        assert told_elsewhere[encoding](words) == (2, f"vdpm: error: {said}\n")


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

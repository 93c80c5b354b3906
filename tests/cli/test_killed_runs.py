"""What a run that was killed outright leaves, and what the next one says and does about it."""

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

import vdpm
from fixtures.outcome import Run
from vdpm.archive import hold
from vdpm.errors import OutputError

KILLED_AT = """
import os, signal, sys
from vdpm.archive.writer import ReconstructionWriter
from vdpm.cli import main

method, number = sys.argv.pop(1), int(sys.argv.pop(1))
whole, calls = getattr(ReconstructionWriter, method), []

def killed(*arguments):
    if len(calls) == number:
        os.kill(os.getpid(), signal.SIGKILL)
    calls.append(None)
    return whole(*arguments)

setattr(ReconstructionWriter, method, killed)
main(sys.argv[1:])
"""


@pytest.fixture
def words(clip: Path, tiny_folder: Path, tmp_path: Path) -> list[object]:
    bare = ["--no-preview", "--ply", "none"]
    return ["reconstruct", clip, "-o", tmp_path / "out", "--model", tiny_folder, "--size", 32, *bare]


def kill(words: list[object], method: str, calls: int) -> None:
    """Runs ``words`` in a process that ends itself at the call of the writer's ``method`` after ``calls``."""
    command = [sys.executable, "-c", KILLED_AT, method, str(calls), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_part_of_a_result_is_told_from_a_whole_one(run: Run, words: list[object], tmp_path: Path) -> None:
    kill(words, "write_target", 2)
    assert {path.name for path in tmp_path.iterdir()} == {"out", ".out.lock"}
    again = run(*words)
    assert again.code == 5
    assert again.err.splitlines()[-1] == (
        f"vdpm: error: {tmp_path / 'out'}: holds a run that was cut off, with points at 2 of 5 times; "
        "pass --overwrite to begin again, or choose another"
    )
    with pytest.raises(OutputError, match="points at 2 of 5 times"):
        vdpm.reconstruct(words[1], output=tmp_path / "out")  # type: ignore[arg-type]
    planned = run(*words, "--plan")
    assert planned.code == 0, planned.err
    assert "out, which holds a run that was cut off, with points at 2 of 5 times\n" in planned.out
    assert vdpm.load(tmp_path / "out").maps.targets == (0, 1), "what is there can be read, and was left alone"
    over = run(*words, "--overwrite")
    assert over.code == 0, over.err
    assert len(vdpm.load(tmp_path / "out").maps.targets) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "the lock of the killed process went as well"
    whole = run(*words)
    assert whole.err.splitlines()[-1].endswith("out: exists; choose another or pass --overwrite")


def test_killed_before_anything_can_be_read_the_same_command_begins_again(
    run: Run, words: list[object], tmp_path: Path
) -> None:
    kill(words, "write_cameras", 0)
    assert {path.name for path in tmp_path.iterdir()} == {".out.partial", ".out.lock"}
    again = run(*words)
    assert again.code == 0, again.err
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_one_without_times_and_one_that_goes_on(run: Run, words: list[object], tmp_path: Path) -> None:
    words = [*words, "--targets", "none"]
    kill(words, "finish", 0)
    assert "holds a run that was cut off, with shape and cameras; pass" in run(*words).err
    with ThreadPoolExecutor(1) as thread, ExitStack() as other:
        thread.submit(other.enter_context, hold(tmp_path / "out")).result()
        assert "another run (process" in run(*words).err, "nothing is cut off while a run still writes"
        thread.submit(other.close).result()

"""Standard streams that are closed, or that lead to a full disk: no fault of ours, and no file in their place."""

import subprocess
import sys
from pathlib import Path

import pytest

FULL = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)); "
MAIN = "from vdpm.cli import main; raise SystemExit(main({words!r}))"


def shell(code: str, redirection: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = ["bash", "-c", f'exec "$0" -B -c "$1" {redirection}', sys.executable, code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder)


@pytest.mark.parametrize("words", [["--version"], ["--help"]])
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_mistake(words: list[str], closed: str, tmp_path: Path) -> None:
    done = shell(MAIN.format(words=words), closed, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (closed == "2>&-")


def test_a_mistake_is_told_though_the_output_is_closed(tmp_path: Path) -> None:
    done = shell(MAIN.format(words=["nothing"]), ">&-", tmp_path)
    assert done.returncode == 2
    assert done.stderr == "vdpm: error: there is no verb 'nothing'; vdpm --help names those that there are\n"


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["page", "--help"]])
def test_a_full_disk_behind_the_output(words: list[str], tmp_path: Path) -> None:
    done = shell(FULL + MAIN.format(words=words), "> said.txt", tmp_path)
    said = "vdpm: error: standard output cannot be written (file too large); send it elsewhere\n"
    assert (done.returncode, done.stderr) == (5, said)

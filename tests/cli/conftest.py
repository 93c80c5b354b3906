"""The command line in this process, with a tiny network and small clips."""

from pathlib import Path

import pytest

from fixtures.outcome import Outcome, Run
from vdpm.cli import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run ``vdpm`` with the given words; leaving by tyro (help, wrong option) counts as an outcome too."""

    def call(*words: object) -> Outcome:
        capsys.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as leave:
            code = int(leave.code or 0)
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture
def reconstruct(run: Run, tiny_folder: Path) -> Run:
    """``vdpm reconstruct`` with the tiny network on small images."""

    def call(*words: object) -> Outcome:
        return run("reconstruct", *words, "--model", tiny_folder, "--size", 32)

    return call

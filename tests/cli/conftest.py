"""The command line in this process, with a tiny network and small clips."""

from pathlib import Path

import pytest

from fixtures.clips import write_clip
from fixtures.outcome import Outcome, Run
from fixtures.tiny_network import tiny_network
from vdpm.cli import main


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    tiny_network().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", num_frames=5)


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

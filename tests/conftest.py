"""Fixtures that several rooms share."""

from pathlib import Path

import pytest

from fixtures.clips import write_clip
from fixtures.tiny_network import tiny_network

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Reference material beside the repository; tests that want it skip where it is absent."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "parity").is_dir():
        pytest.skip("reference material (../shared) is not beside the repository")
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a tiny network."""
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    tiny_network().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five frames over 0.4 seconds."""
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", num_frames=5)

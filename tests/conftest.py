"""Fixtures that several rooms share."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Reference material beside the repository; tests that want it skip where it is absent."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "parity").is_dir():
        pytest.skip("reference material (../shared) is not beside the repository")
    return folder

"""A running app, with a worker that is no network."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.clips import write_clip
from fixtures.tiny_network import tiny_network
from vdpm.app.limits import Limits


@pytest.fixture
def start() -> Iterator[Callable[..., Any]]:
    """``start(limits, keep=None, command=FAKE)``."""
    from fixtures.running_app import RunningApp

    running: list[Any] = []

    def call(limits: Limits | None = None, **options: Any) -> Any:
        running.append(RunningApp(limits or Limits(), **options))
        return running[-1]

    yield call
    for app in running:
        app.close()


@pytest.fixture
def app(start: Callable[..., Any]) -> Any:
    return start(Limits(upload_bytes=100_000, waiting=3, results=3))


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    tiny_network().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five frames over 0.4 seconds."""
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", num_frames=5)

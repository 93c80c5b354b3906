"""A running app, with a worker that is no network."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

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

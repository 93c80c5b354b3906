"""A viewer of a small scene, and what it takes to speak to it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from fixtures.live_client import LiveClient
from fixtures.moving_sphere import MovingSphere, make_moving_sphere


@pytest.fixture(scope="session")
def viser() -> Any:
    return pytest.importorskip("viser", reason="viser is not installed (pip install 'vdpm[view]')")


@pytest.fixture(scope="module")
def scene() -> MovingSphere:
    return make_moving_sphere(size=(96, 128))


@pytest.fixture(scope="module")
def viewer(viser: Any, scene: MovingSphere) -> Iterator[Any]:
    from vdpm.viewer.live.viewer import Viewer

    with Viewer(scene.reconstruction, port=18090) as opened:
        yield opened


@pytest.fixture
def come(viser: Any) -> Iterator[Callable[[Any], Any]]:
    """``come(viewer)``: the session of one browser more, which stays while the test lasts."""
    with ExitStack() as clients:
        yield lambda viewer: clients.enter_context(LiveClient(viewer))


@pytest.fixture
def session(viewer: Any, come: Callable[[Any], Any]) -> Any:
    return come(viewer)

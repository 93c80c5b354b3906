"""A viewer of a small scene, and what it takes to speak to it."""

from collections.abc import Iterator
from typing import Any

import pytest

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

"""The scene whose sides are known, for all formats."""

import pytest

from fixtures.sided_scene import sided_scene
from vdpm.structures import Reconstruction


@pytest.fixture(scope="module")
def scene() -> Reconstruction:
    return sided_scene()

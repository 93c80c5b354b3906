"""The file itself: nothing outside is named, foreign names stay text, and what it says of itself is true."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fixtures.moving_sphere import make_moving_sphere
from vdpm.viewer.choice import choose_points
from vdpm.viewer.packing import PositionGrid, from_text, unpack_bytes, unpack_positions
from vdpm.viewer.page import write_page

EVIL = "</script><script>alert(1)</script>@META@.mp4"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "a.html"
    write_page(replace(make_moving_sphere().reconstruction, name=EVIL), path)
    return path.read_text()


def part(text: str, name: str) -> str:
    found = re.search(rf'<script [^>]*id="{name}">(.*?)</script>', text, re.DOTALL)
    assert found
    return found[1]


def test_the_policy_allows_its_own_script_and_style_alone(text: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    styles = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    assert (len(scripts), len(styles)) == (1, 1)
    for content, kind in ((scripts[0], "script"), (styles[0], "style")):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy[1]
    assert "default-src 'none'" in policy[1]
    assert "unsafe" not in policy[1]


def test_nothing_outside_is_named(text: str) -> None:
    assert not re.search(r"https?://|//[a-z]+\.[a-z]+/|@import|url\(", text)


def test_a_name_stays_text(text: str) -> None:
    assert "alert(1)</script>" not in text
    assert json.loads(part(text, "meta"))["name"] == EVIL


def test_what_is_packed_is_the_choice(text: str) -> None:
    choice = choose_points(make_moving_sphere().reconstruction)
    meta = json.loads(part(text, "meta"))
    grid = PositionGrid(np.array(meta["grid"]["low"]), meta["grid"]["step"])
    for kind, points in (("still", choice.still), ("moving", choice.moving)):
        packed = from_text(part(text, "data"), meta[kind]["places"])
        times = points.positions.shape[0]
        steps = unpack_positions(packed["positions"], times, len(points))
        assert np.abs(grid.decode(steps) - points.positions).max() <= grid.step / 2 + 1e-6
        assert (unpack_bytes(packed["colors"], 3) == points.colors).all()
        assert meta[kind]["runs"] == np.bincount(points.source, minlength=5).tolist()
    assert meta["times"] == [0, 1, 2, 3, 4]


def test_conventions_and_threshold_are_stated(text: str) -> None:
    said = dict(json.loads(part(text, "meta"))["conventions"])
    assert "y down" in said["Axes"]
    assert "frame 0" in said["World"]
    assert "20 %" in said["Confidence"]
    assert "arbitrary" in said["Scale"]


def test_the_same_result_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("a.html", "b.html"):
        write_page(make_moving_sphere(num_frames=3, size=(24, 32)).reconstruction, tmp_path / name)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()

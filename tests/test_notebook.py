"""What a notebook shows of a result: HTML that is whole in itself, and opens in a browser."""

import base64
import io
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vdpm
from fixtures.moving_sphere import MovingSphere, make_moving_sphere
from vdpm.archive import save
from vdpm.errors import UsageError


@pytest.fixture(scope="module")
def scene() -> MovingSphere:
    return make_moving_sphere(num_frames=4, size=(48, 64))


def pictures(shown: str) -> list[np.ndarray]:
    """The frames of the inline picture."""
    image = Image.open(io.BytesIO(base64.b64decode(re.findall(r'src="data:image/webp;base64,([^"]+)"', shown)[0])))
    found = []
    for row in range(getattr(image, "n_frames", 1)):
        image.seek(row)
        found.append(np.asarray(image.convert("RGB")).astype(float))
    return found


def test_a_result_shows_what_it_is(scene: MovingSphere) -> None:
    shown = scene.reconstruction._repr_html_()
    text = re.sub(r"<[^>]+>", " ", shown)
    for words in ("sphere.mp4", "4 from 0.00 s to 2.00 s, 64 × 48 pixels", "at 4 times", "closed form"):
        assert words in text
    assert len(shown) < 200_000
    assert re.findall(r"(?:src|href|url)\W*([a-z]+:)", shown) == ["data:"], "nothing is asked for"


def test_in_a_terminal_it_is_one_line(scene: MovingSphere) -> None:
    said = repr(scene.reconstruction)
    assert said == "<Reconstruction of sphere.mp4: 4 frames of 64 x 48, points at 4 times, closed form>"


def test_its_picture_moves_as_the_frames_do(scene: MovingSphere) -> None:
    found = pictures(scene.reconstruction._repr_html_())
    assert len(found) == 4
    assert found[0].shape == (150, 3 * 200 + 2 * 4, 3)
    for picture, frame in zip(found, scene.reconstruction.frames.numpy()):
        small = np.asarray(Image.fromarray(frame).resize((200, 150), Image.Resampling.LANCZOS))
        assert np.abs(picture[:, :200] - small).mean() < 12
    moving = np.asarray(Image.fromarray(scene.moving[0].numpy()).resize((200, 150)))
    motion = found[0][:, 408:]
    assert motion[~moving].mean() > 245, "rest is white"
    assert motion[moving].mean() < 225


def test_names_are_text(scene: MovingSphere) -> None:
    result = replace(scene.reconstruction, name="<script>alert(1)</script>\"'")
    assert "<script" not in result._repr_html_()
    framed = result.show()._repr_html_()
    assert framed.count("<") == 2, "the frame's own two tags alone"
    assert "<script>alert" not in framed


@pytest.mark.parametrize(("frames", "targets"), [(1, (0,)), (3, ()), (3, (1,)), (30, (0, 29))])
def test_any_choice_of_times(frames: int, targets: tuple[int, ...]) -> None:
    result = make_moving_sphere(num_frames=frames, size=(24, 32), targets=targets).reconstruction
    found = pictures(result._repr_html_())
    assert len(found) == min(frames, 12)
    assert found[0].shape[1] == (608 if len(targets) > 1 else 404)


def test_damage_is_told(scene: MovingSphere, tmp_path: Path) -> None:
    save(scene.reconstruction, tmp_path / "result")
    result = vdpm.load(tmp_path / "result")
    maps = tmp_path / "result" / "maps" / "p.npy"
    maps.write_bytes(maps.read_bytes()[:-100])
    shown = result._repr_html_()
    assert "no picture: " in shown
    assert "p.npy" in shown


def test_heights_out_of_range(scene: MovingSphere) -> None:
    with pytest.raises(UsageError, match="height 10 "):
        scene.reconstruction.show(height=10)


def test_nothing_is_loaded_before_it_is_asked_for() -> None:
    """Neither by the package nor by the plain data."""
    asked = "import sys, vdpm; assert 'torch' not in sys.modules; import vdpm.structures; "
    asked += "assert not {'vdpm.notebook', 'vdpm.viewer', 'vdpm.export', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", asked], check=True)


@pytest.fixture
def tab(browser: Any) -> Iterator[Any]:
    opened = browser.new_page(viewport={"width": 900, "height": 900})
    yield opened
    opened.close()


def test_both_in_a_browser_without_a_request(scene: MovingSphere, tab: Any, tmp_path: Path) -> None:
    """Put into a page as a notebook puts what its cells show."""
    view = scene.reconstruction.show(height=480)
    assert "vdpm.write_page" in repr(view)
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!doctype html><meta charset=utf-8>{scene.reconstruction._repr_html_()}{view._repr_html_()}")
    asked: list[str] = []
    said: list[str] = []
    tab.on("request", lambda request: asked.append(request.url))
    tab.on("console", lambda message: said.append(message.text))
    tab.goto(notebook.as_uri())
    frame = next(frame for frame in tab.frames if frame is not tab.main_frame)
    for _ in range(600):
        if frame.evaluate("!!window.vdpm || !!document.querySelector('#message.failed')"):
            break
        tab.wait_for_timeout(50)
    assert frame.evaluate("vdpm.count()") > 1000
    assert frame.evaluate("window.origin") == "null", "it sees nothing of the notebook"
    assert tab.evaluate("document.querySelector('iframe').clientHeight") == 480
    assert tab.evaluate("document.querySelector('img').naturalWidth") == 608
    assert [url for url in asked if not url.startswith(("data:", "about:"))] == [notebook.as_uri()]
    assert said == []

"""The gallery's command on a small result: its pictures, what it says of them, and its limit."""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fixtures.moving_sphere import make_moving_sphere
from vdpm.archive import save

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gallery.py"


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT), run_name="gallery")


def run(names: dict[str, Any], monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["gallery.py", *map(str, words), "--no-browser"])
    names["main"]()


def test_pictures_of_a_result(names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = make_moving_sphere(num_frames=4, size=(48, 64))
    save(scene.reconstruction, tmp_path / "ball")
    film = names["FilmOptions"](camera="swing", size=96, seconds=0.5, fps=10.0)
    monkeypatch.setitem(names["draw_all"].__globals__, "FILM", film)
    run(names, monkeypatch, tmp_path / "ball", "-o", tmp_path / "out")
    made = json.loads((tmp_path / "out" / "made_by.json").read_text())
    assert made["clips"]["ball"]["model"] == "closed form"
    counts = {"ball_overview": 1, "ball_maps": 4, "ball_tracks": 4, "ball_swing": 5}
    assert set(made["bytes"]) == {f"{name}.webp" for name in counts}
    for name, count in counts.items():
        path = tmp_path / "out" / f"{name}.webp"
        with Image.open(path) as image:
            assert getattr(image, "n_frames", 1) == count
            assert np.asarray(image.convert("RGB")).std() > 5
        assert made["bytes"][path.name] == path.stat().st_size
    with pytest.raises(SystemExit, match="more than 1 KiB"):
        run(names, monkeypatch, tmp_path / "ball", "-o", tmp_path / "out", "--kib", 1)


def test_tracks_lie_on_what_they_follow(names: dict[str, Any]) -> None:
    scene = make_moving_sphere(num_frames=4, size=(48, 64))
    chosen = names["spread"](scene.moving[0], 9)
    assert 2 <= len(chosen) <= 9
    x, y = chosen.long().unbind(-1)
    assert scene.moving[0][y, x].all()
    pictures = names["track_pictures"](scene.reconstruction)
    assert len(pictures) == 4
    assert pictures[0].size == (480, 360)


def test_the_pictures_in_the_repository_are_those_it_says() -> None:
    folder = SCRIPT.parents[1] / "docs" / "images" / "gallery"
    made = json.loads((folder / "made_by.json").read_text())
    assert made["bytes"] == {path.name: path.stat().st_size for path in folder.glob("*.webp")}
    assert sum(made["bytes"].values()) < 1.5 * 2**20
    shown = "".join((folder.parents[1] / page).read_text() for page in ("gallery.md", "app.md"))
    for name in made["bytes"]:
        assert f"images/gallery/{name}" in shown

"""The examples as a user runs them, on a scene whose truth is known, and on a video with a tiny network."""

import csv
import functools
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vdpm
from fixtures.clips import write_clip
from fixtures.moving_sphere import MovingSphere, make_moving_sphere
from fixtures.tiny_network import tiny_network
from vdpm.archive import save
from vdpm.geometry.rigid import quaternion_to_matrix

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def scene() -> MovingSphere:
    return make_moving_sphere(num_frames=4)


@pytest.fixture(scope="module")
def saved(scene: MovingSphere, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "result"
    save(scene.reconstruction, folder)
    return folder


def run(monkeypatch: pytest.MonkeyPatch, name: str, *words: object) -> dict[str, Any]:
    """The script's names after it ran."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
    return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_scene_flow(
    scene: MovingSphere, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run(monkeypatch, "scene_flow.py", saved, "-o", tmp_path / "flow.npz")
    data = np.load(tmp_path / "flow.npz")
    moving = scene.moving[:-1].numpy()
    assert (data["moving"] == moving).mean() > 0.98
    assert data["flow"][~moving].max() < 0.01
    frame = 1
    points = scene.reconstruction.maps.time_variant(frame).points
    expected = scene.at_time(points, frame, frame + 1) - points
    assert np.abs(data["flow"][frame][moving[frame]] - expected.numpy()[moving[frame]]).max() < 0.01
    assert data["seconds"] == pytest.approx([2 / 3] * 3)
    with Image.open(tmp_path / "flow.webp") as picture:
        assert (picture.n_frames, picture.size) == (3, (64, 48))
    assert "% of the pixels move" in capsys.readouterr().out


def test_follow_pixels(
    scene: MovingSphere, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    y, x = (int(values[len(values) // 2]) for values in torch.nonzero(scene.moving[0], as_tuple=True))
    run(monkeypatch, "follow_pixels.py", saved, f"{x + 0.5},{y + 0.5}", "2.5,3.5", "-o", tmp_path / "tracks.csv")
    with (tmp_path / "tracks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    start = scene.reconstruction.maps.time_variant(0).points[y, x]
    for row in rows[:4]:
        expected = scene.at_time(start, 0, int(row["frame"]))
        assert [float(row[axis]) for axis in "xyz"] == pytest.approx(expected.tolist(), abs=0.01)
    assert (rows[0]["video_x"], rows[0]["video_y"], rows[0]["seen"]) == (f"{x + 0.5:.2f}", f"{y + 0.5:.2f}", "1")
    with Image.open(tmp_path / "tracks.webp") as picture:
        assert picture.size == (512, 384)
        shown = np.asarray(picture.convert("RGB")).astype(int)
    mark = shown[int((y + 0.5) * 8), int((x + 0.5) * 8)]
    assert np.abs(mark - (232, 163, 61)).max() < 40
    still = capsys.readouterr().out.splitlines()[1]
    assert still.startswith("2.5,3.5: goes 0.00")


def test_to_blender(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    trimesh = pytest.importorskip("trimesh", reason="no reader of GLB is installed (pip install '.[readers]')")
    run(monkeypatch, "to_blender.py", saved, "-o", tmp_path / "scene", "--metres", 3, "--points", 2000)
    loaded = trimesh.load(tmp_path / "scene" / "points.glb")
    points = np.concatenate([cloud.vertices for cloud in loaded.geometry.values()])
    assert 500 < len(points) <= 2000
    assert np.median(-points[:, 2]) == pytest.approx(3 * 4.0, rel=0.2), "the wall is four units away"
    script = (tmp_path / "scene" / "scene.py").read_text()
    compile(script, "scene.py", "exec")
    assert "bpy" in script
    assert f"-- {tmp_path / 'scene' / 'points.glb'}" in capsys.readouterr().out


def test_depth_that_16_bits_cannot_say_is_unknown(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    run(monkeypatch, "robot_view.py", saved, "-o", tmp_path / "robot", "--metres", 20)
    truth = 20 * vdpm.depth(vdpm.load(saved), 2).numpy()
    depth = np.asarray(Image.open(tmp_path / "robot" / "depth" / "00002.png"))
    assert (truth > 65.6).any()
    assert (truth < 65.4).any()
    assert (depth[truth > 65.6] == 0).all()
    assert np.abs(depth / 1000 - truth)[truth < 65.4].max() < 0.1


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("robot_view.py", ("--metres", "nan"), "--metres nan must be above 0"),
        ("robot_view.py", ("--metres", "0"), "--metres 0 must be above 0"),
        ("to_blender.py", ("--metres", "-1"), "--metres -1 must be above 0"),
        ("follow_pixels.py", ("500,20",), "pixel 500,20 is outside of the video's picture of 64 x 48"),
    ],
)
def test_numbers_that_cannot_be_meant(
    name: str,
    words: tuple[str, ...],
    said: str,
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    with pytest.raises(SystemExit) as left:
        run(monkeypatch, name, saved, *words, "-o", tmp_path / "out")
    assert left.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


NAMES = (
    ("scene_flow.py", ()),
    ("follow_pixels.py", ("20,20",)),
    ("to_blender.py", ()),
    ("robot_view.py", ()),
)


@pytest.mark.parametrize("video", ["missing.mp4", "text.mp4", "damaged"])
@pytest.mark.parametrize(("name", "words"), NAMES)
def test_a_video_that_cannot_be_read_is_told_in_one_line(
    name: str, words: tuple[str, ...], video: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "reconstruction.json").write_text("{")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as left:
        run(monkeypatch, name, tmp_path / video, *words, "-o", tmp_path / "out")
    assert left.value.code == 3, "as the verbs of vdpm"
    *progress, said = capsys.readouterr().err.splitlines()
    assert said.startswith(f"{name}: error: ")
    assert video in said
    assert not [line for line in progress if "loading" not in line]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("name", "words"), NAMES[:2])
def test_a_place_that_is_not_there_is_told_before_the_work(
    name: str, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    with pytest.raises(SystemExit) as left:
        run(monkeypatch, name, tmp_path / "missing.mp4", *words, "-o", tmp_path / "nowhere" / "out.npz")
    assert left.value.code == 2
    assert f"there is no folder {tmp_path / 'nowhere'}" in capsys.readouterr().err


def test_robot_view(
    scene: MovingSphere, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    names = run(monkeypatch, "robot_view.py", saved, "-o", tmp_path / "robot", "--metres", 2)
    result = scene.reconstruction
    rows = np.loadtxt(tmp_path / "robot" / "trajectory.txt")
    assert rows[:, 0] == pytest.approx(result.timestamps.tolist(), abs=1e-5)
    right, down, forward = (2 * result.cameras.centers[-1]).tolist()
    assert rows[-1, 1:4] == pytest.approx([forward, -right, -down], abs=1e-3)
    turned = quaternion_to_matrix(torch.tensor(rows[-1, 4:]))
    looks = turned @ torch.tensor([0.0, 0, 1], dtype=torch.float64)
    ahead = result.cameras.c2w[-1, :3, 2].tolist()
    assert looks.tolist() == pytest.approx([ahead[2], -ahead[0], -ahead[1]], abs=1e-3)
    depth = np.asarray(Image.open(tmp_path / "robot" / "depth" / "00002.png"))
    assert depth.dtype == np.uint16
    assert np.abs(depth / 2000 - vdpm.depth(result, 2).numpy()).max() < 0.01

    view = next(names["views"](result, 2.0, 1.5))
    distance, place = names["nearest_mover"](view)
    ball = 2 * scene.centers[0]
    assert distance == pytest.approx(float(ball.norm()) - 2 * 0.55, abs=0.15)
    assert (place - torch.tensor([ball[2], -ball[0], -ball[1]])).norm() < 2 * 0.6
    assert capsys.readouterr().out.count("something moves") == 4
    unsure = next(names["views"](result, 2.0, 30.0))
    assert unsure.depth.isnan().all()
    assert names["nearest_mover"](unsure) is None


@pytest.mark.parametrize(
    ("name", "words", "files"),
    [
        ("scene_flow.py", ("-o", "flow.npz"), ["flow.npz", "flow.webp"]),
        ("follow_pixels.py", ("20,20", "-o", "tracks.csv"), ["tracks.csv", "tracks.webp"]),
        ("to_blender.py", ("-o", "out"), ["out"]),
        ("robot_view.py", ("-o", "out"), ["out"]),
    ],
)
def test_each_from_a_video(
    name: str, words: tuple[str, ...], files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    small = functools.partial(vdpm.reconstruct, model=tiny_network(), size=32)
    monkeypatch.setattr(vdpm, "reconstruct", small)
    monkeypatch.chdir(tmp_path)
    clip = write_clip(tmp_path / "clip.mp4", num_frames=4)
    run(monkeypatch, name, clip, *words)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["clip.mp4", *files])
    assert capsys.readouterr().out


def test_helps_name_their_own_file() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert f"python examples/{path.name}" in path.read_text(), path.name

"""Formats of plain numbers: NPZ, TAPVid-3D, TUM, .chan, JSON and the script for Blender, read by NumPy and Python."""

import ast
import json
import math
import runpy
import sys
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from PIL import Image

from fixtures.moving_sphere import make_moving_sphere
from fixtures.sided_scene import SIZE, sided_scene
from fixtures.sides import check_picture, check_world
from vdpm.errors import UsageError
from vdpm.export.axes import Axes, turn_points
from vdpm.export.blender import SCRIPT
from vdpm.export.formats import export
from vdpm.export.options import ExportOptions
from vdpm.motion import depth, fuse, project_to, tracks
from vdpm.structures import Reconstruction


def test_npz_holds_every_map(scene: Reconstruction, tmp_path: Path) -> None:
    export(scene, "npz", tmp_path / "a.npz", ExportOptions(frames=(0, 2), axes="blender", scale=2.0))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as read:
        data = dict(read)
    assert data["points_at"].shape == (2, 2, *SIZE, 3)
    for row, frame in enumerate((0, 2)):
        own = scene.maps.time_variant(frame)
        assert np.allclose(data["points"][row], turn_points(own.points.numpy(), "blender", 2.0))
        assert np.array_equal(data["images"][row], scene.frames[frame].numpy())
        assert np.allclose(data["depth"][row], 2 * depth(scene, frame).numpy())
        for column, source in enumerate((0, 2)):
            truth = scene.maps.at(frame, source)
            assert np.allclose(data["points_at"][row, column], turn_points(truth.points.numpy(), "blender", 2.0))
            assert np.allclose(data["confidence_at"][row, column], truth.confidence.numpy())
    check_world(data["points"][0].reshape(-1, 3) / 2, data["images"][0].reshape(-1, 3), "blender")
    # Through the archive's own cameras, which look along -z.
    w2c = np.linalg.inv(data["c2w"][0])
    seen = (data["points"][0] @ w2c[:3, :3].T + w2c[:3, 3]) * [1, -1, -1]
    image = seen @ data["intrinsics"][0].T
    assert np.allclose(image[..., :2] / image[..., 2:], data["pixels"], atol=1e-4)
    assert json.loads(str(data["conventions"]))["camera_axes"].endswith("looks along -z")


def test_npz_takes_every_nth_pixel(scene: Reconstruction, tmp_path: Path) -> None:
    export(scene, "npz", tmp_path / "a.npz", ExportOptions(stride=3))
    with np.load(tmp_path / "a.npz") as data:
        assert data["points"].shape == (3, 6, 8, 3)
        assert np.allclose(data["points"][1], scene.maps.time_variant(1).points[::3, ::3].numpy())
        assert data["pixels"][1, 1].tolist() == [3.5, 3.5]


def test_tapvid_tracks_are_in_the_cameras_of_their_frames(tmp_path: Path) -> None:
    scene = make_moving_sphere(num_frames=4, size=(24, 32)).reconstruction
    export(scene, "tapvid3d", tmp_path / "a.npz", ExportOptions(tracks=30, scale=2.0, track_source=1))
    with np.load(tmp_path / "a.npz", allow_pickle=False) as read:
        data = dict(read)
    queries = data["queries_xyt"]
    assert (queries[:, 2] == 1).all()
    truth = tracks(scene, 1, torch.from_numpy(queries[:, :2]))
    assert np.array_equal(data["visibility"], truth.visible.numpy())
    fx, fy, cx, cy = data["fx_fy_cx_cy"]
    for frame in range(4):
        x, y, z = data["tracks_XYZ"][frame].T
        pixels, deep = project_to(scene, truth.points[frame], frame)
        assert np.allclose(np.stack([fx * x / z + cx, fy * y / z + cy], axis=1), pixels.numpy(), atol=1e-3)
        assert np.allclose(z, 2 * deep.numpy(), atol=1e-4)
        picture = np.array(Image.open(BytesIO(bytes(data["images_jpeg_bytes"][frame]))))
        # JPEG keeps brightness better than colour, whose resolution it halves.
        assert abs(picture.mean() - scene.frames[frame].float().mean().item()) < 2
    x, y, z = data["tracks_XYZ"][1].T
    assert np.allclose(np.stack([fx * x / z + cx, fy * y / z + cy], axis=1), queries[:, :2], atol=1e-3)


def test_tapvid_needs_times(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--targets all"):
        export(sided_scene(()), "tapvid3d", tmp_path / "a.npz")
    with pytest.raises(UsageError, match="--track-source"):
        export(sided_scene(), "tapvid3d", tmp_path / "a.npz", ExportOptions(frames=(1, 2)))


@pytest.mark.parametrize("axes", ["opencv", "opengl", "blender"])
def test_tum_trajectory(scene: Reconstruction, tmp_path: Path, axes: Axes) -> None:
    export(scene, "tum", tmp_path / "a.txt", ExportOptions(axes=axes, scale=2.0))
    rows = np.loadtxt(tmp_path / "a.txt")
    assert np.allclose(rows[:, 0], scene.timestamps.numpy())
    assert np.allclose(np.linalg.norm(rows[:, 4:], axis=1), 1)
    truth = fuse(scene, 0)
    points = turn_points(truth.points.numpy(), axes, 2.0)
    for row in range(3):
        x, y, z, w = rows[row, 4:]
        rotation = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )
        seen = (points - rows[row, 1:4]) @ rotation
        if axes != "opencv":
            seen = seen * [1, -1, -1]
        image = seen @ scene.cameras.intrinsics[row].double().numpy().T
        pixels = project_to(scene, truth.points, row)[0].numpy()
        assert np.allclose(image[:, :2] / image[:, 2:], pixels, atol=1e-3)
        if row == 0:
            mine = truth.source.numpy() == 0
            check_picture(pixels[mine], seen[mine, 2], truth.colors.numpy()[mine], SIZE)
    assert "looks along" in (tmp_path / "a.txt").read_text()


def test_chan_angles_and_field_of_view(scene: Reconstruction, tmp_path: Path) -> None:
    export(scene, "nuke", tmp_path / "a.chan", ExportOptions(first_frame=1001))
    rows = np.loadtxt(tmp_path / "a.chan")
    assert rows[:, 0].tolist() == [1001, 1004, 1007]
    assert np.allclose(rows[:, 1:4], scene.cameras.centers.numpy() * [1, -1, -1], atol=1e-6)
    # The camera turns about its y axis alone: to the left, which in a world with y up is a positive angle.
    assert np.allclose(rows[:, 4:7], [[0, math.degrees(0.03 * frame), 0] for frame in range(3)], atol=1e-4)
    assert np.allclose(rows[:, 7], math.degrees(2 * math.atan(8 / 22)))
    said = json.loads((tmp_path / "a.chan.json").read_text())
    assert said["rotation_order"].startswith("ZXY")
    assert said["world_axes"].startswith("y-up")


def test_cameras_as_json(scene: Reconstruction, tmp_path: Path) -> None:
    export(scene, "cameras", tmp_path / "a.json", ExportOptions(start=0.05))
    data = json.loads((tmp_path / "a.json").read_text())
    assert [camera["frame"] for camera in data["cameras"]] == [1, 2]
    assert np.allclose([camera["c2w"] for camera in data["cameras"]], scene.cameras.c2w[1:].numpy(), atol=1e-6)
    camera = data["cameras"][0]
    assert camera["focal_mm"] == pytest.approx(36 * 20 / 24)
    assert camera["film_height_mm"] == pytest.approx(16 * 30 / 22)
    # The image's centre lies 1 pixel right of the principal point and 1 above it: 36 mm a width, 16 rows a height.
    assert camera["film_shift_right_mm"] == pytest.approx(36 / 24)
    assert camera["film_shift_up_mm"] == pytest.approx(30 / 22)
    assert data["conventions"]["camera_axes"].endswith("looks along +z")


def test_the_script_for_blender_holds_the_path_and_no_other_code(tmp_path: Path) -> None:
    hostile = replace(sided_scene(), name="'); import os; os.abort() #\n\\")
    export(hostile, "blender", tmp_path / "a.py")
    tree = ast.parse((tmp_path / "a.py").read_text())
    (value,) = [node.value for node in tree.body if isinstance(node, ast.AnnAssign)]
    assert isinstance(value, ast.Call)
    data = json.loads(ast.literal_eval(value.args[0]))
    assert data["conventions"]["video"] == hostile.name
    assert [camera["number"] for camera in data["cameras"]] == [1, 4, 7]
    here = np.array(data["cameras"][0]["c2w"])
    assert np.allclose(here[:3, :3] @ [0, 0, -1], [0, 1, 0])  # looks forward
    assert np.allclose(here[:3, :3] @ [0, 1, 0], [0, 0, 1])  # its top is up


@pytest.mark.parametrize("slower", [1.0, 1.001, 8.7])
def test_blender_sees_what_the_camera_saw(
    scene: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slower: float
) -> None:
    bpy = pytest.importorskip("bpy", reason="Blender as a module (bpy) is not installed")
    from bpy_extras.object_utils import world_to_camera_view

    scene = replace(scene, timestamps=scene.timestamps * slower)
    export(scene, "glb", tmp_path / "points.glb", ExportOptions(drop_percent=0.0, stride=1))
    export(scene, "blender", tmp_path / "a.py")
    bpy.ops.wm.read_factory_settings()
    assert "Cube" in bpy.context.scene.objects, "as Blender starts"
    monkeypatch.setattr(sys, "argv", ["blender", "--", str(tmp_path / "points.glb")])
    exec(compile((tmp_path / "a.py").read_text(), "a.py", "exec"), {"__name__": "__main__"})
    stage = bpy.context.scene
    assert (stage.frame_start, stage.frame_end) == (1, 7)
    points = next(thing for thing in stage.objects if thing.type == "MESH")
    for time, number in enumerate((1, 4, 7)):
        stage.frame_set(number)
        truth = fuse(scene, time)
        keys = points.data.shape_keys.key_blocks
        base = np.array([key.co for key in keys[0].data])
        moved = base + sum(key.value * (np.array([v.co for v in key.data]) - base) for key in keys[1:])
        assert np.allclose(moved, turn_points(truth.points.numpy(), "blender", 1.0), atol=1e-5)
        seen = [world_to_camera_view(stage, stage.camera, points.matrix_world @ to_vector(place)) for place in moved]
        height, width = SIZE
        pixels = np.array([(view.x * width, (1 - view.y) * height) for view in seen])
        assert np.allclose(pixels, project_to(scene, truth.points, time)[0].numpy(), atol=2e-3)


def test_points_from_glb_keep_the_cameras_time_at_a_fractional_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for Blender, whose importer of glTF counts fps * fps_base frames a second, from 0."""
    seconds, rate = [0.0, 0.12, 1.04, 6.0], 29.97
    render = SimpleNamespace(fps=30, fps_base=30 / rate)
    points = MagicMock(type="MESH")
    stage = SimpleNamespace(objects=[], render=render)

    def gltf(filepath: str) -> None:
        places = [time * render.fps * render.fps_base for time in seconds]
        parts = ("co", "handle_left", "handle_right")
        keys = [SimpleNamespace(**{part: SimpleNamespace(x=place) for part in parts}) for place in places]
        action = SimpleNamespace(fcurves=[SimpleNamespace(keyframe_points=keys)])
        points.data.shape_keys.animation_data.action = action
        stage.objects.append(points)

    bpy = MagicMock(**{"app.version": (5, 0, 1), "ops.import_scene.gltf": gltf})
    monkeypatch.setitem(sys.modules, "bpy", bpy)
    monkeypatch.setitem(sys.modules, "mathutils", MagicMock())
    script = runpy.run_path(str(SCRIPT))
    script["import_points"](stage, "a.glb", {"cameras": [{"number": 7.0}]})
    (curve,) = points.data.shape_keys.animation_data.action.fcurves
    for time, key in zip(seconds, curve.keyframe_points):
        assert [key.co.x, key.handle_left.x, key.handle_right.x] == pytest.approx([7 + time * rate] * 3)
    assert (render.fps, render.fps_base) == (30, 30 / rate)


def test_only_what_blender_starts_with_is_taken_away(
    scene: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bpy = pytest.importorskip("bpy", reason="Blender as a module (bpy) is not installed")
    export(scene, "blender", tmp_path / "a.py")
    monkeypatch.setattr(sys, "argv", ["blender"])
    script = compile((tmp_path / "a.py").read_text(), "a.py", "exec")
    bpy.ops.wm.read_factory_settings()
    exec(script, {"__name__": "__main__"})
    assert [thing.name for thing in bpy.context.scene.objects] == ["vdpm camera"]
    bpy.ops.wm.read_factory_settings()
    bpy.context.scene.objects["Cube"].name = "my house"
    exec(script, {"__name__": "__main__"})
    assert {thing.name for thing in bpy.context.scene.objects} == {"my house", "Light", "Camera", "vdpm camera"}


def to_vector(place: np.ndarray) -> object:
    import mathutils

    return mathutils.Vector(place.tolist())

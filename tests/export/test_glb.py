"""GLB read by trimesh, its morph targets by the layout alone, and all of it by the Khronos validator."""

import json
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.sided_scene import SIZE, sided_scene
from fixtures.sides import check_picture, check_world
from vdpm.export.axes import turn_points
from vdpm.export.colors import linear
from vdpm.export.formats import export
from vdpm.export.options import ExportOptions
from vdpm.motion import fuse
from vdpm.structures import Reconstruction

EVERYTHING = ExportOptions(drop_percent=0.0, stride=1)
VALIDATE = """
const validator = require('gltf-validator')
const bytes = new Uint8Array(require('fs').readFileSync(process.argv[1]))
validator.validateBytes(bytes).then(report => console.log(JSON.stringify(report.issues)))
"""


def read_accessors(path: Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The JSON and all accessors as arrays."""
    data = path.read_bytes()
    length = struct.unpack_from("<I", data, 12)[0]
    document = json.loads(data[20 : 20 + length])
    body = data[28 + length :]
    arrays = []
    for accessor in document["accessors"]:
        view = document["bufferViews"][accessor["bufferView"]]
        assert accessor["componentType"] == 5126
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        values = np.frombuffer(body, "<f4", accessor["count"] * width, view["byteOffset"])
        arrays.append(values.reshape(accessor["count"], width))
    return document, arrays


def test_trimesh_sees_the_first_time_on_the_right_sides(scene: Reconstruction, tmp_path: Path) -> None:
    trimesh = pytest.importorskip("trimesh", reason="trimesh reads the GLB back")
    export(scene, "glb", tmp_path / "a.glb", EVERYTHING)
    read = trimesh.load(tmp_path / "a.glb")
    (cloud,) = read.geometry.values()
    truth = fuse(scene, 0)
    assert np.allclose(cloud.vertices, turn_points(truth.points.numpy(), "y-up", 1.0), atol=1e-6)
    assert np.abs(cloud.colors[:, :3] - 255 * linear(truth.colors.numpy())).max() <= 1
    check_world(cloud.vertices, truth.colors.numpy(), "y-up")

    height, width = SIZE
    w2c = np.linalg.inv(read.graph["camera"][0])
    seen = cloud.vertices @ w2c[:3, :3].T + w2c[:3, 3]
    tan_y = np.tan(np.radians(read.camera.fov[1]) / 2)
    # trimesh multiplies the angle, not its tangent, by the aspect ratio (specification, 3.10.3.2).
    tan_x = tan_y * read_accessors(tmp_path / "a.glb")[0]["cameras"][0]["perspective"]["aspectRatio"]
    x = (seen[:, 0] / -seen[:, 2] / tan_x + 1) / 2 * width
    y = (1 - seen[:, 1] / -seen[:, 2] / tan_y) / 2 * height
    mine = truth.source.numpy() == 0
    check_picture(np.stack([x, y], axis=1)[mine], -seen[mine, 2], truth.colors.numpy()[mine], SIZE)
    # glTF has no shift of the lens, so that the picture lies off by that shift and by nothing else.
    assert np.allclose(np.stack([x, y], axis=1)[mine] - truth.pixels.numpy()[mine], [1, -1], atol=1e-3)


def test_each_time_is_where_the_result_has_it(scene: Reconstruction, tmp_path: Path) -> None:
    export(scene, "glb", tmp_path / "a.glb", EVERYTHING)
    document, arrays = read_accessors(tmp_path / "a.glb")
    (primitive,) = document["meshes"][0]["primitives"]
    base = arrays[primitive["attributes"]["POSITION"]]
    targets = [arrays[target["POSITION"]] for target in primitive["targets"]]
    (channel,) = [c for c in document["animations"][0]["channels"] if c["target"]["path"] == "weights"]
    sampler = document["animations"][0]["samplers"][channel["sampler"]]
    assert np.allclose(arrays[sampler["input"]][:, 0], scene.timestamps.numpy())
    weights = arrays[sampler["output"]].reshape(3, 2)
    for time in range(3):
        shown = base + sum(weight * target for weight, target in zip(weights[time], targets))
        assert np.allclose(shown, turn_points(fuse(scene, time).points.numpy(), "y-up", 1.0), atol=1e-6)
    assert "right-handed" in document["asset"]["extras"]["world_axes"]
    assert document["asset"]["extras"]["camera_axes"].endswith("looks along -z")


def test_the_camera_moves_with_the_video(scene: Reconstruction, tmp_path: Path) -> None:
    export(scene, "glb", tmp_path / "a.glb", ExportOptions(scale=2.0))
    document, arrays = read_accessors(tmp_path / "a.glb")
    animation = document["animations"][0]
    paths = {c["target"]["path"]: animation["samplers"][c["sampler"]]["output"] for c in animation["channels"]}
    centers = scene.cameras.centers.numpy() * [2, -2, -2]
    assert np.allclose(arrays[paths["translation"]], centers, atol=1e-6)
    assert np.allclose(np.linalg.norm(arrays[paths["rotation"]], axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("targets", [(0, 1, 2), (1,), ()])
def test_the_khronos_validator_finds_nothing(targets: tuple[int, ...], tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or subprocess.run([node, "-e", "require('gltf-validator')"], capture_output=True).returncode:
        pytest.skip("needs node and its package gltf-validator: npm install gltf-validator, NODE_PATH")
    export(sided_scene(targets), "glb", tmp_path / "a.glb")
    said = subprocess.run([node, "-e", VALIDATE, str(tmp_path / "a.glb")], capture_output=True, text=True, check=True)
    issues = json.loads(said.stdout)
    assert (issues["numErrors"], issues["numWarnings"]) == (0, 0), issues


def test_a_result_without_times_is_still(tmp_path: Path) -> None:
    done = export(sided_scene(()), "glb", tmp_path / "a.glb", EVERYTHING)
    document, _ = read_accessors(tmp_path / "a.glb")
    assert "targets" not in document["meshes"][0]["primitives"][0]
    assert "own time" in done.lines[0]

"""What all formats share: places, options, missing packages, nothing half written; and PLY with the options."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures.sided_scene import sided_scene
from fixtures.sides import check_world
from fixtures.sky import with_sky
from vdpm.archive import save
from vdpm.errors import InputError, OutputError, UsageError, VDPMError
from vdpm.export.axes import Axes, turn_points
from vdpm.export.formats import FORMATS, check_options, export
from vdpm.export.options import ExportOptions
from vdpm.motion import fuse
from vdpm.structures import DynamicPointMaps, PointMap, Reconstruction

BUILT_IN = [name for name, chosen in FORMATS.items() if chosen.extra is None]


@pytest.mark.parametrize("axes", ["opencv", "opengl", "blender"])
def test_trimesh_reads_the_clouds(scene: Reconstruction, tmp_path: Path, axes: Axes) -> None:
    trimesh = pytest.importorskip("trimesh", reason="trimesh reads the PLY back")
    options = ExportOptions(axes=axes, scale=2.0, drop_percent=0.0, min_confidence=2.0, stride=2, start=0.1)
    export(scene, "ply", tmp_path / "a", options)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "conventions.json",
        "points_t00001.ply",
        "points_t00002.ply",
    ]
    for time in (1, 2):
        read = trimesh.load(tmp_path / "a" / f"points_t{time:05d}.ply")
        truth = fuse(scene, time, min_confidence=2.0, stride=2)
        assert np.allclose(read.vertices, turn_points(truth.points.numpy(), axes, 2.0), atol=1e-6)
        assert np.array_equal(read.colors[:, :3], truth.colors.numpy())
        first = truth.source.numpy() == 0
        check_world(read.vertices[first] / 2, read.colors[first], axes)
    assert b"right-handed" in (tmp_path / "a" / "points_t00001.ply").read_bytes()[:2000]


@pytest.mark.parametrize("dropped", [{"drop_sky": True}, {"drop_edges": True}, {"drop_sky": True, "drop_edges": True}])
def test_edges_and_sky_can_be_left_out(scene: Reconstruction, tmp_path: Path, dropped: dict[str, bool]) -> None:
    scene = with_sky(scene)
    export(scene, "ply", tmp_path / "a", ExportOptions(drop_percent=0.0, stride=1, **dropped))
    for time in scene.maps.targets:
        count = len(fuse(scene, time, **dropped))
        assert count < len(fuse(scene, time))
        header = (tmp_path / "a" / f"points_t{time:05d}.ply").read_bytes()[:2000]
        assert f"element vertex {count}\n".encode() in header


def test_pixels_of_one_frame_alone(scene: Reconstruction, tmp_path: Path) -> None:
    export(scene, "glb", tmp_path / "a.glb", ExportOptions(sources=(1,), stride=1, drop_percent=0.0))
    body = (tmp_path / "a.glb").read_bytes()
    document = json.loads(body[20 : 20 + int.from_bytes(body[12:16], "little")])
    assert document["accessors"][0]["count"] == 16 * 24


@pytest.mark.parametrize("name", FORMATS)
def test_conventions_go_with_every_format(name: str, scene: Reconstruction, tmp_path: Path) -> None:
    chosen = FORMATS[name]
    if chosen.extra is not None:
        pytest.importorskip(chosen.extra[0], reason=f"needs pip install 'vdpm[{chosen.extra[1]}]'")
    done = export(scene, name, tmp_path / "a")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert done.path.exists()
    assert not [path for path in files if "partial" in path.name]
    said = b"".join(path.read_bytes() for path in files)
    if done.path.suffix == ".npz":
        with np.load(done.path) as data:
            said = str(data["conventions"]).encode()
    if name not in ("usd", "rrd"):  # compressed; see their own tests
        assert str(done.said["world_axes"]).encode() in said
        assert b"arbitrary" in said
    assert done.said["format"] == "vdpm.export"
    with pytest.raises(OutputError, match="--overwrite"):
        export(scene, name, tmp_path / "a")
    export(scene, name, tmp_path / "a", overwrite=True)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == set(files)


@pytest.mark.parametrize("name", FORMATS)
def test_one_frame_with_a_name_of_odd_letters(name: str, scene: Reconstruction, tmp_path: Path) -> None:
    chosen = FORMATS[name]
    if chosen.extra is not None:
        pytest.importorskip(chosen.extra[0], reason=f"needs pip install 'vdpm[{chosen.extra[1]}]'")
    maps = DynamicPointMaps.from_tensors(
        scene.maps.time_variant(0).points[None],
        scene.maps.time_variant(0).confidence[None],
        scene.maps.time_invariant(0, 0).points[None, None],
        scene.maps.time_invariant(0, 0).confidence[None, None],
        num_frames=1,
        targets=(0,),
        sources=(0,),
    )
    alone = replace(
        scene,
        frames=scene.frames[:1],
        timestamps=scene.timestamps[:1],
        frame_indices=scene.frame_indices[:1],
        cameras=replace(scene.cameras, c2w=scene.cameras.c2w[:1], intrinsics=scene.cameras.intrinsics[:1]),
        maps=maps,
        name="vidéo \u4e2d\n'\"\\ end_header",
    )
    done = export(alone, name, tmp_path / "a")
    assert done.said["frames"] == [0]


def broken(scene: Reconstruction) -> Reconstruction:
    """Its last map cannot be read, as where a file is damaged."""

    def read(target: int | None, source: int) -> PointMap:
        if source == 2:
            raise InputError("maps/p.npy: damaged")
        return scene.maps.read(target, source)

    return replace(scene, maps=replace(scene.maps, read=read))


@pytest.mark.parametrize("name", [name for name in BUILT_IN if name not in ("tum", "nuke", "blender", "cameras")])
def test_a_damaged_map_leaves_what_was_there(name: str, scene: Reconstruction, tmp_path: Path) -> None:
    export(scene, name, tmp_path / "a")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    # Tracks read the maps of the frames that they pass through.
    with pytest.raises(InputError, match="damaged"):
        export(broken(scene), name, tmp_path / "a", overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_formats_that_do_not_exist(scene: Reconstruction, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are ply, glb, usd") as told:
        export(scene, "fbx", tmp_path / "a")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "module", "extra"), [("usd", "pxr", "usd"), ("exr", "OpenEXR", "exr"), ("rrd", "rerun", "rerun")]
)
def test_a_missing_package_names_the_command(
    name: str, module: str, extra: str, scene: Reconstruction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # importing it fails, as if it were not installed
    with pytest.raises(VDPMError, match=rf"pip install 'vdpm\[{extra}\]'") as told:
        export(scene, name, tmp_path / "a")
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "output", "message"),
    [("glb", "a.gltf", "is written to .glb"), ("usd", "a.abc", ".usdc or .usda"), ("glb", "no/a.glb", "no folder")],
)
def test_places_that_do_not_fit(name: str, output: str, message: str, scene: Reconstruction, tmp_path: Path) -> None:
    with pytest.raises(VDPMError, match=message):
        export(scene, name, tmp_path / output)


def test_folders_of_others_are_left_alone(scene: Reconstruction, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    save(scene, tmp_path / "result")
    for name in ("mine", "result"):
        with pytest.raises(OutputError, match="left alone"):
            export(scene, "ply", tmp_path / name, overwrite=True)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


@pytest.mark.parametrize(
    ("name", "axes"), [("glb", "blender"), ("usd", "opencv"), ("nuke", "blender"), ("blender", "y-up")]
)
def test_axes_that_a_format_cannot_have(name: str, axes: Axes, scene: Reconstruction, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"cannot have the axes {axes}"):
        export(scene, name, tmp_path / "a", ExportOptions(axes=axes))


def test_options_that_mean_nothing_are_refused() -> None:
    check_options("usd", frozenset({"tracks", "axes", "start"}))
    with pytest.raises(UsageError, match="--tracks means nothing for ply"):
        check_options("ply", frozenset({"tracks"}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"scale": 0.0},
        {"scale": float("nan")},
        {"scale": float("inf")},
        {"scale": 1e30},
        {"first_frame": 10**20},
        {"first_frame": -(10**10)},
        {"start": float("nan")},
        {"end": float("nan")},
        {"stride": 0},
        {"drop_percent": 100.0},
        {"tracks": -1},
        {"start": 2.0, "end": 1.0},
    ],
)
def test_options_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        ExportOptions(**wrong)


def test_times_that_the_result_lacks(scene: Reconstruction, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no frame lies from 5 to inf s"):
        export(scene, "ply", tmp_path / "a", ExportOptions(start=5.0))
    with pytest.raises(UsageError, match="frame 7 is not in this result"):
        export(scene, "ply", tmp_path / "a", ExportOptions(frames=(7,)))
    with pytest.raises(UsageError, match="time of frame 1 is not kept"):
        export(sided_scene((0, 2)), "ply", tmp_path / "a", ExportOptions(frames=(1,)))
    export(sided_scene((0, 2)), "ply", tmp_path / "a")
    assert len(list((tmp_path / "a").glob("*.ply"))) == 2
    assert torch.equal(scene.timestamps, sided_scene((0, 2)).timestamps)

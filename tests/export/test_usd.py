"""USD read back by usd-core at three times."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.sided_scene import SIZE, sided_scene
from fixtures.sides import check_picture, check_world
from vdpm.export.axes import Axes, turn_points
from vdpm.export.formats import export
from vdpm.export.options import ExportOptions
from vdpm.motion import fuse, project_to, tracks
from vdpm.structures import Reconstruction

pytest.importorskip("pxr", reason="usd-core is not installed: pip install 'vdpm[usd]'")
EVERYTHING: dict[str, Any] = {"drop_percent": 0.0, "stride": 1}
CODES = (1.0, 4.0, 7.0)
"""Frames 0, 3 and 6 of the video, counted from 1."""


def open_stage(path: Path) -> Any:
    from pxr import Usd

    return Usd.Stage.Open(str(path))


def see(stage: Any, code: float, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (x, y) and depth of world points by USD's own camera, that is by Gf.Frustum alone."""
    from pxr import Gf, UsdGeom

    camera = UsdGeom.Camera(stage.GetPrimAtPath("/vdpm/camera")).GetCamera(code)
    frustum = camera.frustum
    view, matrix = frustum.ComputeViewMatrix(), frustum.ComputeViewMatrix() * frustum.ComputeProjectionMatrix()
    ndc = np.array([matrix.Transform(Gf.Vec3d(*map(float, point))) for point in points])
    depth = -np.array([view.Transform(Gf.Vec3d(*map(float, point)))[2] for point in points])
    return np.stack([(ndc[:, 0] + 1) / 2 * SIZE[1], (1 - ndc[:, 1]) / 2 * SIZE[0]], axis=1), depth


@pytest.mark.parametrize("axes", ["y-up", "blender"])
def test_points_and_cameras_at_three_times(scene: Reconstruction, tmp_path: Path, axes: Axes) -> None:
    from pxr import UsdGeom

    export(scene, "usd", tmp_path / "a.usdc", ExportOptions(axes=axes, scale=3.0, **EVERYTHING))
    stage = open_stage(tmp_path / "a.usdc")
    assert UsdGeom.GetStageUpAxis(stage) == ("Z" if axes == "blender" else "Y")
    assert stage.GetTimeCodesPerSecond() == pytest.approx(30)
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode()) == (1, 7)
    prim = UsdGeom.Points(stage.GetPrimAtPath("/vdpm/points"))
    assert prim.GetPointsAttr().GetTimeSamples() == list(CODES)
    for time, code in enumerate(CODES):
        truth = fuse(scene, time)
        points = np.array(prim.GetPointsAttr().Get(code))
        assert np.allclose(points, turn_points(truth.points.numpy(), axes, 3.0), atol=1e-5)
        low, high = np.array(prim.GetExtentAttr().Get(code))
        assert (points >= low).all()
        assert (points <= high).all()
        pixels, depth = see(stage, code, points)
        expected, z = project_to(scene, truth.points, time)
        assert np.allclose(pixels, expected.numpy(), atol=1e-3)
        assert np.allclose(depth, 3 * z.numpy(), atol=1e-4)
        if time == 0:
            mine = truth.source.numpy() == 0
            check_world(points / 3, truth.colors.numpy(), axes)
            check_picture(pixels[mine], depth[mine], truth.colors.numpy()[mine], SIZE)


def test_velocities_lead_from_one_time_to_the_next(scene: Reconstruction, tmp_path: Path) -> None:
    from pxr import UsdGeom

    export(scene, "usd", tmp_path / "a.usda", ExportOptions(**EVERYTHING))
    stage = open_stage(tmp_path / "a.usda")
    prim = UsdGeom.Points(stage.GetPrimAtPath("/vdpm/points"))
    at = [np.array(prim.GetPointsAttr().Get(code)) for code in CODES]
    speed = [np.array(prim.GetVelocitiesAttr().Get(code)) for code in CODES]
    assert np.allclose(at[0] + 0.1 * speed[0], at[1], atol=1e-5)
    assert np.allclose(at[1] + 0.1 * speed[1], at[2], atol=1e-5)
    assert np.allclose(speed[2], speed[1])
    blue = fuse(scene, 0).colors.numpy()[:, 2] == 255
    blue &= fuse(scene, 0).colors.numpy()[:, 0] == 0
    assert np.allclose(speed[0][blue], [1, 0, 0], atol=1e-4)
    assert np.allclose(speed[0][~blue], 0, atol=1e-4)


def test_tracks_are_curves_through_all_times(scene: Reconstruction, tmp_path: Path) -> None:
    from pxr import UsdGeom

    export(scene, "usd", tmp_path / "a.usdc", ExportOptions(tracks=20, **EVERYTHING))
    stage = open_stage(tmp_path / "a.usdc")
    curves = UsdGeom.BasisCurves(stage.GetPrimAtPath("/vdpm/tracks"))
    counts = list(curves.GetCurveVertexCountsAttr().Get())
    assert 10 <= len(counts) <= 20
    assert set(counts) == {3}
    points = np.array(curves.GetPointsAttr().Get()).reshape(-1, 3, 3)
    pixels = project_to(scene, torch_points(points[:, 0]), 0)[0]
    truth = tracks(scene, 0, pixels)
    assert np.allclose(points.transpose(1, 0, 2), turn_points(truth.points.numpy(), "y-up", 1.0), atol=1e-3)
    assert len(curves.GetDisplayColorAttr().Get()) == len(counts)


def torch_points(points: np.ndarray) -> Any:
    """From the y-up world back."""
    import torch

    return torch.from_numpy(points * np.array([1, -1, -1], dtype=np.float32))


def test_conventions_and_file_checks(scene: Reconstruction, tmp_path: Path) -> None:
    validation = pytest.importorskip("pxr.UsdValidation", reason="usd-core is too old to check files")
    export(scene, "usd", tmp_path / "a.usdc")
    said = open_stage(tmp_path / "a.usdc").GetMetadata("customLayerData")
    assert said["camera_axes"].endswith("looks along -z")
    assert "arbitrary" in said["length_unit"]
    rules = validation.ValidationRegistry().GetOrLoadAllValidators()
    assert len(rules) > 10
    stage = open_stage(tmp_path / "a.usdc")
    assert [error.GetErrorAsString() for error in validation.ValidationContext(rules).Validate(stage)] == []


def test_a_result_without_times(tmp_path: Path) -> None:
    from pxr import UsdGeom

    export(sided_scene(()), "usd", tmp_path / "a.usdc")
    stage = open_stage(tmp_path / "a.usdc")
    assert len(UsdGeom.Points(stage.GetPrimAtPath("/vdpm/points")).GetPointsAttr().GetTimeSamples()) == 1
    assert not stage.GetPrimAtPath("/vdpm/tracks")

"""COLMAP's model read by pycolmap, binary and text."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fixtures.moving_sphere import make_moving_sphere
from fixtures.sided_scene import SIZE, sided_scene
from fixtures.sides import check_picture, check_world
from vdpm.errors import UsageError
from vdpm.export.axes import Axes, turn_points
from vdpm.export.formats import export
from vdpm.export.options import ExportOptions
from vdpm.motion import fuse, motion_mask
from vdpm.structures import Reconstruction

pycolmap = pytest.importorskip("pycolmap", reason="pycolmap reads the model back")
EVERYTHING: dict[str, Any] = {"drop_percent": 0.0, "stride": 1}


@pytest.fixture(params=["bin", "txt"])
def read(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """A reader of one of the two kinds of files alone."""

    def call(folder: Path) -> Any:
        alone = tmp_path / "alone"
        alone.mkdir()
        for file in (folder / "sparse" / "0").glob(f"*.{request.param}"):
            shutil.copy(file, alone)
        return pycolmap.Reconstruction(alone)

    return call


def project_all(model: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Observed and projected position of every observation, by pycolmap's poses and cameras."""
    pairs = []
    for image in model.images.values():
        for point in image.get_observation_points2D():
            place = image.cam_from_world() * model.points3D[point.point3D_id].xyz
            pairs.append((point.xy, image.camera.img_from_cam(place)))
    return pairs


def test_points_project_onto_their_observations(read: Any, tmp_path: Path) -> None:
    scene = make_moving_sphere(num_frames=3, size=(48, 64)).reconstruction
    export(scene, "colmap", tmp_path / "a", ExportOptions(**EVERYTHING))
    model = read(tmp_path / "a")
    assert len(model.images) == 3
    observed, projected = (np.array(values) for values in zip(*project_all(model)))
    # The nearest pixel's own error stands for that at the point, to first order.
    assert np.linalg.norm(observed - projected, axis=1).max() < 0.5
    assert model.compute_mean_reprojection_error() < 0.02
    still = sum(int((~motion_mask(scene, source)).sum()) for source in range(3))
    assert len(model.points3D) == still
    seen = np.array([point.track.length() for point in model.points3D.values()])
    assert seen.mean() > 1.5


@pytest.mark.parametrize("axes", ["opencv", "y-up", "blender"])
def test_still_points_stay_on_their_sides(read: Any, scene: Reconstruction, tmp_path: Path, axes: Axes) -> None:
    scene = sided_scene(())  # without other times nothing is known to move, so blue is there too
    done = export(scene, "colmap", tmp_path / "a", ExportOptions(axes=axes, scale=2.0, **EVERYTHING))
    assert "motion is not known" in done.lines[-1]
    model = read(tmp_path / "a")
    truth = fuse(scene, None)
    points = np.array([model.points3D[row + 1].xyz for row in range(len(truth))])
    colors = np.array([model.points3D[row + 1].color for row in range(len(truth))])
    assert np.allclose(points, turn_points(truth.points.numpy(), axes, 2.0), atol=1e-4)
    assert np.array_equal(colors, truth.colors.numpy())
    check_world(points / 2, colors, axes)
    mine = truth.source.numpy() == 0
    image = model.images[1]
    seen = np.array([image.cam_from_world() * place for place in points[mine]])
    pixels = np.array([image.camera.img_from_cam(place) for place in seen])
    assert np.allclose(pixels, truth.pixels.numpy()[mine], atol=1e-3)
    check_picture(pixels, seen[:, 2], colors[mine], SIZE)


def test_what_moves_is_masked_and_left_out(scene: Reconstruction, tmp_path: Path) -> None:
    export(scene, "colmap", tmp_path / "a", ExportOptions(**EVERYTHING))
    model = pycolmap.Reconstruction(tmp_path / "a" / "sparse" / "0")
    colors = np.array([point.color for point in model.points3D.values()])
    assert not (colors == [0, 0, 255]).all(axis=1).any()
    for frame in range(3):
        picture = np.array(Image.open(tmp_path / "a" / "images" / f"{frame:05d}.png"))
        assert np.array_equal(picture, scene.frames[frame].numpy())
        mask = np.array(Image.open(tmp_path / "a" / "masks" / f"{frame:05d}.png"))
        assert np.array_equal(mask == 0, (picture == [0, 0, 255]).all(axis=2))
        twin = tmp_path / "a" / "masks_colmap" / f"{frame:05d}.png.png"
        assert twin.read_bytes() == (tmp_path / "a" / "masks" / f"{frame:05d}.png").read_bytes()


def test_one_frame_alone(scene: Reconstruction, tmp_path: Path) -> None:
    export(scene, "colmap", tmp_path / "a", ExportOptions(frames=(2,), **EVERYTHING))
    model = pycolmap.Reconstruction(tmp_path / "a" / "sparse" / "0")
    assert [image.name for image in model.images.values()] == ["00002.png"]
    assert model.compute_mean_reprojection_error() < 1e-3


def test_nothing_sure_enough(scene: Reconstruction, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="min-confidence"):
        export(scene, "colmap", tmp_path / "a", ExportOptions(min_confidence=1e3))
    assert not list(tmp_path.iterdir())

"""EXR read by OpenEXR, depth PNG by Pillow."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fixtures.sided_scene import INTRINSICS, SIZE, sided_scene
from fixtures.sides import check_picture, check_world
from vdpm.errors import UsageError
from vdpm.export.axes import Axes, turn_points
from vdpm.export.depth_png import round_factor
from vdpm.export.formats import export
from vdpm.export.options import ExportOptions
from vdpm.motion import depth
from vdpm.structures import Reconstruction


@pytest.mark.parametrize("axes", ["y-up", "opencv", "blender"])
def test_exr_holds_depth_and_position(scene: Reconstruction, tmp_path: Path, axes: Axes) -> None:
    open_exr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed: pip install 'vdpm[exr]'")
    export(scene, "exr", tmp_path / "a", ExportOptions(axes=axes, scale=3.0))
    assert len(list((tmp_path / "a").glob("*.exr"))) == 3
    for frame in range(3):
        with open_exr.File(str(tmp_path / "a" / f"frame_{frame:05d}.exr"), separate_channels=True) as image:
            channels = {name: channel.pixels for name, channel in image.channels().items()}
            header = dict(image.header())
        z, position = channels["Z"], np.stack([channels[f"P.{name}"] for name in "XYZ"], axis=-1)
        assert z.dtype == np.float32
        assert np.allclose(z, 3 * depth(scene, frame).numpy(), atol=1e-5)
        assert np.allclose(position, turn_points(scene.maps.time_variant(frame).points.numpy(), axes, 3.0), atol=1e-5)
        assert (channels["A"] == 1).all()
        # Rows from the left, as Imath has it; the camera looks along -z, in an OpenCV world along +z.
        seen = np.c_[position.reshape(-1, 3), np.ones(z.size)] @ np.array(header["worldToCamera"])
        assert np.allclose(np.abs(seen[:, 2]), z.ravel(), atol=1e-4)
        assert (np.sign(seen[:, 2]) == (1 if axes == "opencv" else -1)).all()
        if frame == 0:
            colors = scene.frames[0].reshape(-1, 3).numpy()
            check_world(position.reshape(-1, 3) / 3, colors, axes)
            rows, columns = np.indices(SIZE)
            check_picture(np.stack([columns, rows], axis=-1).reshape(-1, 2), z.ravel(), colors, SIZE)
            assert "right-handed" in header["comments"]


def test_exr_marks_what_is_not_sure(scene: Reconstruction, tmp_path: Path) -> None:
    open_exr = pytest.importorskip("OpenEXR", reason="OpenEXR is not installed: pip install 'vdpm[exr]'")
    export(scene, "exr", tmp_path / "a", ExportOptions(min_confidence=2.0, frames=(1,)))
    with open_exr.File(str(tmp_path / "a" / "frame_00001.exr"), separate_channels=True) as image:
        channels = image.channels()
        assert (channels["A"].pixels[0, 0], channels["Z"].pixels[0, 0], channels["P.X"].pixels[0, 0]) == (0, 0, 0)
        assert (channels["A"].pixels.ravel()[1:] == 1).all()


def test_depth_png_gives_the_depth_back(scene: Reconstruction, tmp_path: Path) -> None:
    export(scene, "depth-png", tmp_path / "a", ExportOptions(min_confidence=2.0, scale=1000.0))
    factor = json.loads((tmp_path / "a" / "conventions.json").read_text())["factor"]
    for frame in range(3):
        with Image.open(tmp_path / "a" / f"depth_{frame:05d}.png") as picture:
            assert float(picture.text["factor"]) == factor
            values = np.array(picture)
        assert values.dtype == np.uint16
        truth = 1000 * depth(scene, frame).numpy()
        truth[0, 0] = 0  # not sure enough
        assert np.abs(values / factor - truth).max() <= 0.5001 / factor
        assert values.max() > 65535 / 2.6
    k = INTRINSICS.numpy()
    with Image.open(tmp_path / "a" / "depth_00000.png") as picture:
        z = np.array(picture)[8, 3] / factor / 1000
    # As Open3D and others unproject, with pixel centres at +0.5.
    x = (3.5 - k[0, 2]) / k[0, 0] * z
    assert x == pytest.approx(float(scene.maps.time_variant(0).points[8, 3, 0]), abs=1e-3)


@pytest.mark.parametrize(("farthest", "factor"), [(1.6, 20000.0), (65535.0, 1.0), (65536.0, 0.5), (0.001, 5e7)])
def test_factors_are_round_and_fit(farthest: float, factor: float) -> None:
    assert round_factor(farthest) == pytest.approx(factor)


def test_nothing_is_sure_enough(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="min-confidence"):
        export(sided_scene(confidence=1.5), "depth-png", tmp_path / "a", ExportOptions(min_confidence=2.0))
    assert not list(tmp_path.iterdir())

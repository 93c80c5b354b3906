"""Lens distortion of TUM's and Bonn's cameras: left as it is unless told otherwise, and then gone."""

from pathlib import Path

import numpy as np
import pytest
from native.rgbd import bent, plane_colours, plane_depth, write_bent, write_tum
from native.scenes import clip

from vdpm.data.checks import check_dataset
from vdpm.data.frame import Frame
from vdpm.data.readers import bonn, open_dataset
from vdpm.data.readers.tum import CALIBRATIONS, open_tum
from vdpm.errors import UsageError
from vdpm.evaluation.benchmark import Sample
from vdpm.evaluation.clips import open_clips

CAMERAS = {
    "rgbd_dataset_freiburg1_desk": ("tum", CALIBRATIONS["freiburg1"]),
    "rgbd_dataset_freiburg2_desk": ("tum", CALIBRATIONS["freiburg2"]),
    "rgbd_bonn_balloon2": ("bonn", bonn.CALIBRATION),
}


def rays_of(frame: Frame) -> np.ndarray:
    """(x, y) at depth 1 of the pixels of a pinhole camera of the frame's intrinsics."""
    k = frame.intrinsics.numpy()
    row, column = np.mgrid[: frame.depth.shape[0], : frame.depth.shape[1]] + 0.5
    return np.stack(((column - k[0, 2]) / k[0, 0], (row - k[1, 2]) / k[1, 1]), -1)


def off(frame: Frame) -> tuple[float, float]:
    """Largest errors of depth, in pixels of the slope of the plane, and of colours."""
    rays, valid = rays_of(frame), frame.valid.numpy()
    expected = plane_depth(rays)
    slope = np.hypot(*np.gradient(expected))
    depth = np.abs(frame.depth.numpy() - expected) / slope
    colours = np.abs(frame.image.numpy() - plane_colours(rays)).max(-1)
    return float(depth[valid].max()), float(colours[valid].max())


@pytest.mark.parametrize("name", CAMERAS)
def test_undistorted_frames_are_a_pinhole_cameras(tmp_path: Path, name: str) -> None:
    dataset, camera = CAMERAS[name]
    write_bent(tmp_path / name, camera)
    (straight,) = open_dataset(dataset, tmp_path, undistort=True)
    (taken,) = open_dataset(dataset, tmp_path)
    assert straight.frame(1).intrinsics.tolist() == taken.frame(1).intrinsics.tolist()
    # Depth is that of the nearest pixel and of a fifth of a millimetre.
    depth, colours = off(straight.frame(1))
    assert depth < 0.9
    assert colours < 2.1
    depth, colours = off(taken.frame(1))
    assert depth > 2.5
    # Known where the lens puts a ray into the picture, and nowhere else.
    fx, fy, cx, cy = camera[:4]
    places = bent(rays_of(straight.frame(1)), camera[4:]) * (fx, fy) + (cx, cy)
    inside = ((np.round(places) >= 0) & (np.round(places) < (640, 480))).all(-1)
    differ = inside != straight.frame(1).valid.numpy()
    assert differ.mean() < 1e-4
    assert taken.frame(1).valid.all()


def test_what_has_no_distortion_stays_as_it_is(tmp_path: Path) -> None:
    folder = write_tum(tmp_path / "rgbd_dataset_freiburg3_walking_xyz", clip())
    (one,), (other,) = (open_dataset("tum", tmp_path, undistort=undistort) for undistort in (False, True))
    assert one.frame(0).depth.equal(other.frame(0).depth)
    assert one.frame(0).image.equal(other.frame(0).image)
    with pytest.raises(UsageError, match=r"bonn and tum; sintel"):
        open_dataset("sintel", tmp_path, undistort=True)
    with pytest.raises(UsageError, match="calibration of 5 numbers"):
        open_tum(folder, calibration=(500.0, 500.0, 320.0, 240.0, 0.1))


def test_evaluation_and_check_can_ask_for_it(tmp_path: Path) -> None:
    name = "rgbd_bonn_balloon2"
    write_bent(tmp_path / name, bonn.CALIBRATION)
    for pairing in ("index", "time"):
        clips = open_clips("bonn", tmp_path, "video-depth", pairing, undistort=True)
        assert off(next(iter(clips.frames(Sample("one", name, (0, 1))))))[0] < 0.9
    write_bent(tmp_path / "tum" / "rgbd_dataset_freiburg1_desk", CALIBRATIONS["freiburg1"])
    poses = open_clips("tum", tmp_path / "tum", "camera-pose", "pose", undistort=True)
    image = next(iter(poses.frames(Sample("one", "rgbd_dataset_freiburg1_desk", (0, 1))))).image
    assert (image[0, 0] == 0).all() or (image[-1, -1] == 0).all()
    with pytest.raises(UsageError, match="bonn and tum"):
        check_dataset("sintel", tmp_path, undistort=True)

"""Turned worlds and cameras, by identities."""

import numpy as np
import pytest

from fixtures.moving_sphere import make_moving_sphere
from vdpm.export.axes import Axes, CameraAxes, from_opencv, quaternions, turn_cameras, turn_points
from vdpm.export.camera_path import CameraPath, frame_numbers, source_rate
from vdpm.export.nuke import zxy_angles
from vdpm.export.options import ExportOptions

ALL: tuple[Axes, ...] = ("opencv", "opengl", "y-up", "blender")


@pytest.mark.parametrize("axes", ALL)
def test_no_world_is_mirrored(axes: Axes) -> None:
    turn = from_opencv(axes)
    assert np.linalg.det(turn) == pytest.approx(1)
    assert (turn @ [1, 0, 0]).tolist() == [1, 0, 0]


@pytest.mark.parametrize("axes", ALL)
@pytest.mark.parametrize("camera_axes", ["opencv", "opengl"])
def test_a_point_stays_where_its_camera_sees_it(axes: Axes, camera_axes: CameraAxes) -> None:
    c2w = make_moving_sphere(num_frames=3, size=(4, 6)).reconstruction.cameras.c2w.double().numpy()
    points = np.random.default_rng(0).normal(size=(5, 3))
    before = np.einsum("fij,pj->fpi", np.linalg.inv(c2w), np.c_[points, np.ones(5)])[..., :3]
    turned = turn_cameras(c2w, axes, camera_axes, 2.5)
    world = np.c_[turn_points(points, axes, 2.5), np.ones(5)]
    after = np.einsum("fij,pj->fpi", np.linalg.inv(turned), world)[..., :3]
    assert np.allclose(after, 2.5 * before @ from_opencv(camera_axes).T, atol=1e-5)


def test_rotations_come_back_from_quaternions_and_angles() -> None:
    c2w = make_moving_sphere(num_frames=4, size=(4, 6)).reconstruction.cameras.c2w.double().numpy()
    turned = turn_cameras(c2w, "y-up", "opengl", 1.0)[:, :3, :3]
    x, y, z, w = quaternions(turned).T
    # The first column of the rotation of a unit quaternion.
    column = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)], axis=1)
    assert np.allclose(column, turned[:, :, 0], atol=1e-9)
    for rotation, (a, b, c) in zip(turned, zxy_angles(turned)):
        about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        about_y = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
        about_z = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
        assert np.allclose(about_y @ about_x @ about_z, rotation, atol=1e-12)


def test_a_slightly_skewed_rotation_becomes_one() -> None:
    c2w = np.eye(4)[None].copy()
    c2w[0, 0, 1] = 5e-3
    turned = turn_cameras(c2w, "blender", "opengl", 1.0)[0, :3, :3]
    assert np.allclose(turned @ turned.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turned) == pytest.approx(1)


def test_frames_are_counted_as_in_the_video() -> None:
    scene = make_moving_sphere(num_frames=5, size=(4, 6)).reconstruction  # every third frame, half a second apart
    assert source_rate(scene) == pytest.approx(6)
    path = CameraPath.choose(scene, ExportOptions(first_frame=1001), "opencv", "opencv")
    assert path.numbers.tolist() == path.indices.tolist() == [1001, 1004, 1007, 1010, 1013]
    assert frame_numbers(np.array([0.0333, 0.05]), 30.0, 0).tolist() == [1.0, 1.5]

"""Turned worlds and cameras, by identities."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fixtures.moving_sphere import make_moving_sphere
from fixtures.sided_scene import SIZE, sided_scene
from vdpm.export.axes import Axes, CameraAxes, from_opencv, quaternions, turn_cameras, turn_points
from vdpm.export.camera_path import CameraPath, frame_numbers, source_rate
from vdpm.export.nuke import zxy_angles
from vdpm.export.options import ExportOptions
from vdpm.geometry.image_transform import ImageTransform
from vdpm.motion import project_to
from vdpm.structures import Reconstruction

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


@pytest.fixture(scope="module")
def many() -> Reconstruction:
    """Many frames, of which only the times matter."""
    return make_moving_sphere(num_frames=90, size=(4, 6), targets=(0,), sources=(0,)).reconstruction


@pytest.mark.parametrize("rate", [1.0, 15.0, 24.0, 24000 / 1001, 25.0, 30.0, 30000 / 1001, 59.94005994005994, 60.0])
@pytest.mark.parametrize("digits", [3, 9])
def test_the_rate_is_the_videos_though_its_times_are_rounded(many: Reconstruction, rate: float, digits: int) -> None:
    indices = torch.arange(90)
    times = torch.tensor([round(index / rate, digits) for index in indices.tolist()], dtype=torch.float64)
    assert source_rate(replace(many, timestamps=times, frame_indices=indices)) == pytest.approx(rate, rel=1e-12)


def test_a_rate_that_is_not_usual_or_not_steady_stays(many: Reconstruction) -> None:
    indices = torch.arange(90)
    assert source_rate(replace(many, timestamps=indices.double() / 12.5, frame_indices=indices)) == 12.5
    halting = torch.cumsum(torch.where(indices < 60, 1 / 30, 1 / 10).double(), 0)
    assert source_rate(replace(many, timestamps=halting, frame_indices=indices)) == pytest.approx(30)
    at_once = replace(many, timestamps=torch.zeros(90, dtype=torch.float64), frame_indices=indices)
    assert source_rate(at_once) == 24


def test_no_two_frames_share_a_number_where_times_are_uneven() -> None:
    """A screen that is recorded where it changes: 25 frames a second, with pauses."""
    seconds = torch.tensor([0.0, 0.12, 1.0, 1.04, 1.5, 3.0, 3.04, 6.0], dtype=torch.float64)
    places = torch.tensor([0, 3, 4, 5, 6, 7, 8, 9])

    def rate(times: list[int]) -> float:
        scene = make_moving_sphere(num_frames=len(times), size=(4, 6)).reconstruction
        return source_rate(replace(scene, timestamps=seconds[times], frame_indices=places[times]))

    assert rate(list(range(8))) == 25
    assert frame_numbers(seconds.numpy(), 25.0, 1).tolist() == [1, 4, 26, 27, 38.5, 76, 77, 151]
    assert rate([0, 2, 4]) < 5, "wide apart"
    seconds[1] = 1e-6
    assert rate(list(range(8))) == 240, "faulty times"


@pytest.mark.parametrize("source_size", [(160, 480), (640, 90)])
def test_the_film_shows_the_videos_picture_without_the_padding(source_size: tuple[int, int]) -> None:
    scene = sided_scene()
    transform = ImageTransform.fit_pad(source_size, SIZE)
    assert not bool(transform.content_mask().all())
    scene = replace(scene, transform=transform)
    path = CameraPath.choose(scene, ExportOptions(), "opencv", "opencv")
    lens = path.lens()
    assert (path.size, path.plate_size) == (SIZE, source_size)
    for row, frame in enumerate(path.frames):
        points = scene.maps.time_variant(frame).points.reshape(-1, 3)
        wanted = transform.points_to_source(project_to(scene, points, frame)[0])
        w2c = np.linalg.inv(path.c2w[row])
        seen = points.double().numpy() @ w2c[:3, :3].T + w2c[:3, 3]
        right = lens.focal[row] * seen[:, 0] / seen[:, 2] - lens.shift_x[row]
        down = lens.focal[row] * seen[:, 1] / seen[:, 2] + lens.shift_y[row]
        x = (right / lens.width + 0.5) * source_size[1]
        y = (down / lens.height[row] + 0.5) * source_size[0]
        assert np.allclose(np.stack([x, y], axis=1), wanted.numpy(), atol=1e-2)

import math

import pytest
import torch

from vdpm.evaluation.metrics import camera_errors, constant_depth_points, depth_errors, end_point_error
from vdpm.geometry.rigid import rotation_angle


def test_end_point_error_on_four_points() -> None:
    """Truth has mean norm 2, prediction mean norm 1: after scaling three points agree and one is off by 0.8 |P|/n."""
    truth = torch.tensor([[[[0.0, 0, 2], [0, 0, 2]], [[2.0, 0, 0], [0, 2, 0]]]])
    prediction = truth.clone() / 2
    valid = torch.ones(1, 2, 2, dtype=torch.bool)
    assert end_point_error(prediction, truth, valid).item() == pytest.approx(0.0, abs=1e-7)
    prediction[0, 1, 1] = torch.tensor([1.0, 0, 0])  # was (0, 1, 0): sqrt(2) away, one of four
    assert end_point_error(prediction, truth, valid).item() == pytest.approx(math.sqrt(2) / 4)


def test_end_point_error_scales_over_all_maps_together() -> None:
    truth = torch.ones(2, 1, 1, 3)
    prediction = torch.stack([torch.ones(1, 1, 3), 3 * torch.ones(1, 1, 3)])
    errors = end_point_error(prediction, truth, torch.ones(2, 1, 1, dtype=torch.bool))
    # n^ = 2 sqrt 3, n = sqrt 3: the maps become 0.5 and 1.5 of the truth's unit length.
    torch.testing.assert_close(errors, torch.tensor([0.5, 0.5]))


def test_invalid_pixels_do_not_count() -> None:
    truth = torch.ones(1, 1, 2, 3)
    prediction = truth.clone()
    prediction[0, 0, 1] = 100.0
    valid = torch.tensor([[[True, False]]])
    assert end_point_error(prediction, truth, valid).item() == pytest.approx(0.0, abs=1e-6)


def test_depth_errors_by_hand() -> None:
    truth = torch.tensor([[[1.0, 2.0, 4.0]]])
    prediction = torch.tensor([[[2.0, 4.0, 12.0]]])  # median ratio 1/2: 1, 2, 6
    errors = depth_errors(prediction, truth, torch.ones_like(truth, dtype=torch.bool))
    assert errors.abs_rel == pytest.approx(0.5 / 3)
    assert errors.delta_125 == pytest.approx(2 / 3)


@pytest.mark.parametrize("degrees", [0.0, 1e-3, 0.5, 90.0, 179.5])
def test_rotation_angle(degrees: float) -> None:
    a = math.radians(degrees)
    rotation = torch.tensor(
        [[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]], dtype=torch.float64
    )
    assert torch.rad2deg(rotation_angle(rotation)).item() == pytest.approx(degrees, abs=1e-9)


def test_camera_errors_ignore_the_choice_of_world_and_scale() -> None:
    true = torch.eye(4).repeat(3, 1, 1)
    true[1, 0, 3], true[2, 0, 3] = 1.0, 2.0
    world = torch.eye(4)
    world[:3, :3] = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    world[:3, 3] = 5.0
    moved = true.clone()
    moved[:, :3, 3] *= 3
    intrinsics = torch.diag(torch.tensor([100.0, 100, 1])).repeat(3, 1, 1)
    errors = camera_errors(world @ moved, true, intrinsics * 1.1, intrinsics, 3.0, 1.0)
    assert errors.rotation == pytest.approx(0.0, abs=1e-3)
    assert errors.translation == pytest.approx(0.0, abs=1e-5)
    assert errors.focal == pytest.approx(0.1, abs=1e-5)


def test_constant_depth_is_a_plane_before_each_camera() -> None:
    intrinsics = torch.tensor([[[4.0, 0, 2], [0, 4, 1], [0, 0, 1]]])
    c2w = torch.eye(4)[None].clone()
    c2w[0, 2, 3] = 5.0
    points = constant_depth_points(intrinsics, c2w, (2, 4))
    torch.testing.assert_close(points[0, ..., 2], torch.full((2, 4), 6.0))
    torch.testing.assert_close(points[0, 0, 0], torch.tensor([(0.5 - 2) / 4, (0.5 - 1) / 4, 6.0]))


def test_depth_scaled_by_least_squares_by_hand() -> None:
    """s = (1 * 2 + 2 * 2) / (4 + 4) = 3/4, so 2 and 2 become 1.5 and 1.5 against 1 and 2."""
    errors = depth_errors(
        torch.tensor([[[2.0, 2.0]]]),
        torch.tensor([[[1.0, 2.0]]]),
        torch.ones(1, 1, 2, dtype=torch.bool),
        "least_squares",
    )
    assert errors.abs_rel == pytest.approx((0.5 + 0.25) / 2)
    assert errors.delta_125 == 0

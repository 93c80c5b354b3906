import math

import pytest
import torch

from vdpm.geometry.rigid import quaternion_to_matrix
from vdpm.model.pose_encoding import encoding_from_cameras
from vdpm.training.losses import (
    SKY_DISTANCE,
    camera_loss,
    confidence_losses,
    motion_loss,
    per_example_mean,
    sky_loss,
)


def test_confidence_loss_by_hand() -> None:
    points = torch.tensor([[[0.0, 0.0, 3.0], [9.0, 9.0, 9.0]]])
    truth = torch.tensor([[[0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]])
    confidence = torch.tensor([[2.0, 5.0]])
    mask = torch.tensor([[True, False]])
    (loss,) = confidence_losses(points, confidence, truth, (mask,), alpha=0.2)
    assert loss.error.item() == pytest.approx(2.0)
    assert loss.loss.item() == pytest.approx(2.0 * 2.0 - 0.2 * math.log(2.0))


def test_best_confidence_is_alpha_over_error() -> None:
    confidence = torch.tensor([[1.5]], requires_grad=True)
    points, truth = torch.zeros(1, 1, 3), torch.tensor([[[0.0, 0.0, 0.2 / 1.5]]])
    mask = torch.ones(1, 1, dtype=torch.bool)
    confidence_losses(points, confidence, truth, (mask,), alpha=0.2)[0].loss.backward()
    assert confidence.grad is not None
    assert confidence.grad.item() == pytest.approx(0.0, abs=1e-6)


def test_dense_examples_do_not_drown_sparse_ones() -> None:
    """Supplement, Sec. 6: a clip with 10 annotated pixels weighs as much as one with 1,000."""
    values = torch.zeros(2, 1000)
    values[0, :10] = 1.0
    mask = torch.ones(2, 1000, dtype=torch.bool)
    mask[0, 10:] = False
    assert per_example_mean(values, mask).item() == pytest.approx(0.5)
    assert (values[mask].mean()).item() < 0.01  # what averaging over the batch would give


def test_examples_without_truth_are_left_out_and_infinities_do_not_leak() -> None:
    values = torch.tensor([[1.0, float("inf")], [float("nan"), float("nan")]])
    mask = torch.tensor([[True, False], [False, False]])
    assert per_example_mean(values, mask).item() == 1.0
    assert per_example_mean(values, torch.zeros_like(mask)).item() == 0.0


def test_pose_encoding_holds_world_to_camera() -> None:
    quaternion = torch.nn.functional.normalize(torch.tensor([[[0.1, -0.2, 0.3, 0.9]]]), dim=-1)
    c2w = torch.eye(4).repeat(1, 1, 1, 1)
    c2w[..., :3, :3] = quaternion_to_matrix(quaternion)
    c2w[..., :3, 3] = torch.tensor([1.0, 2.0, 3.0])
    intrinsics = torch.tensor([[[[50.0, 0, 64], [0, 50.0, 48], [0, 0, 1]]]])
    encoding = encoding_from_cameras(c2w, intrinsics, (96, 128))[0, 0]
    w2c = torch.linalg.inv(c2w[0, 0])
    torch.testing.assert_close(encoding[:3], w2c[:3, 3])
    torch.testing.assert_close(quaternion_to_matrix(encoding[3:7]), w2c[:3, :3])
    assert encoding[7].item() == pytest.approx(2 * math.atan(96 / 100))
    assert encoding[8].item() == pytest.approx(2 * math.atan(128 / 100))


def test_camera_loss_weighs_the_last_step_most() -> None:
    truth = torch.zeros(1, 2, 9)
    first_wrong, last_wrong = torch.zeros(4, 1, 2, 9), torch.zeros(4, 1, 2, 9)
    first_wrong[0] = 1.0
    last_wrong[3] = 1.0
    first, last = camera_loss(first_wrong, truth, 0.6), camera_loss(last_wrong, truth, 0.6)
    assert (first / last).item() == pytest.approx(0.6**3, rel=1e-5)


def test_motion_loss_counts_moving_and_still_pixels_alike() -> None:
    truth = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]])
    predicted = torch.tensor([[[0.5, 0.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.1], [7.0, 7.0, 7.0]]])
    moving, still = torch.tensor([[True, False, False, False]]), torch.tensor([[False, True, True, False]])
    result = motion_loss(predicted, truth, moving, still)
    assert result.error.item() == pytest.approx(0.5)
    assert result.loss.item() == pytest.approx(0.5 + 0.2)


def test_sky_must_be_far_from_its_own_camera_and_unsure() -> None:
    c2w = torch.eye(4).repeat(1, 2, 1, 1)
    c2w[0, 1, 2, 3] = 1.0
    sky = torch.zeros(1, 2, 1, 2, dtype=torch.bool)
    sky[0, 1, 0, 1] = True
    points = torch.zeros(1, 2, 1, 2, 3)
    points[0, 1, 0, 1, 2] = 1.0 + SKY_DISTANCE / 4
    sure = torch.full((1, 2, 1, 2), math.e)
    assert sky_loss(points, torch.ones_like(sure), c2w, sky, 0.2).item() == pytest.approx(0.75)
    assert sky_loss(points, sure, c2w, sky, 0.2).item() == pytest.approx(0.75 + 0.2)
    # The same for maps at several target times, and nothing more to ask of what is far.
    several = points[:, None].expand(-1, 3, -1, -1, -1, -1)
    assert sky_loss(several, torch.ones(1, 3, 2, 1, 2), c2w, sky, 0.2).item() == pytest.approx(0.75)
    assert sky_loss(points * 10, torch.ones_like(sure), c2w, sky, 0.2).item() == 0

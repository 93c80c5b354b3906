"""Metrics of tracks on four points worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.evaluation.track_metrics import dynamic_tracks, tapvid3d_errors, world_track_errors

YES = torch.ones(2, 2, dtype=torch.bool)


@pytest.fixture
def true() -> Tensor:
    """Two times of two tracks, all at distance 4 from the camera along an axis; the second moves by 4 sqrt 2."""
    return torch.tensor([[[0.0, 0, 4], [4, 0, 0]], [[0, 0, 4], [0, 4, 0]]])


def test_world_track_on_four_points(true: Tensor) -> None:
    """Off by 0, 0.25, 0.5 and 2: within 0.1: 1 of 4; within 0.3: 2; within 0.5: 3, the limit counts; within 1: 3."""
    off = torch.tensor([[[0.0, 0, 0], [0.25, 0, 0]], [[0, 0, 0.5], [0, 0, 2.0]]])
    errors = world_track_errors(true + off, true, YES, align="none")
    assert errors.apd == pytest.approx((1 + 2 + 3 + 3) / 16)
    assert errors.epe == pytest.approx(2.75 / 4)
    known = YES.clone()
    known[1, 1] = False
    assert world_track_errors(true + off, true, known, align="none").epe == pytest.approx(0.25)


def test_world_track_takes_the_median_scale(true: Tensor) -> None:
    """Three points at twice the distance and one at six times: the medians are 8 and 4, so 0, 0, 0 and 8 are left."""
    predicted = 2 * true
    predicted[1, 1] *= 3
    errors = world_track_errors(predicted, true, YES)
    assert errors.epe == pytest.approx(8 / 4)
    assert errors.apd == pytest.approx(3 / 4)
    turned = true[..., [1, 2, 0]] * 5 + torch.tensor([1.0, 2, 3])
    assert world_track_errors(turned, true, YES, align="sim3").epe == pytest.approx(0, abs=1e-5)
    assert world_track_errors(turned, true, YES).epe > 1
    assert math.isnan(world_track_errors(true[:1], true[:1], YES[:1], align="sim3").epe)
    assert math.isnan(world_track_errors(true, true, ~YES).apd)
    with pytest.raises(UsageError, match="median or sim3"):
        world_track_errors(true, true, YES, align="best")


def test_dynamic_tracks_go_a_way(true: Tensor) -> None:
    assert dynamic_tracks(true, YES).tolist() == [False, True]
    known = YES.clone()
    known[0, 1] = False
    assert dynamic_tracks(true, known).tolist() == [False, False]
    # There and back again is a way, though it ends where it began.
    loop = torch.zeros(3, 1, 3)
    loop[1, 0, 0] = 0.006
    assert dynamic_tracks(loop, torch.ones(3, 1, dtype=torch.bool)).tolist() == [True]


def test_tapvid3d_on_four_points() -> None:
    """Depth 2 and focal length 100: a pixel is 0.02. Off by 0, 0.03, 0.05 and 5; the third is truly hidden, the second
    is called hidden.

    Near within 1, 2, 4, 8, 16 pixels (0.02, 0.04, 0.08, 0.16, 0.32): the first always, the second from 2 on. Truly
    visible: the first, second and fourth. APD: 1/3, then 2/3 four times. Jaccard: right and visible on both sides is
    the first alone; wrongly called visible are the third (hidden) and the fourth (far): 1 / (3 + 2). Visibility agrees
    on two of four.
    """
    true = torch.tensor([[[0.0, 0, 2], [1, 0, 2]], [[0, 1, 2], [1, 1, 2]]])
    off = torch.tensor([[[0.0, 0, 0], [0, 0.03, 0]], [[0, 0, 0.05], [5, 0, 0]]])
    visible = torch.tensor([[True, True], [False, True]])
    said = torch.tensor([[True, False], [True, True]])
    focal = torch.tensor([100.0, 100.0])
    errors = tapvid3d_errors(true + off, true, said, visible, YES, focal, align="none")
    assert errors.apd == pytest.approx((1 + 4 * 2) / 15)
    assert errors.average_jaccard == pytest.approx(1 / 5)
    assert errors.occlusion_accuracy == pytest.approx(2 / 4)
    known = torch.tensor([[True, True], [False, True]])
    errors = tapvid3d_errors(true + off, true, said, visible, known, focal, align="none")
    assert errors.average_jaccard == pytest.approx(1 / 4)
    assert errors.occlusion_accuracy == pytest.approx(2 / 3)


def test_tapvid3d_scales_by_what_both_see() -> None:
    """Points at 2, 2, 2 and, hidden on one side, 40: the scale is that of the three."""
    true = torch.tensor([[[0.0, 0, 2], [0, 0, 2]], [[0, 0, 2], [0, 0, 2]]])
    predicted = 3 * true
    predicted[1, 1] = 60.0
    said = torch.tensor([[True, True], [True, False]])
    errors = tapvid3d_errors(predicted, true, said, YES, YES, torch.ones(2))
    assert errors.apd == pytest.approx(3 / 4)
    assert errors.average_jaccard == pytest.approx(3 / 4)
    nothing = tapvid3d_errors(predicted, true, ~YES, YES, YES, torch.ones(2))
    assert math.isnan(nothing.apd)
    assert nothing.occlusion_accuracy == 0


def test_the_truth_scores_all(true: Tensor) -> None:
    world = world_track_errors(true, true, YES)
    assert (world.apd, world.epe) == (1, 0)
    ahead = true + torch.tensor([0.0, 0, 1])
    hidden = torch.tensor([[True, True], [False, True]])
    errors = tapvid3d_errors(ahead, ahead, hidden, hidden, YES, torch.ones(2))
    assert (errors.average_jaccard, errors.apd, errors.occlusion_accuracy) == (1, 1, 1)

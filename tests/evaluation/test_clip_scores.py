"""Scores of clips whose errors are known in closed form."""

import math
from dataclasses import replace

import pytest
import torch

from fixtures.moving_scenes import moving_scenes
from fixtures.moving_wall import moving_wall
from vdpm.evaluation.clip_scores import score_clip
from vdpm.evaluation.metrics import end_point_error
from vdpm.structures import Cameras, Snippet
from vdpm.synthetic import SceneConfig

STEP = 0.5
CONFIG = SceneConfig(num_frames=3, height=16, width=24, colour_samples=1)


def true_cameras(truth: Snippet, scale: float = 1.0) -> Cameras:
    c2w = truth.c2w.clone()
    c2w[:, :3, 3] *= scale
    return Cameras(c2w, truth.intrinsics, truth.size)


@pytest.mark.parametrize("scale", [1.0, 0.25, 30.0])
def test_the_truth_at_any_scale_scores_zero(scale: float) -> None:
    truth = moving_scenes(CONFIG, 1).clip(0)
    scores = score_clip(scale * truth.points, scale * truth.target_points, true_cameras(truth, scale), truth)
    for name in ("epe_p", "epe_q", "epe_q_moving", "flow_moving", "depth_abs_rel", "rotation", "translation", "focal"):
        assert getattr(scores, name) == pytest.approx(0.0, abs=1e-4), name
    assert scores.depth_delta_125 == 1.0
    assert scores.zero_motion_moving > 0.01
    assert scores.own_zero_motion_moving == pytest.approx(scores.zero_motion_moving, abs=1e-4)
    assert scores.constant_depth_p > 0.05


def test_zero_motion_scores_the_mean_displacement() -> None:
    truth = moving_wall(step=STEP)
    stays = truth.points[None].expand(2, -1, -1, -1, -1)
    scores = score_clip(truth.points, stays, true_cameras(truth), truth)
    scale = torch.cat([truth.points[None], truth.target_points]).norm(dim=-1).mean().item()
    # The prediction's own scale differs a little, as its maps do: compare with what is scored, not with the truth.
    own = torch.cat([truth.points[None], stays]).norm(dim=-1).mean().item()
    assert own == pytest.approx(scale, rel=1e-6)
    assert scores.zero_motion_moving == pytest.approx(STEP / scale, rel=1e-5)
    assert scores.zero_motion_q == pytest.approx(STEP / 2 / scale, rel=1e-5)
    assert scores.epe_q_moving == pytest.approx(STEP / scale, rel=1e-5)
    assert scores.flow_moving == pytest.approx(STEP / scale, rel=1e-5)
    assert scores.own_zero_motion_moving == pytest.approx(STEP / scale, rel=1e-5)
    assert scores.epe_p == pytest.approx(0.0, abs=1e-6)


def test_a_plane_is_what_the_constant_depth_baseline_gets_right() -> None:
    truth = moving_wall(step=STEP)
    truth = replace(
        truth, points=truth.target_points[0], target_points=truth.target_points[:1].expand(2, -1, -1, -1, -1)
    )
    scores = score_clip(truth.points, truth.target_points, true_cameras(truth), truth)
    assert scores.constant_depth_p == pytest.approx(0.0, abs=1e-6)
    assert math.isnan(scores.epe_q_moving)
    assert math.isnan(scores.zero_motion_moving)
    assert scores.epe_q == pytest.approx(0.0, abs=1e-6)


def test_pixels_without_truth_do_not_count() -> None:
    truth = moving_wall(step=STEP)
    valid = truth.valid.clone()
    valid[0, 0, 0] = False
    points, target_points = truth.points.clone(), truth.target_points.clone()
    points[0, 0, 0], target_points[:, 0, 0, 0] = math.inf, math.nan
    wrong = replace(truth, points=points, target_points=target_points, valid=valid)
    scores = score_clip(points, target_points, true_cameras(truth), wrong)
    assert scores.epe_p == pytest.approx(0.0, abs=1e-6)
    assert scores.epe_q_moving == pytest.approx(0.0, abs=1e-6)
    assert torch.isfinite(end_point_error(points, points, valid)).all()

"""Scores of clips whose errors are known in closed form, and of a tiny network on held-out scenes."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from fixtures.tiny_run import TINY
from vdpm.errors import OutputError
from vdpm.evaluation.clip_scores import ClipScores, score_clip
from vdpm.evaluation.held_out import clip_of_batch, score_held_out
from vdpm.evaluation.metrics import end_point_error
from vdpm.evaluation.report import held_out_table, write_scores
from vdpm.geometry.pinhole import pixel_grid
from vdpm.model import VDPM
from vdpm.structures import Cameras, Snippet
from vdpm.synthetic import SceneConfig, generate, held_out_seeds

HEIGHT, WIDTH, FOCAL, DEPTH, STEP = 6, 8, 10.0, 4.0, 0.5
CONFIG = SceneConfig(num_frames=3, height=16, width=24, colour_samples=1)


def wall_with_a_moving_half() -> Snippet:
    """Two frames of a still camera before a wall; between them the right half moves ``STEP`` along x.

    The pixels that frame 1 sees at its own time are taken as the same material points, so P_1 is P_0 with its right
    half moved.
    """
    intrinsics = torch.tensor([[FOCAL, 0, WIDTH / 2], [0, FOCAL, HEIGHT / 2], [0, 0, 1]])
    pixels = pixel_grid(HEIGHT, WIDTH, torch.device("cpu"), torch.float32)
    rays = torch.cat([(pixels - torch.tensor([WIDTH / 2, HEIGHT / 2])) / FOCAL, torch.ones(HEIGHT, WIDTH, 1)], -1)
    right = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    right[:, WIDTH // 2 :] = True
    first = rays * DEPTH
    second = first + right[..., None] * torch.tensor([STEP, 0.0, 0.0])
    yes = torch.ones(2, HEIGHT, WIDTH, dtype=torch.bool)
    return Snippet(
        images=torch.zeros(2, 3, HEIGHT, WIDTH),
        timestamps=torch.arange(2.0),
        c2w=torch.eye(4).repeat(2, 1, 1),
        intrinsics=intrinsics.repeat(2, 1, 1),
        points=torch.stack([first, second]),
        targets=torch.tensor([0, 1]),
        target_points=torch.stack([torch.stack([first, first]), torch.stack([second, second])]),
        valid=yes,
        dynamic=yes & right,
    )


def true_cameras(truth: Snippet, scale: float = 1.0) -> Cameras:
    c2w = truth.c2w.clone()
    c2w[:, :3, 3] *= scale
    return Cameras(c2w, truth.intrinsics, truth.size)


@pytest.mark.parametrize("scale", [1.0, 0.25, 30.0])
def test_the_truth_at_any_scale_scores_zero(scale: float) -> None:
    truth = clip_of_batch(generate(held_out_seeds(1, start=3), replace(CONFIG, static_share=0.0)), 0)
    assert truth.dynamic.any()
    scores = score_clip(scale * truth.points, scale * truth.target_points, true_cameras(truth, scale), truth)
    for name in ("epe_p", "epe_q", "epe_q_moving", "flow_moving", "depth_abs_rel", "rotation", "translation", "focal"):
        assert getattr(scores, name) == pytest.approx(0.0, abs=1e-4), name
    assert scores.depth_delta_125 == 1.0
    assert scores.zero_motion_moving > 0.01
    assert scores.own_zero_motion_moving == pytest.approx(scores.zero_motion_moving, abs=1e-4)
    assert scores.constant_depth_p > 0.05


def test_zero_motion_scores_the_mean_displacement() -> None:
    truth = wall_with_a_moving_half()
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
    truth = wall_with_a_moving_half()
    truth = replace(
        truth, points=truth.target_points[0], target_points=truth.target_points[:1].expand(2, -1, -1, -1, -1)
    )
    scores = score_clip(truth.points, truth.target_points, true_cameras(truth), truth)
    assert scores.constant_depth_p == pytest.approx(0.0, abs=1e-6)
    assert math.isnan(scores.epe_q_moving)
    assert math.isnan(scores.zero_motion_moving)
    assert scores.epe_q == pytest.approx(0.0, abs=1e-6)


def test_pixels_without_truth_do_not_count() -> None:
    truth = wall_with_a_moving_half()
    valid = truth.valid.clone()
    valid[0, 0, 0] = False
    points, target_points = truth.points.clone(), truth.target_points.clone()
    points[0, 0, 0], target_points[:, 0, 0, 0] = math.inf, math.nan
    wrong = replace(truth, points=points, target_points=target_points, valid=valid)
    scores = score_clip(points, target_points, true_cameras(truth), wrong)
    assert scores.epe_p == pytest.approx(0.0, abs=1e-6)
    assert scores.epe_q_moving == pytest.approx(0.0, abs=1e-6)
    assert torch.isfinite(end_point_error(points, points, valid)).all()


def test_means_leave_out_what_is_undefined() -> None:
    truth = wall_with_a_moving_half()
    moving = score_clip(truth.points, truth.target_points, true_cameras(truth), truth)
    still = replace(moving, epe_p=0.5, zero_motion_moving=math.nan)
    means = ClipScores.mean([moving, still])
    assert means["zero_motion_moving"] == moving.zero_motion_moving
    assert means["epe_p"] == pytest.approx(0.25, abs=1e-6)
    assert math.isnan(ClipScores.mean([still])["zero_motion_moving"])
    assert "| n/a |" in held_out_table([still])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_tiny_network_is_scored_on_held_out_scenes(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = VDPM(TINY).to(dtype)
    told: list[tuple[int, int]] = []
    scores = score_held_out(model, CONFIG, clips=3, batch=2, progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 3), (3, 3)]
    assert all(math.isfinite(score.epe_p) and score.epe_p > 0.1 for score in scores)
    again = score_held_out(model, CONFIG, clips=1)
    assert again[0].epe_p == pytest.approx(scores[0].epe_p, rel=1e-3 if dtype == torch.float32 else 0.05)


def test_scores_are_written_as_json(tmp_path: Path) -> None:
    truth = wall_with_a_moving_half()
    scores = [score_clip(truth.points, truth.target_points, true_cameras(truth), truth)]
    write_scores(scores, tmp_path / "scores.json", model="m", fingerprint="f", config=CONFIG)
    read = json.loads((tmp_path / "scores.json").read_text())
    assert read["clips"][0]["direction"] is None  # the camera stands still
    assert read["means"]["zero_motion_moving"] == pytest.approx(scores[0].zero_motion_moving)
    assert set(read["clips"][0]) == set(asdict(scores[0]))
    with pytest.raises(OutputError, match="cannot be written"):
        write_scores(scores, tmp_path / "no" / "scores.json", model="m", fingerprint="f", config=CONFIG)

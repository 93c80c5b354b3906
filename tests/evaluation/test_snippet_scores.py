"""Errors of snippets against values worked out by hand, and of the answers that need no network."""

import math
from dataclasses import replace

import pytest
import torch

from fixtures.moving_scenes import moving_scenes
from fixtures.moving_wall import DEPTH, moving_wall
from vdpm.errors import UsageError
from vdpm.evaluation.baselines import ConstantDepth, Oracle, ZeroMotion, without_motion
from vdpm.evaluation.protocol import Prediction, Predictor
from vdpm.evaluation.snippet_scores import (
    ProtocolOptions,
    camera_scores,
    frames_of,
    shape_scores,
    tracking_scores,
    two_view_scores,
)
from vdpm.structures import Snippet
from vdpm.synthetic import SceneConfig, generate, held_out_seeds

PLAIN, DECODED = ProtocolOptions(), ProtocolOptions(own_time="decoded")


def four_points(points: list[list[float]], times: int = 2) -> Snippet:
    """``times`` frames of 2 x 2 pixels with the same four points at all times."""
    maps = torch.tensor(points).view(1, 2, 2, 3).expand(times, -1, -1, -1).contiguous()
    yes = torch.ones(times, 2, 2, dtype=torch.bool)
    return Snippet(
        images=torch.zeros(times, 3, 2, 2),
        timestamps=torch.arange(float(times)),
        c2w=torch.eye(4).repeat(times, 1, 1),
        intrinsics=torch.eye(3).repeat(times, 1, 1),
        points=maps,
        targets=torch.arange(times),
        target_points=maps[None].expand(times, -1, -1, -1, -1).contiguous(),
        valid=yes,
        dynamic=~yes,
    )


def answer(truth: Snippet, at_targets: torch.Tensor) -> Prediction:
    return Prediction(truth.points, at_targets, truth.c2w, truth.intrinsics)


def test_tracking_error_of_four_points_by_hand() -> None:
    """Truth: four points at distance 2. Answer: one of them at (0, 0, 6) at t_1, so n^ = (4 * 2 + 3 * 2 + 6) / 8 = 2.5.

    Map 0: each point is at 2 / 2.5 = 0.8 of 1, an error of 0.2. Map 1: three errors of 0.2, one of |6 / 2.5 - 1| = 1.4.
    """
    truth = four_points([[0.0, 0, 2], [0, 0, 2], [2, 0, 0], [0, 2, 0]])
    maps = truth.target_points[:, :1].clone()
    maps[1, 0, 0, 0] = torch.tensor([0.0, 0, 6])
    scores = tracking_scores(answer(truth, maps), truth, DECODED)
    assert scores["epe"] == pytest.approx((0.2 + (3 * 0.2 + 1.4) / 4) / 2)
    # Each map by itself: the first is right; in the second n^ is 3, with errors of 1/3, 1/3, 1/3 and 1.
    assert scores["epe_per_map"] == pytest.approx((0 + (1 + 1) / 4) / 2)
    assert math.isnan(scores["epe_moving"])
    assert scores["moving_share"] == 0


def test_two_view_errors_of_four_points_by_hand() -> None:
    """One number scales all four maps: P_1(t_0) three times too far makes n^ = (2 + 2 + 2 + 6) / 4 = 3."""
    truth = four_points([[0.0, 0, 2], [0, 0, 2], [2, 0, 0], [0, 2, 0]])
    maps = truth.target_points.clone()
    maps[0, 1] *= 3
    scores = two_view_scores(answer(truth, maps), truth, PLAIN)
    third = pytest.approx(1 / 3)
    assert (scores["p0_t0"], scores["p0_t1"], scores["p1_t1"]) == (third, third, third)
    assert scores["p1_t0"] == pytest.approx(1.0)
    with pytest.raises(UsageError, match="give a pair"):
        two_view_scores(answer(truth, maps), four_points([[0.0, 0, 1]] * 4, times=3), PLAIN)


def test_targets_and_sources_are_not_confused() -> None:
    """Frame 0's pixels wrong at t_1 alone, then frame 1's at t_0 alone."""
    truth = moving_wall(2, step=0.5)
    for target, source, name in ((1, 0, "p0_t1"), (0, 1, "p1_t0")):
        maps = truth.target_points.clone()
        maps[target, source] = truth.target_points[1 - target, source]
        scores = two_view_scores(answer(truth, maps), truth, DECODED)
        others = {"p0_t0", "p0_t1", "p1_t0", "p1_t1"} - {name}
        assert scores[name] > 0.04
        assert all(scores[other] < 0.02 for other in others)


@pytest.mark.parametrize("scale", [1.0, 0.2, 40.0])
def test_the_oracle_has_no_error_in_any_unit(scale: float) -> None:
    batch = moving_scenes(SceneConfig(num_frames=5, height=16, width=24, colour_samples=1, static_share=0.0), 2)
    said = Oracle(batch).predict(batch.images, range(5), [0])
    c2w = said.c2w.clone()
    c2w[..., :3, 3] *= scale
    said = Prediction(scale * said.time_variant, scale * said.at_targets, c2w, said.intrinsics)
    for row in range(2):
        truth, one = batch.clip(row), said.clip(row)
        scores = tracking_scores(one, truth, PLAIN) | shape_scores(one, truth, PLAIN)
        scores |= camera_scores(one, truth, PLAIN)
        for name in ("epe", "epe_per_map", "epe_moving", "p_epe", "abs_rel", "abs_rel_lsq", "translation", "focal"):
            assert scores[name] == pytest.approx(0, abs=1e-5), name
        assert scores["rotation"] == pytest.approx(0, abs=1e-3)
        assert scores["ate"] == pytest.approx(0, abs=1e-4) or math.isnan(scores["ate"])
        assert scores["delta_125"] == scores["delta_125_lsq"] == 1
        pair = frames_of(truth, (0, 4))
        alone = two_view_scores(Oracle(pair).predict(pair.images, [0, 1]), pair, PLAIN)
        assert max(alone.values()) == pytest.approx(0, abs=1e-5)


def test_zero_motion_is_wrong_by_the_motion() -> None:
    """The right half moves 0.5 a frame; the own scale of an answer without motion is that of the first map alone."""
    truth = moving_wall(4, step=0.5)
    scores = tracking_scores(ZeroMotion(truth).predict(truth.images, range(4), [0]), truth, PLAIN)
    n = truth.target_points[:, 0].norm(dim=-1).mean()
    still = truth.points[0].norm(dim=-1).mean()
    expected = [(truth.points[0] / still - truth.target_points[j, 0] / n).norm(dim=-1).mean().item() for j in range(4)]
    assert scores["epe"] == pytest.approx(sum(expected) / 4, rel=1e-5)
    # Scaled alike the moving half would be off by 0.5, 1 and 1.5, on average 1; scaling alone adds little.
    assert scores["epe_moving"] == pytest.approx(1.0 / float(n), rel=0.05)
    assert scores["moving_share"] == pytest.approx(3 / 4 / 2)


def test_zero_motion_of_a_sideways_step_is_exact_where_both_scales_agree() -> None:
    """Left half moves left, right half moves right: by symmetry of 2 x 2 points both sides have one scale."""
    truth = four_points([[1.0, 0, 2], [-1, 0, 2], [1, 0, 2], [-1, 0, 2]])
    moved = truth.target_points.clone()
    moved[1] = -moved[1] * torch.tensor([1.0, 1, -1])
    truth = replace(truth, target_points=moved)
    scores = tracking_scores(ZeroMotion(truth).predict(truth.images, [0, 1], [0]), truth, PLAIN)
    assert scores["epe_moving"] == pytest.approx(2 / math.sqrt(5), rel=1e-6)
    assert scores["epe"] == pytest.approx(1 / math.sqrt(5), rel=1e-6)


def test_a_networks_own_shape_without_motion() -> None:
    truth = moving_wall(3)
    said = Oracle(truth).predict(truth.images, range(3), [0])
    still = without_motion(said, [0])
    assert torch.equal(still.at_targets, truth.points[:1].expand(3, 1, -1, -1, -1))
    true_still = ZeroMotion(truth).predict(truth.images, range(3), [0])
    assert tracking_scores(still, truth, PLAIN) == tracking_scores(true_still, truth, PLAIN)


def test_the_plane_is_right_before_a_wall() -> None:
    truth = moving_wall(2, step=0.0)
    truth = replace(truth, points=truth.points * 3)
    said = ConstantDepth(truth).predict(truth.images, [0, 1])
    assert isinstance(ConstantDepth(truth), Predictor)
    torch.testing.assert_close(said.time_variant[..., 2], torch.full_like(truth.points[..., 2], 3 * DEPTH))
    scores = shape_scores(said, truth, PLAIN)
    assert scores["p_epe"] == pytest.approx(0, abs=1e-6)
    assert scores["abs_rel"] == pytest.approx(0, abs=1e-6)


def test_what_answers_for_a_frames_own_time() -> None:
    """A decoder that is wrong at the own time alone: it counts where the decoder is asked, and not where P is."""
    truth = moving_wall(3, step=0.0)
    maps = truth.target_points[:, :1].clone()
    maps[0, 0] = maps[0, 0] + torch.tensor([1.0, 0, 0])
    assert tracking_scores(answer(truth, maps), truth, PLAIN)["epe"] == pytest.approx(0, abs=1e-6)
    assert tracking_scores(answer(truth, maps), truth, DECODED)["epe"] > 0.05


def test_points_beyond_the_horizon_and_without_truth_do_not_count() -> None:
    truth = four_points([[0.0, 0, 1], [0, 0, 1], [0, 0, 1], [0, 0, 97]])
    maps = truth.target_points[:, :1].clone()
    maps[:, 0, 1, 1] = 5.0
    near = ProtocolOptions(own_time="decoded", horizon=3.0)
    assert tracking_scores(answer(truth, maps), truth, DECODED)["epe"] > 0.1
    assert tracking_scores(answer(truth, maps), truth, near)["epe"] == pytest.approx(0, abs=1e-6)
    valid = truth.valid.clone()
    valid[0, 1, 1] = False
    maps[:, 0, 1, 1] = math.inf
    assert tracking_scores(answer(truth, maps), replace(truth, valid=valid), DECODED)["epe"] == pytest.approx(0)
    with pytest.raises(UsageError, match="horizon"):
        ProtocolOptions(horizon=0.5)
    with pytest.raises(UsageError, match="moving"):
        ProtocolOptions(moving=-0.1)


def test_some_frames_of_a_clip() -> None:
    config = SceneConfig(num_frames=4, height=12, width=16, colour_samples=1)
    batch = generate(held_out_seeds(2), config)
    pair = frames_of(batch, (0, 3))
    assert torch.equal(pair.images, batch.images[:, [0, 3]])
    assert torch.equal(pair.target_points, batch.target_points[:, [0, 3]][:, :, [0, 3]])
    assert pair.targets.tolist() == [[0, 1], [0, 1]]
    with pytest.raises(UsageError, match="reference frame 0"):
        frames_of(batch, (1, 3))
    with pytest.raises(UsageError, match=r"frames \[9\]"):
        frames_of(batch, (0, 9))


def test_baselines_refuse_what_they_do_not_know() -> None:
    truth = moving_wall(2)
    with pytest.raises(UsageError, match="no truth at the times"):
        Oracle(truth).predict(truth.images, [0, 5])
    with pytest.raises(UsageError, match="not those of the truth"):
        Oracle(truth).predict(truth.images[:1], [0])
    with pytest.raises(UsageError, match="world of frame 1"):
        Oracle(replace(truth, reference=1))

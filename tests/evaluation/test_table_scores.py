"""Scores of a few pixels worked out by hand: depth under all alignments, which pixels are kept and which count."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fixtures.moving_wall import moving_wall
from vdpm.errors import UsageError
from vdpm.evaluation.benchmark import Sample, load_benchmark
from vdpm.evaluation.clips import MapTruth, open_clips
from vdpm.evaluation.contenders import Baseline, Fit, SequenceAnswer
from vdpm.evaluation.prediction_run import AnswerOptions, kept_pixels, make_plan, predict
from vdpm.evaluation.protocol import Prediction
from vdpm.evaluation.table_scores import TableOptions, depth_scores, score


def test_depth_of_four_pixels() -> None:
    """d^ = 1, 2, 3, 4 and d = 2, 4, 6, 20. Medians 2 and 4: aligned 2, 4, 6, 8; the last is off by 12 of 20.

    Frame by frame (two pixels each): ratios 2/1 and 6/3, so the same. Cut at 5: 2, 4, 5, 5: off by 1/6 and 15/20.
    """
    predicted, true = torch.tensor([1.0, 2, 3, 4]), torch.tensor([2.0, 4, 6, 20])
    options = TableOptions(alignments=("median", "none"), per_frame=True)
    scores = depth_scores(predicted, true, [2, 2], options, None)
    assert scores["median.abs_rel"] == pytest.approx(0.6 / 4)
    assert scores["median.delta_125"] == 3 / 4
    assert scores["median_per_frame.abs_rel"] == pytest.approx(0.6 / 4)
    assert scores["none.abs_rel"] == pytest.approx((0.5 * 3 + 0.8) / 4)
    cut = depth_scores(predicted, true, [2, 2], options, 5.0)
    assert cut["median.abs_rel"] == pytest.approx((1 / 6 + 15 / 20) / 4)
    # 6 / 5 is within 1.25, 20 / 5 is not.
    assert cut["median.delta_125"] == 3 / 4


def test_each_frame_may_have_a_scale_of_its_own() -> None:
    predicted, true = torch.tensor([1.0, 2, 1, 2]), torch.tensor([1.0, 2, 5, 10])
    options = TableOptions(alignments=("scale_lsq",), per_frame=True)
    scores = depth_scores(predicted, true, [2, 2], options, None)
    assert scores["scale_lsq_per_frame.abs_rel"] == pytest.approx(0, abs=1e-6)
    # One scale for both: (1 + 4 + 5 + 20) / 10 = 3: off by 2, 2, 2/5 and 2/5.
    assert scores["scale_lsq.abs_rel"] == pytest.approx(4.8 / 4)
    # A frame without truth changes nothing.
    assert depth_scores(predicted, true, [2, 0, 2], options, None) == scores
    empty = depth_scores(predicted[:0], true[:0], [0], options, None)
    assert all(math.isnan(value) for value in empty.values())


def test_depth_below_nothing_counts_as_wrong_and_not_as_infinite() -> None:
    """A shift may take depth below 0: off by its distance, and never within 1.25."""
    scores = depth_scores(
        torch.tensor([-1.0, 2]), torch.tensor([1.0, 2]), [2], TableOptions(alignments=("none",)), None
    )
    assert scores == {"none.abs_rel": 1.0, "none.delta_125": 0.5}


@pytest.fixture
def sparse() -> MapTruth:
    """Tracks at every fourth pixel of the first frame, depth everywhere."""
    clip = moving_wall(3)
    known = torch.zeros(3, 1, *clip.size, dtype=torch.bool)
    known[:, :, ::2, ::2] = True
    known[0] = True
    empty = replace(clip, targets=clip.targets[:0], target_points=clip.target_points[:0], target_valid=None)
    return MapTruth(empty, (0, 1, 2), (0,), clip.target_points[:, :1].contiguous(), known)


def test_tracked_pixels_are_kept_first(sparse: MapTruth) -> None:
    sample = Sample("a", "a", (0, 1, 2))
    keep, own = kept_pixels(sparse, sample, None)
    assert torch.equal(keep, sparse.known)
    assert own.all()
    keep, own = kept_pixels(sparse, sample, 15)
    assert int(own.sum()) == 15
    assert torch.equal(keep[1], sparse.known[1])
    few, again, other = (kept_pixels(sparse, s, 5)[0] for s in (sample, sample, replace(sample, name="b")))
    assert int(few[1].sum()) == int(few[0].sum()) == 5
    assert torch.equal(few, again)
    assert not torch.equal(few, other)


def test_own_pixels_dense_or_tracked(data_root: Path, tmp_path: Path) -> None:
    """A model that is wrong at its own time alone, where no track lies, is right where tracks lie."""

    class Half(Baseline):
        def maps(self, truth: MapTruth) -> Prediction:
            said = super().maps(truth)
            tracked = truth.known[1:, 0].any(0)
            own = torch.where(tracked[..., None], said.time_variant, said.time_variant + 1)
            return replace(said, time_variant=own)

    clips = open_clips("pointodyssey", data_root / "pointodyssey", "tracking")
    benchmark = load_benchmark("pointodyssey", "tracking").changed(frames=3, stride=1, per_sequence=1)
    plan = make_plan(clips, benchmark, "half", "half", AnswerOptions(Fit()))
    assert predict(Half("oracle"), clips, plan, tmp_path) == 1
    epe = {
        own: score(clips, plan, tmp_path, TableOptions(own_pixels=own))[0].scores["epe"]  # type: ignore[arg-type]
        for own in ("dense", "tracked")
    }
    assert epe["tracked"] == pytest.approx(0, abs=1e-6)
    assert epe["dense"] > 0.05


def test_depth_beyond_the_cap_is_not_scored(data_root: Path, tmp_path: Path) -> None:
    class Far(Baseline):
        def sequence(self, *given: object) -> SequenceAnswer:
            said = super().sequence(*given)  # type: ignore[arg-type]
            return replace(said, depth=torch.where(said.depth > limit, 10 * said.depth, said.depth))

    clips = open_clips("sintel", data_root / "sintel", "video-depth")
    depths = torch.cat([f.depth[f.valid] for f in clips.frames(Sample("a", "alley_2", (0, 1)))])
    limit = float(depths.quantile(0.7))
    benchmark = load_benchmark("sintel", "video-depth")
    plan = make_plan(clips, benchmark, "far", "far")
    predict(Far("oracle"), clips, plan, tmp_path)
    options = TableOptions(alignments=("median",))
    all_of_it = score(clips, plan, tmp_path, options)[0]
    capped = score(clips, replace(plan, benchmark=benchmark.changed(depth_cap=limit)), tmp_path, options)[0]
    assert capped.scores == {"median.abs_rel": 0.0, "median.delta_125": 1.0}
    assert all_of_it.scores["median.abs_rel"] > 0.5
    assert 0.5 < capped.weight / all_of_it.weight < 0.9
    alike = score(clips, plan, tmp_path, replace(options, weights="sequences"))[0]
    assert alike.weight == 1


def test_options_that_there_are_not() -> None:
    for values in ({"alignments": ("best",)}, {"alignments": ()}, {"delta": 0}, {"visibility": -0.1}):
        with pytest.raises(UsageError):
            TableOptions(**values)
    with pytest.raises(UsageError):
        AnswerOptions(pixels=0)

"""Which points other frames see, and what holds for a clip as a whole with all kinds of shapes and motions in it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.structures import Snippet
from vdpm.synthetic import SceneConfig, generate, held_out_seeds
from vdpm.synthetic.contact_sheet import depth_maps
from vdpm.synthetic.kinds import FigureWeights, MotionWeights, ShapeShares, SheetWeights

CONFIG = SceneConfig(num_frames=3, height=36, width=48, colour_samples=1, static_share=0.0,
                     sheets=SheetWeights(sheet_share=0.8))  # fmt: skip
CLIPS = 12


@pytest.fixture(scope="module")
def snippet() -> Snippet:
    return generate(held_out_seeds(CLIPS, start=500), CONFIG, visible=True)


def _projected(snippet: Snippet, source: int, target: int) -> tuple[Tensor, Tensor, Tensor]:
    """Column, row and depth in frame ``target`` of the points of ``source`` at that time."""
    c2w, k = snippet.c2w[:, target], snippet.intrinsics[:, target]
    points = snippet.target_points[:, target, source].flatten(1, 2)
    camera = (points - c2w[:, None, :3, 3]) @ c2w[:, :3, :3]
    image = camera @ k.transpose(-1, -2)
    return image[..., 0] / image[..., 2], image[..., 1] / image[..., 2], camera[..., 2]


def test_a_frame_sees_all_that_it_shows(snippet: Snippet) -> None:
    assert snippet.visible is not None
    for frame in range(CONFIG.num_frames):
        seen = snippet.visible[:, frame, frame]
        assert (seen == snippet.valid[:, frame]).float().mean() > 0.999


def test_visible_points_agree_with_depth_maps(snippet: Snippet) -> None:
    assert snippet.visible is not None
    depth = depth_maps(snippet)
    hidden = agreeing = judged = 0
    for source, target in ((0, 2), (2, 0), (1, 2)):
        x, y, z = _projected(snippet, source, target)
        inside = (z > 0) & (x > 0) & (x < 48) & (y > 0) & (y < 36)
        seen = snippet.visible[:, target, source].flatten(1)
        assert not (seen & ~inside).any()
        column, row = x.nan_to_num().clamp(0, 47.9).long(), y.nan_to_num().clamp(0, 35.9).long()
        there = depth[:, target].flatten(1).gather(1, row * 48 + column)
        valid = snippet.valid[:, source].flatten(1) & inside & (there > 0)
        # The map's depth is that of the pixel's centre: judge only where it leaves no doubt.
        front, behind = valid & ((there / z - 1).abs() < 0.01), valid & (there < 0.8 * z)
        judged += int((front | behind).sum())
        agreeing += int((front & seen).sum()) + int((behind & ~seen).sum())
        hidden += int(behind.sum())
    assert hidden > 100
    assert agreeing > 0.97 * judged


def test_without_asking_nothing_is_said_about_visibility() -> None:
    assert generate([1], replace(CONFIG, height=12, width=16)).visible is None


def test_the_truth_of_a_clip_is_the_same_to_the_bit_in_any_batch() -> None:
    seeds = held_out_seeds(6, start=700)
    together = generate(seeds, CONFIG)
    for row in (0, 4):
        alone = generate(seeds[row : row + 1], CONFIG)
        for name in ("points", "target_points", "valid", "instances", "c2w", "dynamic"):
            assert torch.equal(getattr(alone, name)[0], getattr(together, name)[row]), name
        # Powers of colours may be rounded another way at the end of a vector.
        assert torch.allclose(alone.images[0], together.images[row], atol=1e-6)


def test_neighbouring_pixels_of_one_surface_stay_neighbours(snippet: Snippet) -> None:
    """Surfaces stretch but do not tear: where two pixels are close on one object they stay close at other times."""
    assert snippet.instances is not None
    now = (snippet.points[..., 1:, :] - snippet.points[..., :-1, :]).norm(dim=-1)
    depth = depth_maps(snippet)
    close = (now < 0.06 * depth[..., 1:]) & snippet.valid[..., 1:] & snippet.valid[..., :-1]
    same = (snippet.instances[..., 1:] == snippet.instances[..., :-1]) & (snippet.instances[..., 1:] >= 70) & close
    then = (snippet.target_points[..., 1:, :] - snippet.target_points[..., :-1, :]).norm(dim=-1)
    ratio = (then / now[:, None].clamp_min(1e-9))[same[:, None].expand_as(then)]
    assert len(ratio) > 500
    assert torch.quantile(ratio, 0.98) < 4
    assert ratio.median() < 1.3


def test_weights_restrict_what_scenes_have() -> None:
    """Without sheets, crowds, vehicles and superquadrics none of their instances occur; with them they do."""
    plain = replace(CONFIG, height=24, width=32, sheets=SheetWeights(sheet_share=0.0), figure_share=0.0,
                    shapes=ShapeShares(superquadric_share=0.0, crowd_share=0.0, vehicle_share=0.0))  # fmt: skip
    kinds = generate(held_out_seeds(10, start=900), replace(plain, figure_share=1.0)).instances
    assert kinds is not None
    assert not ((kinds >= 69) & (kinds <= 73)).any()
    rich = generate(held_out_seeds(10, start=900), CONFIG).instances
    assert rich is not None
    assert ((rich >= 71) & (rich <= 73)).any()


def test_wrong_weights_are_refused() -> None:
    with pytest.raises(UsageError, match="flag is -1"):
        SheetWeights(flag=-1.0)
    with pytest.raises(UsageError, match=r"soft_share is 1\.5"):
        MotionWeights(soft_share=1.5)
    with pytest.raises(UsageError, match="crowd_share is 2"):
        ShapeShares(crowd_share=2.0)
    with pytest.raises(UsageError, match="all weights of FigureWeights"):
        FigureWeights(**dict.fromkeys(vars(FigureWeights()), 0.0))


def test_unseen_shapes_do_not_occur_unless_asked_for() -> None:
    weights = SheetWeights()
    assert (weights.torus, weights.column, weights.moebius, weights.burr) == (0.0, 0.0, 0.0, 0.0)
    assert sum(weights.weights) > 0

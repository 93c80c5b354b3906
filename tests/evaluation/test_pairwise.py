"""Clips by pairs: an oracle's pairs give the truth back, known scales are found under noise, conventions hold."""

from dataclasses import replace
from itertools import permutations

import pytest
import torch
from jaxtyping import Int
from torch import Tensor

from fixtures.tiny_network import TINY, tiny_network
from vdpm.errors import UsageError
from vdpm.evaluation.pair_alignment import align_pairs
from vdpm.evaluation.pairwise import PairwisePredictor, frame_pairs
from vdpm.evaluation.protocol import NetworkPredictor, Predictor
from vdpm.geometry.rigid import invert_rigid, rigid, rotation_angle, rotation_vector_to_matrix, transform_points
from vdpm.model import VDPM, PointMaps, SceneTokens
from vdpm.structures import Cameras, Snippet
from vdpm.synthetic import SceneConfig, generate, held_out_seeds

FRAMES = 4


@pytest.fixture(scope="module")
def truth() -> Snippet:
    return generate(held_out_seeds(2, start=3), SceneConfig(num_frames=FRAMES, height=16, width=24))


class Oracle(VDPM):
    """Knows the truth of two clips; each pair's answer is in the first frame's camera, in a unit drawn from the pair.

    Images carry the number of clip and frame in their first two pixels.
    """

    def __init__(self, truth: Snippet, noise: float = 0.0) -> None:
        super().__init__(replace(TINY, decoder_kind="pairwise"))
        self.truth, self.noise = truth, noise
        self.seen: list[tuple[int, int, int]] = []

    def encode(self, images: Tensor, reference: int = 0) -> SceneTokens:
        codes = (images[:, :, 0, 0, :2] * 100).round().long()
        self.pairs = [(int(clip[0, 0]), int(clip[0, 1]), int(clip[1, 1])) for clip in codes]
        self.seen += self.pairs
        assert reference == 0
        return super().encode(images, reference)

    def unit(self, clip: int, i: int, j: int) -> float:
        return float(torch.rand((), generator=torch.Generator().manual_seed(100 * clip + 10 * i + j)) * 2 + 0.5)

    def maps(self, times: list[tuple[int, ...]]) -> PointMaps:
        """For each pair, the points of frame 0 and 1 of it at two times out of (0, 1)."""
        rows = []
        for number, (clip, i, j) in enumerate(self.pairs):
            at = (i, j)
            world = torch.stack([self.truth.target_points[clip, at[times[number][s]], at[s]] for s in (0, 1)])
            local = transform_points(invert_rigid(self.truth.c2w[clip, i]), world) / self.unit(clip, i, j)
            generator = torch.Generator().manual_seed(number + 17 * i + 5 * j)
            rows.append(local * (1 + self.noise * torch.randn(local.shape, generator=generator)))
        points = torch.stack(rows)
        return PointMaps(points, torch.full_like(points[..., 0], 2.0))

    def time_variant(self, tokens: SceneTokens, sources: object = None) -> PointMaps:
        return self.maps([(0, 1)] * len(self.pairs))

    def decode(self, tokens: SceneTokens, target_time: Int[Tensor, "targets"], sources: object = None) -> PointMaps:
        parts = [self.maps([(int(t), int(t))] * len(self.pairs)) for t in target_time]
        return PointMaps(torch.stack([p.points for p in parts], 1), torch.stack([p.confidence for p in parts], 1))

    def cameras(self, tokens: SceneTokens) -> Cameras:
        poses = []
        for clip, i, j in self.pairs:
            relative = invert_rigid(self.truth.c2w[clip, i]) @ self.truth.c2w[clip, j]
            relative = rigid(relative[:3, :3], relative[:3, 3] / self.unit(clip, i, j))
            poses.append(torch.stack([torch.eye(4), relative]))
        lenses = torch.stack([self.truth.intrinsics[clip, [i, j]] for clip, i, j in self.pairs])
        return Cameras(torch.stack(poses), lenses, tokens.size)


def numbered(clips: int, frames: int) -> Tensor:
    images = torch.zeros(clips, frames, 3, 16, 24)
    images[:, :, 0, 0, 0] = torch.arange(clips)[:, None] / 100
    images[:, :, 0, 0, 1] = torch.arange(frames) / 100
    return images


def scale_of(points: Tensor, truth: Tensor) -> Tensor:
    """The one factor of each clip between prediction and truth."""
    return (points.flatten(1) * truth.flatten(1)).sum(1) / truth.flatten(1).square().sum(1)


@pytest.mark.parametrize("graph", ["star", "complete"])
def test_the_pairs_of_an_oracle_give_the_whole_truth_back(truth: Snippet, graph: str) -> None:
    oracle = Oracle(truth)
    predictor = PairwisePredictor(oracle, graph)  # type: ignore[arg-type]
    assert isinstance(predictor, Predictor)
    answer = predictor.predict(numbered(2, FRAMES), range(FRAMES))
    scale = scale_of(answer.time_variant, truth.points)
    grown = scale[:, None, None, None, None]
    torch.testing.assert_close(answer.time_variant, truth.points * grown, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(answer.at_targets, truth.target_points * grown[:, None], rtol=1e-3, atol=1e-3)
    angle = rotation_angle(answer.c2w[..., :3, :3].mT @ truth.c2w[..., :3, :3])
    assert angle.max() < 2e-3
    torch.testing.assert_close(
        answer.c2w[..., :3, 3], truth.c2w[..., :3, 3] * scale[:, None, None], rtol=1e-3, atol=1e-3
    )
    assert torch.equal(answer.c2w[:, 0], torch.eye(4).expand(2, 4, 4))
    torch.testing.assert_close(answer.intrinsics, truth.intrinsics)


def test_tracks_ask_for_no_more_than_the_pairs_with_frame_0(truth: Snippet) -> None:
    oracle = Oracle(truth, noise=0.01)
    answer = PairwisePredictor(oracle).predict(numbered(2, FRAMES), range(FRAMES), sources=[0])
    assert sorted(oracle.seen) == [(clip, 0, k) for clip in (0, 1) for k in range(1, FRAMES)]
    assert answer.at_targets.shape == (2, FRAMES, 1, 16, 24, 3)
    expected = truth.target_points[:, :, :1]
    scale = scale_of(answer.at_targets, expected)
    error = (answer.at_targets - expected * scale[:, None, None, None, None, None]).norm(dim=-1)
    assert error.mean() < 0.02 * answer.at_targets.norm(dim=-1).mean()
    # Without alignment the units of the pairs, 0.5 to 2.5, would show: an error of tens of percent.


def test_two_frames_are_one_pair_and_batches_hold_independent_clips(truth: Snippet) -> None:
    images = numbered(2, FRAMES)[:, :2]
    oracle = Oracle(truth, noise=0.01)
    together = PairwisePredictor(oracle).predict(images, (0, 1))
    assert oracle.seen == [(0, 0, 1), (1, 0, 1)]
    oracle = Oracle(truth)
    exact = PairwisePredictor(oracle).predict(images, (0, 1))
    assert together.at_targets.shape == (2, 2, 2, 16, 24, 3)
    for clip in (0, 1):
        alone = PairwisePredictor(Oracle(truth)).predict(images[clip], (0, 1))
        torch.testing.assert_close(alone.at_targets, exact.at_targets[clip])
        torch.testing.assert_close(alone.c2w, exact.c2w[clip])


def test_on_a_pair_the_predictor_says_what_the_network_says() -> None:
    """View order, frames of time and world as NetworkPredictor has them."""
    for kind in ("transformer", "pairwise"):
        torch.manual_seed(5)
        model = VDPM(replace(TINY, decoder_kind=kind)) if kind == "pairwise" else tiny_network()
        images = torch.rand(2, 2, 3, 16, 24)
        one, other = PairwisePredictor(model).predict(images, (1, 0)), NetworkPredictor(model).predict(images, (1, 0))
        unit = (one.time_variant / other.time_variant).flatten(1).median(1).values[:, None, None, None, None]
        torch.testing.assert_close(one.time_variant, other.time_variant * unit, rtol=1e-3, atol=1e-4)
        off_diagonal = (one.at_targets[:, 0, 0], one.at_targets[:, 1, 1])
        expected = (other.at_targets[:, 0, 0], other.at_targets[:, 1, 1])
        for found, wanted in zip(off_diagonal, expected):
            torch.testing.assert_close(found, wanted * unit[:, 0], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(one.c2w[:, 1, :3, :3], other.c2w[:, 1, :3, :3], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(one.intrinsics, other.intrinsics)


def scattered(seed: int, frames: int = 5, noise: float = 0.0) -> tuple[Tensor, tuple[tuple[int, int], ...], Tensor]:
    """Maps of all pairs of one clip of points at random, what takes each pair to the world, and the world's points."""
    generator = torch.Generator().manual_seed(seed)
    world = torch.randn(frames, 6, 8, 3, generator=generator) + torch.tensor([0.0, 0.0, 4.0])
    pairs = (*[(0, k) for k in range(1, frames)], *[p for p in permutations(range(frames), 2) if p[0]])
    scales = torch.exp(0.6 * torch.randn(len(pairs), generator=generator))
    turns = rotation_vector_to_matrix(0.4 * torch.randn(len(pairs), 3, generator=generator))
    shifts = torch.randn(len(pairs), 3, generator=generator)
    maps = []
    for e, (i, j) in enumerate(pairs):
        points = world[[i, j]]
        if i:
            points = transform_points(invert_rigid(rigid(turns[e], shifts[e])), points)
        points = points + noise * torch.randn(points.shape, generator=generator)
        maps.append(points / scales[e])
    return torch.stack(maps)[None], pairs, scales


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_known_scales_are_found_under_noise_and_wrong_points(noise: float) -> None:
    maps, pairs, scales = scattered(2, noise=noise)
    if noise:
        maps[:, ::3, 1, 0] += 3.0  # a row of points that is wrong in every third pair
    star = [e for e, (i, _) in enumerate(pairs) if i == 0]
    found = align_pairs(maps, torch.full(maps.shape[:-1], 3.0), pairs, 5)
    expected = scales / scales[star].log().mean().exp()
    torch.testing.assert_close(found.transforms.scale[0], expected, rtol=3e-2 if noise else 1e-4, atol=0.0)
    assert torch.equal(found.transforms.rotation[0, star], torch.eye(3).expand(len(star), 3, 3))
    assert float(found.transforms.translation[0, star].abs().max()) == 0.0


def test_points_of_low_confidence_weigh_little() -> None:
    maps, pairs, scales = scattered(4, frames=3)
    pairs, maps, scales = pairs[:2], maps[:, :2].clone(), scales[:2]
    confidence = torch.full(maps.shape[:-1], 3.0)
    maps[0, 0, 0, :3] *= 5.0
    confidence[0, 0, 0, :3] = 1.0
    found = align_pairs(maps, confidence, pairs, 3).transforms.scale[0]
    torch.testing.assert_close(found[0] / found[1], scales[0] / scales[1], rtol=1e-3, atol=0.0)


def test_the_pairs_of_each_graph() -> None:
    assert frame_pairs(4, range(4), [0], "star") == ((0, 1), (0, 2), (0, 3))
    assert frame_pairs(3, [0], range(3), "star") == ((0, 1), (0, 2))
    assert frame_pairs(3, [1], range(3), "star") == ((0, 1), (0, 2), (2, 1))
    assert set(frame_pairs(4, [0], [0], "complete")) == set(permutations(range(4), 2))
    with pytest.raises(UsageError, match=r"\[2\] are missing"):
        align_pairs(torch.rand(1, 1, 2, 4, 4, 3), torch.full((1, 1, 2, 4, 4), 2.0), ((0, 1),), 3)


def test_clips_that_hold_no_pair_or_no_such_frame_are_refused() -> None:
    predictor = PairwisePredictor(tiny_network())
    with pytest.raises(UsageError, match="clip of 1"):
        predictor.predict(torch.rand(1, 3, 16, 24), [0])
    with pytest.raises(UsageError, match=r"frames \[3\]"):
        predictor.predict(torch.rand(3, 3, 16, 24), [3], [0])

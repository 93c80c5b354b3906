"""Scenes shown more than once: when they come back, what is new then, and that their geometry still holds."""

import dataclasses
import importlib.util
import itertools
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fixtures.tiny_run import ALONE, RUN, TINY, losses, trainer
from vdpm.data.clips import mirrored
from vdpm.geometry.alignment import unit_mean_distance
from vdpm.geometry.pinhole import pixel_grid, project
from vdpm.geometry.rigid import invert_rigid, transform_points
from vdpm.model import VDPM
from vdpm.structures import Snippet
from vdpm.synthetic import SceneConfig, SceneGenerator
from vdpm.training.batch import to_unit_scale
from vdpm.training.checkpoint import load_state
from vdpm.training.config import Bucket
from vdpm.training.reuse import GAP, another_use, first_step, kept, kept_bytes, seen_from, turn_of
from vdpm.training.supply import SceneSupply

FRAMES, SEEDS = 4, torch.arange(3) + 40
TWICE = dataclasses.replace(RUN, scene_uses=2, steps=2 * GAP + 3, reference="any")


@pytest.fixture(scope="module")
def generator() -> SceneGenerator:
    return SceneGenerator(SceneConfig(num_frames=FRAMES, height=24, width=40, colour_samples=1, static_share=0.0))


def made(generator: SceneGenerator, reference: int = 0) -> Snippet:
    targets = torch.tensor([[3, 1]]).expand(len(SEEDS), -1)
    return generator.snippet(generator.sample(SEEDS, reference), targets, reference)


def reprojections(snippet: Snippet) -> Tensor:
    """Pixels from where each valid point is seen to where it should be, at its own time in its own camera."""
    off = []
    for row in range(len(snippet.images)):
        one = snippet.clip(row)
        there, depth = project(transform_points(invert_rigid(one.c2w), one.points), one.intrinsics)
        assert (depth[one.valid] > 0).all()
        off.append((there - pixel_grid(*one.size))[one.valid].norm(dim=-1))
    return torch.cat(off)


def landings(snippet: Snippet) -> list[Tensor]:
    """Where the points of all frames are seen at the first target's time, by the target's camera: [frames, h, w, 2]."""
    places = []
    for row in range(len(snippet.images)):
        one = snippet.clip(row)
        target = int(one.targets[0])
        local = transform_points(invert_rigid(one.c2w[target]), one.target_points[0])
        places.append(project(local, one.intrinsics[target])[0])
    return places


@pytest.mark.parametrize("uses", [1, 2, 3])
def test_every_batch_is_shown_so_often_and_never_twice_within_the_gap(uses: int) -> None:
    turns = [turn_of(step, uses) for step in range(6 * GAP * uses)]
    for batch in range(6 * GAP):
        shown = [step for step, turn in enumerate(turns) if turn.batch == batch]
        assert shown[0] == first_step(batch, uses) == turns[shown[0]].first_step
        assert [turns[step].use for step in shown] == list(range(uses))
        assert all(later - earlier == GAP for earlier, later in itertools.pairwise(shown))
    if uses == 1:
        assert [turn.batch for turn in turns] == list(range(len(turns)))


def test_a_mirrored_batch_is_a_batch_of_scenes_that_could_be(generator: SceneGenerator) -> None:
    snippet = made(generator)
    shown = mirrored(snippet)
    assert float(reprojections(snippet).max()) < 0.02
    assert float(reprojections(shown).max()) < 0.02
    rotation = shown.c2w[..., :3, :3]
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(3, FRAMES), atol=1e-5, rtol=0)
    assert torch.equal(shown.images, snippet.images.flip(-1))
    # Where each point goes until the target's time is mirrored too.
    for row, (before, after) in enumerate(zip(landings(snippet), landings(shown))):
        valid = snippet.valid[row]
        across = snippet.size[1] - after[..., 0].flip(-1)
        seen = valid & (before.abs().amax(-1) < 200)
        assert float((across - before[..., 0])[seen].abs().max()) < 0.05
        assert float((after[..., 1].flip(-1) - before[..., 1])[seen].abs().max()) < 0.05


@pytest.mark.parametrize("reference", [1, 3])
def test_another_reference_is_as_if_the_scene_had_been_made_for_it(generator: SceneGenerator, reference: int) -> None:
    moved, wanted = seen_from(made(generator), reference), made(generator, reference)
    assert moved.reference == reference
    assert torch.equal(moved.c2w[:, reference], torch.eye(4).expand(3, -1, -1))
    torch.testing.assert_close(moved.c2w, wanted.c2w, atol=1e-4, rtol=1e-4)
    moved, wanted = to_unit_scale(moved), to_unit_scale(wanted)
    both = moved.valid & wanted.valid
    # A ray may meet another surface where two meet: single pixels, by rounding.
    assert float((moved.valid != wanted.valid).float().mean()) < 1e-3
    near = ((moved.points - wanted.points).norm(dim=-1) < 1e-3)[both]
    at_target = ((moved.target_points - wanted.target_points).norm(dim=-1) < 1e-3)[
        both[:, None].expand(-1, 2, -1, -1, -1)
    ]
    assert float(near.float().mean()) > 0.999
    assert float(at_target.float().mean()) > 0.999
    scale = unit_mean_distance(moved.points, moved.valid)
    torch.testing.assert_close(scale, unit_mean_distance(wanted.points, wanted.valid), atol=1e-3, rtol=0)
    assert float(reprojections(moved).max()) < 0.02


def test_uses_have_targets_of_their_own_and_every_second_is_mirrored(generator: SceneGenerator) -> None:
    snippet = made(generator)
    first, second = another_use(snippet, 0, 2, 0), another_use(snippet, 1, 2, 2)
    assert (first.targets.flatten().tolist(), second.targets.flatten().tolist()) == ([3] * 3, [1] * 3)
    assert torch.equal(first.target_points[:, 0], snippet.target_points[:, 0])
    assert torch.equal(first.images, snippet.images)
    expected = mirrored(seen_from(snippet, 2))
    assert torch.equal(second.target_points[:, 0], expected.target_points[:, 1])
    assert torch.equal(second.images, snippet.images.flip(-1))
    assert another_use(snippet, 0, 1, 0).targets.shape == (3, 2)


def test_an_order_of_frames_is_no_other_example() -> None:
    """Why clips are not run backwards: the network gives the same maps in another order."""
    torch.manual_seed(0)
    model, images, target = VDPM(TINY).eval(), torch.rand(1, 3, 3, 16, 24), torch.tensor([[0]])
    with torch.no_grad():
        forth, back = model(images, target, reference=1), model(images.flip(1), 2 - target, reference=1)
    torch.testing.assert_close(back.decoded.points.flip(2), forth.decoded.points, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(back.time_variant.points.flip(1), forth.time_variant.points, atol=1e-5, rtol=1e-4)


def test_a_batch_comes_back_changed_and_costs_no_new_scenes(monkeypatch: pytest.MonkeyPatch) -> None:
    supply = SceneSupply(TWICE, ALONE)
    new = [supply.batch(step, float(step)) for step in range(GAP)]
    assert len(supply._kept) == GAP
    for generator in supply.generators.values():
        monkeypatch.setattr(generator, "snippet", None)
        monkeypatch.setattr(generator, "sample", None)
    other_references = 0
    for step, (bucket, first) in enumerate(new):
        assert supply.is_new(step)
        assert not supply.is_new(step + GAP)
        again, second = supply.batch(step + GAP, float(step + GAP))
        plan = supply.plan(step, bucket)
        assert again == bucket
        assert (first.reference, second.reference) == plan.references
        assert torch.equal(torch.cat([first.targets, second.targets], 1), plan.targets)
        assert (first.targets != second.targets).all()
        other_references += first.reference != second.reference
        assert second.target_valid is not None
        assert torch.equal(second.timestamps, first.timestamps)
        # The same surface, seen in a mirror, with other colours.
        assert float((second.valid.flip(-1) != first.valid).float().mean()) < 0.05
        assert float((second.images.flip(-1) - first.images).abs().mean()) > 1e-3
        assert float(reprojections(second).max()) < 0.02
        torch.testing.assert_close(
            unit_mean_distance(second.points, second.valid), torch.ones(bucket.batch), atol=0.2, rtol=0
        )
    assert other_references > 0
    assert not supply._kept


@pytest.fixture(scope="module")
def batches() -> list[tuple[Bucket, Snippet]]:
    """What a run from the beginning is given."""
    supply = SceneSupply(TWICE, ALONE)
    return [supply.batch(step, float(step)) for step in range(2 * GAP + 2)]


@pytest.mark.parametrize("start", [2, GAP, GAP + 3])
def test_repeats_do_not_depend_on_where_the_run_began(start: int, batches: list[tuple[Bucket, Snippet]]) -> None:
    late = SceneSupply(TWICE, ALONE)
    for step in range(start, 2 * GAP + 2):
        bucket, again = late.batch(step, float(step))
        assert bucket == batches[step][0]
        for name, value in vars(again).items():
            assert not isinstance(value, Tensor) or torch.equal(value, getattr(batches[step][1], name)), (step, name)


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "whole"
    trainer(folder, TWICE).run()
    return folder


@pytest.mark.parametrize("cut", [GAP + 3, 2 * GAP + 1])
def test_a_run_that_repeats_scenes_resumes_to_the_bit(uncut: Path, tmp_path: Path, cut: int) -> None:
    trainer(tmp_path / "cut", dataclasses.replace(TWICE, steps=cut)).run()
    trainer(tmp_path / "cut", TWICE, resume=True).run()
    assert losses(uncut) == losses(tmp_path / "cut")
    whole, again = (load_state(folder / "state.pt") for folder in (uncut, tmp_path / "cut"))
    assert all(torch.equal(value, again.weights[name]) for name, value in whole.weights.items())
    supply = SceneSupply(TWICE, ALONE)
    shown = [supply.bucket(turn_of(step, 2).batch, float(step)).batch for step in range(TWICE.steps)]
    scenes = sum(count for step, count in enumerate(shown) if supply.is_new(step))
    assert (whole.clips, whole.scenes) == (again.clips, again.scenes) == (sum(shown), scenes)


def test_what_is_kept_is_what_the_page_says(generator: SceneGenerator) -> None:
    """docs/training.md: 27 bytes a pixel, and 12 more for each target."""
    snippet = kept(made(generator))
    pixels = snippet.valid.numel()
    assert snippet.instances is None
    assert kept_bytes(snippet) / pixels == pytest.approx(27 + 12 * 2, rel=0.02)


def test_a_repeat_costs_a_small_part_of_a_new_batch() -> None:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "supply_cost.py"
    spec = importlib.util.spec_from_file_location("supply_cost", path)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    bucket = RUN.buckets[0]
    figures = benchmark.counted(dataclasses.replace(TWICE, buckets=(bucket,), steps=100), bucket)
    assert figures["again_operations"] < 0.2 * figures["new_operations"]
    assert figures["again_bytes"] < 0.3 * figures["new_bytes"]

"""Clips of data sets in training: drawn by the seed, read in the background, resumed to the bit, damage counted."""

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from native.kubric import closed_scene, write_kubric_folder
from native.pointodyssey import write_pointodyssey
from native.rgbd import write_seven_scenes
from native.scenes import clip, still_clip

from fixtures.tiny_run import ALONE, RUN, losses, trainer
from vdpm.data.clips import ATTEMPTS, ClipSource, mirrored
from vdpm.data.mixture import PAPER_SHARES, SCENES_SHARE, DataSource, Mixture, in_words
from vdpm.data.quarantine import TooManyCorrupt
from vdpm.errors import CheckpointError, InputError, UsageError, VDPMError
from vdpm.geometry.pinhole import pixel_grid, project
from vdpm.geometry.rigid import invert_rigid, transform_points
from vdpm.recipes import RECIPES
from vdpm.training.config import Bucket, TrainConfig
from vdpm.training.distributed import Ranks
from vdpm.training.reuse import GAP
from vdpm.training.run import train
from vdpm.training.supply import SceneSupply

BUCKETS = (Bucket(frames=2, height=16, width=24, batch=6), Bucket(frames=3, height=16, width=16, batch=4))


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("data")
    for number in range(2):
        write_kubric_folder(root / "kubric" / f"{number:04d}", closed_scene())
    write_pointodyssey(root / "pointodyssey" / "ani", clip())
    write_seven_scenes(root / "7scenes" / "room", still_clip())
    return {path.name: path for path in root.iterdir()}


@pytest.fixture
def config(roots: dict[str, Path]) -> TrainConfig:
    sources = tuple(DataSource(name, str(root), 1.0) for name, root in sorted(roots.items()))
    return replace(RUN, buckets=BUCKETS, data=Mixture(sources, scenes=1.0, workers=0))


def test_batches_hold_our_scenes_and_each_data_set_by_their_shares(config: TrainConfig) -> None:
    supply = SceneSupply(config, ALONE)
    seen = torch.zeros(4)
    for step in range(400):
        request = supply._request(step)
        counts = torch.bincount(torch.tensor(request.sources, dtype=torch.long) + 1, minlength=4)
        counts[0] = request.bucket.batch - len(request.rows)
        seen += counts
    assert ((seen / seen.sum() - 0.25).abs() < 0.03).all()
    kinds = set()
    for step in range(6):
        bucket, snippet = supply.batch(step, float(step))
        assert snippet.size == (bucket.height, bucket.width)
        assert snippet.images.shape[0] == bucket.batch
        assert snippet.target_valid is not None
        mean = (snippet.points.norm(dim=-1) * snippet.valid).sum((1, 2, 3)) / snippet.valid.sum((1, 2, 3))
        assert mean.tolist() == pytest.approx([1.0] * bucket.batch, abs=0.05)
        at_pixels = []
        for row in range(bucket.batch):
            one = snippet.clip(row)
            local = transform_points(invert_rigid(one.c2w), one.points)
            there, _ = project(local, one.intrinsics)
            off = (there - pixel_grid(*one.size))[one.valid].norm(dim=-1)
            at_pixels.append(float(off.median()))
        assert max(at_pixels) < 0.75
        request = supply._request(step)
        for row, source in zip(request.rows, request.sources):
            known, valid = snippet.target_valid[row, 0], snippet.valid[row]
            name = config.data.sources[source].dataset
            # Everything is known of Kubric and of rooms that stand still, single tracks of PointOdyssey.
            assert (known & ~valid).sum() == 0
            assert (name == "pointodyssey") == bool((valid & ~known).sum() > 20)
            kinds.add(name)
    assert kinds == {"kubric", "pointodyssey", "7scenes"}


def test_the_same_seed_reads_the_same_whoever_reads(config: TrainConfig) -> None:
    """In the run's own process, in two others, and from the middle on."""
    here, there, late = (
        SceneSupply(replace(config, data=replace(config.data, workers=workers)), ALONE) for workers in (0, 2, 0)
    )
    for step in range(4):
        _, one = here.batch(step, float(step))
        others = [there.batch(step, float(step))[1]]
        if step >= 2:
            others.append(late.batch(step, float(step))[1])
        for other in others:
            for name in ("images", "points", "target_points", "target_valid", "c2w", "intrinsics", "targets"):
                assert torch.equal(getattr(one, name), getattr(other, name)), name
    elsewhere = SceneSupply(config, Ranks(1, 2, torch.device("cpu"))).batch(0, 0.0)[1]
    assert not torch.equal(elsewhere.images, SceneSupply(config, ALONE).batch(0, 0.0)[1].images)


def test_a_run_cut_and_resumed_is_the_same_run_to_the_bit(tmp_path: Path, config: TrainConfig) -> None:
    config = replace(config, buckets=(replace(BUCKETS[0], batch=2),))
    trainer(tmp_path / "whole", config).run()
    behind = replace(config, data=replace(config.data, workers=1))
    trainer(tmp_path / "cut", replace(behind, steps=2)).run()
    trainer(tmp_path / "cut", config, resume=True).run()
    assert losses(tmp_path / "whole") == losses(tmp_path / "cut")
    assert len(losses(tmp_path / "whole")) == RUN.steps
    other = replace(config, data=replace(config.data, scenes=2.0))
    with pytest.raises(CheckpointError, match=r"mixture of data is our own scenes 1, .*kubric 1 \(1-3\).* there"):
        trainer(tmp_path / "cut", other, resume=True)


def test_damaged_files_are_named_counted_and_stop_the_run(
    tmp_path: Path, config: TrainConfig, roots: dict[str, Path], capfd: pytest.CaptureFixture[str]
) -> None:
    for number in range(4):
        write_kubric_folder(tmp_path / "kubric" / f"{number:04d}", closed_scene())
    broken = tmp_path / "kubric" / "0001" / "rgba_00002.png"
    broken.write_bytes(broken.read_bytes()[:200])
    source = DataSource("kubric", str(tmp_path / "kubric"), 1.0, stride=(1, 1))
    allowed = replace(config, data=Mixture((source,), scenes=0.0, workers=1, max_corrupt=0.5))
    run = trainer(tmp_path / "run", allowed)
    run.run()
    assert list(run.supply.quarantine.files) == [broken]
    assert run.supply.quarantine.failures >= 1
    assert f"put aside: {broken}: a damaged picture" in capfd.readouterr().err
    assert '"corrupt_files": 1' in (tmp_path / "run" / "log.jsonl").read_text()
    strict = SceneSupply(replace(allowed, data=replace(allowed.data, max_corrupt=0.01)), ALONE)
    with pytest.raises(TooManyCorrupt, match=r"rgba_00002\.png"):
        [strict.batch(step, float(step)) for step in range(20)]
    for path in (tmp_path / "kubric").rglob("rgba_*.png"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=f"{ATTEMPTS} clips of kubric in a row"):
        ClipSource(source).draw([0], 2, (16, 16), [0], 0)
    with pytest.raises(InputError, match="in a row") as raised:
        SceneSupply(allowed, ALONE).batch(0, 0.0)
    assert len(str(raised.value).splitlines()) == 1


def test_processes_that_read_outlast_a_signal_and_end_with_the_run(config: TrainConfig) -> None:
    """A job that is told to end tells all its processes: the run must still finish its step."""
    before = {child.pid for child in multiprocessing.active_children()}

    def started() -> list[multiprocessing.process.BaseProcess]:
        return [child for child in multiprocessing.active_children() if child.pid not in before]

    supply = SceneSupply(replace(config, data=replace(config.data, scenes=0.0, workers=2)), ALONE)
    supply.batch(0, 0.0)
    readers = started()
    assert len(readers) == 2
    for child in readers:
        assert child.pid is not None
        assert os.getpgid(child.pid) != os.getpgid(0)
        for number in (signal.SIGINT, signal.SIGTERM):
            os.kill(child.pid, number)
    for step in range(1, 8):
        supply.batch(step, float(step))
    supply.close()
    assert not any(child.is_alive() for child in readers)
    again = SceneSupply(replace(config, data=replace(config.data, scenes=0.0, workers=1)), ALONE)
    again.batch(0, 0.0)
    (reader,) = started()
    assert reader.pid is not None
    os.kill(reader.pid, signal.SIGKILL)
    with pytest.raises(VDPMError, match="fewer --workers"):
        [again.batch(step, float(step)) for step in range(1, 9)]


def test_clips_of_data_sets_come_back_as_scenes_do(config: TrainConfig) -> None:
    """With another target, in a mirror, in another reference view; also where the run went on in between."""
    twice = replace(config, scene_uses=2, reference="any")
    supply, late = SceneSupply(twice, ALONE), SceneSupply(twice, ALONE)
    shown = [supply.batch(step, float(step)) for step in range(GAP + 4)]
    for step in range(GAP, GAP + 4):
        (bucket, first), (_, second) = shown[step - GAP], shown[step]
        assert torch.equal(torch.cat([first.targets, second.targets], 1), supply.plan(step - GAP, bucket).targets)
        mean = (second.points.norm(dim=-1) * second.valid).sum((1, 2, 3)) / second.valid.sum((1, 2, 3))
        assert mean.tolist() == pytest.approx([1.0] * bucket.batch, abs=0.05)
        for row in range(bucket.batch):
            one = second.clip(row)
            there, _ = project(transform_points(invert_rigid(one.c2w), one.points), one.intrinsics)
            assert float((there - pixel_grid(*one.size))[one.valid].norm(dim=-1).median()) < 0.75
        again = late.batch(step, float(step))[1]
        assert torch.equal(again.images, second.images)
        assert torch.equal(again.target_points, second.target_points)


def test_the_clock_may_bring_another_shape(config: TrainConfig) -> None:
    """The step that was read for the shape expected is read again."""
    first, second = (replace(b, share=1.0) for b in BUCKETS)
    shaped = replace(
        config,
        data=replace(config.data, scenes=0.0),
        buckets=(replace(first, last_step=50), replace(second, first_step=50)),
        steps=100,
    )
    supply, other = SceneSupply(shaped, ALONE), SceneSupply(shaped, ALONE)
    assert supply.batch(0, 0.0)[0] == shaped.buckets[0]
    bucket, snippet = supply.batch(1, 95.0)
    assert bucket == shaped.buckets[1]
    assert torch.equal(snippet.images, other.batch(1, 95.0)[1].images)
    assert supply.batch(2, 99.9)[0] == bucket


def test_a_mirror_shows_a_scene_that_could_be() -> None:
    """Points still project to their pixels, cameras are still rotations, motion is mirrored with the rest."""
    shown = mirrored(clip())
    assert torch.allclose(torch.linalg.det(shown.c2w[:, :3, :3]), torch.ones(5), atol=1e-5)
    grid = pixel_grid(*shown.size)
    for frame in range(5):
        there, _ = project(
            transform_points(invert_rigid(shown.c2w[frame]), shown.points[frame]), shown.intrinsics[frame]
        )
        assert float((there - grid)[shown.valid[frame]].abs().max()) < 1e-2
        before = clip().target_points[3, frame] - clip().points[frame]
        after = shown.target_points[3, frame] - shown.points[frame]
        assert torch.allclose(after.flip(-2) * torch.tensor([-1.0, 1, 1]), before, atol=1e-6)
    again = mirrored(shown)
    assert torch.equal(again.images, clip().images)
    assert torch.allclose(again.points, clip().points)


def test_words_for_a_mixture(tmp_path: Path) -> None:
    assert DataSource.parse("kubric=/data/movi_f") == DataSource("kubric", "/data/movi_f", PAPER_SHARES["kubric"])
    assert DataSource.parse("tum=/a@b@7.5") == DataSource("tum", "/a@b", 7.5)
    assert Mixture((DataSource.parse("waymo=/w"),)).shares == [5000 / 7500, 2500 / 7500]
    assert in_words(RUN.to_json()["data"]) == in_words(None) == "our own scenes"
    assert PAPER_SHARES["kubric"] == SCENES_SHARE
    for wrong, message in (
        ("kubric", "NAME=PATH"),
        ("cinema=/x", "choose from"),
        ("kubric=/x@many", "no share"),
        ("kubric=/x@0", "above 0"),
        ("kubric=@3", "NAME=PATH"),
    ):
        with pytest.raises(UsageError, match=message):
            DataSource.parse(wrong)
    with pytest.raises(UsageError, match="only beside data sets"):
        Mixture(scenes=0.0)
    with pytest.raises(UsageError, match="stride"):
        DataSource("tum", "/x", 1.0, stride=(0, 1))


def test_what_cannot_be_trained_on_is_said_at_the_start(tmp_path: Path, roots: dict[str, Path]) -> None:
    long = replace(RUN, buckets=(Bucket(frames=6, height=16, width=16, batch=1),))
    source = DataSource("kubric", str(roots["kubric"]), 1.0)
    with pytest.raises(UsageError, match=r"clips of 6 frames \(the longest has 5\)"):
        SceneSupply(replace(long, data=Mixture((source,))), ALONE)
    with pytest.raises(InputError, match="no such folder"):
        train(RECIPES["smoke"], tmp_path / "run", data=[DataSource("kubric", str(tmp_path / "nowhere"), 1.0)])

"""A result goes to disk and comes back; an interrupted one keeps what was finished; other people's files stay."""

import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fixtures.moving_sphere import MovingSphere, make_moving_sphere
from vdpm.archive import ReconstructionWriter, check_output, describe, load, record_derived, save
from vdpm.archive.manifest import map_header
from vdpm.errors import InputError, OutputError, UsageError, VDPMError
from vdpm.geometry.image_transform import ImageTransform
from vdpm.structures import Reconstruction


@pytest.fixture(scope="module")
def scene() -> MovingSphere:
    return make_moving_sphere(num_frames=3, size=(24, 32))


def writer_of(rec: Reconstruction, folder: Path, **changes: Any) -> ReconstructionWriter:
    arguments = {
        "frames": rec.frames,
        "timestamps": rec.timestamps,
        "frame_indices": rec.frame_indices,
        "transform": rec.transform,
        "sources": rec.maps.sources,
        "targets": rec.maps.targets,
        "reference": rec.reference,
        "name": rec.name,
        "provenance": rec.provenance,
    }
    return ReconstructionWriter(folder, **{**arguments, **changes})


def stacked(rec: Reconstruction, target: int | None) -> tuple[torch.Tensor, torch.Tensor]:
    maps = [rec.maps.read(target, source) for source in rec.maps.sources]
    return torch.stack([each.points for each in maps]), torch.stack([each.confidence for each in maps])


def write_part(writer: ReconstructionWriter, rec: Reconstruction, targets: tuple[int, ...]) -> None:
    writer.write_cameras(rec.cameras)
    writer.write_time_variant(*stacked(rec, None))
    for target in targets:
        writer.write_target(target, *stacked(rec, target))


def interrupted(writer: ReconstructionWriter, work: Callable[[ReconstructionWriter], None]) -> None:
    """Ctrl-C after ``work``."""

    def run() -> None:
        with writer:
            work(writer)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()


def test_round_trip_keeps_everything_and_maps_to_float16(scene: MovingSphere, tmp_path: Path) -> None:
    rec = dataclasses.replace(
        scene.reconstruction, reference=1, transform=ImageTransform.fit_pad((50, 64), (24, 32)), name="ünïcode.mov"
    )
    save(rec, tmp_path / "out")
    back = load(tmp_path / "out")
    assert torch.equal(back.frames, rec.frames)
    assert torch.equal(back.timestamps, rec.timestamps.double())
    assert torch.equal(back.frame_indices, rec.frame_indices)
    assert torch.equal(back.cameras.c2w, rec.cameras.c2w)
    assert torch.equal(back.cameras.intrinsics, rec.cameras.intrinsics)
    assert back.cameras.size == rec.cameras.size
    assert (back.transform, back.reference, back.name) == (rec.transform, 1, "ünïcode.mov")
    assert torch.equal(back.content, rec.content)
    assert (back.maps.targets, back.maps.sources, back.maps.num_frames) == ((0, 1, 2), (0, 1, 2), 3)
    assert back.provenance == {**rec.provenance, "state": "complete"}
    for target in (None, 0, 2):
        for source in range(3):
            read, truth = back.maps.read(target, source), rec.maps.read(target, source)
            # Half a unit in the last of float16's 11 bits; 1e-7 covers its smallest step.
            assert ((read.points - truth.points).abs() <= truth.points.abs() * 2**-11 + 1e-7).all()
            assert torch.equal(read.confidence, truth.confidence)


def test_float16_bound_is_tight(scene: MovingSphere, tmp_path: Path) -> None:
    save(scene.reconstruction, tmp_path / "out")
    depth = load(tmp_path / "out").maps.time_variant(0).points[..., 2]
    truth = scene.reconstruction.maps.time_variant(0).points[..., 2]
    assert 1e-4 < ((depth - truth).abs() / truth).max() < 4.9e-4


def test_large_confidence_is_clamped_and_points_must_be_finite(scene: MovingSphere, tmp_path: Path) -> None:
    rec = scene.reconstruction
    points, confidence = stacked(rec, None)
    with writer_of(rec, tmp_path / "out", targets=()) as writer:
        writer.write_cameras(rec.cameras)
        writer.write_time_variant(points, confidence * 1e9)
        back = writer.finish()
    assert (back.maps.time_variant(0).confidence == 65504).all()
    points[0, 3, 4, 1] = float("nan")
    with writer_of(rec, tmp_path / "other", targets=()) as writer:
        writer.write_cameras(rec.cameras)
        with pytest.raises(VDPMError, match="not finite"):
            writer.write_time_variant(points, confidence)
    assert not any(path.name.endswith("other") or "other" in path.name for path in tmp_path.iterdir())


def test_subset_of_targets_and_sources(scene: MovingSphere, tmp_path: Path) -> None:
    rec = make_moving_sphere(num_frames=3, size=(24, 32), targets=(2,), sources=(2, 0)).reconstruction
    save(rec, tmp_path / "out")
    back = load(tmp_path / "out")
    assert (back.maps.targets, back.maps.sources) == ((2,), (2, 0))
    assert torch.allclose(back.maps.time_invariant(2, 0).points, rec.maps.time_invariant(2, 0).points, rtol=1e-3)
    assert torch.allclose(back.maps.time_variant(2).points, rec.maps.time_variant(2).points, rtol=1e-3)
    with pytest.raises(UsageError, match="source 1 is not in this result"):
        back.maps.time_variant(1)
    with pytest.raises(UsageError, match="target 0"):
        back.maps.time_invariant(0, 2)


def test_maps_are_plain_npy_that_numpy_can_map(scene: MovingSphere, tmp_path: Path) -> None:
    save(scene.reconstruction, tmp_path / "out")
    maps = np.load(tmp_path / "out/maps/q_00002.npy", mmap_mode="r", allow_pickle=False)
    assert (maps.shape, maps.dtype) == ((3, 24, 32, 4), np.float16)
    truth = scene.reconstruction.maps.time_invariant(2, 1)
    assert np.allclose(maps[1, ..., :3], truth.points.numpy(), rtol=1e-3)
    assert np.allclose(maps[1, ..., 3], truth.confidence.numpy())


def test_reading_one_map_reads_one_map(scene: MovingSphere, tmp_path: Path) -> None:
    """Other map files may be gone: a map is fetched alone, and nothing stays open between reads."""
    save(scene.reconstruction, tmp_path / "out")
    back = load(tmp_path / "out")
    (tmp_path / "out/maps/q_00001.npy").unlink()
    assert back.maps.time_invariant(2, 1).points.shape == (24, 32, 3)
    with pytest.raises(InputError, match="missing"):
        back.maps.time_invariant(1, 1)


def test_size_of_a_seventeen_frame_result_is_below_250_mb() -> None:
    per_file = len(map_header(17, (128, 224))) + 17 * 128 * 224 * 4 * 2
    assert 18 * per_file < 75e6


def test_interrupted_result_keeps_the_finished_targets(scene: MovingSphere, tmp_path: Path) -> None:
    rec = scene.reconstruction
    interrupted(writer_of(rec, tmp_path / "out"), lambda writer: write_part(writer, rec, (2,)))
    back = load(tmp_path / "out")
    assert back.maps.targets == (2,)
    assert back.provenance["state"] == "partial"
    assert torch.allclose(back.maps.time_invariant(2, 0).points, rec.maps.time_invariant(2, 0).points, rtol=1e-3)
    summary = describe(tmp_path / "out")
    assert (summary.state, summary.targets, summary.targets_missing) == ("partial", (2,), (0, 1))
    assert any("interrupted before 2 of its targets (0-1)" in line for line in summary.lines())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_interrupted_before_anything_is_readable_leaves_nothing(scene: MovingSphere, tmp_path: Path) -> None:
    rec = scene.reconstruction
    interrupted(writer_of(rec, tmp_path / "out"), lambda writer: writer.write_cameras(rec.cameras))
    assert list(tmp_path.iterdir()) == []


def test_killed_run_leaves_its_finished_targets(scene: MovingSphere, tmp_path: Path) -> None:
    """SIGKILL in the middle of writing a map: no handler runs."""
    program = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from fixtures.moving_sphere import make_moving_sphere
from test_archive import stacked, writer_of, write_part
from vdpm.archive import writer as module
rec = make_moving_sphere(num_frames=3, size=(24, 32)).reconstruction
writer = writer_of(rec, Path(sys.argv[1]))
write_part(writer, rec, (0,))
encode, calls = module.encode_map, []
def kill_in_the_second_map(*arguments):
    calls.append(1)
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return encode(*arguments)
module.encode_map = kill_in_the_second_map
writer.write_target(1, *stacked(rec, 1))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "out"), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    back = load(tmp_path / "out")
    assert (back.maps.targets, back.provenance["state"]) == ((0,), "partial")
    assert back.maps.time_invariant(0, 2).points.isfinite().all()
    save(scene.reconstruction, tmp_path / "out", overwrite=True)
    assert load(tmp_path / "out").maps.targets == (0, 1, 2)
    assert not list((tmp_path / "out").rglob("*.tmp"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_existing_output_is_kept(scene: MovingSphere, tmp_path: Path) -> None:
    save(scene.reconstruction, tmp_path / "out")
    before = (tmp_path / "out/reconstruction.json").read_text()
    with pytest.raises(OutputError, match="exists; choose another or pass --overwrite"):
        save(scene.reconstruction, tmp_path / "out")
    assert (tmp_path / "out/reconstruction.json").read_text() == before


@pytest.mark.parametrize("overwrite", [False, True])
def test_folders_that_are_no_result_are_left_alone(scene: MovingSphere, tmp_path: Path, overwrite: bool) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    with pytest.raises(OutputError, match="not a vdpm result, so it is left alone"):
        save(scene.reconstruction, tmp_path / "photos", overwrite)
    with pytest.raises(OutputError, match="is no folder"):
        save(scene.reconstruction, tmp_path / "file", overwrite)
    with pytest.raises(OutputError, match="is a file"):
        save(scene.reconstruction, tmp_path / "file/out", overwrite)
    assert (tmp_path / "photos/a.jpg").read_text() == (tmp_path / "file").read_text() == "mine"
    save(scene.reconstruction, tmp_path / "empty", overwrite)
    assert load(tmp_path / "empty").maps.targets == (0, 1, 2)


def test_maps_of_another_result_that_took_the_place_are_not_taken_for_its_own(
    scene: MovingSphere, tmp_path: Path
) -> None:
    rec = scene.reconstruction
    save(rec, tmp_path / "out")
    opened = load(tmp_path / "out")
    opened.maps.at(2, 1)
    record_derived(tmp_path / "out", ["preview.png"])
    opened.maps.at(1, 2)
    moved = dataclasses.replace(rec.cameras, c2w=rec.cameras.c2w.roll(1, 0).contiguous())
    save(dataclasses.replace(rec, cameras=moved), tmp_path / "out", overwrite=True)
    with pytest.raises(InputError, match="out: another result took its place after it was opened; open it again"):
        opened.maps.at(2, 1)
    (tmp_path / "out").rename(tmp_path / "gone")
    with pytest.raises(InputError, match="missing"):
        opened.maps.at(2, 1)


def test_the_current_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for folder in (".", "..", "/"):
        with pytest.raises(OutputError, match="the folder you are in"):
            check_output(folder, overwrite=True)
    assert check_output("new") == tmp_path / "here/new"


def test_overwriting_keeps_the_old_result_until_the_new_one_is_complete(scene: MovingSphere, tmp_path: Path) -> None:
    rec = scene.reconstruction
    save(rec, tmp_path / "out")
    writer = writer_of(rec, tmp_path / "out", name="new", overwrite=True)
    interrupted(writer, lambda writer: write_part(writer, rec, (0, 1)))
    assert load(tmp_path / "out").name == "sphere.mp4"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with writer_of(rec, tmp_path / "out", name="new", targets=(1,), overwrite=True) as writer:
        write_part(writer, rec, (1,))
        assert writer.finish({"seconds": 1.5}).provenance["seconds"] == 1.5
    assert load(tmp_path / "out").name == "new"
    assert sorted(path.name for path in (tmp_path / "out/maps").iterdir()) == ["p.npy", "q_00001.npy"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_overwriting_removes_derived_files_and_keeps_the_users(scene: MovingSphere, tmp_path: Path) -> None:
    out = tmp_path / "out"
    save(scene.reconstruction, out)
    for name in ("preview.png", "clouds/t0.ply", "clouds/mine.ply", "maps/notes.txt"):
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(name)
    record_derived(out, ["preview.png", "clouds/t0.ply"])
    assert load(out).maps.targets == (0, 1, 2)
    save(scene.reconstruction, out, overwrite=True)
    assert not (out / "preview.png").exists()
    assert not (out / "clouds/t0.ply").exists()
    assert (out / "clouds/mine.ply").read_text() == "clouds/mine.ply"
    assert (out / "maps/notes.txt").read_text() == "maps/notes.txt"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(InputError, match="leaves the result folder"):
        record_derived(out, ["../outside.png"])


def test_a_result_can_be_saved_over_itself(scene: MovingSphere, tmp_path: Path) -> None:
    save(scene.reconstruction, tmp_path / "out")
    save(load(tmp_path / "out"), tmp_path / "out", overwrite=True)
    back = load(tmp_path / "out").maps.time_invariant(1, 2).points
    assert torch.allclose(back, scene.reconstruction.maps.time_invariant(1, 2).points, rtol=1e-3)


def test_a_swap_killed_between_its_renames_is_undone(scene: MovingSphere, tmp_path: Path) -> None:
    save(scene.reconstruction, tmp_path / "out")
    os.rename(tmp_path / "out", tmp_path / ".out.previous")
    with pytest.raises(InputError, match=r"its old result is in \.out\.previous"):
        load(tmp_path / "out")
    with pytest.raises(OutputError, match="exists"):
        save(scene.reconstruction, tmp_path / "out")
    assert load(tmp_path / "out").name == "sphere.mp4"


def test_parts_must_fit_and_come_in_order(scene: MovingSphere, tmp_path: Path) -> None:
    rec = scene.reconstruction
    with writer_of(rec, tmp_path / "out") as writer:
        with pytest.raises(UsageError, match="come before"):
            writer.write_target(0, *stacked(rec, 0))
        write_part(writer, rec, ())
        points, confidence = stacked(rec, 1)
        with pytest.raises(UsageError, match="takes a map for each of 3 sources, got 2"):
            writer.write_target(1, points[:2], confidence[:2])
        with pytest.raises(UsageError, match="does not fit"):
            writer.write_target(1, points[:, 1:], confidence[:, 1:])
        with pytest.raises(UsageError, match="not one of the targets announced"):
            writer.write_target(7, points, confidence)
        with pytest.raises(UsageError, match=r"targets \[0, 1, 2\] were not written"):
            writer.finish()
    assert load(tmp_path / "out").maps.targets == ()


def test_provenance_must_be_plain_data(scene: MovingSphere, tmp_path: Path) -> None:
    rec = scene.reconstruction
    with pytest.raises(UsageError, match="JSON"):
        writer_of(rec, tmp_path / "out", provenance={"tensor": torch.zeros(3)})
    assert list(tmp_path.iterdir()) == []
    plain = {"device": torch.device("cpu"), "dtype": torch.bfloat16, "path": Path("a/b"), "loss": np.float32(0.5)}
    with writer_of(rec, tmp_path / "out", targets=(), provenance=plain) as writer:
        write_part(writer, rec, ())
        back = writer.finish()
    assert back.provenance["device"] == "cpu"
    assert back.provenance["dtype"] == "torch.bfloat16"
    assert (back.provenance["path"], back.provenance["loss"]) == ("a/b", 0.5)


def test_describe_reads_no_map(scene: MovingSphere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(scene.reconstruction, tmp_path / "out")
    monkeypatch.setattr("vdpm.archive.reader._open_maps", lambda *arguments: pytest.fail("a map was opened"))
    summary = describe(tmp_path / "out")
    assert (summary.num_frames, summary.size, summary.state) == (3, (24, 32), "complete")
    assert summary.duration == pytest.approx(2.0)
    on_disk = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file())
    assert summary.megabytes == pytest.approx(on_disk / 1e6)
    record_derived(tmp_path / "out", ["preview.png", "taken_away.ply"])
    (tmp_path / "out" / "preview.png").write_bytes(bytes(3_000_000))
    (tmp_path / "out" / "mine.txt").write_bytes(bytes(5_000_000))
    assert describe(tmp_path / "out").megabytes == pytest.approx(on_disk / 1e6 + 3, abs=0.001)
    truth = 0.5 * torch.tensor([0.3, -0.05, 0.1]).norm() * 2
    assert summary.camera_path == pytest.approx(float(truth), rel=1e-5)
    text = "\n".join(summary.lines())
    for words in (
        "sphere.mp4",
        "closed form",
        "000000000000",
        "0-2",
        "complete",
        "x right, y down, z forward",
        "32 x 24",
    ):
        assert words in text

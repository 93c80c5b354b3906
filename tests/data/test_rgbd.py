"""Readers of RGB-D recordings (TUM, Bonn, 7-Scenes) against the truth behind the files."""

from pathlib import Path

import pytest
import torch
from native.rgbd import DEPTH_QUANTUM, STEP, calibration, write_seven_scenes, write_tum
from native.scenes import assert_is, assert_moved, clip, still_clip

from vdpm.data.quarantine import CorruptFile
from vdpm.data.readers import bonn, open_dataset
from vdpm.data.readers.tum import nearest, open_tum
from vdpm.errors import InputError
from vdpm.geometry.pinhole import project
from vdpm.geometry.rigid import invert_rigid, transform_points

FRAMES = [0, 2, 3]


def test_tum_is_the_truth(tmp_path: Path) -> None:
    folder = write_tum(tmp_path / "rgbd_dataset_freiburg3_walking_xyz", clip())
    (sequence,) = open_tum(folder, calibration=calibration(clip()))
    snippet = sequence.snippet(FRAMES, reference=1)
    assert_is(snippet, clip(), FRAMES, DEPTH_QUANTUM)
    own = torch.eye(3, dtype=torch.bool)[:, :, None, None] & clip().valid[FRAMES]
    assert_moved(snippet, clip(), FRAMES, own, DEPTH_QUANTUM)
    assert snippet.timestamps.tolist() == pytest.approx([frame * STEP for frame in FRAMES], abs=1e-5)


def test_bonn_is_the_truth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bonn, "CALIBRATION", calibration(clip()))
    write_tum(tmp_path / "rgbd_bonn_balloon2", clip())
    (sequence,) = open_dataset("bonn", tmp_path)
    assert sequence.name == "rgbd_bonn_balloon2"
    assert_is(sequence.snippet(FRAMES), clip(), FRAMES, DEPTH_QUANTUM)


def test_calibrations_have_their_half_pixel(tmp_path: Path) -> None:
    write_tum(tmp_path / "rgbd_dataset_freiburg3_sitting_rpy", clip())
    k = open_dataset("tum", tmp_path)[0].frame(0).intrinsics
    assert k.tolist() == [[535.4, 0, 320.6], [0, 539.2, 248.1], [0, 0, 1]]
    (tmp_path / "rgbd_dataset_freiburg3_sitting_rpy").rename(tmp_path / "mine")
    with pytest.raises(InputError, match="give its calibration"):
        open_dataset("tum", tmp_path)


def test_frames_without_depth_or_pose_are_left_out(tmp_path: Path) -> None:
    folder = write_tum(tmp_path / "freiburg3", clip(), poses_per_frame=1)
    depths = (folder / "depth.txt").read_text().splitlines()
    (folder / "depth.txt").write_text("\n".join(depths[:2] + depths[3:]))
    poses = (folder / "groundtruth.txt").read_text().splitlines()
    (folder / "groundtruth.txt").write_text("\n".join(poses[:-1]))
    (sequence,) = open_tum(folder, calibration=calibration(clip()))
    assert len(sequence) == 3
    assert_is(sequence.snippet([0, 1, 2]), clip(), [0, 2, 3], DEPTH_QUANTUM)
    folder = write_tum(tmp_path / "lag", clip(), depth_lag=0.4)
    with pytest.raises(CorruptFile, match=r"within 0.02 s"):
        open_tum(folder, calibration=calibration(clip()))


def test_nearest_in_time() -> None:
    others = torch.tensor([0.0, 1.0, 1.5], dtype=torch.float64)
    times = torch.tensor([-0.1, 0.49, 0.51, 1.2, 1.4, 9.0], dtype=torch.float64)
    assert nearest(times, others, 0.5).tolist() == [0, 0, 1, 1, 2, -1]
    assert nearest(times[:1], others[:1], 0.5).tolist() == [0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("groundtruth.txt", "1 2 3", "is no trajectory"),
        ("groundtruth.txt", "1 0 0 0 0 0 0 9", "no unit quaternion"),
        ("groundtruth.txt", "1 0 0 0 0 0 0 nan", "not finite"),
        ("rgb.txt", "1 ../../secret.png", "not a time and a file"),
        ("rgb.txt", "1 ../secret.png", "outside"),
        ("depth.txt", "noon depth/1.png", "is no time"),
        ("depth.txt", "# nothing", "lists no pictures"),
    ],
)
def test_damaged_lists_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    folder = write_tum(tmp_path / "freiburg3", clip())
    (folder / name).write_text(content)
    with pytest.raises(CorruptFile, match=message) as raised:
        open_dataset("tum", tmp_path)
    assert raised.value.path == folder / name


def test_seven_scenes_are_the_truth(tmp_path: Path) -> None:
    write_seven_scenes(tmp_path / "chess" / "seq-01", still_clip())
    (sequence,) = open_dataset("7scenes", tmp_path)
    assert sequence.name == "chess/seq-01"
    snippet = sequence.snippet(FRAMES, targets=[1, 2], reference=2)
    assert_is(snippet, still_clip(), FRAMES, 1e-3)
    assert_moved(snippet, still_clip(), FRAMES, still_clip().valid[FRAMES].expand(2, -1, -1, -1), 1e-3)
    assert not snippet.dynamic.any()


@pytest.mark.shared
def test_a_real_room_carries_over(shared_dir: Path) -> None:
    """Depth of frame 0 in the camera of frame 20 against its own depth: 5.8 mm median."""
    (room,) = open_dataset("7scenes", shared_dir / "real" / "7scenes")
    snippet = room.snippet([0, 20], targets=[])
    w2c = invert_rigid(snippet.c2w[1])
    pixels, z = project(transform_points(w2c, snippet.points[0][snippet.valid[0]]), snippet.intrinsics[1])
    column, row = pixels.floor().long().unbind(-1)
    inside = (z > 0) & (column >= 0) & (column < 640) & (row >= 0) & (row < 480)
    z, column, row = z[inside], column[inside], row[inside]
    seen = snippet.valid[1][row, column]
    there = transform_points(w2c, snippet.points[1])[..., 2][row, column]
    assert float((z - there)[seen].abs().median()) == pytest.approx(0.0058, abs=1e-4)

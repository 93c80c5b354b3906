"""The checker finds what is wrong with a data set, says it, and finds nothing where nothing is."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from native.kubric import closed_scene, write_kubric_folder
from native.pointodyssey import write_pointodyssey
from native.rgbd import write_seven_scenes
from native.scenes import clip, still_clip
from native.sintel import write_sintel
from native.waymo import driving_clip
from PIL import Image

from vdpm.cli import main
from vdpm.data import checks, write_snippet
from vdpm.data.checks import DatasetCheck, check_dataset, write_report
from vdpm.errors import OutputError, UsageError
from vdpm.geometry.rigid import invert_rigid
from vdpm.structures import Snippet
from vdpm.synthetic import generate, held_out_seeds
from vdpm.synthetic.families import FAMILIES


def check(dataset: str, root: Path, gap: int = 3) -> DatasetCheck:
    return check_dataset(dataset, root, gap=gap, pairs=2, max_corrupt=1.0)


def only(done: DatasetCheck) -> str:
    ((_, finding),) = done.findings
    return finding


@cache
def sideways() -> Snippet:
    """A clip whose edges go several pixels from frame to frame."""
    config = replace(
        FAMILIES["rigid"],
        num_frames=5,
        height=96,
        width=128,
        baseline=(0.6, 0.8),
        frame_stride=(3, 3),
        orbit_weight=0.0,
    )
    return generate(held_out_seeds(1, start=84), config).clip(0)


def rooms(root: Path) -> Path:
    return write_seven_scenes(root / "room", still_clip())


@pytest.mark.parametrize("dataset", ["sintel", "kubric", "pointodyssey", "snippets", "7scenes"])
def test_what_is_right_gives_no_findings(tmp_path: Path, dataset: str) -> None:
    if dataset == "sintel":
        write_sintel(tmp_path, clip())
    elif dataset == "kubric":
        write_kubric_folder(tmp_path / "0001", closed_scene())
    elif dataset == "pointodyssey":
        write_pointodyssey(tmp_path / "ani", clip())
    elif dataset == "snippets":
        write_snippet(tmp_path / "clip", clip())
    else:
        rooms(tmp_path)
    done = check(dataset, tmp_path)
    assert done.findings == []
    assert done.corrupt == {}
    (measures,) = (one.measures for one in done.sequences)
    assert measures["off_pixel"] < 0.02
    assert measures["depth_disagreement"] < 0.01


@pytest.mark.parametrize("wrong", ["inverted", "OpenGL"])
def test_directions_and_axes_of_poses(tmp_path: Path, wrong: str) -> None:
    for path in rooms(tmp_path).glob("*.pose.txt"):
        c2w = torch.from_numpy(np.loadtxt(path))
        flipped = c2w @ torch.diag(torch.tensor([1.0, -1, -1, 1]).double())
        np.savetxt(path, (invert_rigid(c2w) if wrong == "inverted" else flipped).numpy())
    assert wrong in only(check("7scenes", tmp_path))


@pytest.mark.parametrize(("signs", "words"), [((-1.0, 1, 1), "x mirrored"), ((1.0, -1, 1), "y mirrored")])
def test_mirrored_axes(tmp_path: Path, signs: tuple[float, ...], words: str) -> None:
    flip = np.diag([*signs, 1])
    for path in rooms(tmp_path).glob("*.pose.txt"):
        np.savetxt(path, flip @ np.loadtxt(path) @ flip)
    assert words in only(check("7scenes", tmp_path))


def test_depth_in_another_unit_than_poses(tmp_path: Path) -> None:
    for path in rooms(tmp_path).glob("*.depth.png"):
        with Image.open(path) as image:
            depth = np.array(image)
        Image.fromarray(np.where(depth == 65535, depth, np.round(depth / 5).astype(np.uint16))).save(path)
    assert "if multiplied by 5: depth and poses are in different units" in only(check("7scenes", tmp_path))


@pytest.mark.parametrize("shift", [1, -1])
def test_pictures_and_depth_paired_off_by_one(tmp_path: Path, shift: int) -> None:
    truth = sideways()
    write_sintel(tmp_path / "right", truth)
    assert check("sintel", tmp_path / "right").findings == []
    write_sintel(tmp_path / "wrong", replace(truth, images=truth.images.roll(shift, 0)))
    finding = only(check("sintel", tmp_path / "wrong"))
    assert "paired off by one" in finding
    assert ("picture after" if shift > 0 else "picture before") in finding


def test_depth_that_is_doubled(tmp_path: Path) -> None:
    folder = rooms(tmp_path)
    (folder / "frame-000003.depth.png").write_bytes((folder / "frame-000002.depth.png").read_bytes())
    findings = " ".join(finding for _, finding in check("7scenes", tmp_path, gap=1).findings)
    assert "frame 3 has the very same depth as frame 2, from another place" in findings


def test_tracks_half_a_pixel_aside(tmp_path: Path) -> None:
    write_pointodyssey(tmp_path / "ani", clip())
    path = tmp_path / "ani" / "anno.npz"
    with np.load(path) as arrays:
        held = dict(arrays)
    np.savez(path, **(held | {"trajs_2d": held["trajs_2d"] + 0.5}))
    # From the middle of its pixel to the corner, and so to the next pixel.
    findings = " ".join(finding for _, finding in check("pointodyssey", tmp_path).findings)
    assert "tracked points project -1.00, -1.00 pixels" in findings
    assert "half a pixel may be missing" in findings


def test_things_that_move_the_opposite_way(tmp_path: Path) -> None:
    truth = driving_clip()
    write_snippet(tmp_path / "clip", replace(truth, target_points=2 * truth.points - truth.target_points))
    assert "has the wrong sign" in only(check("snippets", tmp_path))
    done = check("snippets", write_snippet(tmp_path / "right" / "clip", truth).parent)
    assert done.findings == []
    assert done.sequences[0].measures["moving_points_floating"] < 0.1


def test_distance_for_depth(tmp_path: Path) -> None:
    truth = still_clip()
    length = (truth.points - truth.c2w[:, None, None, :3, 3]).norm(dim=-1)
    for index, path in enumerate(sorted(rooms(tmp_path).glob("*.depth.png"))):
        Image.fromarray((length[index] * 1000).round().numpy().astype(np.uint16)).save(path)
    assert "distance from the camera taken for z" in only(check("7scenes", tmp_path))


def test_half_a_pixel(tmp_path: Path) -> None:
    k = clip().intrinsics.clone()
    k[:, :2, 2] -= 0.5
    write_snippet(tmp_path / "clip", replace(clip(), intrinsics=k))
    finding = only(check("snippets", tmp_path))
    assert "-0.50, -0.50 pixels" in finding
    assert "half a pixel left out" in finding


def test_units_that_differ(tmp_path: Path) -> None:
    for path in rooms(tmp_path).glob("*.pose.txt"):
        c2w = np.loadtxt(path)
        c2w[:3, 3] *= 10
        np.savetxt(path, c2w)
    assert "nowhere as read, to 0.24% if multiplied by 10: depth and poses are in different units" in only(
        check("7scenes", tmp_path)
    )


def test_frames_that_are_missing_or_doubled(tmp_path: Path) -> None:
    folder = rooms(tmp_path)
    for path in folder.glob("frame-000002.*"):
        path.unlink()
    (folder / "frame-000004.color.png").write_bytes((folder / "frame-000003.color.png").read_bytes())
    findings = " ".join(finding for _, finding in check("7scenes", tmp_path, gap=1).findings)
    assert "about 1 frames are missing" in findings
    assert "between frames 1 and 2" in findings
    assert "such as 3 of 2" in findings


def test_a_camera_that_jumps(tmp_path: Path) -> None:
    path = rooms(tmp_path) / "frame-000002.pose.txt"
    c2w = np.loadtxt(path)
    c2w[:3, 3] += 40
    np.savetxt(path, c2w)
    assert any("moves before frame 2 as nowhere else" in finding for _, finding in check("7scenes", tmp_path).findings)


def test_motion_of_other_times(tmp_path: Path) -> None:
    """Boxes a frame late belie depth; points that all move towards the camera float."""
    scene = closed_scene()
    write_kubric_folder(tmp_path / "late" / "0001", replace(scene, boxes=np.roll(scene.boxes, 2, axis=1)))
    assert "belie their own frame" in " ".join(f for _, f in check("kubric", tmp_path / "late").findings)
    nearer = clip().target_points.clone()
    for row in range(len(nearer)):
        others = torch.arange(clip().num_frames) != row
        nearer[row, others] = 0.8 * nearer[row, others]
    write_snippet(tmp_path / "floating" / "clip", replace(clip(), target_points=nearer))
    assert "float in front" in only(check("snippets", tmp_path / "floating"))


def test_the_report(tmp_path: Path) -> None:
    folder = rooms(tmp_path / "data")
    (folder / "frame-000001.depth.png").write_bytes(b"")
    done = check("7scenes", tmp_path / "data", gap=2)
    page = write_report(done, tmp_path / "report")
    assert "frame-000001.depth.png" in page.read_text()
    said = json.loads((tmp_path / "report" / "report.json").read_text())
    assert said["sequences"][0]["measures"]["depth_disagreement"] < 0.01
    assert list(said["corrupt"]) == [str(folder / "frame-000001.depth.png")]
    (picture,) = (tmp_path / "report" / "pictures").iterdir()
    with Image.open(picture) as image:
        assert image.size == (3 * 64, 48)
    assert f"](pictures/{picture.name})" in page.read_text()
    with pytest.raises(OutputError, match="not an empty folder"):
        write_report(done, tmp_path / "report")
    with pytest.raises(UsageError, match="pairs"):
        check_dataset("7scenes", tmp_path / "data", pairs=0)


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_snippet(tmp_path / "clips" / "one", clip())
    words = ["data", "check", str(tmp_path / "clips"), "--gap", "2", "-o", str(tmp_path / "report")]
    assert main(words) == 0
    assert "1 sequences of snippets, 0 findings" in capsys.readouterr().out
    (write_snippet(tmp_path / "clips" / "two", clip()) / "points.npy").write_bytes(b"x")
    assert main(["data", "check", str(tmp_path / "clips"), "--max-corrupt", "1"]) == 1
    told = capsys.readouterr()
    assert "corrupt: " in told.out
    assert "points.npy" in told.out
    assert told.err.splitlines()[-1].startswith("vdpm: error: ")
    assert main(["data", "check", str(tmp_path), "--dataset", "cinema"]) == 2
    assert main(["data", "check", str(tmp_path / "clips"), "--sequences", "0"]) == 2


def test_a_place_for_the_report_is_told_before_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "check_dataset", None)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    for place in (tmp_path / "full", tmp_path / "full" / "notes.txt", tmp_path / "full" / "notes.txt" / "report"):
        assert main(["data", "check", str(tmp_path), "-o", str(place)]) == 5
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert str(place) in said.err


@pytest.mark.shared
def test_a_real_room_with_its_poses_flipped(shared_dir: Path, tmp_path: Path) -> None:
    source = shared_dir / "real" / "7scenes"
    for path in source.glob("frame-00001?.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
        if path.name.endswith("pose.txt"):
            np.savetxt(tmp_path / path.name, np.linalg.inv(np.loadtxt(path)))
    assert "inverted" in only(check_dataset("7scenes", tmp_path, gap=9, pairs=2))
    assert check_dataset("7scenes", source, gap=9, pairs=2, frames=10).findings == []


@pytest.mark.shared
def test_a_real_room_over_a_frame_moves_less_than_its_depth_is_rounded(shared_dir: Path) -> None:
    found = check_dataset("7scenes", shared_dir / "real" / "7scenes", gap=1, pairs=1, frames=6).findings
    assert found == [], "half a Kinect's step is more than the whole difference"

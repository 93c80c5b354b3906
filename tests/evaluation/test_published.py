"""Figures of the paper, and frames as published code pairs them."""

import re
from pathlib import Path

import pytest
import torch
from native.rgbd import STEP, write_tum
from native.scenes import FRAMES, clip

from vdpm.data.quarantine import CorruptFile
from vdpm.data.readers import open_dataset
from vdpm.data.readers.tum import read_trajectory
from vdpm.errors import UsageError
from vdpm.evaluation.clips import open_clips
from vdpm.evaluation.published_frames import open_bonn_by_index, open_tum_by_pose
from vdpm.evaluation.table_report import published


@pytest.mark.shared
def test_every_figure_stands_in_the_paper(shared_dir: Path) -> None:
    """In the row of its method, in the order of the paper's columns."""
    text = (shared_dir / "reference" / "vdpm_paper.txt").read_text()
    rows = [re.sub(r"</?[bu]>", "", line).split("\t") for line in text.splitlines() if "\t" in line]

    def cells(name: str, count: int, which: int = 0) -> list[float | None]:
        found = [row[-count:] for row in rows if name in row[:-count] and len(row) in (count + 1, count + 2)]
        return [None if cell == "—" else float(cell) for cell in found[which]]

    said = published()
    sets = ("PointOdyssey", "Kubric-F", "Kubric-G", "Waymo")
    names = {"pi3": "$\\pi^3$"}
    for which, margin in enumerate(("2", "8")):
        for name in ("St4RTrack", "TraceAnything", "DPM", "V-DPM"):
            flat = [v for one in sets for v in said["two-view"][one][margin][name].values()]
            assert flat == cells(name, 16, which), (name, margin)
    for name in said["tracking"]["Waymo"]:
        # The first row of four figures after the method is Table 2's.
        assert [said["tracking"][one][name]["epe"] for one in sets] == cells(name, 4), name
    for name in said["video-depth"]["Sintel"]:
        flat = [v for one in ("Sintel", "Bonn") for v in said["video-depth"][one][name].values()]
        assert flat == cells(names.get(name, name), 4, 1 if name in ("DPM", "V-DPM") else 0), name
    for name in said["camera-pose"]["Sintel"]:
        flat = [v for one in ("Sintel", "TUM-dynamics") for v in said["camera-pose"][one][name].values()]
        assert flat == cells(names.get(name, name), 6), name
    assert len(said["video-depth"]["Bonn"]) == 11
    assert len(said["camera-pose"]["TUM-dynamics"]) == 7


def test_bonn_is_paired_by_index(tmp_path: Path) -> None:
    """Depth that starts a frame late: by time the first picture has none, by index it has the second's."""
    folder = write_tum(tmp_path / "rgbd_bonn_balloon2", clip())
    first = sorted((folder / "depth").glob("*.png"))[0]
    first.unlink()
    lines = [line for line in (folder / "depth.txt").read_text().splitlines() if first.name not in line]
    (folder / "depth.txt").write_text("\n".join(lines))
    (by_index,) = open_bonn_by_index(tmp_path)
    (by_time,) = open_dataset("bonn", tmp_path)
    assert len(by_index) == len(by_time) == FRAMES - 1
    assert torch.equal(by_index.frame(0).depth, by_time.frame(0).depth)
    assert not torch.equal(by_index.frame(0).image, by_time.frame(0).image)
    assert torch.equal(by_index.frame(1).image, by_time.frame(0).image)
    assert open_clips("bonn", tmp_path, "video-depth", "index").metric
    for pairing, table in (("pose", "video-depth"), ("index", "camera-pose")):
        with pytest.raises(UsageError, match="pairing"):
            open_clips("bonn", tmp_path, table, pairing)
    for path in (folder / "depth").glob("*.png"):
        path.unlink()
    with pytest.raises(CorruptFile, match="depth"):
        open_bonn_by_index(tmp_path)


def test_tum_needs_no_depth_for_poses(tmp_path: Path) -> None:
    folder = write_tum(tmp_path / "rgbd_dataset_freiburg3_walking_xyz", clip())
    (folder / "depth.txt").write_text("\n".join((folder / "depth.txt").read_text().splitlines()[:2]))
    (by_pose,) = open_tum_by_pose(tmp_path)
    (by_time,) = open_dataset("tum", tmp_path)
    assert (len(by_pose), len(by_time)) == (FRAMES, 1)
    times, c2w = read_trajectory(folder / "groundtruth.txt")
    at_pictures = [int((times - times[0] - index * STEP).abs().argmin()) for index in range(FRAMES)]
    found = torch.stack([by_pose.frame(index).c2w for index in range(FRAMES)])
    assert torch.equal(found, c2w[at_pictures])
    assert not by_pose.frame(0).valid.any()

"""``vdpm reconstruct`` from words to files, and ``vdpm info`` on what it wrote."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import vdpm
from fixtures.clips import write_clip, write_images
from fixtures.outcome import Run
from vdpm.cli.arguments import parse_frames
from vdpm.errors import UsageError


def test_a_clip_becomes_a_folder(reconstruct: Run, run: Run, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    done = reconstruct(clip, "-o", folder)
    assert done.code == 0, done.err
    for words in (
        "5 from 0.00 s to 0.40 s",
        "32 x 24",
        "took all 5 frames",
        "preview.png",
        "points_t00000.ply",
        f"vdpm info {folder}",
    ):
        assert words in done.out
    assert "decoding times: 5 of 5" in done.err
    assert [line for line in done.out.splitlines() if line != line.rstrip()] == []

    result = vdpm.load(folder)
    assert result.maps.targets == (0, 1, 2, 3, 4)
    assert {path.name for path in folder.iterdir()} == {
        "cameras.json",
        "frames",
        "maps",
        "points_t00000.ply",
        "preview.png",
        "reconstruction.json",
    }
    with Image.open(folder / "preview.png") as picture:
        assert picture.width > 800
    manifest = json.loads((folder / "reconstruction.json").read_text())
    assert manifest["conventions"]["axes"].startswith("OpenCV")
    assert set(manifest["files"]["derived"]) == {"preview.png", "points_t00000.ply"}

    told = run("info", folder)
    assert told.code == 0
    assert "complete" in told.out
    assert "frames 0-4" in told.out


def test_no_times(reconstruct: Run, clip: Path, tmp_path: Path) -> None:
    done = reconstruct(clip, "-o", tmp_path / "out", "--targets", "none", "--no-preview")
    assert done.code == 0, done.err
    assert "not known" in done.out
    assert {path.name for path in (tmp_path / "out").glob("*.p*")} == {"points_own_times.ply"}


def test_the_mirrored_clip_is_asked_as_well(reconstruct: Run, clip: Path, tmp_path: Path) -> None:
    done = reconstruct(clip, "-o", tmp_path / "out", "--targets", "none", "--mirror")
    assert done.code == 0, done.err
    assert "mean with the mirrored clip" in done.out
    assert vdpm.load(tmp_path / "out").provenance["mirrored"]


def test_chosen_times_and_clouds(reconstruct: Run, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    done = reconstruct(clip, "-o", folder, "--targets", "1-2,4", "--sources", "0,2", "--ply", "2,4", "--no-preview")
    assert done.code == 0, done.err
    result = vdpm.load(folder)
    assert (result.maps.targets, result.maps.sources) == ((1, 2, 4), (0, 2))
    assert {path.name for path in folder.glob("*.p*")} == {"points_t00002.ply", "points_t00004.ply"}


def test_images_in_a_folder_and_in_a_list(reconstruct: Run, tmp_path: Path) -> None:
    images = write_images(tmp_path / "images", num_frames=3)
    for number, words in enumerate(([images], sorted(images.iterdir()))):
        folder = tmp_path / f"out{number}"
        assert reconstruct(*words, "-o", folder, "--targets", "none", "--ply", "none").code == 0
        assert len(vdpm.load(folder)) == 3


def test_one_frame(reconstruct: Run, tmp_path: Path) -> None:
    done = reconstruct(write_clip(tmp_path / "one.mp4", num_frames=1), "-o", tmp_path / "out")
    assert done.code == 0, done.err
    assert len(vdpm.load(tmp_path / "out")) == 1


def test_overwriting_takes_old_pictures_along(reconstruct: Run, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    assert reconstruct(clip, "-o", folder, "--ply", "all").code == 0
    (folder / "mine.txt").write_text("kept")
    assert reconstruct(clip, "-o", folder, "--ply", "none", "--targets", "none", "--overwrite").code == 0
    assert sorted(path.name for path in folder.glob("*.*")) == [
        "cameras.json",
        "mine.txt",
        "preview.png",
        "reconstruction.json",
    ]


def test_interrupted_it_leaves_what_is_finished(tiny_folder: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", num_frames=24)
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "vdpm", "reconstruct", clip, "-o", folder, "--model", tiny_folder, "--size", "128"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (folder / "maps" / "q_00001.npy").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == f"What was finished is kept: vdpm info {folder}\n"
    assert err.splitlines()[-1] == "vdpm: error: interrupted"
    assert "Traceback" not in err
    result = vdpm.load(folder)
    assert 1 <= len(result.maps.targets) < 24
    result.maps.time_invariant(0, 3)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_terminated_by_a_signal(reconstruct: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vdpm.model.VDPM.encode", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    before = signal.getsignal(signal.SIGTERM)
    done = reconstruct(clip, "-o", tmp_path / "out")
    assert done.code == 143
    assert done.err.splitlines()[-1] == "vdpm: error: terminated"
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize(
    ("text", "frames"),
    [("all", "all"), ("none", "none"), ("0,4,9", [0, 4, 9]), ("3-5", [3, 4, 5]), (" 9, 2-3 ,3", [2, 3, 9])],
)
def test_frames_are_parsed(text: str, frames: object) -> None:
    assert parse_frames(text, "--targets") == frames


@pytest.mark.parametrize("text", ["", "x", "1,", "-1", "5-3", "1-", "0-99999999", "1.5", "²"])
def test_wrong_frames_are_named(text: str) -> None:
    with pytest.raises(UsageError, match="--targets"):
        parse_frames(text, "--targets")

"""The process of a job: what it tells and leaves, with a tiny network."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vdpm
from fixtures.clips import write_sound
from vdpm.app.limits import Choice, Network, label_of
from vdpm.app.work import Task

MODULE = ("-m", "vdpm.app.work")
WITHOUT_TORCH = """import runpy, sys
sys.modules["torch"] = None
runpy.run_module("vdpm.app.work", run_name="__main__")"""


def run(folder: Path, task: Task, program: tuple[str, ...] = MODULE) -> tuple[list[dict[str, Any]], int]:
    """The process to its end, its standard input open all along; what it told and its exit code."""
    process = subprocess.Popen(
        [sys.executable, "-P", *program],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(task.dumps() + "\n")
    process.stdin.flush()
    told = [json.loads(line) for line in process.stdout]
    code = process.wait(60)
    process.stdin.close()
    return told, code


def test_a_video_becomes_result_page_and_downloads(tiny_folder: Path, clip: Path, tmp_path: Path) -> None:
    shutil.copy(clip, tmp_path / "video")
    task = Task("the <b>clip</b>.mp4", 10.0, Choice(3, 0.1, 0.5), Network(str(tiny_folder), "cpu", 32))
    told, code = run(tmp_path, task)
    assert code == 0, told
    assert [line["error"] for line in told if "error" in line] == []
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"poster.jpg", "result", "scene.html", "scene.glb", "points"}, "the video itself is gone"
    assert [line["file"] for line in told if "file" in line] == ["poster.jpg", "scene.glb", "points"]
    ready = next(line["ready"] for line in told if "ready" in line)
    assert ready["frames"] == 3
    assert ready["model"] == "tiny"

    result = vdpm.load(tmp_path / "result")
    assert result.name == "the <b>clip</b>.mp4"
    assert len(result) == 3
    assert result.timestamps[0] == pytest.approx(0.1)
    assert (tmp_path / "result" / "preview.png").stat().st_size > 1000
    page = (tmp_path / "scene.html").read_text()
    assert "<b>clip" not in page
    assert len(list((tmp_path / "points").glob("*.ply"))) == 3
    stages = [line["stage"] for line in told if "stage" in line]
    assert stages[0] == "opening the video"
    assert "decoding times" in stages
    assert stages[-1] == "fusing points"


def test_what_is_no_video_is_told_before_pytorch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "video").write_bytes(b"<html>no video</html>" * 100)
    task = Task("notes.mp4", 10.0, Choice(8), Network("no such network"))
    told, code = run(tmp_path, task, ("-c", WITHOUT_TORCH))
    assert code == 0
    assert list(told[-1]) == ["error"]
    assert told[-1]["error"].startswith("notes.mp4: not a video that can be read")
    assert str(tmp_path) not in told[-1]["error"]


@pytest.mark.parametrize(
    "playlist",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/hostname\n",
        "ffconcat version 1.0\nfile '/etc/passwd'\n",
    ],
)
def test_files_that_point_at_other_files_are_refused(tmp_path: Path, playlist: str) -> None:
    (tmp_path / "video").write_text(playlist)
    told, _ = run(tmp_path, Task("a.mp4", 10.0, Choice(8), Network()))
    assert told[-1]["error"].startswith("a.mp4: not a video that can be read")


def test_sound_alone(tmp_path: Path) -> None:
    write_sound(tmp_path / "sound.mp4").rename(tmp_path / "video")
    told, _ = run(tmp_path, Task("song.mp4", 10.0, Choice(8), Network()))
    assert told[-1]["error"].startswith("song.mp4: holds only audio")


def test_videos_that_are_too_long_and_parts_of_them(clip: Path, tiny_folder: Path, tmp_path: Path) -> None:
    shutil.copy(clip, tmp_path / "video")
    told, _ = run(tmp_path, Task("a.mp4", 0.3, Choice(8), Network("no such network")))
    assert told[-1]["error"].startswith(
        "a.mp4: 0.4 s of it were asked for, and this app takes 0.3 s at once; choose a part"
    )
    told, _ = run(tmp_path, Task("a.mp4", 0.3, Choice(8, 0.1, 0.3), Network("no such network")))
    assert "no such network" in told[-1]["error"], "a short part is taken, and the network loaded next"
    told, _ = run(tmp_path, Task("a.mp4", 9.0, Choice(8, 5.0, 6.0), Network(str(tiny_folder))))
    assert told[-1]["error"] == "a.mp4: nothing is left from 5 s on, its last frame is at 0.4 s"


def test_it_ends_with_the_app(tmp_path: Path, clip: Path, tiny_folder: Path) -> None:
    """Its standard input closes when the app is killed; it must not go on for minutes."""
    shutil.copy(clip, tmp_path / "video")
    task = Task("a.mp4", 10.0, Choice(5), Network(str(tiny_folder), "cpu", 512))
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "vdpm.app.work"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(task.dumps().encode() + b"\n")
    process.stdin.close()
    assert process.wait(60) == 1
    assert not (tmp_path / "scene.html").exists()


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("a.mp4", "a.mp4"),
        ("C:\\x\\y z.mov", "y z.mov"),
        ("../..", ".."),
        ("a\x00\n\tb", "a b"),
        ("", "video"),
        ("/", "video"),
    ],
)
def test_labels(name: str, label: str) -> None:
    assert label_of(name) == label

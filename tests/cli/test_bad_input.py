"""Every kind of bad input gives one line, an exit code of its kind, and nothing on the disk."""

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from fixtures.clips import write_clip, write_images, write_sound
from fixtures.outcome import Outcome, Run
from vdpm.archive import writer

USAGE, INPUT, CHECKPOINT, OUTPUT = 2, 3, 4, 5


def refused(done: Outcome, code: int, *words: str) -> None:
    assert done.code == code, done
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("vdpm: error: ")
    for word in words:
        assert word in lines[0], lines[0]
    assert done.out == ""


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A place for the result; the test fails when anything lies beside it or there afterwards."""
    place = tmp_path / "place"
    place.mkdir()
    return place / "out"


@pytest.fixture(autouse=True)
def _nothing_half_written(tmp_path: Path, request: pytest.FixtureRequest) -> object:
    yield
    if "out" in request.fixturenames:
        assert not list((tmp_path / "place").iterdir())


def test_missing_file(reconstruct: Run, tmp_path: Path, out: Path) -> None:
    refused(reconstruct(tmp_path / "no.mp4", "-o", out), INPUT, "no.mp4")


def test_folder_without_images(reconstruct: Run, tmp_path: Path, out: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no image")
    refused(reconstruct(tmp_path / "empty", "-o", out), INPUT, "empty")


def test_text_named_mp4(reconstruct: Run, tmp_path: Path, out: Path) -> None:
    (tmp_path / "text.mp4").write_text("this is no video\n" * 100)
    refused(reconstruct(tmp_path / "text.mp4", "-o", out), INPUT, "text.mp4")


def test_empty_file(reconstruct: Run, tmp_path: Path, out: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    refused(reconstruct(tmp_path / "empty.mp4", "-o", out), INPUT, "empty.mp4")


def test_header_alone(reconstruct: Run, clip: Path, tmp_path: Path, out: Path) -> None:
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:200])
    refused(reconstruct(tmp_path / "cut.mp4", "-o", out), INPUT, "cut.mp4")


def test_truncated_video_says_what_was_read(reconstruct: Run, tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "whole.mkv", num_frames=40, height=96, width=128)
    (tmp_path / "cut.mkv").write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    done = reconstruct(tmp_path / "cut.mkv", "-o", tmp_path / "out", "--targets", "none", "--no-preview")
    assert done.code == 0, done.err
    assert any(word in done.out for word in ("damaged", "truncated", "broken", "ends")), done.out


def test_zero_frames(reconstruct: Run, tmp_path: Path, out: Path) -> None:
    refused(reconstruct(write_clip(tmp_path / "none.mkv", num_frames=0), "-o", out), INPUT, "none.mkv")


def test_sound_alone(reconstruct: Run, tmp_path: Path, out: Path) -> None:
    refused(reconstruct(write_sound(tmp_path / "sound.m4a"), "-o", out), INPUT, "sound.m4a")


def test_image_of_16000_x_16000(reconstruct: Run, tmp_path: Path, out: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.new("1", (16_000, 16_000)).save(tmp_path / "images" / "huge.png")
    refused(reconstruct(tmp_path / "images", "-o", out), INPUT, "huge.png", "16000")


def test_fifo(reconstruct: Run, tmp_path: Path, out: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    outcome: list[Outcome] = []
    # In a thread so that waiting for the other end would fail the test rather than hang it.
    thread = threading.Thread(target=lambda: outcome.append(reconstruct_elsewhere()), daemon=True)

    def reconstruct_elsewhere() -> Outcome:
        from vdpm.errors import InputError
        from vdpm.video import read_video

        try:
            read_video(tmp_path / "pipe.mp4")
        except InputError as error:
            return Outcome(error.exit_code, "", f"vdpm: error: {error}\n")
        return Outcome(0, "", "")

    thread.start()
    thread.join(timeout=20)
    assert outcome, "reading a FIFO waits for its other end"
    refused(outcome[0], INPUT, "pipe.mp4")
    refused(reconstruct(tmp_path / "pipe.mp4", "-o", out), INPUT, "pipe.mp4")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--targets", "40"), "target 40 is outside 0..4"),
        (("--targets", "soon"), "--targets 'soon'"),
        (("--targets", ""), "--targets ''"),
        (("--sources", "9"), "source 9 is outside 0..4"),
        (("--reference", "7"), "reference 7 is outside 0..4"),
        (("--targets", "0-2", "--ply", "4"), "--ply 4 is not among the targets"),
        (("--max-frames", "0"), "max_frames"),
        (("--fps", "-1"), "fps"),
        (("--start", "5", "--end", "2"), "start"),
        (("--start", "nan"), "start"),
    ],
)
def test_arguments_outside_their_range(reconstruct: Run, clip: Path, out: Path, words: tuple[str], says: str) -> None:
    refused(reconstruct(clip, "-o", out, *words), USAGE, says)


def test_start_behind_the_end(reconstruct: Run, clip: Path, out: Path) -> None:
    refused(reconstruct(clip, "-o", out, "--start", "100"), INPUT, "clip.mp4")


@pytest.mark.parametrize("size", [0, 99_999])
def test_size_that_no_network_takes(run: Run, clip: Path, tiny_folder: Path, out: Path, size: int) -> None:
    refused(run("reconstruct", clip, "-o", out, "--model", tiny_folder, "--size", size), USAGE, "size")


def test_device_that_is_not_here(reconstruct: Run, clip: Path, out: Path) -> None:
    missing = "mps" if not torch.backends.mps.is_available() else "cuda"
    refused(reconstruct(clip, "-o", out, "--device", missing), USAGE, missing)


def test_option_that_does_not_exist(run: Run, clip: Path, out: Path) -> None:
    refused(run("reconstruct", clip, "-o", out, "--tragets", "all"), USAGE, "--tragets")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--device", "tpu"), "'tpu' for argument '--device'"),
        (("--size", "wide"), "--size"),
        (("--fit",), "--fit"),
    ],
)
def test_words_that_are_no_value(run: Run, clip: Path, out: Path, words: tuple[str, ...], says: str) -> None:
    refused(run("reconstruct", clip, "-o", out, *words), USAGE, says)


def test_no_output_named(run: Run, clip: Path, out: Path) -> None:
    refused(run("reconstruct", clip), USAGE, "--output")


def broken_weights(folder: Path, tiny_folder: Path, kind: str) -> Path:
    shutil.copytree(tiny_folder, folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    name = sorted(tensors)[0]
    if kind == "truncated":
        file.write_bytes(file.read_bytes()[:-1000])
    elif kind == "text":
        file.write_text("not weights")
    elif kind == "missing tensor":
        del tensors[name]
        save_file(tensors, file)
    elif kind == "other shape":
        save_file({**tensors, name: torch.zeros(3)}, file)
    elif kind == "not finite":
        save_file({**tensors, name: torch.full_like(tensors[name], torch.nan)}, file)
    return folder


@pytest.mark.parametrize("kind", ["truncated", "text", "missing tensor", "other shape", "not finite"])
def test_wrong_weights(run: Run, clip: Path, tiny_folder: Path, tmp_path: Path, out: Path, kind: str) -> None:
    folder = broken_weights(tmp_path / "broken", tiny_folder, kind)
    refused(run("reconstruct", clip, "-o", out, "--model", folder), CHECKPOINT, "broken")


def test_weights_that_are_not_there(run: Run, clip: Path, tmp_path: Path, out: Path) -> None:
    refused(run("reconstruct", clip, "-o", out, "--model", tmp_path / "no"), CHECKPOINT, "no weights")


def test_output_that_exists_is_kept(reconstruct: Run, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "file.txt").write_text("kept")
    for words in ((), ("--overwrite",)):
        refused(reconstruct(clip, "-o", folder, *words), OUTPUT, "mine")
    assert [path.name for path in folder.iterdir()] == ["file.txt"]


def test_output_in_a_place_that_cannot_be(reconstruct: Run, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused(reconstruct(clip, "-o", tmp_path / "file" / "out"), OUTPUT, "file")


def test_disk_that_is_too_small(reconstruct: Run, clip: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 100))
    refused(reconstruct(clip, "-o", out), OUTPUT, "free")


def test_disk_that_fills_up_before_anything_is_readable(
    reconstruct: Run, clip: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, "p.npy")
    done = reconstruct(clip, "-o", out)
    assert done.code == OUTPUT
    assert done.err.splitlines()[-1].startswith("vdpm: error: ")


def test_disk_that_fills_up_later_keeps_what_is_finished(
    reconstruct: Run, run: Run, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_disk(monkeypatch, "q_00002.npy")
    done = reconstruct(clip, "-o", tmp_path / "out")
    assert done.code == OUTPUT
    assert "No space left" in done.err.splitlines()[-1]
    told = run("info", tmp_path / "out")
    assert told.code == 0
    assert "partial" in told.out
    assert "2-4" in told.out


def fill_disk(monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """The disk is full when the file called ``at`` is written."""
    write = writer.write_whole

    def write_or_fail(path: Path, content: object) -> None:
        if path.name == at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content)

    monkeypatch.setattr(writer, "write_whole", write_or_fail)


def test_info_on_anything_else(run: Run, tmp_path: Path) -> None:
    refused(run("info", tmp_path / "no"), INPUT, "no")
    refused(run("info", write_images(tmp_path / "images")), INPUT, "images")
    (tmp_path / "images" / "reconstruction.json").write_text("{")
    refused(run("info", tmp_path / "images"), INPUT, "JSON")

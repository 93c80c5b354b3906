"""Choice of frames and sizes, arguments out of range, and what is not a video at all."""

import math
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from make_video import picture, write_video
from vdpm.errors import InputError, UsageError
from vdpm.video import choose_frames, choose_transform, read_video, video_from_frames


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """48 frames, 24 a second, 64 x 48."""
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", [picture((48, 64), 4 * k) for k in range(48)])


def even(count: int, rate: float = 24.0) -> list[float]:
    return [index / rate for index in range(count)]


def test_all_frames_within_the_budget_are_taken():
    assert choose_frames(even(16), max_frames=16) == list(range(16))
    assert choose_frames(even(100), max_frames=None) == list(range(100))


def test_a_larger_clip_is_sampled_evenly_from_first_to_last():
    assert choose_frames(even(31), max_frames=16) == list(range(0, 31, 2))
    chosen = choose_frames(even(240), max_frames=16)
    assert (chosen[0], chosen[-1], len(chosen)) == (0, 239, 16)
    assert set(np.diff(chosen)) <= {15, 16, 17}
    assert choose_frames(even(240), max_frames=1) == [0]
    assert choose_frames(even(240), max_frames=2) == [0, 239]


def test_even_means_even_in_time():
    times = [0.0, 0.1, 0.2, 0.3, 0.4, 5.0, 10.0]
    assert choose_frames(times, max_frames=3) == [0, 5, 6]


def test_the_budget_is_used_up_where_times_are_uneven():
    times = [0.0, 0.01, 0.02, 0.03, 0.5, 10.0]
    chosen = choose_frames(times, max_frames=4)
    assert chosen == [0, 3, 4, 5]
    for count in range(1, 7):
        assert len(set(choose_frames(times, max_frames=count))) == count


def test_fps_thins_and_never_repeats():
    assert choose_frames(even(48), fps=12) == list(range(0, 48, 2))
    assert choose_frames(even(48), fps=1) == [0, 24]
    assert choose_frames(even(48), fps=1000) == list(range(48))
    assert choose_frames([0.0, 0.9, 2.1, 2.2, 3.0], fps=1) == [0, 2, 4]
    assert choose_frames(even(240), fps=12, max_frames=4)[-1] == 238
    assert choose_frames(even(240), fps=1e12) == list(range(240))
    thinned = choose_frames(even(300, rate=30.0), fps=24)
    assert len(thinned) == pytest.approx(240, abs=1)
    assert set(np.diff(thinned)) == {1, 2}


def test_start_and_end_cut_and_the_end_is_left_out():
    assert choose_frames(even(48), start=0.5, end=1) == list(range(12, 24))
    assert choose_frames(even(48), start=0.25, end=1.25, max_frames=5)[:1] == [6]
    assert choose_frames([0.0], start=0, end=0.1) == [0]


@pytest.mark.parametrize(("start", "end"), [(2.0, None), (10, 11), (0.01, 0.02)])
def test_a_range_without_frames_is_refused(start, end):
    with pytest.raises(InputError, match=r"frames run from 0 s to 1\.96 s"):
        choose_frames(even(48), start=start, end=end)


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ((1080, 1920), (128, 224)),
        ((1920, 1080), (224, 128)),
        ((480, 854), (128, 224)),
        ((500, 500), (168, 168)),
        ((10, 16000), (8, 448)),
        ((1, 1), (168, 168)),
    ],
)
def test_default_sizes_have_about_the_same_area(source, output):
    transform = choose_transform(source)
    assert transform.output_size == output
    assert bool(transform.source_mask().all())


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("source", [(1080, 1920), (65, 37), (333, 333)])
def test_every_fit_ends_at_the_multiple(source, fit):
    transform = choose_transform(source, size=112, fit=fit, multiple=14)
    assert all(side % 14 == 0 for side in transform.output_size)
    assert max(transform.output_size) == 112
    assert bool(transform.source_mask().all()) == (fit != "crop" or source == (333, 333))
    assert bool(transform.content_mask().all()) == (fit != "pad" or source == (333, 333))
    if fit != "stretch":
        assert transform.scale[0] / transform.scale[1] == pytest.approx(1, abs=0.02)


def test_the_whole_clip(clip):
    video = read_video(clip, start=0.5, end=1.5, max_frames=6, size=64, multiple=16)
    assert video.frames.shape == (6, 48, 64, 3)
    assert video.frames.dtype == torch.uint8
    assert video.frame_indices.tolist() == [12, 17, 21, 26, 30, 35]
    torch.testing.assert_close(video.timestamps, video.frame_indices.double() / 24)
    assert video.name == "clip"
    assert video.notes[0] == "took 6 of 48 frames: 12, 17, 21, 26, 30, 35; 0.19 s apart"
    # The level of the grey quarter tells which frame it is.
    found = video.frames[:, 36, 48, 1].tolist()
    assert found == pytest.approx([4 * index for index in video.frame_indices.tolist()], abs=4)
    assert video.images().max() <= 1


def test_frames_are_the_transform_of_the_source(clip):
    whole = read_video(clip, size=64, max_frames=2)
    small = read_video(clip, size=40, max_frames=2)
    assert whole.transform.resized_size == whole.transform.source_size
    assert torch.equal(small.transform.apply(whole.frames.permute(0, 3, 1, 2)), small.frames.permute(0, 3, 1, 2))


def test_one_frame_is_a_video(tmp_path):
    video = read_video(write_video(tmp_path / "one.mp4", [picture((48, 64))]))
    assert len(video) == 1
    assert video.timestamps.tolist() == [0.0]
    assert "took its only frame" in video.notes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fps": 0}, "fps 0 must"),
        ({"fps": float("nan")}, "fps nan must"),
        ({"start": -1}, "start -1 must"),
        ({"start": 2, "end": 2}, "end 2 must lie after start 2"),
        ({"end": -0.5}, "end -0.5 must lie after start 0"),
        ({"max_frames": 0}, "max_frames 0 must"),
        ({"size": 3}, "size 3 must be at least 8"),
        ({"multiple": 0}, "multiple 0 must"),
        ({"fit": "squeeze"}, "fit 'squeeze' is unknown; use pad, crop or stretch"),
        ({"image_fps": -2}, "image_fps -2 must"),
    ],
)
def test_arguments_out_of_range(clip, arguments, message):
    with pytest.raises(UsageError, match=message):
        read_video(clip, **arguments)


def test_start_beyond_the_end_names_the_file(clip):
    with pytest.raises(InputError, match=r"clip\.mp4: has no frame from 9 s; its frames run from 0 s to 1\.96 s"):
        read_video(clip, start=9)


def refusal(source) -> str:
    with pytest.raises(InputError) as caught:
        read_video(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_and_empty_files(tmp_path):
    assert "no such file" in refusal(tmp_path / "nothing.mp4")
    assert "addresses are not fetched" in refusal("http://localhost:9/clip.mp4")
    (tmp_path / "empty.mp4").touch()
    assert "is empty" in refusal(tmp_path / "empty.mp4")
    assert "cannot be looked up" in refusal("a\0b.mp4")
    assert "cannot be looked up" in refusal("x" * 5000)
    assert "at least one image" in refusal([])


@pytest.mark.parametrize("suffix", ["mp4", "png"])
def test_pipes_sockets_and_devices_never_block(tmp_path, suffix):
    pipe = tmp_path / f"pipe.{suffix}"
    os.mkfifo(pipe)
    assert "not a file" in refusal(pipe)
    assert "not a file" in refusal([pipe])
    assert "not a file" in refusal("/dev/zero")
    with socket.socket(socket.AF_UNIX) as end:
        # Socket paths are short, so it is bound from inside the folder.
        end.bind(os.path.relpath(tmp_path / f"s.{suffix}"))
        assert "not a file" in refusal(tmp_path / f"s.{suffix}")


def test_unreadable_file(clip, monkeypatch):
    def refuse(self, *mode):
        raise PermissionError(13, "Permission denied")

    # Not chmod: root, as in containers, may read everything.
    monkeypatch.setattr(Path, "open", refuse)
    assert "cannot be opened (Permission denied); check its permissions" in refusal(clip)


def pictures(count: int = 3, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)


def test_frames_in_memory_are_those_of_image_files(tmp_path: Path) -> None:
    given = pictures()
    for number, image in enumerate(given):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    read = read_video(tmp_path, image_fps=10)
    for frames in (given, list(given), torch.from_numpy(given)):
        video = video_from_frames(frames, fps=10)
        assert torch.equal(video.frames, read.frames)
        assert torch.allclose(video.timestamps, read.timestamps)
        assert torch.equal(video.frame_indices, read.frame_indices)
        assert video.transform == read.transform


def test_frames_in_memory_keep_their_times() -> None:
    video = video_from_frames(pictures(), timestamps=[1.7e9, 1.7e9 + 0.5, 1.7e9 + 2], size=32, fit="crop", name="cam")
    assert video.timestamps.tolist() == [0.0, 0.5, 2.0]
    assert video.size == (24, 32)
    assert video.name == "cam"


def test_frames_in_memory_may_have_pixels_that_are_not_square() -> None:
    video = video_from_frames(pictures(), fps=10, size=64, pixel_aspect=0.75)
    # 64 x 48 pixels that show 48 x 48 of square ones.
    assert video.size == (64, 64)
    assert video.transform.pixel_aspect == 0.75
    assert video.transform.square_ratio == pytest.approx(1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "either fps or timestamps"),
        ({"fps": 10, "timestamps": [0, 1, 2]}, "either fps or timestamps"),
        ({"fps": 0}, "fps 0 must be"),
        ({"fps": 10, "pixel_aspect": math.nan}, "pixel_aspect nan must be"),
        ({"fps": 10, "pixel_aspect": 0.0}, "pixel_aspect 0 must be"),
        ({"timestamps": [0, 1]}, "3 ascending numbers"),
        ({"timestamps": [0, 2, 1]}, "3 ascending numbers"),
        ({"timestamps": [0, math.nan, 1]}, "3 ascending numbers"),
        ({"fps": 10, "size": 4}, "size 4"),
    ],
)
def test_frames_in_memory_are_checked(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        video_from_frames(pictures(), **options)


def test_frames_of_another_kind_are_named() -> None:
    with pytest.raises(UsageError, match="no frames"):
        video_from_frames(pictures(0), fps=10)
    with pytest.raises(UsageError, match=r"\(24, 32, 3\), \(48, 64, 3\) must all be"):
        video_from_frames([*pictures(1), *pictures(1, (24, 32))], fps=10)
    # Without the tests' own check of types, as a user has it.
    code = """if True:
        import numpy, vdpm
        frames = numpy.zeros((2, 24, 32, 3), numpy.uint8)
        for give in (
            lambda: vdpm.video_from_frames(frames / 255, fps=3),
            lambda: vdpm.video_from_frames(frames[..., :1], fps=3),
            lambda: vdpm.read_video(frames),
            lambda: vdpm.read_video(list(frames)),
        ):
            try:
                give()
            except vdpm.UsageError as error:
                print(error)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    said = done.stdout.splitlines()
    assert len(said) == 4, done
    for line, word in zip(said, ("float64 must be uint8", "RGB", "vdpm.video_from_frames", "vdpm.video_from_frames")):
        assert word in line


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_no_picture_is_made_smaller_than_a_patch(fit: str) -> None:
    with pytest.raises(UsageError, match="size 13 must be at least 14"):
        choose_transform((480, 640), size=13, fit=fit, multiple=14)

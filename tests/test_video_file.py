"""Video files that the tests write themselves: times, turns, pixel formats, damage."""

import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch

from make_video import corners, picture, set_display_matrix, write_video
from vdpm.errors import InputError
from vdpm.video import read_video
from vdpm.video_file import VideoFile

SIZE = (48, 64)
UNEVEN = [0, 40, 50, 200, 210, 330, 400, 700, 1500, 1510]


def levels(count: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    return [picture(size, 10 + 220 * index // max(1, count - 1)) for index in range(count)]


def grey(frame: torch.Tensor) -> int:
    """The level of the bottom right quarter."""
    height, width = frame.shape[:2]
    return int(frame[height * 3 // 4, width * 3 // 4, 1])


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.mkv", "clip.webm"])
def test_uneven_times_are_kept(tmp_path, name):
    codec = "libvpx-vp9" if name.endswith("webm") else "libx264"
    options = {"cpu-used": "8", "deadline": "realtime"} if codec != "libx264" else {"bf": "2"}
    path = write_video(tmp_path / name, levels(len(UNEVEN)), codec=codec, stamps=UNEVEN, options=options)
    video = read_video(path, size=64)
    assert len(video) == len(UNEVEN)
    torch.testing.assert_close(video.timestamps, torch.tensor(UNEVEN, dtype=torch.float64) / 1000, atol=2e-3, rtol=0)
    assert video.frame_indices.tolist() == list(range(len(UNEVEN)))
    expected = [10 + 220 * index // 9 for index in range(10)]
    assert [grey(frame) for frame in video.frames] == pytest.approx(expected, abs=6)
    assert corners(video.frames[0].numpy())[:3] == ["red", "green", "blue"]
    assert "took all 10 frames; 0.01 to 0.80 s apart" in video.notes
    some = read_video(path, size=64, max_frames=5)
    assert some.notes[0] == "took 5 of 10 frames: 0, 6, 7, 8, 9; 0.01 to 0.80 s apart"


CONTAINERS = {
    "stream.ts": {"options": {"bf": "2"}},
    "pieces.mp4": {"options": {"g": "5"}, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "flash.flv": {"codec": "flv1"},
    "packets without times.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "raw.264": {"rate": 25},
    "windows.wmv": {"codec": "wmv2"},
    "open groups.mkv": {"options": {"x264-params": "open-gop=1:keyint=8:bframes=3", "preset": "medium"}},
    "refreshed.mp4": {"options": {"x264-params": "intra-refresh=1:keyint=8"}},
    "animated.apng": {"codec": "apng", "pixel_format": "rgb24"},
    "colon: in its name.mkv": {},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_the_frames_chosen_are_the_frames_shown_then(tmp_path, name):
    arguments = CONTAINERS[name]
    path = write_video(tmp_path / name, levels(60), **arguments)
    video = read_video(path, size=64, max_frames=7)
    expected = [10 + 220 * index // 59 for index in video.frame_indices.tolist()]
    assert len(video) == 7
    assert [grey(frame) for frame in video.frames] == pytest.approx(expected, abs=4)
    step = 1 / arguments.get("rate", 24)
    torch.testing.assert_close(video.timestamps, video.frame_indices * step, atol=2e-3, rtol=0, check_dtype=False)
    assert len(video.notes) == 1


def test_times_count_from_the_first_frame(tmp_path):
    path = write_video(tmp_path / "late.mkv", levels(5), stamps=[5000, 5100, 5200, 5350, 5600])
    assert read_video(path).timestamps.tolist() == pytest.approx([0, 0.1, 0.2, 0.35, 0.6], abs=1e-6)


def test_gif_with_a_duration_for_each_frame_and_parts_that_stay(tmp_path):
    from PIL import Image

    base = Image.fromarray(picture((40, 40), 60))
    images = [base.copy() for _ in range(3)]
    images[1].paste((230, 20, 20), (30, 30, 40, 40))
    images[2].paste((20, 20, 220), (0, 0, 10, 10))
    path = tmp_path / "anim.gif"
    images[0].save(path, save_all=True, append_images=images[1:], duration=[200, 50, 4000], disposal=1)
    video = read_video(path, size=40)
    assert video.timestamps.tolist() == pytest.approx([0, 0.2, 0.25])
    assert video.notes == ("took all 3 frames; 0.05 to 0.20 s apart",)
    for frame, image in zip(video.frames, images, strict=True):
        assert np.abs(frame.numpy().astype(int) - np.asarray(image).astype(int)).max() <= 8


@pytest.mark.parametrize(("rotation", "expected"), [(90, "counterclockwise"), (-90, "clockwise"), (180, "by 180")])
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_rotation_flags_are_applied(tmp_path, rotation, expected, suffix):
    path = write_video(tmp_path / f"turned.{suffix}", levels(2), rotation=rotation)
    video = read_video(path, size=64)
    upright = np.rot90(picture(SIZE), rotation // 90)
    assert corners(video.frames[0].numpy()) == corners(upright)
    assert video.transform.source_size == upright.shape[:2]
    assert any(expected in note for note in video.notes)


@pytest.mark.parametrize(
    "matrix",
    [
        (a, b, c, d)
        for a, b, c, d in itertools.product((-1, 0, 1), repeat=4)
        if abs(a * d - b * c) == 1 and a * b == c * d == 0
    ],
)
def test_all_eight_display_matrices(tmp_path, matrix):
    path = write_video(tmp_path / "turned.mp4", levels(1))
    set_display_matrix(path, *matrix)
    a, b, c, d = matrix
    # The corner of the stored picture at (x, y) from its centre is shown at (a x + c y, b x + d y).
    places = [(-1, -1), (1, -1), (-1, 1), (1, 1)]
    shown = dict(
        zip(((a * x + c * y, b * x + d * y) for x, y in places), ["red", "green", "blue", "grey"], strict=True)
    )
    video = read_video(path, size=64)
    assert corners(video.frames[0].numpy()) == [shown[place] for place in places]
    assert video.transform.source_size == (SIZE if a else SIZE[::-1])


def test_wide_pixels_are_made_square_also_when_turned(tmp_path):
    path = write_video(tmp_path / "wide.mp4", levels(2), sample_aspect_ratio=Fraction(2, 1))
    assert read_video(path, size=128).transform.resized_size == (48, 128)
    set_display_matrix(path, 0, 1, -1, 0)
    video = read_video(path, size=128)
    assert video.transform.source_size == (64, 48)
    assert video.transform.resized_size == (128, 48)
    assert any("square" in note for note in video.notes)


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format"),
    [
        ("ten.mkv", "ffv1", "yuv420p10le"),
        ("ten.mp4", "libx264", "yuv420p10le"),
        ("sixteen.mkv", "ffv1", "gray16le"),
        ("rgb.mkv", "ffv1", "bgr0"),
        ("old.avi", "mpeg4", "yuv420p"),
        ("full.mkv", "mjpeg", "yuvj444p"),
    ],
)
def test_pixel_formats(tmp_path, name, codec, pixel_format):
    path = write_video(tmp_path / name, levels(3), codec=codec, pixel_format=pixel_format)
    video = read_video(path, size=64)
    assert len(video) == 3
    assert [grey(frame) for frame in video.frames] == pytest.approx([10, 120, 230], abs=4)
    if "gray" not in pixel_format:
        assert corners(video.frames[0].numpy())[:3] == ["red", "green", "blue"]


def test_odd_sizes(tmp_path):
    path = write_video(tmp_path / "odd.mkv", levels(2, (65, 37)), codec="ffv1", pixel_format="yuv444p")
    video = read_video(path, size=64)
    assert video.transform.source_size == (65, 37)
    assert video.size == (64, 40)
    assert video.transform.resized_size == (64, 36)
    white = ~video.transform.content_mask()
    assert bool((video.frames[:, white] == 255).all())


def test_transparent_parts_lie_over_white(tmp_path):
    image = np.dstack((picture(SIZE, 100), np.full(SIZE, 255, np.uint8)))
    image[:24, :32, 3] = 0
    image[24:, 32:, 3] = 128
    path = write_video(tmp_path / "clear.mov", [image], codec="qtrle", pixel_format="argb", source_format="rgba")
    video = read_video(path, size=64)
    assert video.frames[0, 5, 5].tolist() == [255, 255, 255]
    assert video.frames[0, 5, 60].tolist() == [20, 200, 20]
    assert grey(video.frames[0]) == pytest.approx(255 - (255 - 100) * 128 / 255, abs=1)
    assert any("over white" in note for note in video.notes)


@pytest.mark.parametrize("matrix", ["709", "601"])
def test_colours_follow_the_tags_of_matrix_and_range(tmp_path, matrix):
    import av

    kr, kb = {"709": (0.2126, 0.0722), "601": (0.299, 0.114)}[matrix]
    red, green, blue = 200 / 255, 100 / 255, 50 / 255
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    for full in (False, True):
        y_scale, c_scale, black = (255, 255, 0) if full else (219, 224, 16)
        path = tmp_path / f"tagged{full}.mkv"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("ffv1", rate=24)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv444p"
            frame = av.VideoFrame(64, 48, "yuv444p")
            for context in (stream.codec_context, frame):
                context.colorspace, context.color_range = {"709": 1, "601": 5}[matrix], 2 if full else 1
            values = (black + y_scale * luma, 128 + c_scale * cb, 128 + c_scale * cr)
            for plane, value in zip(frame.planes, values, strict=True):
                plane.update(bytes([round(value)]) * plane.buffer_size)
            for packet in [*stream.encode(frame), *stream.encode()]:
                container.mux(packet)
        assert read_video(path, size=64).frames[0, 20, 20].tolist() == pytest.approx([200, 100, 50], abs=2)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
def test_conversion_to_rgb_has_no_bias(tmp_path, pixel_format):
    y, x = np.mgrid[:96, :128]
    ramp = np.stack((x * 255 // 128, y * 255 // 96, x + y), axis=-1).astype(np.uint8)
    path = write_video(tmp_path / "ramp.mkv", [ramp], codec="ffv1", pixel_format=pixel_format)
    error = read_video(path, size=128).frames[0].numpy().astype(int) - ramp
    assert np.abs(error.mean((0, 1))).max() < 0.5
    assert np.abs(error).max() <= 3


def test_a_picture_above_the_limit_is_refused_before_decoding(tmp_path, monkeypatch):
    path = write_video(tmp_path / "large.mp4", levels(1))
    monkeypatch.setattr("vdpm.video_file.MAX_PIXELS", 64 * 48 - 1)
    monkeypatch.setattr(VideoFile, "_decode", None)
    assert "its picture of 64 x 48 is above the limit" in refusal(path)


def test_a_picture_that_changes_its_size_is_refused(tmp_path):
    parts = [write_video(tmp_path / f"{size[0]}.264", levels(10, size)) for size in (SIZE, (96, 64))]
    path = tmp_path / "both.264"
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    assert "changes from 64 x 48 to 64 x 96" in refusal(path)
    assert len(read_video(path, end=0.3)) == 8


def test_jumping_to_key_frames_gives_the_same_frames_as_decoding_all(tmp_path):
    path = write_video(tmp_path / "long.mp4", levels(200), options={"g": "25", "bf": "3", "preset": "veryfast"})
    source = VideoFile(path)
    wanted = [3, 60, 61, 130, 199]
    jumped = list(source.frames(wanted))
    source.survey_by_decoding()
    assert source.times == pytest.approx([index / 24 for index in range(200)], abs=1e-6)
    decoded = list(source.frames(wanted))
    assert len(jumped) == len(decoded) == 5
    for a, b in zip(jumped, decoded, strict=True):
        assert np.array_equal(a, b)


def test_jumping_decodes_less(tmp_path, monkeypatch):
    path = write_video(tmp_path / "long.mp4", levels(200), options={"g": "20"})
    source = VideoFile(path)
    decoded = []
    original = VideoFile._decode
    monkeypatch.setattr(
        VideoFile, "_decode", lambda self, *stream: (decoded.append(1) or frame for frame in original(self, *stream))
    )
    assert len(list(source.frames([100, 180]))) == 2
    assert len(decoded) <= 4


def noise(count: int) -> list[np.ndarray]:
    return [np.random.default_rng(index).integers(0, 255, (*SIZE, 3), np.uint8) for index in range(count)]


def test_a_file_that_ends_early_gives_what_can_be_read(tmp_path):
    path = write_video(tmp_path / "cut.mp4", noise(120), container_options={"movflags": "faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    video = read_video(path, max_frames=8)
    assert len(video) == 8
    (note,) = [note for note in video.notes if "ends early" in note]
    read, declared = (int(word) for word in note.split() if word.isdigit())
    assert declared == 120
    assert 30 <= read < 50
    assert video.frame_indices[-1] == read - 1


def test_a_matroska_file_that_ends_early_tells_about_how_much(tmp_path):
    path = write_video(tmp_path / "cut.mkv", noise(120))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 3])
    video = read_video(path, max_frames=None)
    (note,) = [note for note in video.notes if "ends early" in note]
    read, about = (int(word) for word in note.split() if word.isdigit())
    assert "of about" in note
    assert abs(about - 120) <= 2
    assert read == len(video)
    assert 30 <= read < 50


def test_a_damaged_middle_is_left_out_and_said(tmp_path):
    path = write_video(tmp_path / "hurt.mp4", noise(40), options={"g": "1"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 4000] = bytes(4000)
    path.write_bytes(data)
    video = read_video(path, max_frames=None)
    assert 30 <= len(video) < 40
    assert "damaged parts of the file were skipped" in video.notes
    # The times of the others stay as they were: there is a gap.
    assert video.timestamps[-1].item() == pytest.approx(39 / 24, abs=1e-6)
    assert video.timestamps.diff().max() > 1.5 / 24


def test_an_intact_file_tells_of_no_damage(tmp_path):
    for name in ("clip.mp4", "clip.mkv"):
        notes = read_video(write_video(tmp_path / name, levels(30), stamps=list(range(0, 1500, 50)))).notes
        assert not any("early" in note or "damaged" in note for note in notes)


def refusal(path, **arguments) -> str:
    with pytest.raises(InputError) as caught:
        read_video(path, **arguments)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_text_named_mp4(tmp_path, capfd):
    path = tmp_path / "notes.mp4"
    path.write_text("this is not a video\n" * 40)
    assert "not a video" in refusal(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("text", ["#EXTM3U\n#EXTINF:1,\nother.mp4\n", "ffconcat version 1.0\nfile other.mp4\n"])
def test_playlists_cannot_lead_elsewhere(tmp_path, text):
    write_video(tmp_path / "other.mp4", levels(2))
    path = tmp_path / "list.mp4"
    path.write_text(text)
    assert "not a video" in refusal(path)


def test_an_mp4_cut_before_its_index(tmp_path, capfd):
    path = write_video(tmp_path / "cut.mp4", levels(20))
    path.write_bytes(path.read_bytes()[:400])
    assert "before its index" in refusal(path)
    assert capfd.readouterr().err == ""


def test_only_audio(tmp_path):
    import av

    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)
    assert "only audio" in refusal(path)


def test_a_video_without_frames(tmp_path):
    import av

    # The track of an mp4 without samples does not count as a stream.
    for name, said in (("none.mp4", "no video stream"), ("none.mkv", "without a single frame")):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("libx264", rate=24)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            container.start_encoding()
        assert said in refusal(tmp_path / name)


def test_a_matroska_file_that_ends_after_its_header(tmp_path):
    path = write_video(tmp_path / "full.mkv", levels(3))
    data = path.read_bytes()
    # The identifier of the first cluster.
    path.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])
    assert "without a single frame" in refusal(path)


def test_sound_beside_the_video_does_not_make_it_end_early(tmp_path):
    import av

    path = tmp_path / "both.mkv"
    with av.open(str(path), "w") as container:
        video, sound = container.add_stream("libx264", rate=10), container.add_stream("aac", rate=16000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for index in range(20):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate, silence.pts = 16000, 1024 * 10 * index
            for packet in sound.encode(silence):
                container.mux(packet)
        for image in levels(10):
            for packet in video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in [*video.encode(), *sound.encode()]:
            container.mux(packet)
    assert not any("early" in note for note in read_video(path).notes)


@pytest.mark.shared
def test_real_clips_are_read(shared_dir):
    clips = sorted((shared_dir / "clips").glob("*.mp4"))
    assert clips
    for path in clips:
        video = read_video(path, max_frames=4)
        assert len(video) == 4
        assert all(side % 8 == 0 for side in video.size)
        assert bool((video.timestamps.diff() > 0.5).all())
        assert video.frames.float().std() > 20

"""Films without a display: what is asked for is in them, and nothing is left of one that was cut off."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from fixtures.moving_sphere import make_moving_sphere
from vdpm.errors import InputError, OutputError, UsageError
from vdpm.viewer.camera_moves import along, around, through_the_video
from vdpm.viewer.film import Picture, write_film
from vdpm.viewer.render import FilmOptions, render

SMALL = FilmOptions(size=96, seconds=0.5, fps=12.0, hide_percent=0.0)


@pytest.fixture(scope="module")
def result() -> Any:
    return make_moving_sphere().reconstruction


def read(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h264"), (".webm", "vp9")])
def test_a_film_has_its_length_and_size(result: Any, tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"a{suffix}"
    assert render(result, path, SMALL) == 6
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (
            stream.codec_context.name.startswith((codec, f"lib{codec}"))
            or codec in stream.codec_context.codec.long_name.lower()
        )
        assert stream.average_rate == 12
        assert stream.codec_context.pix_fmt == "yuv420p"
    frames = read(path)
    assert len(frames) == 6
    assert frames[0].shape == (54, 96, 3)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_through_the_videos_camera_the_film_is_the_video(result: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    render(result, path, replace(SMALL, camera="input", size=128, fps=10.0))
    frames = read(path)
    assert frames[0].shape == (96, 128, 3)
    for drawn, frame in ((frames[0], 0), (frames[-1], 4)):
        expected = np.asarray(Image.fromarray(result.frames[frame].numpy()).resize((128, 96))).astype(int)
        assert np.median(np.abs(drawn.astype(int) - expected)) < 12
        assert np.median(np.abs(drawn[:, ::-1].astype(int) - expected)) > 20


def test_the_clip_plays_and_can_be_held(result: Any, tmp_path: Path) -> None:
    still = replace(SMALL, camera="swing", seconds=1.0, size=128)

    def ends(**changes: Any) -> float:
        render(result, tmp_path / "a.mp4", replace(still, **changes))
        frames = read(tmp_path / "a.mp4")
        # A swing ends where it began, so that what differs has moved.
        return float(np.abs(frames[0].astype(int) - frames[-1]).mean())

    assert ends() > 4 * ends(at=2)


def test_depth_and_motion(result: Any, tmp_path: Path) -> None:
    render(result, tmp_path / "depth.mp4", replace(SMALL, show="depth", size=64))
    depth = read(tmp_path / "depth.mp4")[0].astype(int).sum(axis=-1)
    moving = make_moving_sphere().moving[0].numpy()
    assert depth[moving].mean() > 1.5 * depth[~moving].mean(), "near is bright"
    render(result, tmp_path / "motion.mp4", replace(SMALL, show="motion", size=64))
    motion = read(tmp_path / "motion.mp4")[0].astype(int)
    assert np.median(motion[~moving].min(axis=-1)) > 240, "rest is white"
    assert (motion[moving][:, 0] - motion[moving][:, 1]).mean() > 60, "to the right is red"


def test_a_sheet_has_pictures_and_the_frame_can_stand_beside(result: Any, tmp_path: Path) -> None:
    assert render(result, tmp_path / "a.png", SMALL) == 12
    with Image.open(tmp_path / "a.png") as sheet:
        assert sheet.format == "PNG"
        assert 1700 < sheet.width < 1900
    render(result, tmp_path / "a.mp4", replace(SMALL, beside=True))
    assert read(tmp_path / "a.mp4")[0].shape == (54, 96 + 72, 3)


def test_without_times_points_and_depth_can_be_shown_but_no_motion(tmp_path: Path) -> None:
    result = make_moving_sphere(targets=()).reconstruction
    assert render(result, tmp_path / "a.mp4", SMALL) == 6
    with pytest.raises(InputError, match="--targets all"):
        render(result, tmp_path / "b.mp4", replace(SMALL, show="motion"))


@pytest.mark.parametrize(
    "changes",
    [{"size": 8}, {"fps": 0.0}, {"seconds": -1.0}, {"hide_percent": 99.0}, {"show": "depth", "camera": "swing"}],
)
def test_options_out_of_range(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        replace(SMALL, **changes)


@pytest.mark.parametrize("changes", [{"camera": "nonsense"}, {"at": 77}])
def test_what_the_result_has_not(result: Any, tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        render(result, tmp_path / "a.mp4", replace(SMALL, **changes))


def test_a_film_that_is_cut_off_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "old.mp4").write_bytes(b"old")

    def pictures() -> Iterator[Picture]:
        yield Picture(np.zeros((48, 64, 3), dtype=np.uint8), 0.0)
        raise KeyboardInterrupt

    for name in ("new.mp4", "old.mp4"):
        with pytest.raises(KeyboardInterrupt):
            write_film(tmp_path / name, pictures(), 10.0)
    assert [path.name for path in tmp_path.iterdir()] == ["old.mp4"]
    assert (tmp_path / "old.mp4").read_bytes() == b"old"
    with pytest.raises(OutputError):
        write_film(tmp_path / "nowhere" / "a.mp4", iter([]), 10.0)


def test_browsers_play_it(browser: Any, result: Any, tmp_path: Path) -> None:
    render(result, tmp_path / "a.mp4", replace(SMALL, seconds=1.0))
    (tmp_path / "a.html").write_text("<video id=v muted src=a.mp4></video>")
    tab = browser.new_page()
    tab.goto((tmp_path / "a.html").as_uri())
    played = tab.evaluate(
        """() => new Promise((done) => {
            v.onended = () => done([v.videoWidth, v.videoHeight, v.currentTime]);
            v.onerror = () => done(v.error.message);
            v.play().catch((error) => done(String(error)));
        })"""
    )
    tab.close()
    assert played[:2] == [96, 54]
    assert played[2] == pytest.approx(1.0, abs=0.1)


def test_a_turn_goes_around_and_sees_the_scene_all_along(result: Any) -> None:
    points = result.maps.time_variant(0).points.flatten(0, 1).double().numpy()
    for full in (True, False):
        move = around(points, np.eye(4), (90, 160), full=full)
        middle = np.median(points, axis=0)
        for share in np.arange(9) / 8:
            seen = move(float(share), 0.0)
            pixels, depth = seen.project(points)
            inside = (pixels > 0).all(axis=1) & (pixels < [160, 90]).all(axis=1) & (depth > 0)
            assert inside.mean() > 0.85
            (place,), _ = seen.project(middle[None])
            assert np.abs(place - [80, 45]).max() < 40
        assert np.abs(move(0.0, 0.0).c2w - move(1.0, 0.0).c2w).max() < 1e-9
    assert np.linalg.det(move(0.3, 0.0).c2w[:3, :3]) == pytest.approx(1)


def test_the_videos_cameras_are_met_at_their_times(result: Any) -> None:
    move = through_the_video(result, (0, 0, 64, 48), (96, 128))
    for frame in range(5):
        view = move(0.0, float(result.timestamps[frame]))
        assert np.abs(view.c2w - result.cameras.c2w[frame].numpy()).max() < 1e-6
        assert np.abs(view.focal - 120).max() < 1e-4
        assert np.abs(view.center - [64, 48]).max() < 1e-4
    between = move(0.0, float(result.timestamps[:2].mean())).c2w
    assert np.abs(between[:3, :3] @ between[:3, :3].T - np.eye(3)).max() < 1e-9
    halfway = (result.cameras.centers[0] + result.cameras.centers[1]).numpy() / 2
    assert np.abs(between[:3, 3] - halfway).max() < 1e-6


def test_a_path_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "path.json"
    pose = [[0, 0, 1, 4], [0, 1, 0, 0], [-1, 0, 0, 2], [0, 0, 0, 1]]
    keys = [{"from": [0, 0, 0], "at": [0, 0, 3], "fov": 90}, {"share": 0.25, "from": [0, -1, 0], "at": [0, 0, 3]}]
    path.write_text(json.dumps({"keys": [*keys, {"c2w": pose}]}))
    move = along(path, (90, 160))
    assert np.abs(move(0.0, 0.0).c2w - np.eye(4)).max() < 1e-12
    assert move(0.0, 0.0).focal == pytest.approx([80, 80])
    assert np.abs(move(1.0, 0.0).c2w - np.array(pose)).max() < 1e-9
    (place,), depth = move(0.25, 0.0).project(np.array([[0.0, 0.0, 3.0]]))
    assert place == pytest.approx([80, 45])
    assert depth[0] == pytest.approx(np.sqrt(10))
    below, _ = move(0.25, 0.0).project(np.array([[0.0, 0.5, 3.0]]))
    assert below[0, 1] > 50, "y is down"
    by_hand = [[0.577, 0.707, 0.408, 0], [-0.577, 0.707, -0.408, 0], [-0.577, 0, 0.816, 0], [0, 0, 0, 1]]
    path.write_text(json.dumps({"keys": [{"c2w": by_hand}]}))
    assert along(path, (90, 160))(0.0, 0.0).c2w[:3, 2] == pytest.approx([0.408, -0.408, 0.816], abs=2e-3)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"keys": []}',
        '{"keys": [{}]}',
        '{"keys": [{"from": [0, 0], "at": [0, 0, 1]}]}',
        '{"keys": [{"from": [0, 0, 1], "at": [0, 0, 1]}]}',
        '{"keys": [{"from": [0, 0, 0], "at": [0, 0, NaN]}]}',
        '{"keys": [{"from": [0, 0, 0], "at": [0, 0, 1], "fov": 0}]}',
        '{"keys": [{"from": [0, 0, 0], "at": [0, 0, 1], "share": 1}, {"from": [0, 0, 0], "at": [0, 0, 1]}]}',
        '{"keys": [{"c2w": [[2, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}]}',
        '{"keys": [{"c2w": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [4, 0, 2, 1]]}]}',
    ],
)
def test_a_file_that_is_no_path(tmp_path: Path, content: str) -> None:
    path = tmp_path / "path.json"
    path.write_text(content)
    with pytest.raises(InputError, match=r"path\.json"):
        along(path, (90, 160))

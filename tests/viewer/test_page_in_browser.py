"""The page in a headless browser shows what the result says."""

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fixtures.moving_sphere import MovingSphere, make_moving_sphere
from vdpm.geometry.image_transform import ImageTransform
from vdpm.motion import project_to
from vdpm.structures import PointMap, Reconstruction
from vdpm.viewer.choice import SceneChoice, choose_points
from vdpm.viewer.page import write_page

SIZE = (96, 128)
SWIPE = """canvas.setPointerCapture = () => {};
for (const [type, x] of [['pointerdown', 150], ['pointermove', 220], ['pointermove', 260], ['pointerup', 260]])
  canvas.dispatchEvent(new PointerEvent(type, {pointerId: 1, pointerType: 'touch', clientX: x, clientY: 300}));
"""


@pytest.fixture(scope="module")
def scene() -> MovingSphere:
    return make_moving_sphere(size=SIZE)


@pytest.fixture(scope="module")
def choice(scene: MovingSphere) -> SceneChoice:
    return choose_points(scene.reconstruction)


@pytest.fixture(scope="module")
def path(scene: MovingSphere, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "scene.html"
    write_page(scene.reconstruction, path, hide_percent=0.0)
    return path


Open = Callable[..., Any]


def centroid(scene: MovingSphere, choice: SceneChoice, time: int, camera: int) -> tuple[np.ndarray, int]:
    """Mean pixel in a frame's camera of all chosen points at a time, from the result's own maps; and their number."""
    result, pixels = scene.reconstruction, []
    for points, moves in ((choice.still, False), (choice.moving, True)):
        for source in choice.sources:
            maps = result.maps.at(choice.times[time], source) if moves else result.maps.time_variant(source)
            chosen = maps.points.flatten(0, 1)[points.pixel[points.source == source]]
            xy, z = project_to(result, chosen, camera)
            pixels.append(xy[z > 1e-3].double().numpy())
    together = np.concatenate(pixels)
    return together.mean(axis=0), len(together)


def test_first_and_last_time_hold_the_right_points_at_the_right_places(
    open_page: Open, path: Path, scene: MovingSphere, choice: SceneChoice
) -> None:
    page = open_page(path)
    for time in (0, len(choice.times) - 1):
        seconds = float(scene.reconstruction.timestamps[choice.times[time]])
        assert page.ask(f"vdpm.seek({seconds})") == pytest.approx(seconds)
        assert page.ask("vdpm.count()") == len(choice)
        for camera in (0, 3):
            expected, count = centroid(scene, choice, time, camera)
            found = page.ask(f"vdpm.centroid({camera})")
            assert found["count"] == count
            # The grid's half step of 1/8192 of the distance is under 0.01 pixels here; a mean of thousands far less.
            assert np.abs(np.array([found["x"], found["y"]]) - expected).max() < 0.01
    ends = [centroid(scene, choice, time, 0)[0] for time in (0, -1)]
    assert np.abs(ends[0] - ends[1]).max() > 0.5, "the two times can be told apart"
    assert page.said == []


@pytest.mark.parametrize("zoom", [1.0, 2.0])
@pytest.mark.parametrize("window", [(390, 844), (1280, 620), (700, 700)])
def test_the_first_view_has_points_and_cameras_in_its_middle(
    open_page: Open, scene: MovingSphere, tmp_path: Path, zoom: float, window: tuple[int, int]
) -> None:
    result = scene.reconstruction
    maps, thinner = result.maps, torch.tensor([1 / zoom, 1 / zoom, 1.0])

    def read(target: int | None, source: int) -> PointMap:
        points, confidence = maps.read(target, source)
        return PointMap(points * thinner, confidence)

    # Behind a long lens that hardly moves.
    lens = result.cameras.intrinsics @ torch.diag(torch.tensor([zoom, zoom, 1.0]))
    cameras = replace(result.cameras, c2w=torch.eye(4).repeat(len(result), 1, 1), intrinsics=lens)
    result = replace(result, cameras=cameras, maps=replace(maps, read=read))
    write_page(result, tmp_path / "a.html", hide_percent=0.0)
    page = open_page(tmp_path / "a.html")
    page.tab.set_viewport_size({"width": window[0], "height": window[1]})
    page.tab.reload()
    page.tab.wait_for_function("window.vdpm")
    with Image.open(io.BytesIO(base64.b64decode(page.ask("vdpm.picture()").partition(",")[2]))) as picture:
        lit = np.asarray(picture.convert("RGB")).max(axis=-1) > 60
    height, width = lit.shape
    for lines, length in ((lit.any(axis=0), width), (lit.any(axis=1), height)):
        ends = np.flatnonzero(lines)[[0, -1]] / length
        assert abs(ends.mean() - 0.5) < 0.04, "in the middle"
    assert max(np.ptp(np.flatnonzero(lit.any(axis=0))) / width, np.ptp(np.flatnonzero(lit.any(axis=1))) / height) > 0.6
    # The first camera stands before the eye, with its picture.
    x, y = page.ask("vdpm.cameraPlace(0)")
    ratio = page.tab.evaluate("window.devicePixelRatio")
    assert lit[round(y * ratio), round(x * ratio)]


def test_nothing_but_the_file_is_asked_for_and_nothing_complained_of(open_page: Open, path: Path) -> None:
    page = open_page(path)
    page.tab.keyboard.press("t")
    page.tab.keyboard.press("c")
    assert [url for url in page.requests if not url.startswith("data:")] == [path.as_uri()]
    assert page.said == []
    assert page.ask("vdpm.error()") == 0


def test_no_script_but_its_own_may_run(open_page: Open, path: Path) -> None:
    page = open_page(path)
    page.tab.evaluate(
        "const s = document.createElement('script'); s.textContent = 'window.foreign = 1'; document.body.append(s);"
    )
    assert page.ask("window.foreign === undefined")
    assert page.tab.evaluate("fetch('https://example.org').then(() => 'went out', () => 'refused')") == "refused"


def test_hiding_more_shows_fewer(open_page: Open, tmp_path: Path) -> None:
    scene = make_moving_sphere(num_frames=3)
    maps = scene.reconstruction.maps

    def read(target: int | None, source: int) -> Any:
        point_map = maps.read(target, source)
        return point_map._replace(confidence=1 + point_map.points[..., 2].abs())

    result = replace(scene.reconstruction, maps=replace(maps, read=read))
    write_page(result, tmp_path / "a.html", hide_percent=30.0)
    page = open_page(tmp_path / "a.html")
    total = len(choose_points(result))
    assert page.ask("vdpm.count()") == pytest.approx(0.7 * total, abs=0.01 * total)
    counts = []
    for percent in (0, 1, 10, 40, 70, 95):
        page.ask(f"vdpm.hide({percent})")
        counts.append(page.ask("vdpm.count()"))
    assert counts[0] == total
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == pytest.approx(0.05 * total, abs=0.01 * total)
    assert len(set(counts)) == len(counts)


def test_filters_by_motion_and_source(open_page: Open, path: Path, choice: SceneChoice) -> None:
    page = open_page(path)
    counts = {}
    for motion in ("all", "moving", "still"):
        page.ask(f"vdpm.show({{motion: '{motion}'}})")
        counts[motion] = page.ask("vdpm.count()")
    assert counts == {"all": len(choice), "moving": len(choice.moving), "still": len(choice.still)}
    page.ask("vdpm.show({motion: 'all', source: 2})")
    assert page.ask("vdpm.count()") == (choice.still.source == 2).sum() + (choice.moving.source == 2).sum()
    page.ask("vdpm.show({source: 'shown'})")
    page.ask("vdpm.seek(2)")
    assert page.ask("vdpm.count()") == (choice.still.source == 4).sum() + (choice.moving.source == 4).sum()


def test_the_camera_sees_its_frame(open_page: Open, path: Path, scene: MovingSphere) -> None:
    """What is drawn from a frame's camera at its time resembles the frame: axes, poses and colours are right."""
    page = open_page(path)
    for frame in (0, 4):
        page.ask(f"vdpm.show({{cameras: false}}), vdpm.standIn({frame})")
        assert page.ask("vdpm.standing()") == frame
        with Image.open(io.BytesIO(base64.b64decode(page.ask("vdpm.picture()").partition(",")[2]))) as picture:
            drawn = np.asarray(picture.convert("RGB")).astype(float)
        height, width = drawn.shape[:2]
        zoom = min(width / SIZE[1], height / SIZE[0])
        y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
        row = ((y - SIZE[0] / 2) * zoom + height / 2).astype(int)
        column = ((x - SIZE[1] / 2) * zoom + width / 2).astype(int)
        difference = np.abs(drawn[row, column] - scene.reconstruction.frames[frame].numpy()).mean(axis=-1)
        assert (difference < 30).mean() > 0.85
        mirrored = np.abs(drawn[row, column][:, ::-1] - scene.reconstruction.frames[frame].numpy()).mean(axis=-1)
        assert (mirrored < 30).mean() < 0.7


def test_a_click_on_a_camera_stands_in_it(open_page: Open, path: Path) -> None:
    page = open_page(path)
    assert page.ask("vdpm.standing()") is None
    x, y = page.ask("vdpm.cameraPlace(0)")
    page.tab.mouse.click(x, y)
    assert page.ask("vdpm.standing()") == 0
    page.tab.mouse.move(300, 300)
    page.tab.mouse.down()
    page.tab.mouse.move(380, 320, steps=4)
    page.tab.mouse.up()
    assert page.ask("vdpm.standing()") is None, "dragging leaves it"


@pytest.mark.parametrize(
    ("num_frames", "targets", "sources"), [(1, (0,), (0,)), (3, (), (0, 1, 2)), (4, (1, 3), (0, 2)), (2, (1,), (0,))]
)
def test_any_choice_of_times_and_frames(
    open_page: Open, tmp_path: Path, num_frames: int, targets: tuple[int, ...], sources: tuple[int, ...]
) -> None:
    result = make_moving_sphere(num_frames=num_frames, targets=targets, sources=sources).reconstruction
    write_page(result, tmp_path / "a.html", hide_percent=0.0)
    page = open_page(tmp_path / "a.html")
    assert page.ask("vdpm.count()") == len(choose_points(result))
    assert page.ask("vdpm.frames") == list(targets or sources)
    for key in ("End", "Home", "Space", "c", "t", "t", "m", "m", "r", "ArrowRight"):
        page.tab.keyboard.press(key)
    assert page.ask("vdpm.count()") > 0
    assert page.ask("vdpm.error()") == 0
    assert page.said == []


def test_play_and_keys(open_page: Open, path: Path) -> None:
    page = open_page(path)
    page.tab.keyboard.press("End")
    assert page.ask("vdpm.time()") == pytest.approx(2.0)
    page.tab.keyboard.press("ArrowLeft")
    assert page.ask("vdpm.time()") == pytest.approx(1.5)
    page.tab.keyboard.press("Home")
    page.tab.keyboard.press("Space")
    page.wait_until("vdpm.time() > 0.2")
    page.tab.keyboard.press("Space")
    assert not page.ask("vdpm.playing()")
    frame = page.tab.inner_text("#caption")
    assert frame.startswith("frame ")


def test_each_control_has_a_name(open_page: Open, path: Path) -> None:
    """For those who hear the page."""
    tab = open_page(path).tab
    tab.select_option("#trails", "time")
    for role, names in (
        ("slider", ("Least sure hidden", "Point size", "Trail length", "Time")),
        ("combobox", ("Points of", "Colour", "Trails", "Speed")),
        ("checkbox", ("cameras", "video")),
        ("button", ("Orbit", "Camera", "Reset", "moving", "Play", "Loop")),
    ):
        for name in names:
            assert tab.get_by_role(role, name=name).count() == 1, name
        assert tab.get_by_role(role).count() >= len(names)
    assert tab.get_by_role("button", name="all", exact=True).get_attribute("aria-pressed") == "true"
    assert tab.get_by_role("button", name="still").get_attribute("aria-pressed") == "false"


def test_it_fits_a_phone_and_answers_to_touch(open_page: Open, path: Path, choice: SceneChoice) -> None:
    page = open_page(path, size=(390, 844), touch=True)
    assert page.ask("document.documentElement.scrollWidth") == 390
    assert page.ask("vdpm.count()") == len(choice)
    before = page.ask("vdpm.cameraPlace(0)")
    page.tab.locator("#play").tap()
    assert page.ask("vdpm.playing()")
    page.tab.locator("#play").tap()
    panel = page.tab.locator("#panel")
    assert not panel.is_visible()
    page.tab.locator("#more").tap()
    panel.wait_for(state="visible")
    page.tab.locator("#motion button[data-value=moving]").tap()
    assert page.ask("vdpm.count()") == len(choice.moving)
    page.tab.locator("#more").tap()
    panel.wait_for(state="hidden")
    for element in ("#play", "#scrub", "#speed", "#loop", "#more"):
        box = page.tab.locator(element).bounding_box()
        assert box["x"] >= 0, element
        assert box["x"] + box["width"] <= 390, element
    page.ask(SWIPE)
    assert np.abs(np.array(page.ask("vdpm.cameraPlace(0)")) - before).max() > 10
    assert page.said == []


def test_a_spoilt_page_says_so(open_page: Open, path: Path, tmp_path: Path) -> None:
    text = path.read_text()
    spoilt = tmp_path / "spoilt.html"
    spoilt.write_text(text.replace('id="data">', 'id="data">AAAA'))
    page = open_page(spoilt)
    assert "cannot be shown" in page.tab.inner_text("#message")


def large_clip() -> Reconstruction:
    """24 frames of 518 x 294, a fifth of them moving, with noise in every map and frame; maps are made when read."""
    scene = make_moving_sphere(num_frames=24, size=(42, 74), targets=())
    small, draws = scene.reconstruction, torch.Generator().manual_seed(4)

    def enlarged(values: torch.Tensor) -> torch.Tensor:
        large = torch.nn.functional.interpolate(
            values.permute(2, 0, 1)[None].float(), scale_factor=7.0, mode="bilinear"
        )
        return large[0].permute(1, 2, 0)

    def read(target: int | None, source: int) -> PointMap:
        points = enlarged(small.maps.read(None, source).points)
        if target is not None:
            moving = enlarged(scene.moving[source][..., None]) > 0.5
            points = torch.where(moving, scene.at_time(points, source, target).float(), points)
        points = points * (1 + 0.002 * torch.randn(points.shape, generator=draws))
        return PointMap(points, 1 + 5 * torch.rand(points.shape[:2], generator=draws))

    frames = torch.stack([enlarged(frame) for frame in small.frames])
    frames = (frames + 12 * torch.randn(frames.shape, generator=draws)).clamp(0, 255).byte()
    k = small.cameras.intrinsics * torch.tensor([7.0, 7.0, 1.0])[:, None]
    everything = tuple(range(24))
    return replace(
        small,
        frames=frames,
        cameras=replace(small.cameras, intrinsics=k, size=(294, 518)),
        maps=replace(small.maps, size=(294, 518), targets=everything, read=read),
        transform=ImageTransform.identity((294, 518)),
    )


@pytest.mark.slow
def test_a_clip_of_24_frames_is_small_and_quick(open_page: Open, tmp_path: Path) -> None:
    made = write_page(large_clip(), tmp_path / "large.html")
    assert made.still + made.moving > 130_000
    assert made.megabytes < 6
    page = open_page(tmp_path / "large.html", size=(1280, 800))
    assert page.ask("vdpm.readyMs") < 3000
    assert page.said == []

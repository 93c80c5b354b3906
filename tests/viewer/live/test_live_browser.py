"""The live viewer in a headless browser, driven as somebody would."""

import io
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fixtures.moving_sphere import MovingSphere
from vdpm.viewer.live.look import Look

SIZE = (96, 128)
LARGEST = """(() => {
  const boxes = [...document.querySelectorAll('canvas')].map((c) => c.getBoundingClientRect());
  const box = boxes.sort((a, b) => b.width * b.height - a.width * a.height)[0];
  return [box.x, box.y, box.width, box.height];
})()"""
UNCOVERED = """(() => {
  const canvas = [...document.querySelectorAll('canvas')].sort((a, b) => b.clientWidth - a.clientWidth)[0];
  if (!canvas) return [0, 0];
  const box = canvas.getBoundingClientRect(), middle = [box.x + box.width / 2, box.y + box.height / 2];
  const free = (x, y) => document.elementFromPoint(x, y)?.tagName === 'CANVAS';
  let left = middle[0], right = left, top = middle[1], bottom = top;
  while (left > box.left && free(left - 1, middle[1])) left--;
  while (right < box.right && free(right, middle[1])) right++;
  while (top > box.top && free(middle[0], top - 1)) top--;
  while (bottom < box.bottom && free(middle[0], bottom)) bottom++;
  return [right - left, bottom - top];
})()"""
WINDOW = {"width": 1040, "height": 420}


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.05)


class Tab:
    """A browser's tab that shows a viewer."""

    def __init__(self, browser: Any, viewer: Any) -> None:
        self.viewer = viewer
        self.tab = browser.new_page(viewport=WINDOW)
        self.said: list[str] = []
        self.requests: list[str] = []
        self.tab.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.tab.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(viewer.url)
        self.tab.frame_locator("iframe").locator("#caption span").first.wait_for()
        wait_until(lambda: self.session.sides[0].reading.cloud.loaded() is not None)
        # viser warns of drawing without a graphics card, over the picture.
        notice = self.tab.locator(".mantine-Notification-closeButton")
        notice.first.wait_for(timeout=20_000)
        notice.first.click()
        self.settle()

    @property
    def session(self) -> Any:
        """Of the browser that came last: on a busy machine it may lose the connection, and begins anew."""
        wait_until(lambda: bool(self.viewer.sessions))
        return list(self.viewer.sessions.values())[-1]

    @property
    def panel(self) -> Any:
        return self.tab.frame_locator("iframe")

    def box(self) -> tuple[float, float, float, float]:
        x, y, width, height = self.tab.evaluate(LARGEST)
        return x, y, width, height

    def picture(self) -> np.ndarray:
        x, y, width, height = self.box()
        png = self.tab.screenshot(clip={"x": x, "y": y, "width": width, "height": height})
        with Image.open(io.BytesIO(png)) as image:
            return np.asarray(image.convert("RGB")).astype(float)

    def settle(self, seconds: float = 20.0) -> np.ndarray:
        """The picture when it has stopped changing."""
        end, last = time.monotonic() + seconds, self.picture()
        while time.monotonic() < end:
            time.sleep(0.25)
            now = self.picture()
            if now.shape == last.shape and np.abs(now - last).mean() < 0.05:
                break
            last = now
        return last

    def place(self, pixel: tuple[float, float]) -> tuple[float, float]:
        """Where the window shows a pixel of the frame whose camera one stands in."""
        x, y, width, height = self.box()
        zoom = min(width / SIZE[1], height / SIZE[0])
        return x + width / 2 + (pixel[0] - SIZE[1] / 2) * zoom, y + height / 2 + (pixel[1] - SIZE[0] / 2) * zoom


@pytest.fixture(scope="module")
def opened(browser: Any, viewer: Any) -> Iterator[Tab]:
    tab = Tab(browser, viewer)
    yield tab
    tab.tab.close()


@pytest.fixture
def tab(opened: Tab, viewer: Any) -> Tab:
    """The tab as it was when it was opened."""
    session = opened.session
    session.change(playing=False, points_of="all frames", trails=False, arrows=False, speed=1.0, loop=True)
    session.change(color="video", motion="all", hide=0.0)
    session.go_to(0)
    session.ask(session.drop)
    opened.said.clear()
    camera = session.sides[0].reading.cameras[0]

    def home() -> bool:
        """Whether the browser has said that it looks through the reference camera."""
        clients = list(viewer.server.get_clients().values())
        if not clients:
            return False
        seen = clients[-1].camera
        fits = abs(seen.fov - camera.vertical_view(seen.aspect)) < 1e-2
        return bool(fits and np.linalg.norm(seen.position) < 1e-2 and abs(seen.wxyz @ camera.wxyz) > 0.9999)

    # On a busy machine the browser may lose the connection, and begins anew.
    for last in (False, False, True):
        opened.session.reset()
        try:
            wait_until(home, 10.0)
            break
        except AssertionError:
            if last:
                raise
    wait_until(lambda: opened.session.frame == 0)
    return opened


def frame_in(tab: Tab, picture: np.ndarray) -> np.ndarray:
    """What a picture of the scene shows at each pixel of the frame one stands in."""
    height, width = picture.shape[:2]
    zoom = min(width / SIZE[1], height / SIZE[0])
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    rows = ((y - SIZE[0] / 2) * zoom + height / 2).astype(int)
    columns = ((x - SIZE[1] / 2) * zoom + width / 2).astype(int)
    return picture[rows, columns]


def likeness(shown: np.ndarray, frame: np.ndarray) -> float:
    """Share of the pixels that are alike."""
    return float((np.abs(shown - frame).mean(axis=-1) < 40).mean())


def test_the_first_view_is_the_videos(tab: Tab, scene: MovingSphere) -> None:
    shown, frame = frame_in(tab, tab.settle()), scene.reconstruction.frames[0].numpy().astype(float)
    assert likeness(shown, frame) > 0.8
    assert likeness(shown[:, ::-1], frame) < 0.7, "not mirrored"
    tab.tab.keyboard.press("End")
    wait_until(lambda: tab.session.frame == 4)
    tab.tab.keyboard.press("c")
    wait_until(lambda: tab.session.viewpoint.standing == 4)
    assert likeness(frame_in(tab, tab.settle()), scene.reconstruction.frames[4].numpy().astype(float)) > 0.8


def test_nothing_outside_is_asked_for_and_nothing_complained_of(tab: Tab, viewer: Any) -> None:
    for key in ("t", "g", "m", "o", "f", "f", "f", "k", "k", "v", "v", "v", "[", "]", "x", "End", "r", "Escape"):
        tab.tab.keyboard.press(key)
    tab.settle()
    foreign = [url for url in tab.requests if not url.startswith((viewer.url, "data:", "blob:"))]
    assert foreign == []
    assert [line for line in tab.said if line.startswith("error")] == []
    assert viewer.failure is None
    assert tab.tab.evaluate("fetch('https://example.org').then(() => 'went out', () => 'refused')") == "refused"


def test_it_plays_with_the_frame_in_step(tab: Tab) -> None:
    session, caption = tab.session, tab.panel.locator("#caption span").first
    tab.tab.keyboard.press("-")
    wait_until(lambda: session.settings.speed == 0.5)
    tab.tab.keyboard.press("Space")
    wait_until(lambda: session.settings.playing)
    seen = set()
    wait_until(lambda: len(seen.add(session.frame) or seen) == 5)
    tab.tab.keyboard.press("Space")
    wait_until(lambda: not session.settings.playing)
    tab.tab.keyboard.press("End")
    wait_until(lambda: caption.inner_text() == "frame 4 of 5")
    last = tab.settle()
    tab.tab.keyboard.press("ArrowLeft")
    wait_until(lambda: caption.inner_text() == "frame 3 of 5")
    assert session.frame == 3
    assert np.abs(tab.settle() - last).mean() > 1.0, "the sphere is elsewhere"
    assert tab.panel.locator("#caption span").last.inner_text() == "1.50 s"
    tab.tab.keyboard.press("Home")
    wait_until(lambda: session.frame == 0)
    tab.tab.keyboard.press("l")
    wait_until(lambda: not session.settings.loop)
    tab.tab.get_by_text("»", exact=True).click()
    wait_until(lambda: session.frame == 4)


def test_a_click_in_the_picture_follows_the_pixel(tab: Tab, scene: MovingSphere) -> None:
    canvas, session = tab.panel.locator("#canvas"), tab.session
    y, x = (float(value) for value in scene.moving[0].nonzero().double().mean(dim=0))
    box = canvas.bounding_box()
    zoom = box["width"] / SIZE[1]
    canvas.hover(position={"x": (x + 0.5) * zoom, "y": (y + 0.5) * zoom})
    point = scene.reconstruction.maps.time_variant(0).points[int(y), int(x)].numpy()
    nodes = session.client.scene
    wait_until(lambda: (found := nodes.get_handle_by_name("/pointer")) and np.any(found.position))
    assert np.abs(np.array(nodes.get_handle_by_name("/pointer").position) - point).max() < 0.1
    canvas.click(position={"x": (x + 0.5) * zoom, "y": (y + 0.5) * zoom})
    wait_until(lambda: session.marks.pick is not None)
    pick = session.marks.pick
    assert pick.source == 0
    assert np.abs(np.array(pick.xy) - [x + 0.5, y + 0.5]).max() < 1.5
    way = pick.positions[-1] - pick.positions[0]
    moved = (scene.centers[-1] - scene.centers[0]).numpy()
    assert np.linalg.norm(way - moved) < 0.4
    tab.panel.get_by_text(f"Pixel ({pick.xy[0]:.1f}").wait_for()
    tab.tab.keyboard.press("Escape")
    wait_until(lambda: session.marks.pick is None)


def test_a_click_on_a_point_finds_its_pixel(tab: Tab, scene: MovingSphere) -> None:
    session = tab.session
    for pixel in ((64.5, 20.5), (30.5, 70.5)):
        tab.tab.keyboard.press("Escape")
        wait_until(lambda: session.marks.pick is None)
        tab.tab.mouse.click(*tab.place(pixel))
        wait_until(lambda: session.marks.pick is not None)
        pick = session.marks.pick
        # Any frame's pixel may lie there; seen from frame 0 it is where the click was.
        assert np.linalg.norm(pick.pixels[pick.track.targets.index(0)] - pixel) < 4
        dot = session.marks.in_frame(0)[0]
        assert dot is not None
        assert np.linalg.norm(np.array(dot[:2]) - pixel) < 4


def test_the_pointer_over_a_point_marks_its_pixel(tab: Tab) -> None:
    for pixel in ((64.5, 20.5), (30.5, 70.5)):
        tab.tab.mouse.move(*tab.place(pixel))

        def marked(pixel: tuple[float, float] = pixel) -> bool:
            spot = tab.session.marks.pointed
            return spot is not None and bool(np.abs(np.array(spot[:2]) - pixel).max() < 3)

        wait_until(marked)
    tab.panel.locator("#views").hover()
    wait_until(lambda: tab.session.marks.pointed is None)


def test_filters_take_points_away(tab: Tab) -> None:
    def seen() -> tuple[float, float]:
        """Shares of the picture that show the sphere, which is green, and the wall, which is not."""
        picture = tab.settle()
        green = (picture[..., 1] > 140) & (picture[..., 2] < 130)
        return float(green.mean()), float((~green & (picture.sum(axis=-1) > 90)).mean())

    wait_until(lambda: min(seen()) > 0.02)
    # The control itself; the keys that follow work although the list has had the focus.
    tab.tab.get_by_role("textbox", name="Which").or_(tab.tab.get_by_label("Which")).first.click()
    tab.tab.get_by_role("option", name="moving").click()
    wait_until(lambda: tab.session.settings.look.motion == "moving")
    wait_until(lambda: (found := seen())[0] > 0.02 and found[1] < 0.5 * found[0])
    tab.tab.keyboard.press("m")
    wait_until(lambda: tab.session.settings.look == Look(motion="still", hide=0.0))
    wait_until(lambda: (found := seen())[0] < 0.005 and found[1] > 0.1)


def test_turning_leaves_the_camera_and_a_click_on_a_picture_stands_in_it(tab: Tab, viewer: Any) -> None:
    session = tab.session
    assert session.viewpoint.standing == 0
    x, y, width, height = tab.box()
    tab.tab.mouse.move(x + width / 2, y + height / 2)
    tab.tab.mouse.down()
    tab.tab.mouse.move(x + width / 2 + 60, y + height / 2 + 40, steps=6)
    tab.tab.mouse.up()
    wait_until(lambda: session.viewpoint.standing is None)
    # Straight in front of a camera's picture.
    reading = session.sides[0].reading
    place = reading.cameras[0].picture(0.1 * reading.reach)
    client = next(iter(viewer.server.get_clients().values()))
    back = reading.cameras[0].c2w[:3, 2]
    with client.atomic():
        client.camera.position = place.middle - 0.5 * reading.reach * back
        client.camera.look_at = place.middle
    tab.settle()
    tab.tab.mouse.click(x + width / 2, y + height / 2)
    wait_until(lambda: session.viewpoint.standing is not None)
    assert session.frame == session.viewpoint.standing
    time.sleep(0.5)
    assert session.marks.pick is None, "the click is not one on the points as well"


def test_two_results_stand_side_by_side(browser: Any, viser: Any, scene: MovingSphere) -> None:
    from vdpm.viewer.live.viewer import Viewer

    with Viewer(scene.reconstruction, other=scene.reconstruction, port=18190) as opened:
        tab = Tab(browser, opened)
        session = tab.session
        both = tab.settle()
        left, right = (half.sum(axis=-1) > 90 for half in np.array_split(both, 2, axis=1))
        assert left.mean() > 0.1
        assert right.mean() > 0.1
        assert abs(left.mean() - right.mean()) < 0.5 * max(left.mean(), right.mean())
        tab.tab.keyboard.press("x")
        wait_until(lambda: session.settings.layout == "first")
        one = tab.settle()
        assert np.abs(one - both).mean() > 2
        tab.tab.keyboard.press("x")
        wait_until(lambda: session.settings.layout == "second")
        # The same result twice: what is seen is the same.
        assert np.abs(tab.settle() - one).mean() < 2
        session.change(color="difference")
        dark = tab.settle()
        assert dark.mean() < 0.5 * one.mean(), "no difference is dark"
        tab.tab.close()


def test_a_page_loaded_again_goes_on_and_looks_from_where_it_did(browser: Any, viser: Any, scene: MovingSphere) -> None:
    from vdpm.viewer.live.viewer import Viewer

    with Viewer(scene.reconstruction, port=18190) as opened:
        tab = Tab(browser, opened)
        tab.tab.keyboard.press("End")
        tab.tab.keyboard.press("o")
        x, y, width, height = tab.box()
        tab.tab.mouse.move(x + width / 2, y + height / 2)
        tab.tab.mouse.down()
        tab.tab.mouse.move(x + width / 2 + 60, y + height / 2 + 40, steps=6)
        tab.tab.mouse.up()
        wait_until(lambda: tab.session.viewpoint.standing is None)
        wait_until(lambda: (tab.session.frame, tab.session.settings.look.color) == (4, "depth"))
        before, seen = tab.session, tab.settle()
        tab.tab.reload()
        wait_until(lambda: (found := list(opened.sessions.values())) != [] and found[-1] is not before)
        after = list(opened.sessions.values())[-1]
        wait_until(lambda: (after.frame, after.settings.look.color, after.viewpoint.standing) == (4, "depth", None))
        wait_until(lambda: float(np.linalg.norm(after.client.camera.position - before.client.camera.position)) < 1e-3)
        notice = tab.tab.locator(".mantine-Notification-closeButton")
        notice.first.wait_for(timeout=20_000)
        notice.first.click()
        wait_until(lambda: (now := tab.settle()).shape == seen.shape and np.abs(now - seen).mean() < 2)
        tab.tab.close()


@pytest.mark.parametrize(
    ("window", "free"), [((390, 844), (390, 460)), ((844, 390), (440, 390)), ((900, 700), (540, 700))]
)
def test_in_a_narrow_window_most_is_left_to_the_points(
    browser: Any, viser: Any, scene: MovingSphere, window: tuple[int, int], free: tuple[int, int]
) -> None:
    from vdpm.viewer.live.viewer import Viewer

    with Viewer(scene.reconstruction, port=18190) as opened:
        page = browser.new_page(viewport={"width": window[0], "height": window[1]})
        page.goto(opened.url)
        notice = page.locator(".mantine-Notification-closeButton")
        notice.first.wait_for(timeout=20_000)
        notice.first.click()

        def uncovered() -> bool:
            """Whether there is a part of the window so large that shows points and nothing else."""
            width, height = page.evaluate(UNCOVERED)
            return width >= free[0] and height >= free[1]

        wait_until(uncovered)
        time.sleep(1.0)
        assert uncovered(), "it stays so"
        page.get_by_text("»", exact=True).click()
        wait_until(lambda: list(opened.sessions.values())[-1].frame == 4)
        page.close()

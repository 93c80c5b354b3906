"""The app in a headless browser: a dropped video, its progress, the result; errors as one line; phones and keys."""

import base64
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.clips import write_clip
from fixtures.running_app import KEY, RunningApp, wait_until
from vdpm.app.jobs import WORKER
from vdpm.app.limits import Limits, Network

DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (sign) => sign.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name));
  for (const type of ['dragenter', 'dragover', 'drop'])
    document.getElementById('drop').dispatchEvent(new DragEvent(type, {dataTransfer, bubbles: true, cancelable: true}));
}"""


class Tab:
    """A tab with the app in it, and what it said and asked for outside of it."""

    def __init__(self, browser: Any, app: RunningApp, size: tuple[int, int], key: str = KEY) -> None:
        self.app = app
        self.context = browser.new_context(viewport={"width": size[0], "height": size[1]})
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.foreign: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self._note(request.url))
        self.page.goto(f"{app.origin}/#key={key}")

    def _note(self, url: str) -> None:
        if not url.startswith((self.app.origin + "/", "data:")):
            self.foreign.append(url)

    def drop(self, name: str, content: bytes) -> None:
        self.page.evaluate(DROP, [name, base64.b64encode(content).decode()])

    def until(self, condition: str, seconds: float = 60.0) -> None:
        """Playwright's own waiting uses eval, which the page's policy refuses."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(condition):
            assert time.monotonic() < end, (condition, self.page.inner_text("body"))
            time.sleep(0.02)

    def error(self) -> str:
        self.until("!document.querySelector('#error').hidden")
        return self.page.inner_text("#error")


@pytest.fixture
def open_tab(browser: Any) -> Iterator[Callable[..., Tab]]:
    """``open_tab(app, size=(1200, 800), key=KEY)``, once the app has answered."""
    opened: list[Tab] = []

    def call(app: RunningApp, size: tuple[int, int] = (1200, 800), key: str = KEY) -> Tab:
        opened.append(Tab(browser, app, size, key))
        opened[-1].until("!!document.querySelector('#takes').textContent || !document.querySelector('#error').hidden")
        return opened[-1]

    yield call
    for tab in opened:
        tab.context.close()


@pytest.fixture
def real(start: Callable[..., RunningApp], tiny_folder: Path) -> RunningApp:
    """An app whose worker is the real one, with a tiny network."""
    return start(Limits(upload_bytes=1_000_000), command=WORKER, network=Network(str(tiny_folder), "cpu", 64))


Open = Callable[..., Tab]


def test_a_dropped_video_and_the_result(open_tab: Open, real: RunningApp, tmp_path: Path) -> None:
    tab = open_tab(real)
    assert "up to 1 MB and 2\xa0min" in tab.page.inner_text("#takes")
    tab.drop("my clip.mp4", write_clip(tmp_path / "clip.mp4", num_frames=5).read_bytes())
    tab.until("!!document.querySelector('li .track:not([hidden])')")
    tab.until("!document.querySelector('#result').hidden")
    assert tab.page.inner_text("h3") == "my clip.mp4"
    end = time.monotonic() + 60
    while not (frames := [frame for frame in tab.page.frames if frame.url.endswith("/scene.html")]):
        assert time.monotonic() < end
        tab.page.wait_for_timeout(50)
    frame = frames[0]
    while not frame.evaluate("!!window.vdpm || !!document.querySelector('#message.failed')"):
        assert time.monotonic() < end
        time.sleep(0.05)
    assert frame.evaluate("vdpm.count()") > 100
    assert frame.evaluate("document.querySelector('#name').textContent") == "my clip.mp4"
    assert frame.evaluate("window.origin") == "null", "the result's page cannot speak for the app"
    tab.until("document.querySelectorAll('#downloads a').length === 5")
    with tab.page.expect_download() as download:
        tab.page.get_by_text("GLB").click()
    assert download.value.suggested_filename == "my_clip.glb"
    assert Path(download.value.path()).read_bytes()[:4] == b"glTF"
    assert re.match("my clip.mp4 · 5 frames of 64 × 48 pixels · tiny", tab.page.inner_text("#facts"))

    tab.page.reload()
    tab.until("!document.querySelector('#result').hidden")
    assert "key" not in tab.page.url
    tab.page.get_by_text("Delete").click()
    tab.until("document.querySelector('#result').hidden && !document.querySelector('#jobs').childElementCount")
    assert real.files() == []
    assert tab.foreign == []
    assert tab.said == []


def test_the_bar_follows_the_work(open_tab: Open, app: RunningApp) -> None:
    tab = open_tab(app)
    tab.drop("clip.mp4", b"steps")
    tab.until("document.querySelector('#jobs').innerText.includes('opening the video')")
    (folder,) = (path.parent for path in app.base.rglob("video"))
    for step in range(5):
        (folder / f"step{step}").touch()
        tab.until(f"document.querySelector('#jobs').innerText.includes('decoding times · {step} of 4')")
        share = tab.page.evaluate("document.querySelector('li .track:not([hidden])').getAttribute('aria-valuenow')")
        assert abs(int(share) - (30 + 55 * step / 4)) <= 0.5
        width = tab.page.evaluate("document.querySelector('li .bar').style.width")
        assert width == f"{share}%"
    (folder / "step5").touch()
    tab.until("!document.querySelector('#result').hidden")
    tab.until("document.querySelector('li .track').hidden")


def test_errors_are_one_clear_line(open_tab: Open, real: RunningApp) -> None:
    tab = open_tab(real)
    tab.drop("large.mp4", b"x" * 1_000_001)
    assert tab.error() == "large.mp4: 1 MB, and this app takes 1 MB at most"
    tab.drop("<img src=x onerror=alert(1)>.txt", b"no video at all")
    tab.until("!!document.querySelector('li.failed')")
    line = tab.page.inner_text("li.failed .line")
    assert line.startswith("<img src=x onerror=alert(1)>.txt: not a video that can be read")
    assert "\n" not in line
    assert tab.page.inner_text("#said") == line, "the name is said once"
    assert tab.page.locator("#error").is_hidden(), "the line of before is gone"
    assert tab.page.locator("img[onerror]").count() == 0


def test_a_full_queue(open_tab: Open, start: Callable[..., RunningApp]) -> None:
    app = start(Limits(waiting=1))
    tab = open_tab(app)

    def jobs() -> list[dict[str, Any]]:
        return app.ask("GET", "/api/state").data["jobs"]

    for number, word in enumerate(("sleep", "fine"), start=1):
        tab.drop(f"{word}.mp4", word.encode())
        tab.until(f"document.querySelector('#jobs').innerText.includes('{word}.mp4')")
        # The page shows it while it is on its way.
        wait_until(lambda number=number: len(jobs()) == number)
        app.wait(jobs()[-1]["id"], "running", "waiting")
    tab.drop("more.mp4", b"fine" * 100_000)
    assert tab.error() == "1 videos wait already; try again when one is done"
    tab.page.get_by_role("button", name="Cancel: sleep.mp4").click()
    tab.until("document.querySelector('#jobs').innerText.includes('cancelled')")
    tab.until("!document.querySelector('#result').hidden")


def test_without_the_key_and_without_the_app(open_tab: Open, start: Callable[..., RunningApp]) -> None:
    app = start()
    assert "open the address that vdpm app printed" in open_tab(app, key="of another run").error()
    tab = open_tab(app)
    app.close()
    app.close = lambda: None  # type: ignore[method-assign]
    assert tab.error() == "vdpm app does not answer; start it again"


def test_a_phone(open_tab: Open, app: RunningApp) -> None:
    app.wait(app.upload("fine", "a_name_that_is_much_longer_than_a_phone_is_wide_" * 2), "done")
    app.wait(app.upload("fail", "another_long_name_without_any_place_to_break_" * 2), "failed")
    tab = open_tab(app, size=(390, 844))
    tab.until("!document.querySelector('#result').hidden")
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 390
    assert tab.page.evaluate("scrollY") == 0, "it does not run away by itself"
    for element in tab.page.query_selector_all("button:visible, a:visible, summary, #drop"):
        box = element.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
        assert box["height"] >= 36
    tab.page.get_by_role("button", name="Look").click()
    assert tab.page.evaluate("document.querySelector('#result').getBoundingClientRect().top") < 300


def test_the_keyboard_reaches_everything(open_tab: Open, app: RunningApp) -> None:
    app.wait(app.upload("fine"), "done")
    tab = open_tab(app)
    tab.until("document.querySelectorAll('#downloads a').length === 5")
    reached: list[str] = []
    end = time.monotonic() + 30
    while "↓ Result folder" not in reached and time.monotonic() < end:
        tab.page.keyboard.press("Tab")
        time.sleep(0.1)  # into the result's frame and out of it the focus goes from process to process
        reached.append(tab.page.evaluate("document.activeElement.id || document.activeElement.innerText.slice(0, 40)"))
    for element in ("file", "Options", "Delete", "Open in a tab", "↓ Page", "↓ GLB", "↓ PLY", "↓ Result folder"):
        assert element in reached, reached
    assert tab.page.locator(":focus-visible").count() == 1


def test_options_go_with_the_video(open_tab: Open, app: RunningApp) -> None:
    tab = open_tab(app)
    tab.page.click("summary")
    tab.page.get_by_role("slider", name="Frames taken").fill("7")
    tab.page.fill("#start", "1.5")
    tab.page.fill("#end", "4")
    assert tab.page.inner_text("#frames-text") == "7"
    tab.drop("a.mp4", b"fine")
    tab.until("!document.querySelector('#result').hidden")
    assert app.ask("GET", "/api/state").data["jobs"][0]["choice"] == {"frames": 7, "start": 1.5, "end": 4.0}

"""The pictures of docs/viewer.md, page.webp and view.webp, from the result of the bundled clip.

    vdpm demo -o demo_out
    python benchmarks/viewer_pictures.py demo_out             # into docs/images
    python benchmarks/viewer_pictures.py demo_out -o /tmp     # somewhere else

Needs the tools of development (pip install -e '.[dev]') and Chromium; without a graphics card it takes a minute. A
picture of more than 200 KiB is refused.
"""

import argparse
import io
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vdpm.archive import load
from vdpm.viewer.live.viewer import Viewer
from vdpm.viewer.page import write_page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
WINDOW = {"width": 1280, "height": 800}
MOST = 200 * 1024
SHARE = 0.82
"""Of the clip that is over when the pictures are taken."""


def save(png: bytes, path: Path) -> None:
    """As WebP, as good as fits."""
    with Image.open(io.BytesIO(png)) as image:
        for quality in (90, 80, 70, 60):
            image.convert("RGB").save(path, "WEBP", quality=quality, method=6)
            if path.stat().st_size <= MOST:
                print(f"{path}: {path.stat().st_size / 1024:.0f} KiB, quality {quality}")
                return
    raise SystemExit(f"{path}: larger than {MOST} bytes")


def picture_of_page(browser: Any, result: Any, folder: Path) -> None:
    """The page as it opens, near the end of the clip, with trails."""
    path = folder / "viewer_pictures_page.html"
    write_page(result, path)
    tab = browser.new_page(viewport=WINDOW)
    tab.goto(path.resolve().as_uri())
    while not tab.evaluate("!!window.vdpm"):
        time.sleep(0.1)
    first, last = float(result.timestamps[0]), float(result.timestamps[-1])
    tab.evaluate(f"vdpm.seek({first + SHARE * (last - first)})")
    tab.keyboard.press("t")
    time.sleep(1.0)
    save(tab.screenshot(), folder / "page.webp")
    tab.close()
    path.unlink()


def picture_of_viewer(browser: Any, result: Any, folder: Path) -> None:
    """The live viewer from behind and above the cameras, with trails and a pixel that is followed."""
    with Viewer(result, port=18800) as viewer:
        reading = viewer.readings[0]
        tab = browser.new_page(viewport=WINDOW)
        tab.goto(viewer.url)
        tab.locator(".mantine-Notification-closeButton").first.click(timeout=60_000)
        while (loaded := reading.cloud.loaded()) is None or not loaded.complete:
            viewer.wait(0.1)
        (session,) = viewer.sessions.values()
        row = round(SHARE * (len(reading.times) - 1))
        session.go_to(row)
        session.change(trails=True)
        moving = loaded.moving_at(reading.times[row])
        fast = int(np.argsort(moving.speed * (moving.points.source == reading.times[row]))[-len(moving.speed) // 50])
        width = result.size[1]
        pixel = int(moving.points.pixel[fast])
        session.ask(
            lambda: session.marks.follow(0, int(moving.points.source[fast]), (pixel % width, pixel // width), row)
        )
        viewer.wait(1.0)
        client = next(iter(viewer.server.get_clients().values()))
        home = reading.cameras[result.reference].c2w
        right, down, forward = home[:3, 0], home[:3, 1], home[:3, 2]
        center = home[:3, 3] + reading.reach * (0.22 * right - 0.4 * down - 0.42 * forward)
        with client.atomic():
            client.camera.up_direction = -down
            client.camera.position = center
            client.camera.look_at = reading.pivot + reading.reach * (0.06 * right + 0.02 * down - 0.1 * forward)
            client.camera.fov = 0.9
        viewer.wait(6.0)
        save(tab.screenshot(), folder / "view.webp")
        tab.close()


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("result", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).resolve().parents[1] / "docs" / "images")
    arguments = parser.parse_args()
    result = load(arguments.result)
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=[*FLAGS])
        picture_of_page(browser, result, arguments.output)
        picture_of_viewer(browser, result, arguments.output)
        browser.close()


if __name__ == "__main__":
    main()

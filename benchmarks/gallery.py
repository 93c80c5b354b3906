"""The pictures of docs/gallery.md and docs/app.md, from the bundled clip, or such pictures of videos of yours.

    python benchmarks/gallery.py                                  # docs/images/gallery, again, with the shipped weights
    python benchmarks/gallery.py my.mp4 other.mov -o my_gallery   # of other videos, somewhere else

Of each video: an overview, frames beside depth and motion, tracks, a film from both sides, and, where Chromium and
Playwright are installed, its page; of the app, which a browser must show too, a wide and a narrow window. Beside them
lies made_by.json: the network, its hash, and the size of each picture. With more than --kib altogether it fails.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import torch
from PIL import Image, ImageDraw

import vdpm
from vdpm.cli.demo import BUNDLED
from vdpm.export.preview import draw_preview, evenly
from vdpm.viewer.choice import content_box
from vdpm.viewer.map_pictures import MapPictures
from vdpm.viewer.render import FilmOptions, render

OVERVIEW_WIDTH = 1100
CELL = 300
TRACKS_WIDTH = 480
MOVING_TRACKS, STILL_TRACKS = 36, 14
TAIL = 5
"""Frames that a track's line reaches back."""
FILM = FilmOptions(camera="swing", size=520, seconds=4.0, fps=10.0)
SLOWEST, FASTEST = 400, 110
"""Milliseconds that a frame of a film is shown."""
SOFTWARE = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


def main() -> None:
    """Make the pictures, and say how large they are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="*", help="videos or result folders; without any: the bundled clip")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images/gallery"))
    parser.add_argument("--model", default="vdpm-small")
    parser.add_argument("--max-frames", type=int, default=16)
    parser.add_argument("--kib", type=int, default=1536, help="limit of all pictures together")
    parser.add_argument("--no-browser", action="store_true", help="leave out what only a browser can draw")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)

    made: dict[str, Any] = {}
    clips = arguments.videos or [BUNDLED / "clip.mp4"]
    with browser(arguments.no_browser) as opened:
        for video in clips:
            name = "demo" if not arguments.videos else video.stem
            result = open_result(video, arguments.model, arguments.max_frames)
            made[name] = {key: result.provenance.get(key) for key in ("model", "fingerprint")}
            draw_all(result, arguments.output, name)
            if opened is not None:
                draw_page(opened, result, arguments.output / f"{name}_page.webp")
        if opened is not None and clips[0].is_file():
            draw_app(opened, clips[0], arguments)
    sizes = {path.name: path.stat().st_size for path in sorted(arguments.output.glob("*.webp"))}
    (arguments.output / "made_by.json").write_text(json.dumps({"clips": made, "bytes": sizes}, indent=1) + "\n")
    for file, size in sizes.items():
        print(f"{size / 1024:7.1f} KiB  {file}")
    total = sum(sizes.values()) / 1024
    print(f"{total:7.1f} KiB  together")
    if total > arguments.kib:
        sys.exit(f"more than {arguments.kib} KiB")


def open_result(video: Path, model: str, max_frames: int) -> vdpm.Reconstruction:
    """From its folder, or from the video by the network."""
    if (video / "reconstruction.json").exists():
        return vdpm.load(video)
    return vdpm.reconstruct(video, model=model, max_frames=max_frames, progress=True)


def draw_all(result: vdpm.Reconstruction, folder: Path, name: str) -> None:
    """The pictures that need no browser."""
    overview = draw_preview(result)
    height = round(overview.height * OVERVIEW_WIDTH / overview.width)
    overview = overview.resize((OVERVIEW_WIDTH, height), Image.Resampling.LANCZOS)
    overview.save(folder / f"{name}_overview.webp", quality=78, method=6)
    each = milliseconds(result)
    save_film(map_pictures(result), folder / f"{name}_maps.webp", each, quality=62)
    if len(result.maps.targets) > 1:
        save_film(track_pictures(result), folder / f"{name}_tracks.webp", each, quality=62)
    with tempfile.TemporaryDirectory() as place:
        film = Path(place) / "film.mp4"
        render(result, film, FILM)
        with av.open(str(film)) as container:
            pictures = [frame.to_image() for frame in container.decode(video=0)]
    save_film(pictures, folder / f"{name}_swing.webp", round(1000 / FILM.fps), quality=42)


def milliseconds(result: vdpm.Reconstruction) -> int:
    """For each frame, near its own time."""
    span = float(result.timestamps[-1] - result.timestamps[0])
    return round(min(max(1000 * span / max(1, len(result) - 1), FASTEST), SLOWEST))


def map_pictures(result: vdpm.Reconstruction) -> list[Image.Image]:
    """Each frame beside its depth and its motion."""
    left, top, right, bottom = content_box(result)
    shows = [MapPictures(result, "depth")]
    if len(result.maps.targets) > 1:
        shows.append(MapPictures(result, "motion"))
    pictures = []
    for frame in evenly(result.maps.sources, 16):
        cells = [result.frames[frame, top:bottom, left:right].numpy(), *(show.draw(frame) for show in shows)]
        height = round(CELL * cells[0].shape[0] / cells[0].shape[1])
        image = Image.new("RGB", (len(cells) * (CELL + 6) - 6, height), "white")
        for column, cell in enumerate(cells):
            scaled = Image.fromarray(cell).resize((CELL, height), Image.Resampling.LANCZOS)
            image.paste(scaled, (column * (CELL + 6), 0))
        pictures.append(image)
    return pictures


def track_pictures(result: vdpm.Reconstruction) -> list[Image.Image]:
    """Pixels of the reference frame followed through the video: moving ones in colours, still ones in white.

    A disc is seen, a ring is hidden by something.
    """
    source, (left, top, right, bottom) = result.reference, content_box(result)
    moving = vdpm.motion_mask(result, source)
    queries = torch.cat([spread(moving, MOVING_TRACKS), spread(~moving & result.content, STILL_TRACKS)])
    count = len(spread(moving, MOVING_TRACKS))
    tracks = vdpm.tracks(result, source, queries)
    zoom = TRACKS_WIDTH / (right - left)
    size = (TRACKS_WIDTH, round((bottom - top) * zoom))
    ways = (tracks.pixels - torch.tensor([float(left), float(top)])) * zoom
    hues = [Image.new("HSV", (1, 1), (int(255 * n / max(1, count)), 190, 255)) for n in range(count)]
    colors = [hue.convert("RGB").getpixel((0, 0)) for hue in hues] + [(255, 255, 255)] * (len(queries) - count)
    pictures = []
    for row, frame in enumerate(tracks.targets):
        image = Image.fromarray(result.frames[frame, top:bottom, left:right].numpy())
        # Darker, so that the tracks stand out; drawn larger and reduced: Pillow's lines are not antialiased.
        image = image.resize((2 * size[0], 2 * size[1]), Image.Resampling.BICUBIC).point(lambda value: value * 0.7)
        draw = ImageDraw.Draw(image)
        for number, color in enumerate(colors):
            way = [(2 * x, 2 * y) for x, y in ways[max(0, row - TAIL) : row + 1, number].tolist()]
            draw.line(way, fill=color, width=3)
            (x, y), seen = way[-1], bool(tracks.visible[row, number])
            draw.ellipse((x - 6, y - 6, x + 6, y + 6), fill=color if seen else None, outline=color, width=2)
        pictures.append(image.resize(size, Image.Resampling.LANCZOS))
    return pictures


def spread(mask: torch.Tensor, count: int) -> torch.Tensor:
    """At most ``count`` pixel centres (x, y) in ``mask``, on a grid as coarse as that allows."""
    step = 2
    while True:
        grid = torch.zeros_like(mask)
        grid[step // 2 :: step, step // 2 :: step] = True
        rows, columns = torch.nonzero(mask & grid, as_tuple=True)
        if len(rows) <= count:
            return torch.stack([columns + 0.5, rows + 0.5], dim=-1)
        step += 1


def save_film(pictures: list[Image.Image], path: Path, each: int, quality: int) -> None:
    """An animated WebP of ``each`` milliseconds a picture; the last one stays a little."""
    durations = [each] * (len(pictures) - 1) + [max(each, 600)]
    options: dict[str, Any] = {"quality": quality, "method": 6, "save_all": True, "loop": 0, "minimize_size": True}
    pictures[0].save(path, append_images=pictures[1:], duration=durations, **options)


@contextmanager
def browser(left_out: bool) -> Iterator[Any]:
    """A headless Chromium; None where it is left out or missing, which is told."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        found = None
    if left_out or found is None:
        print("the page and the app are left out: they need Chromium and playwright", file=sys.stderr)
        yield None
        return
    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=found, args=list(SOFTWARE))
        yield opened
        opened.close()


def draw_page(opened: Any, result: vdpm.Reconstruction, path: Path) -> None:
    """The page of a result in the middle of its time, with trails."""
    with tempfile.TemporaryDirectory() as place:
        page = Path(place) / "scene.html"
        vdpm.write_page(result, page)
        tab = opened.new_page(viewport={"width": 1100, "height": 620})
        tab.goto(page.as_uri())
        wait(lambda: tab.evaluate("!!window.vdpm"))
        middle = float(result.timestamps[0] + result.timestamps[-1]) / 2
        tab.evaluate(f"vdpm.seek({middle})")
        tab.select_option("#trails", "time")
        time.sleep(1)
        save_screen(tab, path, 1100)


def draw_app(opened: Any, video: Path, arguments: argparse.Namespace) -> None:
    """The app with a finished and a running video, in a wide and in a narrow window."""
    command = [sys.executable, "-m", "vdpm", "app", "--port", "0", "--open", "no", "--model", arguments.model]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = next(line for line in process.stdout if "http://" in line).split()[1]
        tab = opened.new_page(viewport={"width": 1180, "height": 700})
        tab.goto(address)
        wait(lambda: tab.inner_text("#takes"))
        for row, reached in enumerate((lambda: tab.locator("#downloads a").count() == 5, lambda: decoding(tab))):
            tab.set_input_files("#file", str(video))
            wait(lambda count=row + 1: tab.locator("#jobs li").count() == count)
            wait(reached)
        time.sleep(3)
        save_screen(tab, arguments.output / "app.webp", 1180)
        tab.set_viewport_size({"width": 390, "height": 844})
        time.sleep(2)
        save_screen(tab, arguments.output / "app_phone.webp", 390)
    finally:
        process.terminate()
        process.wait()


def decoding(tab: Any) -> bool:
    """Whether a video is at that stage, or was so quickly that none is at work any more."""
    return "decoding times" in tab.inner_text("#jobs") or tab.locator(".track:visible").count() == 0


def save_screen(tab: Any, path: Path, width: int) -> None:
    with tempfile.TemporaryDirectory() as place:
        shot = Path(place) / "shot.png"
        tab.screenshot(path=str(shot))
        with Image.open(shot) as image:
            assert image.width == width
            image.convert("RGB").save(path, quality=80, method=6)


def wait(true: Any, seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("the browser did not come to what was waited for")
        time.sleep(0.1)


if __name__ == "__main__":
    main()

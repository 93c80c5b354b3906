"""Fixtures that several rooms share."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.clips import write_clip
from fixtures.tiny_network import tiny_network

REPOSITORY = Path(__file__).resolve().parents[1]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SOFTWARE = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Reference material beside the repository; tests that want it skip where it is absent."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "parity").is_dir():
        pytest.skip("reference material (../shared) is not beside the repository")
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a tiny network."""
    folder = tmp_path_factory.mktemp("weights") / "tiny"
    tiny_network().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five frames over 0.4 seconds."""
    return write_clip(tmp_path_factory.mktemp("clips") / "clip.mp4", num_frames=5)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless browser that draws in software, where one is installed.

    It is closed after each file of tests: its driver keeps an event loop going, beside which no other can run.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install '.[dev]')")
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip("no Chromium is installed, which draws the page in tests")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=found, args=[*SOFTWARE, "--disable-background-networking", "--disable-component-update"]
        )
        yield opened
        opened.close()

"""A result's page in a headless browser."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


class OpenPage:
    """A page in the browser, and what it said and asked for meanwhile."""

    def __init__(self, browser: Any, path: Path, size: tuple[int, int], touch: bool) -> None:
        width, height = size
        self.context = browser.new_context(viewport={"width": width, "height": height}, has_touch=touch)
        self.tab = self.context.new_page()
        self.said: list[str] = []
        self.requests: list[str] = []
        self.tab.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.tab.on("pageerror", lambda error: self.said.append(str(error)))
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.tab.goto(path.as_uri())
        self.wait_until("!!window.vdpm || !!document.querySelector('#message.failed')")

    def wait_until(self, condition: str, seconds: float = 60.0) -> None:
        """Playwright's own waiting uses eval, which the page's policy refuses."""
        end = time.monotonic() + seconds
        while not self.tab.evaluate(condition):
            assert time.monotonic() < end, f"never came: {condition}"
            time.sleep(0.05)

    def ask(self, expression: str) -> Any:
        return self.tab.evaluate(expression)


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """``open_page(path, size=(900, 560), touch=False)``."""
    opened: list[OpenPage] = []

    def call(path: Path, size: tuple[int, int] = (900, 560), touch: bool = False) -> OpenPage:
        opened.append(OpenPage(browser, path, size, touch))
        return opened[-1]

    yield call
    for page in opened:
        page.context.close()

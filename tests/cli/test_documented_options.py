"""Every option that README or docs tell to type exists, but for evaluate and data, which have verbs of their own."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.outcome import Run

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
VERBS = ("reconstruct", "info", "page", "app", "view", "render", "export", "demo", "convert", "train", "scenes")


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    return {}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_that_a_page_tells_exist(run: Run, helps: dict[str, str], page: Path) -> None:
    for verb, options in commands_of(page):
        if verb not in helps:
            done = run(verb, "--help")
            assert done.code == 0, verb
            helps[verb] = done.out
        for option in options:
            known = re.search(rf"(?<![\w-]){option}(?![\w-])", helps[verb])
            assert known, f"{page.name}: vdpm {verb} has no {option}"


def commands_of(page: Path) -> list[tuple[str, list[str]]]:
    """Verbs with their options, of the lines to type and of the commands within a text."""
    text = page.read_text()
    typed = re.findall(r"^ {4}(?:\S*/)?vdpm (.*)$", text, flags=re.MULTILINE) + re.findall(r"`vdpm ([^`]+)`", text)
    found = []
    for line in typed:
        words = line.partition("  #")[0].split()
        if words[0] in VERBS:
            found.append((words[0], [word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)]))
    return found


def test_the_pages_are_read() -> None:
    every: Callable[[str], bool] = {verb for page in PAGES for verb, _ in commands_of(page)}.__contains__
    assert all(map(every, ("reconstruct", "page", "view", "export", "render", "train")))

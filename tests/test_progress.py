"""Progress: a few plain lines where there is no terminal, bars where there is one."""

import io

import pytest

from vdpm import progress
from vdpm.progress import terminal_progress


class Clock:
    """Time that passes when told."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_quick_stages_take_one_line_each(clock: Clock) -> None:
    stream = io.StringIO()
    with terminal_progress(stream) as report:
        for done in range(4):
            report("decoding", done, 3)
            clock.now += 1
        report("drawing", 0, 2)
        report("drawing", 1, 2)
    assert stream.getvalue() == "decoding: 3 of 3 in 3.0 s\n"


def test_slow_stages_say_where_they_are(clock: Clock) -> None:
    stream = io.StringIO()
    with terminal_progress(stream) as report:
        for done in range(4):
            report("decoding", done, 3)
            clock.now += 6
    assert stream.getvalue().splitlines() == ["decoding: 1 of 3", "decoding: 2 of 3", "decoding: 3 of 3 in 18.0 s"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_for_each_stage() -> None:
    stream = Terminal()
    with terminal_progress(stream) as report:
        report("decoding", 1, 2)
        report("drawing", 0, 1)
        report("decoding", 2, 2)
    text = stream.getvalue()
    assert "decoding" in text
    assert "2/2" in text
    assert "drawing" in text

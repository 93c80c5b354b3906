"""How a long task tells how far it is: a callable ``report(stage, done, total)``, and one that draws on a terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Protocol, cast, runtime_checkable

Report = Callable[[str, int, int], None]
"""``report(stage, done, total)``: ``done`` of ``total`` steps of ``stage`` are finished."""


@runtime_checkable
class Stream(Protocol):
    """What is asked of a place to write to; standard error has it, and so have its stand-ins."""

    def write(self, text: str, /) -> int: ...
    def flush(self) -> None: ...
    def isatty(self) -> bool: ...


PLAIN_INTERVAL = 5.0
"""Seconds between lines of one stage where there is no terminal to draw on."""


def silent(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


@contextmanager
def terminal_progress(stream: Stream | None = None) -> Iterator[Report]:
    """Progress on ``stream`` (standard error by default): bars on a terminal, a few plain lines anywhere else."""
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        yield _PlainLines(stream)
        return
    # Here, so that a result read in a notebook or a script does not pay for the import.
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        Remaining(),
    )
    with Progress(*columns, console=Console(file=cast("IO[str]", stream))) as bars:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


class _PlainLines:
    """A line when a stage begins, one when it ends, and one every few seconds between."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.begun: dict[str, float] = {}
        self.last_line = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        first = stage not in self.begun
        self.begun.setdefault(stage, now)
        if done >= total:
            self._line(f"{stage}: {done} of {total} in {now - self.begun.pop(stage):.1f} s")
        elif not first and now - max(self.last_line, self.begun[stage]) >= PLAIN_INTERVAL:
            self._line(f"{stage}: {done} of {total}")

    def _line(self, text: str) -> None:
        self.last_line = time.monotonic()
        print(text, file=self.stream, flush=True)

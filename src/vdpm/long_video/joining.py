"""Windows of a clip in one world, with more of them where those at hand do not do: repairs, and places seen again."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from vdpm.long_video.alignment import Alignment
from vdpm.long_video.observations import Observations
from vdpm.long_video.overlap import find_overlaps
from vdpm.long_video.windows import Window, WindowConfig, loop_window, repair_windows

REPAIRS = 2
"""Times that windows which do not fit with the rest are made good by others."""
TIED = 8
"""Most windows that tie places which geometry says are seen again."""

Made = TypeVar("Made")


@dataclass(frozen=True, eq=False)
class Joined(Generic[Made]):
    """``windows``, those added at the end; what was ``made`` of each; how they lie."""

    windows: list[Window]
    made: list[Made]
    found: Alignment


def join_windows(
    planned: Sequence[Window],
    count: int,
    config: WindowConfig,
    make: Callable[[list[Window], int, str], list[Made]],
    aligned: Callable[[list[Made]], tuple[Observations, Alignment]],
    *,
    timed: Callable[[list[Window]], list[Window]] = list,
    repairs: int = REPAIRS,
) -> Joined[Made]:
    """Makes and aligns the ``planned`` windows of a clip of ``count`` frames, then up to ``repairs`` times more for
    frames that only windows show which do not fit; where ``config`` finds loops by geometry, these are added and all
    is settled anew.

    ``make(windows, first, doing)``: reconstructs windows, numbered from ``first`` on; ``doing``, a word for progress.
    ``timed``: gives repairs their times.
    """
    windows = list(planned)
    made = make(windows, 0, "reconstructing")

    def settled() -> tuple[Observations, Alignment]:
        seen, found = aligned(made)
        for _ in range(repairs):
            mended = timed(repair_windows(windows, found.doubtful_windows(), config, count))
            if not mended:
                break
            made.extend(make(mended, len(windows), "replacing"))
            windows.extend(mended)
            seen, found = aligned(made)
        return seen, found

    seen, found = settled()
    if most := most_tied(planned, config):
        pairs = find_overlaps(seen, found, gap=2 * config.length, most=most)
        ties = dict.fromkeys(loop_window(a, b, count, config) for a, b in pairs)
        if new := [window for window in ties if window not in windows]:
            made.extend(make(new, len(windows), "tying"))
            windows.extend(new)
            _, found = settled()
    return Joined(windows, made, found)


def most_tied(planned: Sequence[Window], config: WindowConfig) -> int:
    """Windows that geometry may add: a fourth of the runs, eight at most."""
    runs = sum(window.kind == "run" for window in planned)
    return min(TIED, runs // 4) if config.finds_loops("geometry") else 0

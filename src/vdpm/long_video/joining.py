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
    """``windows``, those added at the end; what was ``made`` of each and ``seen`` in it; how they lie."""

    windows: list[Window]
    made: list[Made]
    seen: Observations
    found: Alignment


def join_windows(
    planned: Sequence[Window],
    count: int,
    config: WindowConfig,
    make: Callable[[list[Window], int, str], list[Made]],
    aligned: Callable[[list[Made], Alignment | None], tuple[Observations, Alignment]],
    *,
    timed: Callable[[list[Window]], list[Window]] = list,
    repairs: int = REPAIRS,
) -> Joined[Made]:
    """Makes and aligns the ``planned`` windows of a clip of ``count`` frames, then up to ``repairs`` times more for
    frames that only windows show which do not fit. Loops, those planned and, where ``config`` finds them by geometry,
    those that the cameras show, come to what is settled without them.

    ``make(windows, first, doing)``: reconstructs windows, numbered from ``first`` on; ``doing``, a word for progress.
    ``aligned(made, start)``: as ``align``. ``timed``: gives repairs their times.
    """
    windows = [window for window in planned if window.kind != "loop"]
    made = make(windows, 0, "reconstructing")

    def settled(start: Alignment | None = None) -> tuple[Observations, Alignment]:
        seen, found = aligned(made, start)
        for _ in range(repairs):
            mended = timed(repair_windows(windows, found.doubtful_windows(), config, count))
            if not mended:
                break
            made.extend(make(mended, len(windows), "replacing"))
            windows.extend(mended)
            seen, found = aligned(made, start)
        return seen, found

    seen, found = settled()
    loops = [window for window in planned if window.kind == "loop"]
    if most := most_tied(planned, config):
        pairs = find_overlaps(seen, found, gap=2 * config.frames, most=most)
        loops += [loop_window(a, b, count, config) for a, b in pairs]
    if ties := list(dict.fromkeys(loops)):
        # A loop joins what lies far apart by half a window on either side, no more than neighbours share: from a start
        # with wrong ones in it, the path would rather tear between neighbours.
        made.extend(make(ties, len(windows), "tying"))
        windows.extend(ties)
        seen, found = settled(found)
    return Joined(windows, made, seen, found)


def most_tied(planned: Sequence[Window], config: WindowConfig) -> int:
    """Windows that geometry may add: a fourth of the runs, eight at most."""
    runs = sum(window.kind == "run" for window in planned)
    return min(TIED, runs // 4) if config.finds_loops("geometry") else 0

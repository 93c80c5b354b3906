"""Which frames are reconstructed together: overlapping windows, strided windows that tie distant frames, loops."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from vdpm.errors import UsageError

Kind = Literal["run", "strided", "loop"]
Loops = Literal["both", "likeness", "geometry", "none"]

STRIDE = 4
"""Frames between two of a strided window, which so reaches four times as far as one of neighbouring frames."""


@dataclass(frozen=True)
class WindowConfig:
    """How a clip is cut into windows.

    ``length``: frames a window; a clip no longer than that is seen at once. Unless told it is 16, and up to the caller
    what is seen at once: the network was trained on up to 16, the released one on 20, and holds to about 50.
    ``overlap``: frames that neighbours share, 6 of 16 unless told. ``strided``: windows of every fourth frame besides.
    ``loops``: windows of two stretches that look alike ("likeness"), that the cameras found show to be of one place
    ("geometry"), or of both kinds. ``sight``: cameras follow at the end what the pictures themselves show, also
    where the clip is seen at once. Raises UsageError for an overlap that leaves no progress.
    """

    length: int | None = None
    overlap: int | None = None
    strided: bool = True
    loops: Loops = "likeness"
    sight: bool = True

    @property
    def frames(self) -> int:
        """``length``, as told or not."""
        return 16 if self.length is None else self.length

    def __post_init__(self) -> None:
        if self.frames < 2:
            raise UsageError(f"a window of {self.frames} frames is too short; use at least 2")
        if self.overlap is not None and not 1 <= self.overlap < self.frames:
            raise UsageError(f"overlap {self.overlap} must be from 1 to {self.frames - 1}, below the window's length")
        if self.loops not in get_args(Loops):
            raise UsageError(f"loops {self.loops!r} is unknown; use {', '.join(get_args(Loops))}")

    @property
    def shared(self) -> int:
        """Frames that neighbouring windows share."""
        return max(1, round(0.375 * self.frames)) if self.overlap is None else self.overlap

    def finds_loops(self, by: Loops) -> bool:
        """Whether loops are looked for ``by`` likeness or geometry."""
        return self.loops in ("both", by)


@dataclass(frozen=True)
class Window:
    """Frames that the network sees together; the first is the reference view of the window's own world.

    ``targets``: times to which the pixels of ``moved`` are brought. Windows without targets serve the alignment alone.
    """

    frames: tuple[int, ...]
    kind: Kind = "run"
    targets: tuple[int, ...] = ()
    moved: tuple[int, ...] = ()

    def line(self, number: int) -> str:
        """One line for the plan."""
        first, last = self.frames[0], self.frames[-1]
        if self.kind == "run":
            span = f"frames {first}-{last}"
        elif self.kind == "strided":
            span = f"one frame in {self.frames[1] - first} of {first}-{last}"
        else:
            gap = max(range(1, len(self.frames)), key=lambda k: self.frames[k] - self.frames[k - 1])
            span = f"frames {first}-{self.frames[gap - 1]} with {self.frames[gap]}-{last}"
        times = f", points at the times of {_listed(self.targets)}" if self.targets else ""
        return f"{number:4d}  {self.kind:<8} {span}{times}"


def run_windows(first: int, stop: int, config: WindowConfig) -> list[Window]:
    """Windows over frames ``first`` to before ``stop``; the last is moved back so that it has its full length."""
    length, step = min(config.frames, stop - first), config.frames - config.shared
    starts = list(range(first, max(first + 1, stop - length + 1), step))
    if starts[-1] + length < stop:
        starts.append(stop - length)
    return [Window(tuple(range(start, start + length))) for start in starts]


def strided_windows(count: int, config: WindowConfig) -> list[Window]:
    """Windows of every fourth of ``count`` frames, each half over the next, with offsets taking turns so that all
    frames occur. None where the clip is not longer than one of neighbouring frames and a half.
    """
    if count < 1.5 * config.frames:
        return []
    stride = min(STRIDE, max(2, count // config.frames))
    reach = stride * (config.frames - 1) + 1
    if reach > count:
        reach = stride * ((count - 1) // stride) + 1
    last = count - reach
    starts = list(range(0, last + 1, max(1, reach // 2)))
    if last - starts[-1] >= stride:
        starts.append(last)
    # 0, 2, 1, 3: neighbours share no frame's neighbour, and four windows hold every frame between them.
    offsets = sorted(range(stride), key=lambda k: (k % 2, k))
    windows = []
    for number, start in enumerate(starts):
        begin = min(start - start % stride + offsets[number % stride], last)
        windows.append(Window(tuple(range(begin, begin + reach, stride)), "strided"))
    return list(dict.fromkeys(windows))


def loop_window(a: int, b: int, count: int, config: WindowConfig) -> Window:
    """Half a window around frame ``a`` with half a window around frame ``b``, of a clip of ``count``."""
    half = config.frames // 2

    def around(frame: int) -> range:
        begin = min(max(0, frame - half // 2), count - half)
        return range(begin, begin + half)

    return Window(tuple(sorted({*around(a), *around(b)})), "loop")


def repair_windows(
    windows: Sequence[Window], doubtful: Sequence[int], config: WindowConfig, count: int
) -> list[Window]:
    """Runs placed otherwise, for frames of a clip of ``count`` that only ``doubtful`` windows (their numbers) show.

    They reach beyond each stretch of such frames by an overlap on either side, so that they meet believed windows
    there. None that exists already: what was wrong would be wrong again.
    """
    doubted = {*doubtful}
    kept = {frame for number, window in enumerate(windows) if number not in doubted for frame in window.frames}
    lost = {*range(count)} - kept
    begins = sorted(frame for frame in lost if frame - 1 not in lost)
    ends = sorted(frame for frame in lost if frame + 1 not in lost)
    new: list[Window] = []
    for begin, end in zip(begins, ends):
        low, high = max(0, begin - config.shared), min(count, end + 1 + config.shared)
        missing = max(0, min(config.frames, count) - (high - low))
        low = max(0, min(low - missing // 2, count - config.frames))
        high = min(count, max(high, low + config.frames))
        made = run_windows(low, high, config)
        if {*made} & {*windows}:
            shift = -1 if low > 0 else 1
            made = run_windows(max(0, low + shift), min(count, high + shift), config)
        new += made
    return [window for window in dict.fromkeys(new) if window not in windows]


def plan_windows(num_frames: int, config: WindowConfig, *, loops: Sequence[tuple[int, int]] = ()) -> list[Window]:
    """All windows of a clip: runs first, in the order of time, then strided ones, then loops between the pairs of
    frames ``loops``, which seem to show the same place.
    """
    strided = strided_windows(num_frames, config) if config.strided else []
    tied = [loop_window(a, b, num_frames, config) for a, b in loops]
    return [*run_windows(0, num_frames, config), *strided, *dict.fromkeys(tied)]


def with_times(
    windows: Sequence[Window],
    wanted: Literal["auto", "all", "none"] | Sequence[int],
    sources: Sequence[int] | None = None,
) -> list[Window]:
    """The windows with the times that each shows points at.

    "auto": the middle frame of each run, for the pixels nearest to it and those of the frame on either side that the
    next window has too: one time a window. "all": every frame of each run. Numbers: these frames; runs without one of
    them get one time as by "auto", so that points can travel through. ``sources``: frames whose pixels are kept, all
    unless told; others move only where they hand points over.
    """
    runs = [window for window in windows if window.kind == "run"]
    kept = {frame for window in runs for frame in window.frames} if sources is None else {*sources}
    homes, timed = home_windows(runs), []
    for number, window in enumerate(runs):
        frames = window.frames
        if wanted == "none":
            timed.append(window)
        elif targets := frames if wanted == "all" else tuple(sorted({*_numbers(wanted)} & {*frames})):
            moved = {*frames} & kept | _handed_over(runs, number)
            timed.append(Window(frames, "run", targets, tuple(sorted(moved))))
        else:
            timed.append(
                Window(frames, "run", (frames[len(frames) // 2],), _near_the_middle(runs, number, homes, kept))
            )
    return [*timed, *(window for window in windows if window.kind != "run")]


def home_windows(windows: Sequence[Window]) -> dict[int, int]:
    """For each frame the number of the run in which it lies nearest to the middle."""
    homes: dict[int, tuple[float, int]] = {}
    for number, window in enumerate(windows):
        if window.kind == "run":
            middle = (window.frames[0] + window.frames[-1]) / 2
            for frame in window.frames:
                homes[frame] = min(homes.get(frame, (float("inf"), 0)), (abs(frame - middle), number))
    return {frame: number for frame, (_, number) in sorted(homes.items())}


def _near_the_middle(runs: Sequence[Window], number: int, homes: Mapping[int, int], kept: set[int]) -> tuple[int, ...]:
    """Frames of ``kept`` at home in this run, and those that hand points over."""
    near = {frame for frame in runs[number].frames if homes[frame] == number}
    return tuple(sorted(near & kept | _handed_over(runs, number)))


def _handed_over(runs: Sequence[Window], number: int) -> set[int]:
    """For each neighbour of a run the frame in the middle of those that both hold."""
    middles = set()
    for a in (number - 1, number):
        if a >= 0 and a + 1 < len(runs):
            shared = sorted({*runs[a].frames} & {*runs[a + 1].frames})
            if shared:
                middles.add(shared[len(shared) // 2])
    return middles


def _numbers(wanted: str | Sequence[int]) -> Sequence[int]:
    return () if isinstance(wanted, str) else wanted


def _listed(frames: tuple[int, ...]) -> str:
    if len(frames) > 2 and frames == tuple(range(frames[0], frames[-1] + 1)):
        return f"{frames[0]}-{frames[-1]}"
    return ", ".join(map(str, frames[:4])) + (f" and {len(frames) - 4} more" if len(frames) > 4 else "")

"""What the app takes from those who use it, and what one job asks for."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from vdpm.errors import UsageError

LEAST_FRAMES = 2
LABEL_LENGTH = 100


@dataclass(frozen=True)
class Limits:
    """Bounds that keep memory, disk and time of the app finite.

    ``upload_bytes``: of one video. ``seconds``: of the part of it that is taken. ``frames``: taken at most.
    ``waiting``: videos that wait or are being uploaded, beside the one that runs. ``results``: finished jobs that are
    listed; with one more the oldest goes. ``minutes``: of one job.
    """

    upload_bytes: int = 500_000_000
    seconds: float = 120.0
    frames: int = 24
    waiting: int = 4
    results: int = 10
    minutes: float = 60.0

    def __post_init__(self) -> None:
        least = {"upload_bytes": 1, "frames": LEAST_FRAMES, "waiting": 1, "results": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise UsageError(f"{name.replace('_', ' ')} of the app: {getattr(self, name)} must be at least {value}")
        for name in ("seconds", "minutes"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} of the app: {value:g} must be a number above 0")


@dataclass(frozen=True)
class Network:
    """The network that all jobs use: arguments of ``vdpm reconstruct``."""

    model: str = "vdpm-small"
    device: str = "auto"
    size: int | None = None


@dataclass(frozen=True)
class Choice:
    """What one job takes of its video: at most ``frames``, from ``start`` to ``end`` in seconds (None: its ends)."""

    frames: int
    start: float | None = None
    end: float | None = None

    @classmethod
    def from_query(cls, query: dict[str, str], limits: Limits) -> "Choice":
        """Of a request's query. Raises UsageError, one line for the page, for anything that is no such choice."""
        for name in query:
            if name not in ("frames", "start", "end"):
                raise UsageError(f"{name[:20]!r} is no option of a video")
        frames = query.get("frames", str(limits.frames))
        if not (frames.isascii() and frames.isdecimal() and len(frames) < 7):
            raise UsageError("frames must be a whole number")
        if not LEAST_FRAMES <= int(frames) <= limits.frames:
            raise UsageError(f"{frames} frames: this app takes {LEAST_FRAMES} to {limits.frames}")
        start, end = (_seconds(query.get(name, ""), name) for name in ("start", "end"))
        if end is not None and end <= (start or 0.0):
            raise UsageError("the part must end after it starts")
        return cls(int(frames), start, end)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def _seconds(text: str, name: str) -> float | None:
    if not text:
        return None
    try:
        value = float(text) if len(text) < 20 else math.nan
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and 0 <= value < 1e6):
        raise UsageError(f"{name} must be a number of seconds, 0 or more")
    return value


def label_of(name: str) -> str:
    """A name to show, out of what a browser calls a file: never part of a path, and nothing in it but plain signs."""
    plain = "".join(sign if sign.isprintable() else " " for sign in name.replace("\\", "/").rpartition("/")[2])
    return " ".join(plain.split())[:LABEL_LENGTH] or "video"

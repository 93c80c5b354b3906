"""The moment that is shown, and how it goes on while the clip plays."""

import time

import numpy as np
from jaxtyping import Float

HOLD = 0.5
"""Seconds for which the last time stays before a loop begins again, at least its own share of the clip."""


class Clock:
    """``stamps``: seconds of the video, one a time that can be shown. One thread may use it."""

    def __init__(self, stamps: Float[np.ndarray, "times"]) -> None:
        self.stamps = stamps
        self.seconds = float(stamps[0])
        self._last: float | None = None
        gaps = np.diff(stamps)
        self.end = float(stamps[-1]) + max(HOLD, float(np.median(gaps)) if len(gaps) else 0.0)

    @property
    def row(self) -> int:
        """The last time that is not after the moment."""
        return int(
            np.clip(np.searchsorted(self.stamps, self.seconds + 1e-6, side="right") - 1, 0, len(self.stamps) - 1)
        )

    def go_to(self, row: int) -> None:
        """Show a time; numbers outside go to the ends."""
        self.seconds = float(self.stamps[min(max(row, 0), len(self.stamps) - 1)])
        self._last = None

    def hold(self) -> None:
        """Time stands still until ``advance``."""
        self._last = None

    def advance(self, speed: float, loop: bool, now: float | None = None) -> bool:
        """Go on by the time that has passed since the last call; False where the clip has ended. ``now``: seconds of
        any clock that runs evenly.
        """
        now = time.monotonic() if now is None else now
        passed, self._last = (0.0 if self._last is None else now - self._last), now
        self.seconds += passed * speed
        if self.seconds < self.end:
            return True
        if not loop:
            self.seconds = float(self.stamps[-1])
            return False
        self.seconds = float(self.stamps[0])
        return True

    def wait(self, speed: float) -> float:
        """Seconds until there is something else to show."""
        later = self.stamps[self.stamps > self.seconds + 1e-6]
        until = float(later[0]) if len(later) else self.end
        return max((until - self.seconds) / speed, 0.0)

"""How a run tells what it does: one JSON line an entry in ``log.jsonl``, and one line for people on the terminal."""

import json
import math
import time
from pathlib import Path
from typing import Any

from vdpm.errors import OutputError

LOG_FILE = "log.jsonl"


class Journal:
    """The log of a run that has reached step ``after``; what the file holds beyond that step was lost with it."""

    def __init__(self, path: Path, after: int = 0) -> None:
        self.path, self.after = path, after
        self._began: tuple[float, float] | None = None

    def open(self) -> None:
        """Start the file, or cut it back to ``after``. Raises OutputError where it cannot be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lines = self.path.read_text().splitlines() if self.after and self.path.exists() else []
            self.path.write_text("".join(line + "\n" for line in lines if _step(line) <= self.after))
        except OSError as error:
            raise self._unwritable(error) from None

    def write(self, entry: dict[str, Any], progress: float) -> None:
        """Append ``entry`` (numbers; not finite ones become null) and print it; ``progress``: share of the run done."""
        finite = {k: v if math.isfinite(v) else None for k, v in entry.items()}
        try:
            with self.path.open("a") as log:
                log.write(json.dumps(finite) + "\n")
        except OSError as error:
            raise self._unwritable(error) from None
        print(self._line(entry, progress), flush=True)

    def _line(self, entry: dict[str, Any], progress: float) -> str:
        now = time.monotonic()
        if self._began is None:
            self._began = now, progress
        since, at = self._began
        left = (now - since) / (progress - at) * (1 - progress) if progress > at else math.nan
        parts = [
            f"step {entry['step']}, {entry['clips']} clips",
            f"loss {entry['loss']:.3f}",
            f"error of P {entry['epe_p']:.3f}, Q {entry['epe_q']:.3f}",
            f"moving {entry['epe_moving']:.3f} (without motion {entry['zero_motion']:.3f})",
            f"camera {entry['camera']:.3f}",
            *([f"matched {entry['match_top1']:.0%}"] if "match_top1" in entry else []),
            f"{entry['clips_per_second']:.0f} clips/s",
            *([f"{entry['bad_steps']} bad steps"] if entry["bad_steps"] else []),
            f"{min(progress, 1.0):.0%} done" + ("" if math.isnan(left) else f", {_duration(max(left, 0.0))} left"),
        ]
        return " | ".join(parts)

    def _unwritable(self, error: OSError) -> OutputError:
        return OutputError(f"{self.path}: cannot be written ({error.strerror}); free space or choose another folder")


def _step(line: str) -> float:
    """The step of a line of the log; infinite for one that was cut short."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"

"""Files of a data set that cannot be read: put aside with their path and counted; too many of them stop the run."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from vdpm.errors import InputError, UsageError

Read = TypeVar("Read")


class CorruptFile(InputError):
    """A file of a data set that is damaged, missing, or not what its name says. ``path`` names it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {' '.join(reason.split())[:240]}")
        self.path = path


class TooManyCorrupt(InputError):
    """More of a data set's files are corrupt than the run puts up with."""


@dataclass
class Quarantine:
    """Reads through ``attempt``; what raises CorruptFile is kept in ``files`` and answered by None.

    Past ``max_share`` of the attempts, once there were ``patience`` of them, the run stops with TooManyCorrupt; where
    it is known how many are ``expected`` in all, past that share of them. A file is listed once, but every attempt that
    fails counts.
    """

    max_share: float = 0.05
    patience: int = 20
    files: dict[Path, str] = field(default_factory=dict)
    attempts: int = 0
    failures: int = 0
    expected: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.max_share <= 1 or self.patience < 1:
            raise UsageError(
                f"quarantine with max_share {self.max_share} and patience {self.patience}; "
                "a share lies between 0 and 1, patience is at least 1"
            )

    def attempt(self, read: Callable[[], Read]) -> Read | None:
        """What ``read`` gives, or None when it met a corrupt file. Raises TooManyCorrupt past the share."""
        self.attempts += 1
        try:
            return read()
        except CorruptFile as error:
            self.failures += 1
            self.files.setdefault(error.path, str(error))
        self._stop_past_the_share()
        return None

    def count(self, attempts: int, corrupt: Iterable[tuple[str, str]]) -> None:
        """Adds what another process has met: its attempts, and the path and reason of each that failed.

        Raises TooManyCorrupt past the share.
        """
        self.attempts += attempts
        for path, reason in corrupt:
            self.failures += 1
            self.files.setdefault(Path(path), reason)
        self._stop_past_the_share()

    def close(self) -> None:
        """At the end of all attempts, however few they were: raises TooManyCorrupt past the share."""
        self._stop_past_the_share(patience=0)

    def _stop_past_the_share(self, patience: int | None = None) -> None:
        counted = self.attempts if self.expected is None else max(self.expected, self.attempts)
        needed = self.patience if patience is None else patience
        if (self.expected is not None or counted >= needed) and self.failures > self.max_share * counted:
            raise TooManyCorrupt(
                f"{self.failures} of {counted} reads met corrupt files, above the share of {self.max_share:g}; "
                f"the last was {list(self.files.values())[-1]}; mend the data or allow a larger share"
            )


def open_each(opens: Iterable[Callable[[], Read]], quarantine: Quarantine | None) -> list[Read]:
    """What each of ``opens`` gives. A corrupt one goes to the ``quarantine``, or raises where there is none."""
    if quarantine is None:
        return [one() for one in opens]
    return [read for one in opens if (read := quarantine.attempt(one)) is not None]

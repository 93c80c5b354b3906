"""A data set checked, sequence by sequence."""

from dataclasses import dataclass, field
from pathlib import Path

from vdpm.data.checks.found import SequenceCheck
from vdpm.data.checks.sequence import check_sequence
from vdpm.data.quarantine import Quarantine
from vdpm.data.readers import open_dataset
from vdpm.errors import UsageError
from vdpm.progress import Report, silent


@dataclass
class DatasetCheck:
    """All that was looked at. ``corrupt``: files that could not be read, with the reason."""

    dataset: str
    root: Path
    sequences: list[SequenceCheck] = field(default_factory=list)
    corrupt: dict[Path, str] = field(default_factory=dict)

    @property
    def findings(self) -> list[tuple[str, str]]:
        """(sequence, finding)."""
        return [(sequence.name, finding) for sequence in self.sequences for finding in sequence.findings]


def check_dataset(
    dataset: str,
    root: Path,
    *,
    sequences: int | None = None,
    pairs: int = 4,
    gap: int = 5,
    frames: int = 32,
    max_corrupt: float = 0.05,
    undistort: bool = False,
    progress: Report = silent,
) -> DatasetCheck:
    """Checks the first ``sequences`` sequences (None: all) of ``root``, see ``check_sequence``.

    Raises UsageError for numbers below 1, InputError where there is no such data, TooManyCorrupt past ``max_corrupt``.
    ``undistort``: see ``open_dataset``.
    """
    for name, value in (
        ("sequences", 1 if sequences is None else sequences),
        ("pairs", pairs),
        ("gap", gap),
        ("frames", frames - 1),
    ):
        if value < 1:
            raise UsageError(f"{name}: at least {2 if name == 'frames' else 1} is needed")
    quarantine = Quarantine(max_share=max_corrupt)
    opened = open_dataset(dataset, root, quarantine, undistort)[:sequences]
    check = DatasetCheck(dataset, root)
    for number, sequence in enumerate(opened):
        progress("sequences", number, len(opened))
        check.sequences.append(check_sequence(sequence, quarantine, pairs, gap, frames))
    progress("sequences", len(opened), len(opened))
    check.corrupt = dict(quarantine.files)
    return check

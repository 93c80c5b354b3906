"""What a run draws its clips from: data sets and our own scenes, each with its share."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vdpm.data.readers import READERS
from vdpm.errors import UsageError

PAPER_SHARES = {
    "pointodyssey": 15_000.0,
    "kubric": 5_000.0,
    "waymo": 2_500.0,
    "scannetpp": 2_500.0,
    "blendedmvs": 2_500.0,
}
"""Clips that the paper draws from each data set in an epoch (supplement, Sec. 6)."""
SCENES_SHARE = 5_000.0
"""Of our own scenes: they stand where the paper has Kubric-G, its authors' own scenes, which were never released."""
OTHER_SHARE = 2_500.0
"""Of data sets that the paper does not train on."""


@dataclass(frozen=True)
class DataSource:
    """A data set under ``root`` (see ``readers.READERS``) and its share, relative to all others in the mixture.

    ``stride``: the frames of a clip lie that many frames of the data set apart, one number a clip from this range.
    """

    dataset: str
    root: str
    share: float
    stride: tuple[int, int] = (1, 3)

    def __post_init__(self) -> None:
        if self.dataset not in READERS:
            raise UsageError(f"data set {self.dataset!r} is unknown; choose from {', '.join(READERS)}")
        if not 0 < self.share < math.inf:
            raise UsageError(f"{self.dataset}: a share of {self.share:g}; give a number above 0, or leave the set out")
        if not 1 <= self.stride[0] <= self.stride[1]:
            raise UsageError(f"{self.dataset}: stride is {self.stride}; give (low, high) with 1 <= low <= high")

    @classmethod
    def parse(cls, text: str) -> "DataSource":
        """From NAME=PATH or NAME=PATH@SHARE; without it the share is the paper's. Raises UsageError for other words."""
        name, is_given, rest = text.partition("=")
        root, shared, share = rest.rpartition("@")
        if not shared:
            root, share = rest, str(PAPER_SHARES.get(name, OTHER_SHARE))
        if not is_given or not root:
            raise UsageError(f"--data {text}: give NAME=PATH or NAME=PATH@SHARE, such as kubric=/data/movi_f@5000")
        try:
            number = float(share)
        except ValueError:
            raise UsageError(f"--data {text}: {share!r} is no share; give a number after the last @") from None
        return cls(name, root, number)


@dataclass(frozen=True)
class Mixture:
    """Where clips come from. Without ``sources`` all are our own scenes, and nothing is read.

    ``scenes``: the share of our own scenes. ``workers``: processes that read in the background, for each GPU; 0 reads
    in between the steps. ``max_corrupt``: above this share of reads that meet damaged files, the run stops.
    """

    sources: tuple[DataSource, ...] = ()
    scenes: float = SCENES_SHARE
    workers: int = 4
    max_corrupt: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.scenes < math.inf or (self.scenes == 0 and not self.sources):
            raise UsageError(
                f"a share of {self.scenes:g} of our own scenes; give 0 or more, and 0 only beside data sets"
            )
        if self.workers < 0:
            raise UsageError(f"{self.workers} workers; give 0 or more")
        if not 0 <= self.max_corrupt <= 1:
            raise UsageError(f"max_corrupt is {self.max_corrupt}; a share lies between 0 and 1")

    @property
    def shares(self) -> list[float]:
        """Of our own scenes, then of the sources; together 1."""
        parts = [self.scenes, *(source.share for source in self.sources)]
        return [part / sum(parts) for part in parts]


def in_words(saved: Mapping[str, Any] | None) -> str:
    """What decides which clips are drawn, of a mixture as plain data; None is one from before there were any."""
    if not saved or not saved["sources"]:
        return "our own scenes"
    parts = [f"{one['dataset']} {one['share']:g} ({one['stride'][0]}-{one['stride'][1]})" for one in saved["sources"]]
    return ", ".join([f"our own scenes {saved['scenes']:g}", *parts])

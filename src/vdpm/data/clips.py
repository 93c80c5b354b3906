"""Clips drawn from data sets for training: which frames, which part of the picture, mirrored or not.

All of it follows from a key, so that the same key gives the same clip on any machine. A clip that meets a damaged file
or has hardly any ground truth is drawn again, from the same key and the number of the attempt.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vdpm.data.mixture import DataSource
from vdpm.data.quarantine import CorruptFile, Quarantine
from vdpm.data.readers import open_dataset
from vdpm.data.sequence import DataSequence
from vdpm.data.window import Size, Window, fitting
from vdpm.errors import InputError, UsageError
from vdpm.structures import Snippet

LARGEST_ZOOM = 1.3
"""A clip shows the largest part of the picture that has the wanted shape, or down to one over this of its sides."""
LEAST_KNOWN = 0.002
"""Of the pixels, of every frame; below it there is nothing to learn from."""
ATTEMPTS = 64


@dataclass(frozen=True)
class Drawn:
    """A clip; how many clips were read to get it, and which damaged files were met on the way, with the reason."""

    snippet: Snippet
    attempts: int
    corrupt: list[tuple[str, str]]


class ClipSource:
    """Clips of one data set, opened once; sequences that cannot be opened go to the ``quarantine``."""

    def __init__(self, source: DataSource, quarantine: Quarantine | None = None) -> None:
        self.source = source
        self.sequences: list[DataSequence] = open_dataset(source.dataset, source.root, quarantine)

    def check(self, frames: int) -> None:
        """Raises UsageError where no sequence has that many frames."""
        longest = max((len(sequence) for sequence in self.sequences), default=0)
        if longest < self._span(frames, self.source.stride[0]):
            raise UsageError(
                f"{self.source.root}: no sequence of {self.source.dataset} is long enough for clips of {frames} frames "
                f"(the longest has {longest}); leave it out, or train on shorter clips"
            )

    def draw(self, key: Sequence[int], frames: int, size: Size, targets: Sequence[int], reference: int) -> Drawn:
        """A clip of ``frames`` frames of ``size`` (height, width); ``targets`` and ``reference`` count within it.

        Raises InputError where clip after clip is damaged or without ground truth.
        """
        corrupt: list[tuple[str, str]] = []
        reason = "no ground truth"
        for attempt in range(ATTEMPTS):
            draws = np.random.default_rng([*key, attempt])
            try:
                snippet = self._read(draws, frames, size, targets, reference)
            except CorruptFile as error:
                corrupt.append((str(error.path), str(error)))
                reason = str(error)
                continue
            if float(snippet.valid.float().mean((1, 2)).min()) >= LEAST_KNOWN:
                return Drawn(snippet, attempt + 1, corrupt)
        raise InputError(
            f"{self.source.root}: {ATTEMPTS} clips of {self.source.dataset} in a row cannot be used ({reason}); "
            f"try vdpm data check {self.source.root} --dataset {self.source.dataset}"
        )

    def _read(
        self, draws: np.random.Generator, frames: int, size: Size, targets: Sequence[int], reference: int
    ) -> Snippet:
        low, high = self.source.stride
        enough = [one for one in self.sequences if len(one) >= self._span(frames, low)]
        sequence = enough[int(draws.integers(len(enough)))]
        longest = (len(sequence) - 1) // max(1, frames - 1)
        stride = int(draws.integers(low, max(low, min(high, longest)) + 1))
        start = int(draws.integers(len(sequence) - self._span(frames, stride) + 1))
        chosen = [start + stride * k for k in range(frames)]
        backwards, mirror, zooms = (bool(coin) for coin in draws.random(3) < 0.5)
        zoom = float(draws.uniform(1, LARGEST_ZOOM)) if zooms else 1.0
        across, down = (float(place) for place in draws.random(2))

        def part(picture: Size) -> Window:
            return fitting(picture, size, zoom, across, down)

        clip = sequence.snippet(chosen[::-1] if backwards else chosen, targets, reference, part, "targets")
        clip = replace(clip, timestamps=(clip.timestamps - clip.timestamps[0]).abs())
        return mirrored(clip) if mirror else clip

    @staticmethod
    def _span(frames: int, stride: int) -> int:
        return (frames - 1) * stride + 1


def open_sources(sources: Sequence[DataSource], quarantine: Quarantine) -> list[ClipSource]:
    """All data sets of a mixture. Raises InputError where one holds nothing that can be read."""
    opened = [ClipSource(source, quarantine) for source in sources]
    for one in opened:
        if not one.sequences:
            raise InputError(
                f"{Path(one.source.root)}: every sequence of {one.source.dataset} is damaged, such as "
                f"{next(iter(quarantine.files.values()), 'none')}"
            )
    return opened


def mirrored(clip: Snippet) -> Snippet:
    """The clip, or batch of clips, as a mirror shows it: left and right exchanged in pictures, points and cameras
    alike. Nothing is copied to the device."""
    k, c2w = clip.intrinsics.clone(), clip.c2w.clone()
    k[..., 0, 2] = clip.size[1] - k[..., 0, 2]
    k[..., 0, 1].neg_()
    c2w[..., 0, :].neg_()
    c2w[..., :, 0].neg_()
    shown = {"images": -1, "points": -2, "target_points": -2}
    shown |= dict.fromkeys(("valid", "dynamic", "target_valid", "instances", "visible", "sky"), -1)
    values = {name: value.flip(axis) for name, axis in shown.items() if (value := getattr(clip, name)) is not None}
    for name in ("points", "target_points"):
        values[name][..., 0].neg_()
    return replace(clip, c2w=c2w, intrinsics=k, **values)

"""The points of a result as they are read: source by source, a bounded number, each map once."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, UInt8

from vdpm.errors import InputError, UsageError
from vdpm.structures import PointMap, Reconstruction, evenly
from vdpm.viewer.choice import (
    MOVING_POSITIONS,
    ChosenPoints,
    at_times,
    choose_source,
    grid_stride,
    inside_box,
    joined,
    patch_sides,
    scene_box,
)
from vdpm.viewer.confidence import ConfidenceScale


@dataclass(frozen=True)
class CloudOptions:
    """How much of a result is read: at most so many points (``max_points``), of at most ``max_sources`` frames, at
    ``max_times`` times, all spread evenly; none less sure than ``min_confidence``.
    """

    max_points: int = 500_000
    max_sources: int = 48
    max_times: int = 400
    min_confidence: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.max_points <= 5_000_000:
            raise UsageError(f"--points {self.max_points} must be from 1 to 5000000")
        if not 1 <= self.max_sources <= 512:
            raise UsageError(f"--frames {self.max_sources} must be from 1 to 512")
        if not 1 <= self.max_times <= 10_000:
            raise UsageError(f"--times {self.max_times} must be from 1 to 10000")
        if not self.min_confidence >= 1:
            raise UsageError(f"--min-confidence {self.min_confidence:g} must be at least 1, the least that occurs")


@dataclass(frozen=True, eq=False)
class SourcePoints:
    """Points of one source. ``times``: the frames whose time the rows of ``moving`` show."""

    source: int
    times: tuple[int, ...]
    still: ChosenPoints
    moving: ChosenPoints


def one_at_a_time(reconstruction: Reconstruction) -> Reconstruction:
    """The same result, whose maps several threads may ask for: one is read after the other."""
    maps, lock = reconstruction.maps, threading.Lock()

    def read(target: int | None, source: int) -> PointMap:
        with lock:
            return maps.read(target, source)

    return replace(reconstruction, maps=replace(maps, read=read))


def shown_sources(reconstruction: Reconstruction, options: CloudOptions) -> tuple[int, ...]:
    """The frames whose pixels make the fused cloud."""
    return tuple(evenly(reconstruction.maps.sources, options.max_sources))


def shown_times(reconstruction: Reconstruction, options: CloudOptions) -> tuple[int, ...]:
    """The frames whose times can be gone to: kept times, and those of the sources, which are known of themselves."""
    maps = reconstruction.maps
    return tuple(evenly(sorted({*maps.targets, *maps.sources}), options.max_times))


def read_sources(reconstruction: Reconstruction, options: CloudOptions) -> Iterator[SourcePoints]:
    """One source after the other, the reference first and the next always far from those before.

    A source is shown at its own time and those that the network saw beside it (``DynamicPointMaps.together``). In a
    clip of several windows the others take seconds each to reach; there its moving points are left out, and the still
    ones remain.
    """
    sources, all_times = shown_sources(reconstruction, options), shown_times(reconstruction, options)
    kept = tuple(time for time in reconstruction.maps.targets if time in all_times)
    shown = at_times(reconstruction, kept)
    stride = grid_stride(reconstruction, len(sources), options.max_points)
    for row in spread(len(sources), _nearest(sources, reconstruction.reference)):
        source = sources[row]
        known = {*shown.maps.together(source), *({source} & {*all_times})}
        times = tuple(sorted(known)) or (source,)
        yield SourcePoints(
            source,
            times,
            *choose_source(shown, source, row, stride, min_confidence=options.min_confidence, times=times),
        )


def spread(count: int, first: int) -> list[int]:
    """0 to ``count`` - 1, ``first`` at first and each next as far as can be from those before."""
    order, left = [first], [row for row in range(count) if row != first]
    gap = [abs(row - first) for row in left]
    while left:
        at = int(np.argmax(gap))
        order.append(left.pop(at))
        gap.pop(at)
        gap = [min(old, abs(row - order[-1])) for old, row in zip(gap, left)]
    return order


def _nearest(frames: tuple[int, ...], frame: int) -> int:
    return min(range(len(frames)), key=lambda row: abs(frames[row] - frame))


@dataclass(frozen=True, eq=False)
class Loaded:
    """What has been read of a result. ``number`` grows with it; ``complete``: nothing more will come.

    ``low``, ``high``: the box outside of which points are strays and not shown, as on the page.
    """

    reconstruction: Reconstruction
    parts: tuple[SourcePoints, ...]
    number: int
    complete: bool
    low: Float[np.ndarray, "3"] = field(init=False)
    high: Float[np.ndarray, "3"] = field(init=False)
    still: ChosenPoints = field(init=False)
    moving: tuple[SourcePoints, ...] = field(init=False)
    _hidden: dict[float, int] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        still = joined([part.still for part in self.parts])
        first = [part.moving.positions[0] for part in self.parts]
        low, high = scene_box(np.concatenate([still.positions[0], *first]))
        set_field = object.__setattr__
        set_field(self, "low", low)
        set_field(self, "high", high)
        set_field(self, "still", self._inside(still))
        parts = [
            SourcePoints(part.source, part.times, part.still, self._inside(part.moving))
            for part in sorted(self.parts, key=lambda part: part.source)
        ]
        set_field(self, "moving", tuple(part for part in parts if len(part.moving)))

    def _inside(self, points: ChosenPoints) -> ChosenPoints:
        return points.select(inside_box(points.positions, self.low, self.high))

    def __len__(self) -> int:
        return len(self.still) + sum(len(part.moving) for part in self.moving)

    @cached_property
    def scale(self) -> ConfidenceScale:
        """The scale of all points that are shown, as on the page."""
        return ConfidenceScale.of(self._confidence)

    @cached_property
    def levels(self) -> UInt8[np.ndarray, "points"]:
        """Of all points: the still ones, then the moving ones part by part."""
        return self.scale.encode(self._confidence)

    @cached_property
    def _confidence(self) -> Float[np.ndarray, "points"]:
        parts = [self.still.confidence, *(part.moving.confidence for part in self.moving)]
        return np.concatenate(parts).astype(np.float64)

    @cached_property
    def still_sides(self) -> Float[np.ndarray, "points"]:
        """Length in the world of the patch that each still point stands for."""
        return patch_sides(self.reconstruction, self.still, self.still.positions[0])

    def hidden_below(self, percent: float) -> int:
        """The level of confidence below which the least sure ``percent`` of all points lie."""
        if percent not in self._hidden:
            self._hidden[percent] = self.scale.hiding(self.levels, percent)
        return self._hidden[percent]

    def moving_at(self, time: int) -> "MovingPoints":
        """The moving points of all sources that are known at the time of frame ``time``."""
        known = [part for part in self.moving if time in part.times]
        if not known:
            empty = self.still.select(np.zeros(len(self.still), dtype=bool))
            return MovingPoints(empty, np.zeros((0, 3)), np.zeros(0))
        stamps = self.reconstruction.timestamps.double().numpy()
        here, steps, seconds = [], [], []
        for part in known:
            row, positions = part.times.index(time), part.moving.positions
            a, b = (row, row + 1) if row + 1 < len(part.times) else (max(row - 1, 0), row)
            here.append(
                ChosenPoints(
                    positions[row : row + 1],
                    part.moving.colors,
                    part.moving.confidence,
                    part.moving.source,
                    part.moving.pixel,
                    part.moving.spacing,
                )
            )
            steps.append(positions[b] - positions[a])
            seconds.append(np.full(len(part.moving), max(stamps[part.times[b]] - stamps[part.times[a]], 1e-6)))
        return MovingPoints(joined(here), np.concatenate(steps).astype(np.float64), np.concatenate(seconds))


@dataclass(frozen=True, eq=False)
class MovingPoints:
    """Moving points at one time. ``step``: the way from this time to the next (at the last time, from the one before),
    which takes ``seconds``.
    """

    points: ChosenPoints
    step: Float[np.ndarray, "points 3"]
    seconds: Float[np.ndarray, "points"]

    @property
    def speed(self) -> Float[np.ndarray, "points"]:
        """Units a second."""
        return np.linalg.norm(self.step, axis=1) / self.seconds

    def select(self, which: Bool[np.ndarray, "points"]) -> "MovingPoints":
        """The points that a mask names."""
        return MovingPoints(self.points.select(which), self.step[which], self.seconds[which])


class Cloud:
    """Collects sources as they come, from one thread; others ask for what is there.

    Where moving points have more positions than ``MOVING_POSITIONS`` for each point of the budget, every other one of
    them is let go, in all sources alike, as often as needed: memory does not grow with the length of the clip.
    """

    def __init__(self, reconstruction: Reconstruction, options: CloudOptions) -> None:
        self.reconstruction, self.options = reconstruction, options
        self._parts: list[SourcePoints] = []
        self._thinned, self._number, self._complete = 1, 0, False
        self._lock = threading.Lock()
        self._loaded: Loaded | None = None

    def add(self, part: SourcePoints) -> None:
        """One source more."""
        part = _every(part, self._thinned)
        with self._lock:
            self._parts.append(part)
            while sum(kept.moving.positions.size // 3 for kept in self._parts) > self._most:
                self._thinned *= 2
                self._parts = [_every(kept, 2) for kept in self._parts]
            self._number += 1

    @property
    def _most(self) -> int:
        # Of each source at least one point stays, at all its times.
        return max(MOVING_POSITIONS * self.options.max_points, sum(len(part.times) for part in self._parts))

    def finish(self) -> None:
        """Nothing more comes. Raises InputError where there is no point at all."""
        with self._lock:
            self._complete = True
            self._number += 1
            if not sum(len(part.still) + len(part.moving) for part in self._parts):
                raise InputError("no point of this result is left to show; lower --min-confidence")

    def loaded(self) -> Loaded | None:
        """What is there; None before the first point."""
        with self._lock:
            parts, number, complete = tuple(self._parts), self._number, self._complete
        if not sum(len(part.still) + len(part.moving) for part in parts):
            return None
        if self._loaded is None or self._loaded.number != number:
            self._loaded = Loaded(self.reconstruction, parts, number, complete)
        return self._loaded

    @property
    def number(self) -> int:
        """Grows with every source."""
        return self._number


def _every(part: SourcePoints, step: int) -> SourcePoints:
    if step == 1 or len(part.moving) < 2:
        return part
    which = np.arange(0, len(part.moving), step)
    return SourcePoints(
        part.source, part.times, part.still, part.moving.select(which, part.moving.spacing * float(np.sqrt(step)))
    )

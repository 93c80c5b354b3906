"""Point maps of a long clip, read from its windows: in one world, across borders, less sure where windows disagree."""

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.geometry.alignment import Similarity
from vdpm.geometry.nearest import nearest_pixels
from vdpm.structures import Cameras, PointMap

AGREEMENT = 0.05
"""Difference between two windows, as a share of the distance, at which half of the confidence (above 1) is left."""
SAME_POINT = 0.03
"""Distance to the nearest pixel, as a share of that from the camera, at which a point keeps three quarters of its
confidence; farther off it is not in sight there."""
SAME_THING = 0.15
"""The same at which a point takes over half of the nearest pixel's motion: a side that is turned away moves as the side
in sight does, and what nothing is near to stays."""
RELAYS = 256
"""Matches between two frames kept in memory, 4 bytes a pixel each."""


@dataclass(frozen=True, eq=False)
class AlignedWindow:
    """A window and where it lies. ``frames``: those it shows at their own times; ``targets``: times to which the pixels
    of ``moved`` are brought. ``similarity``: its world -> the common one. ``weight``: 1 where it is believed, 0 not.
    ``read(target, source)``: its map in its own world, target None for the source's own time.
    """

    frames: tuple[int, ...]
    targets: tuple[int, ...]
    moved: tuple[int, ...]
    similarity: Similarity
    weight: float
    read: Callable[[int | None, int], PointMap] = field(repr=False)

    def at(self, target: int | None, source: int) -> PointMap:
        """The map in the common world."""
        maps = self.read(target, source)
        return PointMap(self.similarity.apply(maps.points), maps.confidence)


class _Step(NamedTuple):
    """From window ``window`` at the time ``time`` on through frame ``shared``, which the next window has too."""

    window: int
    time: int
    shared: int


class WindowedMaps:
    """Reads any map that the windows hold or that follows from them.

    Where several windows show a map, their mean is taken, weighted by confidence, and confidence falls with their
    difference. Where none shows frame i at time j, its points travel from window to window: at a time of the first
    window each is matched with the nearest point of a frame that the next one has as well; there the same pixel
    says how it goes on. Pixels of a shared frame are the same in both, so identity is kept across the border. A point
    that is hidden in the shared frame moves as what is near it, or stays, with less confidence, and is matched anew in
    the next.
    """

    def __init__(self, windows: Sequence[AlignedWindow], cameras: Cameras) -> None:
        self.windows = list(windows)
        self.centres = cameras.centers.float()
        self._relays: OrderedDict[tuple[int, int, int, int], Int[Tensor, "pixels"]] = OrderedDict()
        self._links = [
            [b for b, other in enumerate(self.windows) if b != a and {*window.moved} & {*other.moved}]
            for a, window in enumerate(self.windows)
        ]

    def together(self, source: int) -> tuple[int, ...]:
        """Times at which some window shows ``source`` itself, without travelling."""
        return tuple(sorted({t for window in self.windows if source in window.moved for t in window.targets}))

    def read(self, target: int | None, source: int) -> PointMap:
        """Frame ``source`` at its own time (None) or at that of ``target``, in the common world."""
        shown = [
            (window, window.at(target, source))
            for window in self.windows
            if (source in window.frames if target is None else target in window.targets and source in window.moved)
        ]
        if shown:
            return self._blended(shown, source)
        if target is None or target == source:
            return self.read(None, source)
        return self._travelled(target, source)

    def _blended(self, maps: list[tuple[AlignedWindow, PointMap]], source: int) -> PointMap:
        if len(maps) == 1:
            window, only = maps[0]
            return self._doubted(only, window.weight)
        # Windows in which the frame lies at the border fade out, so that nothing jumps from frame to frame.
        shares = []
        for window, found in maps:
            place = window.frames.index(source)
            inner = (min(place, len(window.frames) - 1 - place) + 1) / len(window.frames)
            shares.append(found.confidence * (window.weight**2 + 1e-6) * inner)
        share = torch.stack(shares)
        share = share / share.sum(0)
        points = torch.stack([found.points for _, found in maps])
        confidence = torch.stack([found.confidence for _, found in maps])
        mean = (share[..., None] * points).sum(0)
        spread = (share * (points - mean).square().sum(-1)).sum(0).sqrt()
        reach = (mean - self.centres[source]).norm(dim=-1).clamp(min=1e-9)
        agreement = 1 / (1 + (2 * spread / (AGREEMENT * reach)).square())
        believed = max(window.weight for window, _ in maps)
        return self._doubted(PointMap(mean, (share * confidence).sum(0)), believed * agreement)

    def _doubted(self, maps: PointMap, belief: Tensor | float) -> PointMap:
        return PointMap(maps.points, 1 + (maps.confidence - 1).clamp(min=0) * belief)

    def _travelled(self, target: int, source: int) -> PointMap:
        """Points of ``source`` carried to the time of ``target`` through several windows."""
        steps, last = self._route(target, source)
        first = self.windows[steps[0].window]
        points, confidence = first.at(steps[0].time, source)
        size = points.shape[:2]
        points, confidence = points.flatten(0, 1).clone(), confidence.flatten().clone()
        reach = (points - self.centres[source]).norm(dim=-1).clamp(min=1e-9)
        index, frame = torch.arange(len(points)), source
        for number, step in enumerate(steps):
            after_this = steps[number + 1] if number + 1 < len(steps) else _Step(last, target, step.shared)
            window, following, time = self.windows[step.window], self.windows[after_this.window], after_this.time
            before, after = window.at(step.time, step.shared), following.at(time, step.shared)
            here = before.points.flatten(0, 1)
            index, frame = self._relay(step, frame)[index], step.shared
            distance = (here[index] - points).norm(dim=-1)
            lost = (distance > SAME_POINT * reach).nonzero()[:, 0]
            if len(lost):
                index[lost] = nearest_pixels(points[lost], before.points)
                distance[lost] = (here[index[lost]] - points[lost]).norm(dim=-1)
            near = 1 / (1 + (distance / (SAME_POINT * reach)).pow(4))
            follows = 1 / (1 + (distance / (SAME_THING * reach)).pow(4))
            points += follows[:, None] * (after.points.flatten(0, 1)[index] - here[index])
            sure = torch.minimum(confidence, after.confidence.flatten()[index])
            confidence = 1 + (sure - 1).clamp(min=0) * (0.5 + 0.5 * near) * min(window.weight, following.weight)
        return PointMap(points.view(*size, 3), confidence.view(size))

    def _relay(self, step: _Step, frame: int) -> Int[Tensor, "pixels"]:
        """For each pixel of ``frame`` the one of the shared frame nearest to it, in one window at one time."""
        key = (step.window, step.time, frame, step.shared)
        if key in self._relays:
            self._relays.move_to_end(key)
            return self._relays[key].long()
        window = self.windows[step.window]
        points = window.at(step.time, frame).points
        if frame == step.shared:
            found = torch.arange(points.shape[0] * points.shape[1])
        else:
            found = nearest_pixels(points.flatten(0, 1), window.at(step.time, step.shared).points)
        self._relays[key] = found.int()
        if len(self._relays) > RELAYS:
            self._relays.popitem(last=False)
        return found

    def _route(self, target: int, source: int) -> tuple[list[_Step], int]:
        """The fewest windows from one that moves ``source`` to one that shows the time of ``target``."""
        start = [k for k, window in enumerate(self.windows) if source in window.moved and window.targets]
        start.sort(key=lambda k: abs(sum(self.windows[k].frames) / len(self.windows[k].frames) - source))
        came: dict[int, int | None] = dict.fromkeys(start)
        waiting = deque(start)
        while waiting:
            at = waiting.popleft()
            if target in self.windows[at].targets:
                path = [at]
                while (before := came[path[-1]]) is not None:
                    path.append(before)
                return self._steps(path[::-1]), at
            for link in self._links[at]:
                if link not in came and self.windows[link].targets:
                    came[link] = at
                    waiting.append(link)
        raise UsageError(
            f"frame {source} cannot be followed to the time of {target}: no windows that hand points over lie between; "
            "reconstruct with a larger --overlap"
        )

    def _steps(self, path: list[int]) -> list[_Step]:
        steps = []
        for a, b in pairwise(path):
            window = self.windows[a]
            shared = sorted({*window.moved} & {*self.windows[b].moved})
            middle = shared[len(shared) // 2]
            steps.append(_Step(a, min(window.targets, key=lambda time: abs(time - middle)), middle))
        return steps

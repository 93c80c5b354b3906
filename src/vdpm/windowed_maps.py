"""Point maps of a long clip, read from its windows: in one world, across borders, less sure where windows disagree."""

import math
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Lock
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils._pytree import tree_leaves

from vdpm.errors import UsageError
from vdpm.geometry.alignment import Similarity
from vdpm.geometry.map_matching import Surface, inside, match_map, match_some, surface_of
from vdpm.geometry.pinhole import pixel_grid, ways_to_rays
from vdpm.structures import Cameras, PointMap

AGREEMENT = 0.05
"""Difference between two windows, as a share of the distance, at which half of the confidence (above 1) is left."""
SAME_POINT = 0.03
"""Distance to the nearest pixel, as a share of that from the camera, at which a point keeps three quarters of its
confidence; farther off it is not in sight there."""
SAME_THING = 0.15
"""The same at which a point takes over half of the nearest pixel's motion: a side that is turned away moves as the side
in sight does, and what nothing is near to stays."""
OUT_OF_REACH = 0.45
"""The same beyond which nothing is taken over at all."""
STILL = 0.02
"""Way, as a share of the distance from the camera, below which a point has not moved from one window to the next."""
TORN = 0.1
"""Way from points to their pixels' rays, on average over a frame, as a share of the picture's diagonal, from which
points and cameras do not go together, and points stay where they are."""
HELD = 256e6
"""Bytes of ways to rays, matches, borders and travelled points that are kept for the next map."""


@dataclass(frozen=True, eq=False)
class AlignedWindow:
    """A window and where it lies. ``frames``: those it shows at their own times; ``targets``: times to which the pixels
    of ``moved`` are brought. ``similarity``: its world -> the common one. ``weight``: 1 where it is believed, 0 not.
    ``read(target, source)``: its map in its own world, target None for the source's own time. ``kept``: frames whose
    maps at their own times can be read, all unless told.
    """

    frames: tuple[int, ...]
    targets: tuple[int, ...]
    moved: tuple[int, ...]
    similarity: Similarity
    weight: float
    read: Callable[[int | None, int], PointMap] = field(repr=False)
    kept: tuple[int, ...] | None = None

    def placed(self, points: Float[Tensor, "height width 3"]) -> Float[Tensor, "3 pixels"]:
        """Its points in the common world; plane by plane, which is many times faster than pixel by pixel."""
        scale, rotation, translation = self.similarity
        return torch.addmm(translation[:, None], scale * rotation, points.flatten(0, 1).T)

    def tells(self, frame: int) -> bool:
        """Whether the map of ``frame`` at its own time can be read."""
        return frame in (self.frames if self.kept is None else self.kept)


class _Leg(NamedTuple):
    """From window ``window`` at the time ``time`` on through frame ``shared``, which window ``after`` has too, to that
    one's ``after_time``.
    """

    window: int
    time: int
    shared: int
    after: int
    after_time: int


class _Shape(NamedTuple):
    """A frame's pixels at their own time, of several windows: their ``depth`` in its camera, and from where each window
    has them to their mean.
    """

    depth: Float[Tensor, "pixels"]
    shifts: dict[int, Float[Tensor, "3 pixels"]]


class _Border(NamedTuple):
    """The pixels of a shared frame before a leg, and how each goes on: a motion, the confidence after it. ``depth``:
    at the frame's own time, in its camera; None where that is not kept.
    """

    surface: Surface
    motion: Float[Tensor, "3 pixels"]
    confidence: Float[Tensor, "pixels"]
    depth: Float[Tensor, "pixels"] | None


class _Travellers(NamedTuple):
    """Points of a frame underway. ``at``: the pixel of the last shared frame that each is at; ``held``: where it is
    near enough to be looked for from there. ``reach``: distance from the camera at the start. ``still``: has not moved
    when it was last in sight.
    """

    points: Float[Tensor, "3 pixels"]
    confidence: Float[Tensor, "pixels"]
    at: Int[Tensor, "pixels"]
    held: Bool[Tensor, "pixels"]
    reach: Float[Tensor, "pixels"]
    still: Bool[Tensor, "pixels"]


class WindowedMaps:
    """Reads any map that the windows hold or that follows from them.

    Windows keep their shape, whatever the cameras: a frame's points lie a pixel or two off. Read, each pixel at its own
    time keeps its depth and lies on its ray of the frame's camera. At other times it keeps what it has moved: as seen
    from its frame's camera, it is shifted as at its own time in proportion to the depth.

    Where several windows show a map, their mean is taken, weighted by confidence, and confidence falls with their
    difference. At another time each window adds its own motion to the mean at the frame's own, so that a frame which
    two windows share does not seem to move from the times of one to those of the other.

    Where none shows frame i at time j, its points travel from window to window: at a time of the first window each is
    matched with the nearest point of a frame that the next one has as well; there the same pixel says how it goes on.
    Pixels of a shared frame are the same in both, so identity is kept across the border. A point that is hidden in the
    shared frame moves as what is near it, or stays, with less confidence, and is matched anew in the next. What stood
    still when it was last seen stays while the shared frame's camera cannot see it: what passes in front of a wall does
    not take the wall along.
    """

    def __init__(self, windows: Sequence[AlignedWindow], cameras: Cameras) -> None:
        self.windows = list(windows)
        self.centres = cameras.centers.float()
        self.w2c, self.intrinsics = cameras.w2c.float(), cameras.intrinsics.float()
        self.c2w, self.size = cameras.c2w.float(), cameras.size
        self._kept = _Kept(HELD)
        self._pixels: Tensor | None = None
        self._telling: dict[int, list[int]] = {}
        for number, window in enumerate(self.windows):
            for frame in window.frames if window.kept is None else window.kept:
                self._telling.setdefault(frame, []).append(number)
        self._links = [
            [b for b, other in enumerate(self.windows) if b != a and {*window.moved} & {*other.moved}]
            for a, window in enumerate(self.windows)
        ]

    @property
    def held_bytes(self) -> float:
        """Memory that is kept for the next map; at most ``HELD``."""
        return self._kept.bytes

    def together(self, source: int) -> tuple[int, ...]:
        """Times at which some window shows ``source`` itself, without travelling."""
        return tuple(sorted({t for window in self.windows if source in window.moved for t in window.targets}))

    def read(self, target: int | None, source: int) -> PointMap:
        """Frame ``source`` at its own time (None) or at that of ``target``, in the common world."""
        shown = [
            (window, self._at(number, target, source))
            for number, window in enumerate(self.windows)
            if (window.tells(source) if target is None else target in window.targets and source in window.moved)
        ]
        if shown:
            return self._blended(shown, source)
        if target is None or target == source:
            return self.read(None, source)
        return self._travelled(target, source)

    def _at(self, number: int, target: int | None, source: int) -> PointMap:
        """A window's map in the common world, on the rays of its frame's camera; at another time, the frame as all
        windows together have it, moved as this one says.
        """
        window = self.windows[number]
        maps = window.read(target, source)
        planes, confidence = window.placed(maps.points), maps.confidence
        if window.tells(source):
            off = self._kept.find((number, source))
            if off is None:
                own = planes if target is None else window.placed(window.read(None, source).points)
                off = self._kept.keep((number, source), self._off_rays(own, source))
            depth = self.w2c[source, 2, :3] @ planes + self.w2c[source, 2, 3]
            planes = torch.addmm(planes, self.c2w[source, :3, :2], depth * off)
            if target is not None and len(self._telling[source]) > 1:
                # Windows differ about where a frame lies by more than it moves. That is no motion: each tells what
                # moves from the frame's own time, and what stands still stays, whichever window tells the time.
                planes += (shift := self._shape(source).shifts[number])
                agreement = self._agreement(shift.square().sum(0), planes.T, source)
                confidence = 1 + (confidence - 1).clamp(min=0) * agreement.view(confidence.shape)
        return PointMap(planes.T.view(maps.points.shape), confidence)

    def _shape(self, source: int) -> _Shape:
        """The pixels of ``source`` at their own time as all windows together have them."""
        found = self._kept.find(("shape", source))
        if found is None:
            maps = {number: self._at(number, None, source) for number in self._telling[source]}
            points = self._blended([(self.windows[number], one) for number, one in maps.items()], source).points
            shifts = {number: (points - one.points).flatten(0, 1).T.contiguous() for number, one in maps.items()}
            depth = (points @ self.w2c[source, 2, :3] + self.w2c[source, 2, 3]).flatten()
            found = self._kept.keep(("shape", source), _Shape(depth, shifts))
        return found

    def _agreement(
        self, squares: Float[Tensor, "*pixels"], points: Float[Tensor, "*pixels 3"], source: int
    ) -> Float[Tensor, "*pixels"]:
        """What share of the confidence is left where windows lie off their mean, ``points``, by root ``squares``."""
        # Sums of squares, since PyTorch's norm of three values a row takes ten times as long.
        reach = (points - self.centres[source]).square().sum(-1).clamp(min=1e-18)
        return 1 / (1 + (2 / AGREEMENT) ** 2 * squares / reach)

    def _off_rays(self, own: Float[Tensor, "3 pixels"], source: int) -> Float[Tensor, "2 pixels"]:
        """From where a window has the pixels of ``source`` at their own time to their rays, at depth 1."""
        w2c, k = self.w2c[source], self.intrinsics[source]
        local = torch.addmm(w2c[:3, 3:], w2c[:3, :3], own)
        off = ways_to_rays(local.T, self._rays(k).T, k, self.size).T
        torn = TORN * math.hypot(*self.size) / float(k[[0, 1], [0, 1]].amin())
        return torch.zeros_like(off) if float(off.square().sum(0).sqrt().mean()) > torn else off

    def _rays(self, intrinsics: Float[Tensor, "3 3"]) -> Float[Tensor, "2 pixels"]:
        """Where the pixels' rays are at depth 1."""
        if self._pixels is None:
            self._pixels = pixel_grid(*self.size).flatten(0, 1).T.contiguous()
        inverse = torch.linalg.inv(intrinsics)
        return torch.addmm(inverse[:2, 2:], inverse[:2, :2], self._pixels)

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
        spread = (share * (points - mean).square().sum(-1)).sum(0)
        believed = max(window.weight for window, _ in maps) * self._agreement(spread, mean, source)
        return self._doubted(PointMap(mean, (share * confidence).sum(0)), believed)

    def _doubted(self, maps: PointMap, belief: Tensor | float) -> PointMap:
        return PointMap(maps.points.contiguous(), 1 + (maps.confidence - 1).clamp(min=0) * belief)

    def _travelled(self, target: int, source: int) -> PointMap:
        """Points of ``source`` carried to the time of ``target`` through several windows."""
        legs = tuple(self._route(target, source))
        # Times read one after the other share the way so far.
        done, travellers = len(legs), None
        while done and (travellers := self._kept.find((source, legs[:done]))) is None:
            done -= 1
        if travellers is None:
            travellers = self._at_the_start(legs[0], source)
        for number in range(done, len(legs)):
            travellers = self._passed(travellers, legs[number], legs[number - 1].shared if number else source)
            self._kept.keep((source, legs[: number + 1]), travellers)
        height, width = self._border(legs[-1]).surface.size
        # Copies: what is kept must not change with what the caller does.
        points = travellers.points.T.contiguous().view(height, width, 3)
        return PointMap(points, travellers.confidence.view(height, width).clone())

    def _at_the_start(self, leg: _Leg, source: int) -> _Travellers:
        points, confidence = self._at(leg.window, leg.time, source)
        planes, pixels = points.flatten(0, 1).T.contiguous(), confidence.numel()
        reach = (planes - self.centres[source][:, None]).square().sum(0).sqrt().clamp(min=1e-9)
        held = torch.ones(pixels, dtype=torch.bool)
        still = torch.zeros(pixels, dtype=torch.bool)
        if self.windows[leg.window].tells(source):
            way = (points - self.read(None, source).points).square().sum(-1).sqrt()
            still = way.flatten() < STILL * reach
        return _Travellers(planes, confidence.flatten(), torch.arange(pixels), held, reach, still)

    def _passed(self, before: _Travellers, leg: _Leg, frame: int) -> _Travellers:
        """Where they are after ``leg``; until then they are at pixels of ``frame``."""
        surface, motion, sureness, depth = self._border(leg)
        points, reach = before.points, before.reach
        index = self._relay(leg, frame).long()[before.at]
        distance = surface.squares(points, surface.padded(index)).sqrt_()
        distance[~before.held] = torch.inf
        lost = (distance > SAME_POINT * reach).nonzero()[:, 0]
        if len(lost):
            places = points[:, lost].T.contiguous()
            seen, projected = inside(places, self.w2c[leg.shared], self.intrinsics[leg.shared], surface.size)
            near = (seen | (distance[lost] < OUT_OF_REACH * reach[lost])).nonzero()[:, 0]
            distance[lost] = torch.inf
            if len(near):
                sought = lost[near]
                guesses = index[sought], projected[near]
                index[sought], distance[sought] = match_some(places[near], sought, surface.size, surface, *guesses)
        share = distance / reach
        share[share > OUT_OF_REACH] = torch.inf
        near_by, follows = (1 / (1 + (share / size).square().square()) for size in (SAME_POINT, SAME_THING))
        steps = torch.stack([follows * by.index_select(0, index) for by in motion])
        way = steps.square().sum(0).sqrt_().div_(reach)
        if depth is not None:
            waits = before.still.nonzero()[:, 0]
            out = waits[self._out_of_sight(leg.shared, points[:, waits].T, depth, surface.size)]
            steps[:, out] = way[out] = 0.0
        still = torch.where(share < SAME_POINT, way < STILL, before.still)
        held = share < torch.inf
        sure = torch.where(held, torch.minimum(before.confidence, sureness[index]), before.confidence)
        believed = min(self.windows[leg.window].weight, self.windows[leg.after].weight)
        confidence = 1 + (sure - 1).clamp(min=0) * (0.5 + 0.5 * near_by) * believed
        return _Travellers(points + steps, confidence, index, held, reach, still)

    def _out_of_sight(
        self, frame: int, points: Float[Tensor, "n 3"], depth: Float[Tensor, "pixels"], size: tuple[int, int]
    ) -> Bool[Tensor, "n"]:
        """Which points, if they stand still, ``frame`` cannot show: beside it, or behind what it has at its time."""
        w2c = self.w2c[frame]
        shown, pixel = inside(points, w2c, self.intrinsics[frame], size, margin=0.0)
        return ~shown | (points @ w2c[2, :3] + w2c[2, 3] > (1 + SAME_POINT) * depth[pixel])

    def _border(self, leg: _Leg) -> _Border:
        found = self._kept.find(leg)
        if found is None:
            before, after = self._at(leg.window, leg.time, leg.shared), self._at(leg.after, leg.after_time, leg.shared)
            motion, depth = after.points - before.points, None
            if all(self.windows[end].tells(leg.shared) for end in (leg.window, leg.after)):
                depth = self._shape(leg.shared).depth
            motion = motion.flatten(0, 1).T.contiguous()
            found = self._kept.keep(leg, _Border(surface_of(before.points), motion, after.confidence.flatten(), depth))
        return found

    def _relay(self, leg: _Leg, frame: int) -> Int[Tensor, "pixels"]:
        """For each pixel of ``frame`` the one of the shared frame nearest to it, in one window at one time."""
        key = (leg.window, leg.time, frame, leg.shared)
        found = self._kept.find(key)
        if found is None:
            points = self._at(leg.window, leg.time, frame).points
            if frame == leg.shared:
                found = torch.arange(points.shape[0] * points.shape[1])
            else:
                found = match_map(points, self._border(leg).surface)
            self._kept.keep(key, found := found.int())
        return found

    def _route(self, target: int, source: int) -> list[_Leg]:
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
                return self._legs(path[::-1], target)
            for link in self._links[at]:
                if link not in came and self.windows[link].targets:
                    came[link] = at
                    waiting.append(link)
        raise UsageError(
            f"frame {source} cannot be followed to the time of {target}: no windows that hand points over lie between; "
            "reconstruct with a larger --overlap"
        )

    def _legs(self, path: list[int], target: int) -> list[_Leg]:
        shared, times = [], []
        for a, b in pairwise(path):
            frames = sorted({*self.windows[a].moved} & {*self.windows[b].moved})
            shared.append(frames[len(frames) // 2])
            times.append(min(self.windows[a].targets, key=lambda time: abs(time - shared[-1])))
        after = [*times[1:], target]
        return [_Leg(*leg) for leg in zip(path, times, shared, path[1:], after)]


class _Kept:
    """What was made last, up to ``budget`` bytes of tensors. Readers may be in several threads."""

    def __init__(self, budget: float) -> None:
        self.budget, self.bytes = budget, 0.0
        self._made: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = Lock()

    def find(self, key: Hashable) -> Any:
        """What was kept under ``key``, or None."""
        with self._lock:
            if key in self._made:
                self._made.move_to_end(key)
            return self._made.get(key)

    def keep(self, key: Hashable, value: Any) -> Any:
        """Keeps ``value``, drops what was not asked for the longest, and gives ``value`` back."""
        with self._lock:
            if key not in self._made:
                self._made[key] = value
                self.bytes += _bytes(value)
            while self.bytes > self.budget and len(self._made) > 1:
                self.bytes -= _bytes(self._made.popitem(last=False)[1])
        return value


def _bytes(value: Any) -> float:
    return float(sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(value) if isinstance(leaf, Tensor)))

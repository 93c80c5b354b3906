"""Nodes of the scene: made once, shown and hidden after that, let go when they take too much memory."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from vdpm.export.colors import linear
from vdpm.viewer.live.look import Batch
from vdpm.viewer.live.paths import Segments

NODE_BYTES = 384 * 2**20
"""Of nodes that are kept: viser holds them for browsers that come later, and a browser to draw them."""
NODES = 3000
"""Nodes that are kept at most: a browser looks at each of them for every picture it draws, also at hidden ones."""

Key = tuple[Hashable, ...]


class Made(NamedTuple):
    """Handles of viser that belong together, and their bytes on the way to a browser. ``sides``: sizes of points as
    they would be at a factor of 1, for those handles that are points.
    """

    handles: list[Any]
    nbytes: int
    sides: list[float | None]


@dataclass(frozen=True)
class Wanted:
    """A node that is to be seen. ``make(name)`` makes it below a name in the scene, hidden."""

    key: Key
    make: Callable[[str], Made]


class Stage:
    """Shows what is wanted. One thread may use it."""

    def __init__(self, server: Any, root: str, *, nbytes: int = NODE_BYTES, nodes: int = NODES) -> None:
        self.server, self.root, self.most, self.most_nodes = server, root, nbytes, nodes
        self.size = 1.0
        self.made_bytes = 0
        """Of all nodes ever made."""
        self._kept: OrderedDict[Key, Made] = OrderedDict()
        self._seen: set[Key] = set()
        self._number = 0

    def show(self, wanted: Iterable[Wanted]) -> None:
        """Show these nodes and no others, at once."""
        wanted = list(wanted)
        made = [self.prepare(one) for one in wanted]
        keys = {one.key for one in wanted}
        with self.server.atomic():
            for one in made:
                _visible(one, True)
            for key in self._seen - keys:
                if key in self._kept:
                    _visible(self._kept[key], False)
        self._seen = keys
        self._let_go(keys)

    def prepare(self, wanted: Wanted) -> Made:
        """Make a node that may be shown soon, where it is not there yet."""
        if wanted.key not in self._kept:
            self._number += 1
            # viser makes a node visible and hides it then: in one step, or it would be seen for a moment.
            with self.server.atomic():
                made = wanted.make(f"{self.root}/{self._number}")
                self._resize(made)
            self._kept[wanted.key] = made
            self.made_bytes += made.nbytes
        self._kept.move_to_end(wanted.key)
        return self._kept[wanted.key]

    def has(self, key: Key) -> bool:
        """Whether it is there already."""
        return key in self._kept

    def forget(self, old: Callable[[Key], bool]) -> None:
        """Let go of hidden nodes that are out of date."""
        for key in [key for key in self._kept if key not in self._seen and old(key)]:
            self._remove(key)

    def resize(self, factor: float) -> None:
        """Draw all points larger by a factor."""
        self.size = factor
        with self.server.atomic():
            for made in self._kept.values():
                self._resize(made)

    @property
    def nbytes(self) -> int:
        """Of the nodes that are kept."""
        return sum(made.nbytes for made in self._kept.values())

    @property
    def full(self) -> bool:
        """Whether there is hardly room for more."""
        return self.nbytes > 0.7 * self.most or self._nodes > 0.7 * self.most_nodes

    @property
    def _nodes(self) -> int:
        return sum(len(made.handles) for made in self._kept.values())

    def _resize(self, made: Made) -> None:
        for handle, side in zip(made.handles, made.sides):
            if side is not None:
                handle.point_size = side * self.size

    def _let_go(self, keys: set[Key]) -> None:
        left, nodes = self.nbytes, self._nodes
        for key in list(self._kept):
            if left <= self.most and nodes <= self.most_nodes:
                return
            if key not in keys:
                left -= self._kept[key].nbytes
                nodes -= len(self._kept[key].handles)
                self._remove(key)

    def _remove(self, key: Key) -> None:
        for handle in self._kept.pop(key).handles:
            handle.remove()


def add_batches(server: Any, name: str, batches: list[Batch]) -> Made:
    """Clouds of points, hidden at first."""
    handles = [
        server.scene.add_point_cloud(
            f"{name}/{row}",
            batch.positions,
            batch.colors,
            point_size=batch.side,
            point_shape="rounded",
            point_shading="flat",
            precision="float16",
            visible=False,
        )
        for row, batch in enumerate(batches)
    ]
    return Made(handles, sum(batch.nbytes for batch in batches), [batch.side for batch in batches])


def add_segments(server: Any, name: str, segments: Segments, thickness: float) -> Made:
    """Lines so many pixels wide, hidden at first."""
    if not len(segments.points):
        return Made([], 0, [])
    # viser takes the colours of the ends of lines for linear light, those of points for what they are.
    light = np.rint(255 * linear(segments.colors)).astype(np.uint8)
    handle = server.scene.add_line_segments(
        name, segments.points, light, thickness=thickness, thickness_units="screen", visible=False
    )
    return Made([handle], segments.points.nbytes + segments.colors.nbytes, [None])


def _visible(made: Made, seen: bool) -> None:
    for handle in made.handles:
        if handle.visible != seen:
            handle.visible = seen

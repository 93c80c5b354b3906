"""A sequence of a data set: frames with depth and cameras, from which clips (``Snippet``) are cut.

Every reader fills in ``frame`` and, where the data set knows how points move, ``moved``; what a snippet is, which world
it lives in and which of its points are known is decided here, once for all of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from collections.abc import Sequence as Indices
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdpm.data.frame import Frame, MovedPoints, blanked, moved_rows, squared_lengths
from vdpm.data.window import Size, Window
from vdpm.errors import UsageError
from vdpm.geometry.rigid import invert_rigid
from vdpm.structures import Snippet

DYNAMIC_SHARE = 0.01
"""A pixel is dynamic when its point moves by more than this share of the clip's mean distance, as in our scenes."""


class DataSequence(ABC):
    """One sequence on disk. ``name`` is unique in its data set; ``timestamps`` are seconds from its first frame.

    ``static``: nothing moves, so that P_i(t_j) = P_i(t_i). ``sparse``: the points at other times are known for single
    pixels only. ``tracked``: points at other times are known at all. ``metric``: lengths are in metres.
    """

    static: bool = False
    sparse: bool = False
    metric: bool = True

    def __init__(self, name: str, timestamps: Float[Tensor, "frames"]) -> None:
        self.name = name
        self.timestamps = timestamps

    def __len__(self) -> int:
        return len(self.timestamps)

    @property
    def tracked(self) -> bool:
        return self.static

    @abstractmethod
    def frame(self, index: int) -> Frame:
        """Frame ``index`` from 0. Raises CorruptFile, which names the file, where it cannot be read."""

    def frame_for(self, index: int, window: Callable[[Size], Window]) -> Frame:
        """Frame ``index``, to be looked at through ``window`` alone: its picture, nothing else, may be smaller by
        ``Window.spare``, where that makes it faster to read."""
        return self.frame(index)

    def moved(self, index: int, frame: Frame, targets: Indices[int]) -> list[MovedPoints | None]:
        """The points of the pixels of frame ``index`` (which is ``frame``) at the times of ``targets``; None: unknown.

        Asked for its own time, it answers from the same source as for any other time, and of the same pixels: the
        difference is motion. A ``frame`` with an ``origin`` is asked for its own pixels, of dense data sets alone.
        """
        return [None] * len(targets)

    def snippet(
        self,
        frames: Indices[int],
        targets: Indices[int] | None = None,
        reference: int = 0,
        window: Callable[[Size], Window] | None = None,
        dynamic_from: Literal["all", "targets"] = "all",
    ) -> Snippet:
        """A clip of the sequence's frames ``frames``, in that order.

        ``targets`` (all if None) and ``reference`` count within the clip: 0 is ``frames[0]``. The world is the camera
        of the reference; lengths stay in the data set's unit; times are seconds from the sequence's start.
        ``target_valid`` says where P_i(t_j) is known; at a frame's own time that is where its depth is. ``dynamic`` is
        False where no motion is known; it takes the times of all frames, or of the targets alone, which is faster.
        ``window``: from the size of the pictures to the part of them that is wanted, and in which size.
        Raises UsageError for frames that do not exist, CorruptFile for damaged files.
        """
        frames = list(frames)
        places = list(range(len(frames))) if targets is None else list(targets)
        self._check(frames, places, reference)
        asked = frames if dynamic_from == "all" else [frames[place] for place in places]
        sources = [self._source(index, asked, window) for index in frames]
        views = [source.frame for source in sources]
        sizes = {source.size for source in sources}
        if len(sizes) > 1:
            raise UsageError(f"{self.name}: frames {frames} differ in size: {sorted(sizes)}; choose frames of one size")
        valid = torch.stack([view.valid for view in views])
        world = invert_rigid(views[reference].c2w.double())
        c2w = world @ torch.stack([view.c2w for view in views]).double()
        # float32 from here on: lengths are now of the size of the scene, wherever in the world it lies.
        points = torch.empty(*valid.shape, 3)
        moves = any(there is not None for source in sources for there in source.moved.values())
        distances = 0.0
        for view, own in zip(views, points):
            seen = view.place_into(world, own)
            distances += float(squared_lengths(seen).sqrt_().sum()) if moves else 0.0
        far = DYNAMIC_SHARE * distances / max(1, int(np.count_nonzero(valid.numpy())))
        at_targets, known, dynamic = self._at_targets(frames, sources, places, points, world, far)
        return Snippet(
            images=torch.stack([view.image for view in views]).float().div_(255).permute(0, 3, 1, 2),
            timestamps=self.timestamps[frames].float(),
            c2w=c2w.float(),
            intrinsics=torch.stack([view.intrinsics for view in views]).float(),
            points=points,
            targets=torch.tensor(places, dtype=torch.long),
            target_points=at_targets,
            valid=valid,
            dynamic=dynamic & valid,
            target_valid=known,
            instances=_stacked([view.instances for view in views]),
            sky=_stacked([view.sky for view in views]),
            reference=reference,
        )

    def _source(self, index: int, asked: list[int], window: Callable[[Size], Window] | None) -> "_Source":
        """Frame ``index`` with the points of its pixels at the times of those frames of ``asked`` that are others."""
        frame = self.frame(index) if window is None else self.frame_for(index, window)
        size = (frame.depth.shape[0], frame.depth.shape[1])
        part = None if window is None else window(size)
        if part is not None and not self.sparse:
            frame = frame.through(part)
        others = [] if self.static else sorted({other for other in asked if other != index})
        moved = self.moved(index, frame, [index, *others]) if others else []
        if part is not None and self.sparse:
            told = next((one for one in moved if one is not None), None)
            frame = frame.through(part, None if told is None else self._by_worth(frame, told, moved))
            assert frame.origin is not None
            if told is not None:
                place = frame.origin.places(told.pixels)
                moved = [None if one is None else one.through(place) for one in moved]
        return _Source(frame, size, dict(zip([index, *others], moved)))

    @staticmethod
    def _by_worth(frame: Frame, told: MovedPoints, moved: list[MovedPoints | None]) -> Int[Tensor, "wanted"]:
        """The pixels that ``moved`` speaks of: those known at more times later, and of them the nearer ones later."""
        usable = frame.valid.flatten().index_select(0, told.pixels).nonzero()[:, 0]
        pixels = told.pixels.index_select(0, usable)
        known = sum(one.valid.index_select(0, usable).long() for one in moved if one is not None)
        # The bits of positive floats have their order.
        depth = frame.depth.flatten().index_select(0, pixels).float().view(torch.int32)
        return pixels.index_select(0, (known * 2**32 - depth).argsort(stable=True))

    def _at_targets(
        self, frames: list[int], sources: "list[_Source]", places: list[int], own: Tensor, world: Tensor, far: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """P_i(t_j) in the world of the clip [targets frames h w], where it is known, and whether a pixel's point gets
        ``far`` from its own place in the times of the clip [frames h w]. ``world`` takes the data set's world there."""
        points = own.new_zeros(len(places), *own.shape)
        known = torch.zeros(points.shape[:-1], dtype=torch.bool)
        leaves = torch.zeros(own.shape[:-1], dtype=torch.bool)
        for number, (index, (view, _, moved)) in enumerate(zip(frames, sources)):
            for row, place in enumerate(places):
                if self.static or frames[place] == index:
                    points[row, number], known[row, number] = own[number], view.valid
            start = moved.get(index)
            for frame, there in moved.items():
                if there is None or frame == index:
                    continue
                good = there.valid & there.of(view.valid.flatten())
                rows = [row for row, place in enumerate(places) if frames[place] == frame]
                new = blanked(moved_rows(world, there.points), good) if rows else None
                for row in rows:
                    assert new is not None
                    if there.rest_stands:
                        points[row, number], known[row, number] = own[number], view.valid
                    there.write(new, points[row, number].view(-1, 3))
                    there.write(good, known[row, number].view(-1))
                if start is not None:
                    way = squared_lengths((there.points - start.points).T) > far**2
                    flags = leaves[number].view(-1)
                    there.write(way & good & start.valid | there.of(flags), flags)
        return points, known, leaves

    def _check(self, frames: list[int], places: list[int], reference: int) -> None:
        if not frames or not all(0 <= index < len(self) for index in frames):
            raise UsageError(f"{self.name}: frames {frames[:9]} are not among its frames 0 to {len(self) - 1}")
        if not all(0 <= place < len(frames) for place in [*places, reference]):
            raise UsageError(
                f"{self.name}: targets {places[:9]} and reference {reference} count within the clip, "
                f"from 0 to {len(frames) - 1}"
            )


class _Source(NamedTuple):
    """A frame of a clip: as wanted, its size on disk, and its points at the times of frames, its own among them."""

    frame: Frame
    size: Size
    moved: dict[int, MovedPoints | None]


def _stacked(maps: list[Tensor | None]) -> Tensor | None:
    known = [one for one in maps if one is not None]
    return torch.stack(known) if known and len(known) == len(maps) else None

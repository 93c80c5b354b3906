"""A sequence of a data set: frames with depth and cameras, from which clips (``Snippet``) are cut.

Every reader fills in ``frame`` and, where the data set knows how points move, ``moved``; what a snippet is, which world
it lives in and which of its points are known is decided here, once for all of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence as Indices
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.geometry.alignment import unit_mean_distance
from vdpm.geometry.pinhole import unproject
from vdpm.geometry.rigid import invert_rigid
from vdpm.structures import Snippet

DYNAMIC_SHARE = 0.01
"""A pixel is dynamic when its point moves by more than this share of the clip's mean distance, as in our scenes."""


class Frame(NamedTuple):
    """One frame as a data set has it, in OpenCV axes and pixels with centres at +0.5, whatever its files say.

    ``depth`` is z in the camera (not the distance), in the data set's unit; it means something where ``valid``.
    ``c2w`` goes to the data set's own world. ``instances`` numbers objects (0: background); ``sky`` marks pixels known
    to show nothing at any distance; ``measured`` are points in the data set's world, where files hold points and not
    depth. None: the data set does not say.
    """

    image: UInt8[Tensor, "height width 3"]
    depth: Float[Tensor, "height width"]
    valid: Bool[Tensor, "height width"]
    c2w: Float[Tensor, "4 4"]
    intrinsics: Float[Tensor, "3 3"]
    instances: Int[Tensor, "height width"] | None = None
    sky: Bool[Tensor, "height width"] | None = None
    measured: Float[Tensor, "height width 3"] | None = None

    def points(self) -> Float[Tensor, "height width 3"]:
        """The points its pixels see, in the data set's world, in float64; what lies where depth is unknown is 0."""
        if self.measured is not None:
            return self.measured.double()
        return placed(self.c2w.double(), self.in_camera().double())

    def in_camera(self) -> Float[Tensor, "height width 3"]:
        """The points in the camera, in float32; what lies where depth is unknown is 0."""
        if self.measured is not None:
            return placed(invert_rigid(self.c2w.double()), self.measured.double()).float()
        depth = self.depth.float().masked_fill(~self.valid, 0)
        return unproject(depth, self.intrinsics.float())


class MovedPoints(NamedTuple):
    """Where pixels of one frame are at another time, in the data set's world, and for which of them it is known.

    ``pixels``: which pixels it speaks of, numbered along the rows. ``rest_stands``: all others stand still (else they
    are unknown). ``rejected``: how many more the files hold that the reader found to belie their own frame.
    """

    pixels: Int[Tensor, "pixels"]
    points: Float[Tensor, "pixels 3"]
    valid: Bool[Tensor, "pixels"]
    rest_stands: bool = False
    rejected: int = 0

    def maps(self, frame: Frame) -> tuple[Float[Tensor, "height width 3"], Bool[Tensor, "height width"]]:
        """The same for all pixels of ``frame``, whose pixels these are: points in float64, and where they are known."""
        points = frame.points() if self.rest_stands else torch.zeros(*frame.depth.shape, 3, dtype=torch.float64)
        known = frame.valid.clone() if self.rest_stands else torch.zeros_like(frame.valid)
        points.view(-1, 3)[self.pixels] = self.points.double()
        known.view(-1)[self.pixels] = self.valid & frame.valid.flatten()[self.pixels]
        return points, known


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

    def moved(self, index: int, frame: Frame, targets: Indices[int]) -> list[MovedPoints | None]:
        """The points of the pixels of frame ``index`` (which is ``frame``) at the times of ``targets``; None: unknown.

        Asked for its own time, it answers from the same source as for any other time, and of the same pixels: the
        difference is motion.
        """
        return [None] * len(targets)

    def snippet(self, frames: Indices[int], targets: Indices[int] | None = None, reference: int = 0) -> Snippet:
        """A clip of the sequence's frames ``frames``, in that order.

        ``targets`` (all if None) and ``reference`` count within the clip: 0 is ``frames[0]``. The world is the camera
        of the reference; lengths stay in the data set's unit; times are seconds from the sequence's start.
        ``target_valid`` says where P_i(t_j) is known; at a frame's own time that is where its depth is. ``dynamic`` is
        False where no motion is known. Raises UsageError for frames that do not exist, CorruptFile for damaged files.
        """
        frames = list(frames)
        places = list(range(len(frames))) if targets is None else list(targets)
        self._check(frames, places, reference)
        views = [self.frame(index) for index in frames]
        sizes = {tuple(view.depth.shape) for view in views}
        if len(sizes) > 1:
            raise UsageError(f"{self.name}: frames {frames} differ in size: {sorted(sizes)}; choose frames of one size")
        valid = torch.stack([view.valid for view in views])
        world = invert_rigid(views[reference].c2w.double())
        c2w = world @ torch.stack([view.c2w for view in views]).double()
        # float32 from here on: lengths are now of the size of the scene, wherever in the world it lies.
        seen = [placed(pose.float(), view.in_camera()) for pose, view in zip(c2w, views)]
        points = torch.stack(seen).masked_fill_(~valid[..., None], 0)
        at_targets, known, travel = self._at_targets(frames, views, places, points, world)
        distance = unit_mean_distance(points, valid, batch_axes=0)
        return Snippet(
            images=torch.stack([view.image for view in views]).permute(0, 3, 1, 2).float() / 255,
            timestamps=self.timestamps[frames].float(),
            c2w=c2w.float(),
            intrinsics=torch.stack([view.intrinsics for view in views]).float(),
            points=points,
            targets=torch.tensor(places, dtype=torch.long),
            target_points=at_targets,
            valid=valid,
            dynamic=(travel > DYNAMIC_SHARE * distance) & valid,
            target_valid=known,
            instances=_stacked([view.instances for view in views]),
            sky=_stacked([view.sky for view in views]),
            reference=reference,
        )

    def _at_targets(
        self, frames: list[int], views: list[Frame], places: list[int], own: Tensor, world: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """P_i(t_j) in the world of the clip [targets frames h w 3], where it is known, and how far each pixel's point
        gets from its own place in the times of the clip [frames h w]. ``world`` takes the data set's world there."""
        points = own.new_zeros(len(places), *own.shape)
        known = torch.zeros(points.shape[:-1], dtype=torch.bool)
        travel = own.new_zeros(own.shape[:-1])
        for source, (index, view) in enumerate(zip(frames, views)):
            for row, place in enumerate(places):
                if self.static or frames[place] == index:
                    points[row, source], known[row, source] = own[source], view.valid
            others = [] if self.static else sorted({frame for frame in frames if frame != index})
            start, *moved = self.moved(index, view, [index, *others]) if others else [None]
            for frame, there in zip(others, moved):
                if there is None:
                    continue
                good = there.valid & view.valid.flatten()[there.pixels]
                new = torch.addmm(world[:3, 3], there.points.double(), world[:3, :3].T).to(own.dtype)
                new = new.masked_fill_(~good[:, None], 0)
                for row in (row for row, place in enumerate(places) if frames[place] == frame):
                    if there.rest_stands:
                        points[row, source], known[row, source] = own[source], view.valid
                    points[row, source].view(-1, 3)[there.pixels] = new
                    known[row, source].view(-1)[there.pixels] = good
                if start is not None:
                    way = (there.points - start.points).square().sum(-1).masked_fill_(~(good & start.valid), 0)
                    farthest = torch.maximum(travel[source].view(-1)[there.pixels], way.to(own.dtype))
                    travel[source].view(-1)[there.pixels] = farthest
        return points, known, travel.sqrt()

    def _check(self, frames: list[int], places: list[int], reference: int) -> None:
        if not frames or not all(0 <= index < len(self) for index in frames):
            raise UsageError(f"{self.name}: frames {frames[:9]} are not among its frames 0 to {len(self) - 1}")
        if not all(0 <= place < len(frames) for place in [*places, reference]):
            raise UsageError(
                f"{self.name}: targets {places[:9]} and reference {reference} count within the clip, "
                f"from 0 to {len(frames) - 1}"
            )


def placed(transform: Float[Tensor, "4 4"], points: Float[Tensor, "height width 3"]) -> Float[Tensor, "height width 3"]:
    """``geometry.rigid.transform_points`` for one motion and many points, several times as fast on a CPU."""
    return torch.addmm(transform[:3, 3], points.reshape(-1, 3), transform[:3, :3].T).reshape(points.shape)


def _stacked(maps: list[Tensor | None]) -> Tensor | None:
    known = [one for one in maps if one is not None]
    return torch.stack(known) if known and len(known) == len(maps) else None

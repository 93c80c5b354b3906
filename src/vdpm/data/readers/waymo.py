"""Waymo's perception data set, v1 (1.4.x): drives of 20 s with lidar, five cameras and tracked boxes.

    <root>/{training,validation,testing}/segment-*.tfrecord    or the files themselves in <root>

A file is a drive, a record a ``Frame``; they are read without TensorFlow. Points are the first returns of all lidars in
the pixels that ``camera_projection`` names (the lens's distortion and the rolling shutter are in it), straightened with
the picture. Depth is theirs, hence sparse. A camera stands where its own picture's pose says, not the frame's.

A point in a box moves with the box of the same id, ``B(t_j) B(t_i)^-1``; a point in none stands still in the world. At
another time it is unknown where its id is missing there, or if it lies in a zone without labels. The lidar on the roof
sees over things that hide what lies behind them from the cameras below: points with a much nearer one close by in the
picture are left out.
"""

import zlib
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int

from vdpm.data.frame import Frame, MovedPoints
from vdpm.data.quarantine import CorruptFile, Quarantine, open_each
from vdpm.data.readers.files import read_rgb
from vdpm.data.readers.lens import LensCamera, mixed_pixels
from vdpm.data.readers.tfrecord import read_record, record_heads
from vdpm.data.readers.waymo_frame import Boxes, WaymoFrame, head_seconds
from vdpm.data.sequence import DataSequence
from vdpm.data.window import Size, Window
from vdpm.errors import InputError

CAMERAS = {"front": 1, "front_left": 2, "front_right": 3, "side_left": 4, "side_right": 5}
Camera = Literal["front", "front_left", "front_right", "side_left", "side_right"]
SPLITS = ("training", "validation", "testing")
HEAD_BYTES = 2**14
"""Of a record: calibrations and, after them, the time."""
HIDING_CELLS = 200
"""Cells along the picture's height; a point is compared with those in its own cell and the eight around it ..."""
HIDING_SHARE = 0.75
"""... and left out where one of them is nearer than this share of its distance. A street seen at a slant is not."""
_Read = TypeVar("_Read")


class Sweep(NamedTuple):
    """Points of one frame in one camera, at most one a pixel. ``pixels`` are numbered along the rows. ``boxes``: the
    number of the box that a point lies in, -1 for none; ``unlabelled``: whether nobody knows if it lies in any."""

    pixels: Int[np.ndarray, "points"]
    points: Float[np.ndarray, "points 3"]
    depth: Float[np.ndarray, "points"]
    boxes: Int[np.ndarray, "points"]
    unlabelled: np.ndarray
    c2w: Float[np.ndarray, "4 4"]
    lens: LensCamera


class WaymoSequence(DataSequence):
    """One drive as one camera saw it."""

    sparse = True
    tracked = True

    def __init__(self, path: Path, name: str, camera: str) -> None:
        heads = record_heads(path, HEAD_BYTES)
        if not heads:
            raise CorruptFile(path, "holds no frames")
        self._path, self._camera = path, CAMERAS[camera]
        self._offsets = [offset for offset, _ in heads]
        early = [head_seconds(head) for _, head in heads]
        times = torch.tensor(
            [
                _read(path, offset, lambda one: one.seconds) if time is None else time
                for offset, time in zip(self._offsets, early)
            ],
            dtype=torch.float64,
        )
        super().__init__(name, times - times[0])

    def frame(self, index: int) -> Frame:
        return self._frame(index, 1)

    def frame_for(self, index: int, window: Callable[[Size], Window]) -> Frame:
        lens = _sweep(self._path, self._offsets[index], self._camera).lens
        return self._frame(index, window(lens.size).spare)

    def _frame(self, index: int, spare: int) -> Frame:
        """Its picture is smaller by ``spare`` if that divides its sides."""
        offset = self._offsets[index]
        sweep = _sweep(self._path, offset, self._camera)
        content, _ = _read(self._path, offset, lambda one: one.image(self._camera))
        lens = sweep.lens
        height, width = lens.size
        if height % spare or width % spare:
            spare = 1
        picture = read_rgb(self._path, bytes(content), spare)
        # What is no JPEG comes whole.
        shown = lens if tuple(picture.shape[:2]) == lens.size else lens.coarser(spare)
        if tuple(picture.shape[:2]) != shown.size:
            found = [side * spare for side in picture.shape[:2]]
            raise CorruptFile(self._path, f"its picture is {found}, its camera {[*lens.size]}")
        ids = np.array([0, *(_number_of(one) for one in _boxes(self._path, offset).ids)])
        # index_copy_: far faster than an index.
        pixels = torch.from_numpy(sweep.pixels)
        depth = torch.zeros(height * width).index_copy_(0, pixels, torch.from_numpy(sweep.depth).float())
        # numpy's zeros are written only where something is put between them.
        measured = torch.from_numpy(np.zeros((height * width, 3)))
        measured.index_copy_(0, pixels, torch.from_numpy(sweep.points))
        instances = torch.from_numpy(np.zeros(height * width, np.int64))
        instances.index_copy_(0, pixels, torch.from_numpy(ids.take(sweep.boxes + 1)))
        return Frame(
            image=picture if lens.model == "PINHOLE" else mixed_pixels(picture, shown.kept_places()),
            depth=depth.view(height, width),
            valid=(depth > 0).view(height, width),
            c2w=torch.from_numpy(sweep.c2w),
            intrinsics=lens.intrinsics,
            instances=instances.view(height, width),
            measured=measured.view(height, width, 3),
        )

    def moved(self, index: int, frame: Frame, targets: Sequence[int]) -> list[MovedPoints | None]:
        sweep = _sweep(self._path, self._offsets[index], self._camera)
        here = _boxes(self._path, self._offsets[index])
        pixels = torch.from_numpy(sweep.pixels)
        boxed = np.flatnonzero(sweep.boxes >= 0)
        boxed = boxed[sweep.boxes[boxed].argsort(kind="stable")]
        numbers, starts = np.unique(sweep.boxes[boxed], return_index=True)
        groups = [(int(number), group) for number, group in zip(numbers, np.split(boxed, starts[1:]))]
        found: list[MovedPoints | None] = []
        for target in targets:
            there = _boxes(self._path, self._offsets[target])
            points, known = sweep.points.copy(), ~sweep.unlabelled
            for number, inside in groups if target != index else ():
                if here.ids[number] not in there.ids:
                    known[inside] = False
                    continue
                motion = there.to_world[there.ids.index(here.ids[number])] @ np.linalg.inv(here.to_world[number])
                points[inside] = points[inside] @ motion[:3, :3].T + motion[:3, 3]
            found.append(MovedPoints(pixels, torch.from_numpy(points), torch.from_numpy(known)))
        return found


def open_waymo(root: Path, quarantine: Quarantine | None = None, camera: Camera = "front") -> list[DataSequence]:
    """The drives under ``root``: of all splits, of one, or the one file that it is.

    Raises InputError where there are none.
    """
    if root.is_file():
        files = [root]
    else:
        folders = [root, *(root / split for split in SPLITS)]
        files = [path for folder in folders if folder.is_dir() for path in sorted(folder.glob("*.tfrecord*"))]
    if not files:
        raise InputError(f"{root}: holds no segment-*.tfrecord; give the folder of Waymo's perception files (v1)")
    names = [path.name.split(".")[0] if path == root else path.relative_to(root).as_posix() for path in files]
    return open_each([partial(WaymoSequence, *one, camera) for one in zip(files, names)], quarantine)


def box_of(points: Float[np.ndarray, "points 3"], boxes: Boxes) -> Int[np.ndarray, "points"]:
    """The number of the box that each point of the world lies in, -1 for none; of several, where it lies deepest."""
    found, depth = np.full(len(points), -1), np.ones(len(points))
    # In the order of x, of which each box needs a short stretch: drives have hundreds of boxes.
    by_x = points[:, 0].argsort()
    x = points[by_x, 0]
    for number, (to_world, size) in enumerate(zip(boxes.to_world, boxes.sizes)):
        centre, reach = to_world[:3, 3], np.sqrt(np.square(size).sum()) / 2
        near = by_x[slice(*x.searchsorted((centre[0] - reach, centre[0] + reach)))]
        near = near[np.abs(points[near, 1] - centre[1]) <= reach]
        local = (points[near] - centre) @ to_world[:3, :3]
        outward = np.abs(local / np.maximum(size / 2, 1e-9)).max(axis=1, initial=0)
        deeper = outward <= depth[near]
        found[near[deeper]], depth[near[deeper]] = number, outward[deeper]
    return found


def _seen(
    lens: LensCamera, w2c: Float[np.ndarray, "4 4"], points: np.ndarray, taken: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of points of the world and the pixels that they lie in as taken: which of them are seen, in which pixels of the
    straightened picture, and at which depth. Of several in a pixel the nearest is."""
    height, width = lens.size
    # Pixel 0 begins at 0: the middle of a pixel is at +0.5.
    straight = lens.model == "PINHOLE"
    places = taken if straight else lens.straightened(torch.from_numpy(taken + 0.5)).floor().long().numpy()
    z = points @ w2c[2, :3] + w2c[2, 3]
    column, row = places.T
    inside = (column >= 0) & (row >= 0) & (column < width) & (row < height) & (z > 0)
    chosen = np.flatnonzero(inside)
    pixels = column[chosen] + row[chosen] * width
    # Pixel by pixel, near ones first: the bits of positive floats have their order.
    nearness = z[chosen].astype(np.float32).view(np.int32)
    order = (np.left_shift(pixels, 32) | nearness).argsort(kind="stable")
    chosen, pixels = chosen[order], pixels[order]
    first = np.diff(pixels, prepend=-1) > 0
    chosen, pixels = chosen[first], pixels[first]
    depth = z[chosen]
    shown = ~_hidden(places.take(chosen, axis=0), depth, max(1, height // HIDING_CELLS))
    return chosen[shown], pixels[shown], depth[shown]


def _hidden(places: np.ndarray, z: np.ndarray, cell: int) -> np.ndarray:
    """Which of the points have a much nearer one close by; ``cell`` is the side of a cell in pixels."""
    if not len(z):
        return np.zeros(0, bool)
    column, row = (places // cell + 1).T
    nearest = np.full((row.max() + 2, column.max() + 2), np.inf)
    np.minimum.at(nearest, (row, column), z)
    if cell > 1:
        around = [np.roll(nearest, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
        nearest = np.minimum.reduce(around)
    return nearest[row, column] < HIDING_SHARE * z


def _number_of(name: str) -> int:
    """A number above 0 that stands for an id in all frames."""
    return zlib.crc32(name.encode()) % (2**31 - 1) + 1


def _read(path: Path, offset: int, part: Callable[[WaymoFrame], _Read]) -> _Read:
    try:
        return part(_record(path, offset))
    except (ValueError, IndexError) as error:
        if isinstance(error, CorruptFile):
            raise
        raise CorruptFile(path, f"the record at byte {offset} is no frame of Waymo's ({error})") from None


@lru_cache(maxsize=2)
def _record(path: Path, offset: int) -> WaymoFrame:
    """Kept for the last frames read: picture, points and boxes are asked for one after the other."""
    return WaymoFrame(read_record(path, offset))


@lru_cache(maxsize=256)
def _boxes(path: Path, offset: int) -> Boxes:
    return _read(path, offset, WaymoFrame.boxes)


@lru_cache(maxsize=64)
def _sweep(path: Path, offset: int, camera: int) -> Sweep:
    """Kept for the frames of the last clips: asked for with the picture, and again for motion."""
    lens, to_vehicle = _read(path, offset, lambda one: one.camera(camera))
    _, pose = _read(path, offset, lambda one: one.image(camera))
    returns = _read(path, offset, lambda one: one.returns(camera))
    c2w = pose @ to_vehicle
    shown, pixels, depth = _seen(lens, np.linalg.inv(c2w), returns.points, returns.pixels)
    points = returns.points.take(shown, axis=0)
    boxes = box_of(points, _boxes(path, offset))
    return Sweep(pixels, points, depth, boxes, returns.unlabelled[shown], c2w, lens)

"""What a record of Waymo's perception data set (v1, ``Frame``) says, as far as clips with ground truth need it.

Numbers of fields are those of the data set's ``dataset.proto`` and ``label.proto``. Transforms are 4 x 4, row by row.
Range images and what goes with them are matrices compressed by zlib.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from struct import Struct
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int

from vdpm.data.readers.lens import LensCamera
from vdpm.data.readers.protobuf import Message, fields
from vdpm.data.readers.range_image import beam_inclinations, cell_points, column_azimuths, placed_by_cell
from vdpm.geometry.rigid import is_rigid

MAX_MATRIX_BYTES = 2**27
"""Of one matrix unpacked: the largest known, poses of the lidar on the roof, has 4 MB."""
MAX_SIDE = 16_384
FROM_OPENCV = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""From OpenCV's axes (x right, y down, z forward) to those of Waymo's cameras (x forward, y left, z up)."""

_WHOLE_BOX, _WHOLE_BOX_TAGS = Struct("<" + 7 * "Bd"), tuple(number << 3 | 1 for number in range(1, 8))
"""A Box as it is written where it has all of its numbers, as nearly all have: read at once, for there are hundreds."""


@dataclass(frozen=True)
class Boxes:
    """Labels of a frame. ``to_world``: from the axes of each box, its centre at 0; ``sizes``: along x, y, z."""

    ids: tuple[str, ...]
    to_world: Float[np.ndarray, "boxes 4 4"]
    sizes: Float[np.ndarray, "boxes 3"]


@dataclass(frozen=True)
class Returns:
    """Points in the world that one camera sees, and the pixels (x, y) that they lie in, in the picture as taken.

    ``unlabelled``: in a zone where objects have no boxes.
    """

    points: Float[np.ndarray, "points 3"]
    pixels: Int[np.ndarray, "points 2"]
    unlabelled: np.ndarray


class WaymoFrame:
    """One record. Its parts are read when asked for; what is wrong with them raises ValueError (or IndexError)."""

    def __init__(self, data: bytes) -> None:
        self._frame = Message(data)
        self._context = bytes(self._frame.content(1))
        self.seconds = self._frame.integer(2) / 1e6
        self.pose = rigid_matrix(self._frame.message(3))

    def camera(self, name: int) -> tuple[LensCamera, Float[np.ndarray, "4 4"]]:
        """The lens, and camera-to-vehicle with OpenCV's axes, of the camera of that number."""
        return _camera(self._context, name)

    def image(self, name: int) -> tuple[memoryview, Float[np.ndarray, "4 4"]]:
        """The bytes of the picture of that camera, a JPEG, and the car's pose when it was taken."""
        image = next((one for one in self._frame.messages(4) if one.integer(1) == name), None)
        if image is None:
            raise ValueError(f"no picture of camera {name}")
        return image.content(2), rigid_matrix(image.message(3))

    def boxes(self) -> Boxes:
        """Boxes stand upright in the vehicle's frame; their heading turns x to y."""
        labels = self._frame.messages(6)
        ids = tuple(label.text(4) for label in labels)
        if len(set(ids)) != len(ids):
            raise ValueError("two labels of one frame have the same id")
        numbers = np.array([box_numbers(label.content(1)) for label in labels]).reshape(len(ids), 7)
        if not np.isfinite(numbers).all():
            raise ValueError("a label's box holds a number that is not finite")
        heading = numbers[:, 6]
        local = np.tile(np.eye(4), (len(ids), 1, 1))
        local[:, 0, 0] = local[:, 1, 1] = np.cos(heading)
        local[:, 1, 0], local[:, 0, 1] = np.sin(heading), -np.sin(heading)
        local[:, :3, 3] = numbers[:, :3]
        return Boxes(ids, self.pose @ local, numbers[:, 3:6])

    def returns(self, camera: int) -> Returns:
        """First returns of all lidars, as far as that camera sees them."""
        found = [*self._returns(camera)]
        return Returns(
            points=np.concatenate([np.zeros((0, 3)), *(one.points for one in found)]),
            pixels=np.concatenate([np.zeros((0, 2), np.int64), *(one.pixels for one in found)]),
            unlabelled=np.concatenate([np.zeros(0, bool), *(one.unlabelled for one in found)]),
        )

    def _returns(self, camera: int) -> Iterator[Returns]:
        for laser in self._frame.messages(5):
            first = laser.message(2)
            if not len(first.content(2)):
                continue
            lidar = _lidar(self._context, laser.integer(1))
            image, seen = _matrix(first.content(2), whole=False), _matrix(first.content(3), whole=True)
            if image.ndim != 3 or image.shape[2] != 4 or seen.shape != (*image.shape[:2], 6):
                raise ValueError(f"range image of {[*image.shape]} with projections of {[*seen.shape]}")
            rows, columns = image.shape[:2]
            seen = seen.reshape(-1, 6)
            # take: far faster than an index. Of most cells, which other cameras see, no more is read than this.
            cells = np.flatnonzero((seen[:, 0] == camera) | (seen[:, 3] == camera))
            chosen = image.reshape(-1, 4).take(cells, axis=0)
            # What is not a number is neither.
            with np.errstate(invalid="ignore"):
                hit = np.flatnonzero((chosen[:, 0] > 0) & (chosen[:, 0] < np.inf))
            cells, chosen = cells.take(hit), chosen.take(hit, axis=0)
            points = cell_points(
                chosen[:, 0],
                *np.divmod(cells, columns),
                beam_inclinations(lidar.beams, *lidar.ends, rows),
                column_azimuths(columns, lidar.to_vehicle),
                lidar.to_vehicle,
            )
            if len(first.content(4)):
                poses = _matrix(first.content(4), whole=False)
                if poses.shape != (rows, columns, 6):
                    raise ValueError(f"poses of {[*poses.shape]} for {rows} x {columns} cells")
                points = placed_by_cell(points, poses.reshape(-1, 6).take(cells, axis=0))
            else:
                points = points @ self.pose[:3, :3].T + self.pose[:3, 3]
            seen = seen.take(cells, axis=0)
            pixels = np.where(seen[:, :1] == camera, seen[:, 1:3], seen[:, 4:6]).astype(np.int64)
            yield Returns(points, pixels, chosen[:, 3] > 0)


class _Lidar(NamedTuple):
    """``beams``: inclinations, in radians, from the lowest up; where there are none, they lie between the ``ends``."""

    to_vehicle: Float[np.ndarray, "4 4"]
    beams: Float[np.ndarray, "beams"]
    ends: tuple[float, float]


@lru_cache(maxsize=16)
def _camera(context: bytes, name: int) -> tuple[LensCamera, Float[np.ndarray, "4 4"]]:
    """Kept: the same for all frames of a drive."""
    calibration = next((one for one in Message(context).messages(2) if one.integer(1) == name), None)
    if calibration is None:
        raise ValueError(f"no calibration of camera {name}")
    numbers = calibration.doubles(2)
    size = (calibration.integer(5), calibration.integer(4))
    if len(numbers) != 9 or not np.isfinite(numbers).all() or not (numbers[:2] > 0).all():
        raise ValueError(f"the intrinsics of camera {name} are no pinhole camera's")
    if not all(1 <= side <= MAX_SIDE for side in size):
        raise ValueError(f"camera {name} has {size[1]} x {size[0]} pixels")
    fu, fv, cu, cv, *distortion = numbers.tolist()
    k = torch.tensor([[fu, 0, cu], [0, fv, cv], [0, 0, 1]], dtype=torch.float64)
    lens = LensCamera("OPENCV" if any(distortion) else "PINHOLE", size, k, tuple(distortion))
    return lens, rigid_matrix(calibration.message(3)) @ FROM_OPENCV


@lru_cache(maxsize=64)
def _lidar(context: bytes, name: int) -> _Lidar:
    """Kept, as cameras are."""
    calibration = next((one for one in Message(context).messages(3) if one.integer(1) == name), None)
    if calibration is None:
        raise ValueError(f"no calibration of lidar {name}")
    ends = (calibration.double(3), calibration.double(4))
    return _Lidar(rigid_matrix(calibration.message(5)), calibration.doubles(2), ends)


def box_numbers(content: memoryview) -> tuple[float, ...]:
    """Centre, length, width, height and heading of a Box."""
    if len(content) == _WHOLE_BOX.size:
        found = _WHOLE_BOX.unpack(content)
        if found[::2] == _WHOLE_BOX_TAGS:
            x, y, z, width, length, height, heading = found[1::2]
            return x, y, z, length, width, height, heading
    box = Message(content)
    return tuple(box.double(number) for number in (1, 2, 3, 5, 4, 6, 7))


def head_seconds(head: bytes) -> float | None:
    """The time of the frame whose record begins so, in seconds; None where it does not come as early as that."""
    try:
        return next(value / 1e6 for number, value in fields(head) if number == 2 and isinstance(value, int))
    except (StopIteration, ValueError, IndexError):
        return None


def rigid_matrix(transform: Message) -> Float[np.ndarray, "4 4"]:
    """The matrix of a Transform. Raises ValueError for what is no rigid motion."""
    numbers = transform.doubles(1)
    if len(numbers) != 16 or not np.isfinite(numbers).all():
        raise ValueError("a transform is not 16 finite numbers")
    matrix = numbers.reshape(4, 4).astype(np.float64)
    if not bool(is_rigid(torch.from_numpy(matrix))):
        raise ValueError("a transform is no rigid motion")
    return matrix


def _matrix(compressed: memoryview, whole: bool) -> np.ndarray:
    """A MatrixFloat, or a MatrixInt32 (``whole``), unpacked no further than its own bounds."""
    unpacking = zlib.decompressobj()
    try:
        content = unpacking.decompress(compressed, MAX_MATRIX_BYTES)
    except zlib.error as error:
        raise ValueError(f"a matrix cannot be unpacked ({error})") from None
    if not unpacking.eof:
        raise ValueError("a matrix ends early, or is too large")
    message = Message(content)
    shape = message.message(2).integers(1).tolist()
    values = message.integers(1) if whole else message.floats(1)
    if not shape or any(not 0 < side <= MAX_SIDE for side in shape) or prod(shape) != len(values):
        raise ValueError(f"a matrix of {len(values)} numbers says that it is {shape}")
    return values.reshape(shape)

"""Kubric: MOVi as TFDS stores it (TFRecord files), or scenes as Kubric itself writes them (a folder each).

    *.tfrecord*    one Example a scene: video, depth, segmentations, object_coordinates, camera/..., instances/...
    <scene>/metadata.json, rgba_00000.png, depth_00000.tiff, segmentation_00000.png, object_coordinates_00000.png

Depth is the distance from the camera, not z; in TFRecords 16 bit between the ends of ``metadata/depth_range``. Cameras
are OpenGL's, camera to world, quaternions (w, x, y, z); fx = fy = focal / sensor width * width, the principal point is
the middle, rays go through u + 0.5. Segmentations hold the number of the instance + 1; 0, the background, stands still.

A pixel of an instance has coordinates o in the box [-1/2, 1/2]^3 that moves with it. The affine map from the corners of
that box to ``bboxes_3d`` at any time takes o to the point's place at that time; ``is_dynamic`` is not to be trusted,
since objects at rest get hit. Pixels whose o and depth give points over 1 % of the distance apart are unknown at other
times.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor

from vdpm.data.frame import Frame, MovedPoints, squared_lengths
from vdpm.data.quarantine import CorruptFile, Quarantine, open_each
from vdpm.data.readers.files import MAX_TEXT_BYTES, list_folders, read_bytes, read_gray, read_rgb, read_rgb16
from vdpm.data.readers.tfrecord import Value, parse_example, read_record, record_offsets
from vdpm.data.sequence import DataSequence
from vdpm.errors import InputError
from vdpm.geometry.pinhole import unproject
from vdpm.geometry.rigid import quaternion_to_matrix, rigid

FRAME_RATE = 12.0
MAX_DISTANCE = 1000.0
"""Beyond it there is nothing: Kubric writes 1e10 where no surface was hit."""
MAX_DISAGREEMENT = 0.01
"""Of the distance, between the points of depth and of object coordinates."""
_CORNERS = np.array(list(product((-0.5, 0.5), repeat=3)))
_TO_AFFINE = np.linalg.pinv(np.concatenate((_CORNERS, np.ones((8, 1))), axis=1))
"""[4, 8]: times the eight corners of a box at some time it is the affine map to that box."""
_FROM_OPENGL = torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64))


@dataclass(frozen=True)
class KubricScene:
    """What a scene says of its cameras and boxes. ``boxes``: [instances, frames, 8, 3]; ``focal`` in image widths."""

    c2w: Float[Tensor, "frames 4 4"]
    focal: float
    boxes: np.ndarray

    @classmethod
    def checked(
        cls, path: Path, positions: np.ndarray, quaternions: np.ndarray, focal: float, width: float, boxes: np.ndarray
    ) -> "KubricScene":
        """Raises CorruptFile for numbers that are no cameras or boxes of one scene."""
        count = positions.size // 3
        if count == 0 or positions.size != 3 * count or quaternions.size != 4 * count or boxes.size % (count * 24):
            raise CorruptFile(path, "its cameras and boxes are of different numbers of frames")
        numbers = (positions, quaternions, boxes, np.array([focal, width]))
        if not all(np.isfinite(part).all() for part in numbers) or not (focal > 0 and width > 0):
            raise CorruptFile(path, "its cameras or boxes hold numbers that are not finite, or no focal length")
        turned = torch.from_numpy(quaternions.reshape(count, 4)[:, [1, 2, 3, 0]].astype(np.float64))
        if bool((turned.norm(dim=1) < 0.5).any()):
            raise CorruptFile(path, "a camera's quaternion is 0")
        place = torch.from_numpy(positions.reshape(count, 3).astype(np.float64))
        c2w = rigid(quaternion_to_matrix(turned), place) @ _FROM_OPENGL
        instances = boxes.size // (count * 24)
        return cls(c2w, focal / width, boxes.reshape(instances, count, 8, 3).astype(np.float64))


@runtime_checkable
class KubricFiles(Protocol):
    """Where the pictures of a scene come from. ``path`` names the scene in complaints."""

    path: Path

    def scene(self) -> KubricScene: ...

    def image(self, index: int) -> UInt8[Tensor, "height width 3"]: ...

    def distance(self, index: int) -> Float[Tensor, "height width"]: ...

    def segmentation(self, index: int) -> Float[Tensor, "height width"]: ...

    def coordinates(self, index: int) -> UInt16[np.ndarray, "height width 3"]:
        """0 to 65535 from one side of the box to the other."""
        ...


class KubricSequence(DataSequence):
    """One scene of Kubric."""

    tracked = True

    def __init__(self, name: str, files: KubricFiles, num_frames: int) -> None:
        super().__init__(name, torch.arange(num_frames, dtype=torch.float64) / FRAME_RATE)
        self._files = files

    def frame(self, index: int) -> Frame:
        scene = self._scene()
        image, distance = self._files.image(index), self._files.distance(index)
        instances = self._files.segmentation(index).long()
        if not image.shape[:2] == distance.shape == instances.shape:
            raise CorruptFile(self._files.path, f"pictures of frame {index} differ in size")
        if bool((instances > len(scene.boxes)).any()):
            raise CorruptFile(
                self._files.path, f"frame {index} shows instance {int(instances.max())}, which has no box"
            )
        height, width = distance.shape
        focal = scene.focal * width
        k = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)
        valid = (distance > 0) & (distance < MAX_DISTANCE)
        depth = distance.masked_fill(~valid, 0) / _ray_lengths(focal, height, width)
        return Frame(image, depth, valid, scene.c2w[index], k, instances, sky=~valid)

    def moved(self, index: int, frame: Frame, targets: Sequence[int]) -> list[MovedPoints | None]:
        scene = self._scene()
        assert frame.instances is not None
        labels = frame.instances.flatten()
        shown = labels.nonzero()[:, 0]
        # Instance by instance, so that each is one product with one matrix. Short numbers are sorted far faster.
        of_shown = labels[shown].numpy().astype(np.min_scalar_type(len(scene.boxes)))
        shown = shown[torch.from_numpy(of_shown.argsort(kind="stable"))]
        inside = self._files.coordinates(index)
        size, pixels = (frame.depth.shape, None) if frame.origin is None else frame.origin
        if tuple(inside.shape[:2]) != tuple(size):
            raise CorruptFile(self._files.path, f"pictures of frame {index} differ in size")
        on_disk = (shown if pixels is None else pixels.flatten()[shown]).numpy()
        o = torch.from_numpy(inside.reshape(-1, 3).take(on_disk, axis=0).astype(np.float32))
        place = torch.nn.functional.pad(o / 65535 - 0.5, (0, 1), value=1.0)
        of_instance = place.split(labels[shown].bincount(minlength=len(scene.boxes) + 1)[1:].tolist())

        def at(time: int) -> Float[Tensor, "shown 3"]:
            # float32: Kubric's worlds are some metres large.
            to_world = torch.from_numpy(_TO_AFFINE @ scene.boxes[:, time]).float()
            return torch.cat([place[:0, :3], *[one @ matrix for one, matrix in zip(of_instance, to_world)]])

        seen, valid = frame.points_of(shown, torch.float32), frame.valid.flatten()[shown]
        eye = frame.c2w[:3, 3].float()
        now = at(index)
        agree = squared_lengths((now - seen).T) <= MAX_DISAGREEMENT**2 * squared_lengths((seen - eye).T)
        rejected, known = int((valid & ~agree).sum()), valid & agree
        return [MovedPoints(shown, now if target == index else at(target), known, True, rejected) for target in targets]

    def _scene(self) -> KubricScene:
        scene = self._files.scene()
        if len(scene.c2w) != len(self):
            raise CorruptFile(self._files.path, f"is of {len(scene.c2w)} frames, its neighbours of {len(self)}")
        return scene


class ExportedScene:
    """A folder that Kubric wrote."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metadata.json"
        self._folder = folder
        self._scene = self._read()

    def scene(self) -> KubricScene:
        return self._scene

    def image(self, index: int) -> UInt8[Tensor, "height width 3"]:
        return read_rgb(self._folder / f"rgba_{index:05d}.png")

    def distance(self, index: int) -> Float[Tensor, "height width"]:
        return read_gray(self._folder / f"depth_{index:05d}.tiff")

    def segmentation(self, index: int) -> Float[Tensor, "height width"]:
        return read_gray(self._folder / f"segmentation_{index:05d}.png")

    def coordinates(self, index: int) -> UInt16[np.ndarray, "height width 3"]:
        return read_rgb16(self._folder / f"object_coordinates_{index:05d}.png")

    def _read(self) -> KubricScene:
        try:
            said = json.loads(read_bytes(self.path, MAX_TEXT_BYTES))
            camera = said["camera"]
            positions, quaternions = (np.array(camera[key], dtype=np.float64) for key in ("positions", "quaternions"))
            boxes = np.array([one["bboxes_3d"] for one in said["instances"]], dtype=np.float64)
            focal, width = float(camera["focal_length"]), float(camera["sensor_width"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise CorruptFile(self.path, f"is not Kubric's metadata ({error!r})") from None
        return KubricScene.checked(self.path, positions, quaternions, focal, width, boxes)


class RecordedScene:
    """One Example of a TFRecord file."""

    def __init__(self, path: Path, offset: int) -> None:
        self.path = path
        self._offset = offset

    def scene(self) -> KubricScene:
        focal, width = self._numbers("camera/focal_length"), self._numbers("camera/sensor_width")
        if focal.size != 1 or width.size != 1:
            raise CorruptFile(self.path, "its camera has no single focal length and sensor width")
        cameras = (self._numbers("camera/positions"), self._numbers("camera/quaternions"))
        boxes = self._numbers("instances/bboxes_3d")
        return KubricScene.checked(self.path, *cameras, float(focal[0]), float(width[0]), boxes)

    def image(self, index: int) -> UInt8[Tensor, "height width 3"]:
        return read_rgb(self.path, self._picture("video", index))

    def distance(self, index: int) -> Float[Tensor, "height width"]:
        low_high = self._numbers("metadata/depth_range")
        if low_high.size != 2 or not np.isfinite(low_high).all():
            raise CorruptFile(self.path, "metadata/depth_range is not two numbers")
        low, high = (float(end) for end in low_high)
        return read_gray(self.path, self._picture("depth", index)) / 65535 * (high - low) + low

    def segmentation(self, index: int) -> Float[Tensor, "height width"]:
        return read_gray(self.path, self._picture("segmentations", index))

    def coordinates(self, index: int) -> UInt16[np.ndarray, "height width 3"]:
        return read_rgb16(self.path, self._picture("object_coordinates", index))

    def _value(self, name: str) -> Value:
        features = _example(self.path, self._offset)
        if name not in features:
            raise CorruptFile(self.path, f"the scene at byte {self._offset} has no {name!r}")
        return features[name]

    def _numbers(self, name: str) -> np.ndarray:
        value = self._value(name)
        if isinstance(value, list):
            raise CorruptFile(self.path, f"{name!r} of the scene at byte {self._offset} is not numbers")
        return value

    def _picture(self, name: str, index: int) -> bytes:
        value = self._value(name)
        if not isinstance(value, list) or index >= len(value):
            raise CorruptFile(self.path, f"{name!r} of the scene at byte {self._offset} has no frame {index}")
        return value[index]


def open_kubric(root: Path, quarantine: Quarantine | None = None) -> list[DataSequence]:
    """The scenes under ``root``: all records of the TFRecord files in it, or the folders that Kubric wrote (or the one
    that it is). Raises InputError where there are none."""
    folders = list_folders(root, "give the folder of the TFRecord files, or of the scenes")
    records = sorted(path for path in root.iterdir() if ".tfrecord" in path.name)
    if records:
        offsets = open_each([partial(_offsets, path) for path in records], quarantine)
        scenes = [
            (path, number, RecordedScene(path, at)) for path, starts in offsets for number, at in enumerate(starts)
        ]
        # Scenes of one data set are of one length, so that opening reads a single one.
        count = next((len(scene.c2w) for scene in open_each([s.scene for *_, s in scenes[:1]], quarantine)), 0)
        return [KubricSequence(f"{path.name}:{number}", files, count) for path, number, files in scenes if count]
    exported = [folder for folder in (root, *folders) if (folder / "metadata.json").is_file()]
    if not exported:
        raise InputError(f"{root}: holds no TFRecord files and no folders with metadata.json; give a folder of either")
    found = open_each([partial(ExportedScene, folder) for folder in exported], quarantine)
    return [KubricSequence(files.path.parent.name, files, len(files.scene().c2w)) for files in found]


@lru_cache(maxsize=4)
def _ray_lengths(focal: float, height: int, width: int) -> Float[Tensor, "height width"]:
    """Distance of a point at depth 1 that each pixel sees; the same for all scenes of one camera."""
    k = torch.tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]], dtype=torch.float64)
    return unproject(torch.ones(height, width, dtype=torch.float64), k).norm(dim=-1).float()


def _offsets(path: Path) -> tuple[Path, list[int]]:
    offsets = record_offsets(path)
    if not offsets:
        raise CorruptFile(path, "is empty")
    return path, offsets


@lru_cache(maxsize=2)
def _example(path: Path, offset: int) -> dict[str, Value]:
    """Kept for the last scenes read: a clip takes all of its frames from one."""
    return parse_example(path, read_record(path, offset))

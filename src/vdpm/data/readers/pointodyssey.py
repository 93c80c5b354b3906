"""PointOdyssey: long rendered films with dense depth and sparse tracks of points.

    {train,val,test}/<sequence>/rgbs/rgb_00000.jpg, depths/depth_00000.png, anno.npz

``anno.npz`` holds trajs_2d [S, N, 2], trajs_3d [S, N, 3] (world), valids, visibs [S, N], intrinsics [S, 3, 3] and
extrinsics [S, 4, 4] (world to camera, OpenCV). The first release calls it annotations.npz and has visibilities of 0, 1
or 2 (invalid). Depth: 16 bit, 65535 is 1000 m, along z.

Principal points lie at half the size, so centres of pixels at +0.5: a track is in the pixel that its floor names. Smoke
has no depth, so what lies beyond ``MAX_DEPTH`` is not valid. Some sequences have no trajs_3d: depth and cameras alone.
Tracks that are not finite, or that the camera does not see where trajs_2d says, are dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from vdpm.data.frame import Frame, MovedPoints
from vdpm.data.quarantine import CorruptFile, Quarantine, open_each
from vdpm.data.readers.files import (
    Archive,
    as_intrinsics,
    as_rigid,
    check_same_size,
    list_folders,
    read_gray,
    read_rgb,
)
from vdpm.data.sequence import DataSequence
from vdpm.errors import InputError
from vdpm.geometry.rigid import invert_rigid

FRAME_RATE = 30.0
MAX_DEPTH = 80.0
"""Metres; beyond lies smoke."""
MAX_REPROJECTION = 2.0
"""Pixels between a track's 2D and its projected 3D position before it counts as wrong."""
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Tracks:
    """Tracks of a sequence, as they lie in its file: [S, N, ...]. ``from_kinds``: visible is 1, invalid is 2."""

    pixels: np.ndarray
    points: np.ndarray
    visible: np.ndarray
    valid: np.ndarray
    from_kinds: bool = False

    def visible_at(self, frame: int) -> np.ndarray:
        return self.visible[frame] == 1 if self.from_kinds else self.visible[frame].astype(bool)

    def valid_at(self, frame: int) -> np.ndarray:
        return self.valid[frame] != 2 if self.from_kinds else self.valid[frame].astype(bool)


class PointOdysseySequence(DataSequence):
    """One film of PointOdyssey."""

    sparse = True

    def __init__(self, folder: Path, name: str) -> None:
        self._images = sorted((folder / "rgbs").glob("rgb_*.jpg"))
        if not self._images:
            raise CorruptFile(folder / "rgbs", "holds no rgb_*.jpg")
        count = len(self._images)
        super().__init__(name, torch.arange(count, dtype=torch.float64) / FRAME_RATE)
        given = folder / "anno.npz"
        self._annotations = given if given.is_file() else folder / "annotations.npz"
        archive = Archive(self._annotations)
        self._intrinsics = archive.array("intrinsics", (None, 3, 3)).astype(np.float64)
        if len(self._intrinsics) != count:
            raise CorruptFile(
                folder / "rgbs",
                f"holds {count} pictures, {self._annotations.name} is of {len(self._intrinsics)} frames",
            )
        self._w2c = archive.array("extrinsics", (count, 4, 4)).astype(np.float64)
        self._has_tracks = "trajs_3d" in archive.names

    @property
    def tracked(self) -> bool:
        return self._has_tracks

    def frame(self, index: int) -> Frame:
        image = self._images[index]
        picture = read_rgb(image)
        path = image.parents[1] / "depths" / f"{image.stem.replace('rgb', 'depth')}.png"
        depth = read_gray(path) / 65535 * 1000
        check_same_size(path, depth, picture)
        w2c = as_rigid(self._annotations, self._w2c[index])
        intrinsics = as_intrinsics(self._annotations, self._intrinsics[index], centre=0.5)
        return Frame(picture, depth, (depth > 0) & (depth < MAX_DEPTH), invert_rigid(w2c), intrinsics)

    def moved(self, index: int, frame: Frame, targets: Sequence[int]) -> list[MovedPoints | None]:
        if not self._has_tracks:
            return [None] * len(targets)
        tracks = _tracks(self._annotations, len(self))
        height, width = frame.depth.shape
        chosen = np.flatnonzero(tracks.visible_at(index) & tracks.valid_at(index))
        start, pixels = tracks.points[index][chosen], tracks.pixels[index][chosen]
        finite = np.isfinite(start[:, 0] + start[:, 1] + start[:, 2] + pixels[:, 0] + pixels[:, 1])
        chosen, start, pixels = chosen[finite], start[finite], pixels[finite]
        in_camera = start.astype(np.float64) @ self._w2c[index, :3, :3].T + self._w2c[index, :3, 3]
        z = np.maximum(in_camera[:, 2], 1e-9)
        off = (in_camera @ self._intrinsics[index].T)[:, :2] / z[:, None] - pixels
        column, row = np.floor(np.clip(pixels, -1, 1e6)).astype(np.int64).T
        inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
        right = inside & (in_camera[:, 2] > 0) & (np.square(off[:, 0]) + np.square(off[:, 1]) <= MAX_REPROJECTION**2)
        kept = np.flatnonzero(right)
        # Near to far, and of several tracks in a pixel the first: the one in front.
        kept = kept[np.argsort(z[kept], kind="stable")]
        places, first = np.unique(row[kept] * width + column[kept], return_index=True)
        chosen, rejected = chosen[kept[first]], int((inside & ~right).sum())
        at_pixels = torch.from_numpy(places)
        found: list[MovedPoints | None] = []
        for target in targets:
            end = tracks.points[target][chosen].astype(np.float32)
            valid = tracks.valid_at(target)[chosen] & np.isfinite(end[:, 0] + end[:, 1] + end[:, 2])
            end[~valid] = 0
            found.append(MovedPoints(at_pixels, torch.from_numpy(end), torch.from_numpy(valid), rejected=rejected))
        return found


def open_pointodyssey(root: Path, quarantine: Quarantine | None = None) -> list[DataSequence]:
    """The films under ``root``: those of all splits, of one split, or the one that it is. Raises InputError if none."""
    folders = list_folders(root, "give PointOdyssey's folder, which holds train, val and test")
    splits = [folder for folder in folders if folder.name in SPLITS]
    films = [film for split in splits for film in list_folders(split, "")] if splits else folders
    films = [root] if (root / "rgbs").is_dir() else [film for film in films if (film / "rgbs").is_dir()]
    if not films:
        raise InputError(f"{root}: holds no sequence with a folder 'rgbs'; give PointOdyssey's folder")
    names = [film.relative_to(root).as_posix() if film != root else root.name for film in films]
    return open_each([partial(PointOdysseySequence, *one) for one in zip(films, names)], quarantine)


@lru_cache(maxsize=2)
def _tracks(path: Path, count: int) -> Tracks:
    """Kept for the last sequences read: where they are compressed, unpacking them takes longer than all else."""
    archive = Archive(path)
    points = archive.array("trajs_3d", (count, None, 3), mapped=True)
    number = points.shape[1]
    pixels = archive.array("trajs_2d", (count, number, 2), mapped=True)
    if "visibilities" in archive.names:
        kinds = archive.array("visibilities", (count, number), mapped=True)
        return Tracks(pixels, points, kinds, kinds, from_kinds=True)
    visible, valid = (archive.array(name, (count, number), mapped=True) for name in ("visibs", "valids"))
    return Tracks(pixels, points, visible, valid)

"""7-Scenes: static rooms by a Kinect.

    <sequence>/frame-000000.{color.png,depth.png,pose.txt}    or color.jpg
    camera-intrinsics.txt                                     3 x 3, where there is one

Depth: 16 bit, millimetres along z, 0 and 65535 unknown. Poses: 4 x 4, camera to world. The focal length is 585 and the
principal point (320, 240), the middle of the picture: pixel centres at +0.5. Frames come 30 a second.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch

from vdpm.data.frame import Frame
from vdpm.data.quarantine import CorruptFile, Quarantine, open_each
from vdpm.data.readers.files import (
    as_intrinsics,
    as_rigid,
    check_same_size,
    list_folders,
    read_gray,
    read_numbers,
    read_rgb,
)
from vdpm.data.sequence import DataSequence
from vdpm.errors import InputError

FRAME_RATE = 30.0
_DEFAULT_INTRINSICS = np.array([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]])


class SevenScenesSequence(DataSequence):
    """One recording of 7-Scenes. Frames keep the times that their numbers say."""

    static = True

    def __init__(self, folder: Path, name: str) -> None:
        self._poses = sorted(folder.glob("frame-??????.pose.txt"))
        numbers = [path.name[6:12] for path in self._poses]
        if not all(number.isdecimal() for number in numbers):
            raise CorruptFile(folder, "holds frames without a number")
        times = torch.tensor([int(number) for number in numbers], dtype=torch.float64) / FRAME_RATE
        super().__init__(name, times - times[0])
        given = folder / "camera-intrinsics.txt"
        self._intrinsics = as_intrinsics(
            given, _matrix(given, 3) if given.is_file() else _DEFAULT_INTRINSICS, centre=0.5
        )

    def frame(self, index: int) -> Frame:
        pose = self._poses[index]
        stem = pose.name.removesuffix(".pose.txt")
        colour = pose.with_name(f"{stem}.color.png")
        picture = read_rgb(colour if colour.is_file() else colour.with_suffix(".jpg"))
        path = pose.with_name(f"{stem}.depth.png")
        depth = read_gray(path) / 1000
        check_same_size(path, depth, picture)
        valid = (depth > 0) & (depth < 65.535)
        return Frame(picture, depth, valid, as_rigid(pose, _matrix(pose, 4)), self._intrinsics)


def open_seven_scenes(root: Path, quarantine: Quarantine | None = None) -> list[DataSequence]:
    """The recordings in ``root``, in the folders in it, or in theirs. Raises InputError where there are none."""
    folders = list_folders(root, "give the folder of the scenes")
    candidates = [root, *folders, *(inner for folder in folders for inner in list_folders(folder, ""))]
    found = [folder for folder in candidates if next(folder.glob("frame-??????.pose.txt"), None)]
    if not found:
        raise InputError(f"{root}: no frame-000000.pose.txt in it or two folders below; give the folder of the scenes")
    names = [folder.relative_to(root).as_posix() if folder != root else root.name for folder in found]
    return open_each([partial(SevenScenesSequence, *one) for one in zip(found, names)], quarantine)


def _matrix(path: Path, side: int) -> np.ndarray:
    rows = read_numbers(path)
    if len(rows) != side or any(len(row) != side for row in rows):
        raise CorruptFile(path, f"is no matrix of {side} x {side}")
    return np.array(rows)

"""RGB-D sequences of TUM's benchmark, and of Bonn's, which has its format. Points are known at their own time only.

    <sequence>/rgb.txt, depth.txt      time file, one line a picture; lines with # are comments
    <sequence>/groundtruth.txt         time tx ty tz qx qy qz qw: camera to world
    <sequence>/rgb/*.png, depth/*.png  depth: 16 bit, 5000 a metre, along z, 0 unknown; registered to the colours

A frame is a colour picture with the depth and the pose nearest to it in time, each within ``max_gap`` seconds; colour
pictures without either are left out. Calibrations count pixel centres from 0, so half a pixel is added.

The lenses of freiburg1 and freiburg2 bend pictures by 5 pixels at the median, Bonn's by 1, and depth with them: it is
registered to the colours as taken. Published evaluations leave that as it is, and so does the reader unless told to
``undistort``: then pictures and depth are those of a pinhole camera of the same intrinsics. freiburg3 comes straight.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vdpm.data.frame import Frame
from vdpm.data.quarantine import CorruptFile, Quarantine, open_each
from vdpm.data.readers.files import check_same_size, list_folders, read_gray, read_numbers, read_rgb, read_words
from vdpm.data.readers.lens import LensCamera, mixed_pixels, nearest_pixels
from vdpm.data.sequence import DataSequence
from vdpm.errors import InputError, UsageError
from vdpm.geometry.rigid import quaternion_to_matrix, rigid

DEPTH_PER_METRE = 5000.0
MAX_GAP = 0.02
"""Seconds between what is taken to be simultaneous, as in the protocol of Table 4."""

Calibration = tuple[float, ...]
"""fx, fy, cx, cy in pixels, the first pixel's centre at 0; then, where the lens bends, k1, k2, p1, p2, k3 of OpenCV's
model, which the data sets' pages call d0 to d4."""

CALIBRATIONS: dict[str, Calibration] = {
    "freiburg1": (517.3, 516.5, 318.6, 255.3, 0.2624, -0.9531, -0.0054, 0.0026, 1.1633),
    "freiburg2": (520.9, 521.0, 325.1, 249.7, 0.2312, -0.7849, -0.0033, -0.0001, 0.9172),
    "freiburg3": (535.4, 539.2, 320.1, 247.6),
}
"""Of the colour cameras, from the benchmark's page."""


class RGBDCamera:
    """A colour camera, to which depth is registered."""

    def __init__(self, calibration: Calibration, undistort: bool) -> None:
        if len(calibration) not in (4, 9):
            raise UsageError(
                f"a calibration of {len(calibration)} numbers; give fx, fy, cx, cy, or these and k1, k2, p1, p2, k3"
            )
        fx, fy, cx, cy = calibration[:4]
        self.intrinsics = torch.tensor([[fx, 0, cx + 0.5], [0, fy, cy + 0.5], [0, 0, 1]], dtype=torch.float64)
        self._distortion = calibration[4:] if undistort and any(calibration[4:]) else None

    def frame(
        self,
        picture: UInt8[Tensor, "height width 3"],
        depth: Float[Tensor, "height width"],
        c2w: Float[Tensor, "4 4"],
    ) -> Frame:
        """Picture and depth (0: unknown) as they were taken -> the frame."""
        if self._distortion is None:
            return Frame(picture, depth, depth > 0, c2w, self.intrinsics)
        size = (depth.shape[0], depth.shape[1])
        places = LensCamera("OPENCV", size, self.intrinsics, self._distortion).kept_places()
        row, column, inside = nearest_pixels(places, size)
        depth = depth[row, column]
        return Frame(mixed_pixels(picture, places), depth, inside & (depth > 0), c2w, self.intrinsics)


class RGBDSequence(DataSequence):
    """A folder in TUM's layout."""

    def __init__(self, folder: Path, camera: RGBDCamera, max_gap: float) -> None:
        colour_times, self._colours = read_list(folder / "rgb.txt")
        depth_times, self._depths = read_list(folder / "depth.txt")
        pose_times, self._c2w = read_trajectory(folder / "groundtruth.txt")
        depth_of, pose_of = nearest(colour_times, depth_times, max_gap), nearest(colour_times, pose_times, max_gap)
        kept = ((depth_of >= 0) & (pose_of >= 0)).nonzero()[:, 0]
        if not len(kept):
            raise CorruptFile(folder / "rgb.txt", f"no picture has depth and pose within {max_gap:g} s")
        times = colour_times[kept]
        super().__init__(folder.name, times - times[0])
        self.left_out = len(colour_times) - len(kept)
        self._rows = torch.stack((kept, depth_of[kept], pose_of[kept]), dim=1).tolist()
        self._camera = camera

    def frame(self, index: int) -> Frame:
        colour, depth_row, pose = self._rows[index]
        picture = read_rgb(self._colours[colour])
        depth = read_gray(self._depths[depth_row]) / DEPTH_PER_METRE
        check_same_size(self._depths[depth_row], depth, picture)
        return self._camera.frame(picture, depth, self._c2w[pose])


def open_tum(
    root: Path,
    quarantine: Quarantine | None = None,
    calibration: Calibration | None = None,
    max_gap: float = MAX_GAP,
    undistort: bool = False,
) -> list[DataSequence]:
    """The sequences under ``root``, or the one that it is, with TUM's calibrations by name or one for all.

    Raises InputError where there are none, or a name says no camera.
    """
    cameras = {folder: RGBDCamera(calibration or calibration_of(folder), undistort) for folder in rgbd_folders(root)}
    return open_each([partial(RGBDSequence, folder, camera, max_gap) for folder, camera in cameras.items()], quarantine)


def rgbd_folders(root: Path) -> list[Path]:
    """Folders that hold rgb.txt: ``root`` itself or those in it."""
    folders = [root] if (root / "rgb.txt").is_file() else list_folders(root, "give the folder of the sequences")
    folders = [folder for folder in folders if (folder / "rgb.txt").is_file()]
    if not folders:
        raise InputError(f"{root}: neither it nor a folder in it holds rgb.txt; give the folder of the sequences")
    return folders


def read_trajectory(path: Path) -> tuple[Float[Tensor, "poses"], Float[Tensor, "poses 4 4"]]:
    """Times in seconds, in order, and camera-to-world, in float64."""
    rows = read_numbers(path)
    if not rows or any(len(row) != 8 for row in rows):
        raise CorruptFile(path, "is no trajectory (time tx ty tz qx qy qz qw a line)")
    values = torch.tensor(sorted(rows), dtype=torch.float64)
    lengths = values[:, 4:].norm(dim=1)
    if bool(((lengths - 1).abs() > 0.01).any()):
        raise CorruptFile(path, f"row {int((lengths - 1).abs().argmax()) + 1} in time holds no unit quaternion")
    return values[:, 0].contiguous(), rigid(quaternion_to_matrix(values[:, 4:]), values[:, 1:4])


def nearest(times: Float[Tensor, "wanted"], others: Float[Tensor, "others"], max_gap: float) -> Int[Tensor, "wanted"]:
    """For each of ``times`` the index of the nearest of ``others``, which are in order; -1 beyond ``max_gap``."""
    after = torch.searchsorted(others, times).clamp(1, max(1, len(others) - 1))
    if len(others) < 2:
        found = torch.zeros(len(times), dtype=torch.long)
    else:
        found = torch.where(times - others[after - 1] <= others[after] - times, after - 1, after)
    return torch.where((others[found] - times).abs() <= max_gap, found, torch.full_like(found, -1))


def read_list(path: Path) -> tuple[Float[Tensor, "files"], Sequence[Path]]:
    """Times and files of rgb.txt or depth.txt, in order of time. A name may not lead out of the folder."""
    entries = []
    for words in read_words(path):
        try:
            time = float(words[0])
        except ValueError:
            raise CorruptFile(path, f"{words[0][:40]!r} is no time") from None
        if len(words) != 2 or not np.isfinite(time) or not re.fullmatch(r"[\w.-]+/[\w.-]+", words[1]):
            raise CorruptFile(path, "holds a line that is not a time and a file such as rgb/1.png")
        if ".." in words[1].split("/"):
            raise CorruptFile(path, f"names {words[1]!r}, outside of its folder")
        entries.append((time, words[1]))
    if not entries:
        raise CorruptFile(path, "lists no pictures")
    entries.sort()
    return torch.tensor([time for time, _ in entries], dtype=torch.float64), [path.parent / file for _, file in entries]


def calibration_of(folder: Path) -> Calibration:
    """TUM's, by the name of the folder. Raises InputError where it says no camera."""
    for name, calibration in CALIBRATIONS.items():
        if name in folder.name:
            return calibration
    raise InputError(f"{folder}: its name says none of {', '.join(CALIBRATIONS)}; rename it, or give its calibration")

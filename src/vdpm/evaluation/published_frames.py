"""RGB-D recordings with the frames and pairs that published evaluations take, which are not those nearest in time.

Bonn (depth): MonST3R sorts the files of ``rgb`` and of ``depth`` by name and takes the k-th of both as one frame, 30 to
139, though the two cameras were not started together. TUM (poses): pictures that have a pose within 0.02 s, whether
there is depth or not; then every third. Our readers pair by time; figures beside the paper's need these.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.data.frame import Frame
from vdpm.data.quarantine import CorruptFile, Quarantine, open_each
from vdpm.data.readers.bonn import CALIBRATION
from vdpm.data.readers.files import check_same_size, read_gray, read_rgb
from vdpm.data.readers.tum import (
    DEPTH_PER_METRE,
    MAX_GAP,
    RGBDCamera,
    calibration_of,
    nearest,
    read_list,
    read_trajectory,
    rgbd_folders,
)
from vdpm.data.sequence import DataSequence


class PairedSequence(DataSequence):
    """Pictures, each with the depth file (or none) and the pose (or none: the identity) that stand beside it."""

    def __init__(
        self,
        name: str,
        pictures: Sequence[Path],
        depths: Sequence[Path] | None,
        c2w: Float[Tensor, "frames 4 4"] | None,
        camera: RGBDCamera,
    ) -> None:
        super().__init__(name, torch.arange(len(pictures), dtype=torch.float64) / 30)
        self._pictures, self._depths, self._c2w = pictures, depths, c2w
        self._camera = camera

    def frame(self, index: int) -> Frame:
        picture = read_rgb(self._pictures[index])
        depth = torch.zeros(picture.shape[:2], dtype=torch.float64)
        if self._depths is not None:
            depth = read_gray(self._depths[index]) / DEPTH_PER_METRE
            check_same_size(self._depths[index], depth, picture)
        c2w = torch.eye(4, dtype=torch.float64) if self._c2w is None else self._c2w[index]
        return self._camera.frame(picture, depth, c2w)


def open_bonn_by_index(root: Path, quarantine: Quarantine | None = None, undistort: bool = False) -> list[DataSequence]:
    """Bonn's recordings, the k-th picture with the k-th depth. Poses are left out. Raises InputError where none is."""
    camera = RGBDCamera(CALIBRATION, undistort)
    return open_each([partial(_by_index, folder, camera) for folder in rgbd_folders(root)], quarantine)


def open_tum_by_pose(root: Path, quarantine: Quarantine | None = None, undistort: bool = False) -> list[DataSequence]:
    """TUM's recordings, pictures with a pose within 0.02 s; no depth. Raises InputError where none is."""
    return open_each([partial(_by_pose, folder, undistort) for folder in rgbd_folders(root)], quarantine)


def _by_index(folder: Path, camera: RGBDCamera) -> DataSequence:
    pictures, depths = (sorted((folder / name).glob("*.png")) for name in ("rgb", "depth"))
    count = min(len(pictures), len(depths))
    if not count:
        raise CorruptFile(folder, "holds no rgb/*.png, or no depth/*.png")
    return PairedSequence(folder.name, pictures[:count], depths[:count], None, camera)


def _by_pose(folder: Path, undistort: bool) -> DataSequence:
    times, pictures = read_list(folder / "rgb.txt")
    pose_times, c2w = read_trajectory(folder / "groundtruth.txt")
    found = nearest(times, pose_times, MAX_GAP).tolist()
    kept = [(path, row) for path, row in zip(pictures, found) if row >= 0]
    if not kept:
        raise CorruptFile(folder / "rgb.txt", f"no picture has a pose within {MAX_GAP:g} s")
    poses = c2w[[row for _, row in kept]]
    camera = RGBDCamera(calibration_of(folder), undistort)
    return PairedSequence(folder.name, [path for path, _ in kept], None, poses, camera)

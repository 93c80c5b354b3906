"""BlendedMVS: photographs of still places with the depth of their reconstruction. Unordered and not metric.

    <scene>/blended_images/00000000.jpg, cams/00000000_cam.txt, rendered_depth_maps/00000000.pfm

A camera file holds the word extrinsic and 4 x 4 world-to-camera, the word intrinsic and K, then a line on depths. K
counts pixel centres from 0, as the plane sweeps made for these files do. Depth is z, 0 where unknown. Views have no
times: they are numbered as seconds.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.data.frame import Frame
from vdpm.data.quarantine import CorruptFile, Quarantine, open_each
from vdpm.data.readers.files import (
    MAX_PICTURE_BYTES,
    MAX_SIDE,
    as_intrinsics,
    as_rigid,
    check_same_size,
    list_folders,
    read_bytes,
    read_rgb,
    read_words,
)
from vdpm.data.sequence import DataSequence
from vdpm.errors import InputError
from vdpm.geometry.rigid import invert_rigid


class BlendedMVSSequence(DataSequence):
    """The views of one place, by number."""

    static = True
    metric = False

    def __init__(self, folder: Path) -> None:
        self._cameras = sorted((folder / "cams").glob("????????_cam.txt"))
        if not self._cameras:
            raise CorruptFile(folder / "cams", "holds no 00000000_cam.txt")
        super().__init__(folder.name, torch.arange(len(self._cameras), dtype=torch.float64))
        self._folder = folder

    def frame(self, index: int) -> Frame:
        camera = self._cameras[index]
        number = camera.name[:8]
        intrinsics, w2c = read_cam(camera)
        path = self._folder / "rendered_depth_maps" / f"{number}.pfm"
        depth = read_pfm(path)
        picture = read_rgb(self._folder / "blended_images" / f"{number}.jpg")
        check_same_size(path, depth, picture)
        return Frame(picture, depth, depth.isfinite() & (depth > 0), invert_rigid(w2c), intrinsics)


def open_blended_mvs(root: Path, quarantine: Quarantine | None = None) -> list[DataSequence]:
    """The places under ``root``, or the one that it is. Raises InputError where there are none."""
    folders = [root] if (root / "cams").is_dir() else list_folders(root, "give BlendedMVS's folder")
    folders = [folder for folder in folders if (folder / "cams").is_dir()]
    if not folders:
        raise InputError(f"{root}: neither it nor a folder in it holds 'cams'; give BlendedMVS's folder")
    return open_each([partial(BlendedMVSSequence, folder) for folder in folders], quarantine)


def read_pfm(path: Path) -> Float[Tensor, "height width"]:
    """A PFM of one channel: rows from the bottom up; a scale below 0 means little-endian."""
    data = read_bytes(path, MAX_PICTURE_BYTES)
    try:
        kind, size, scale, pixels = data.split(b"\n", 3)
        width, height = (int(side) for side in size.split())
        order = "<f4" if float(scale) < 0 else ">f4"
    except ValueError:
        raise CorruptFile(path, "is no PFM file") from None
    if kind.strip() != b"Pf" or not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise CorruptFile(path, "is no PFM file of one channel")
    if len(pixels) != 4 * width * height:
        raise CorruptFile(path, f"says {width} x {height}, which its {len(pixels)} bytes of pixels are not")
    rows = np.frombuffer(pixels, order).reshape(height, width)[::-1]
    return torch.from_numpy(rows.astype(np.float32))


def read_cam(path: Path) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "4 4"]]:
    """Intrinsics, pixel centres at +0.5, and world-to-camera, in float64."""
    words = [word for row in read_words(path) for word in row]
    try:
        if words[0] != "extrinsic" or words[17] != "intrinsic":
            raise ValueError
        extrinsic = np.array([float(word) for word in words[1:17]]).reshape(4, 4)
        intrinsic = np.array([float(word) for word in words[18:27]]).reshape(3, 3)
    except (ValueError, IndexError):
        raise CorruptFile(path, "is no camera file (extrinsic, 4 x 4, intrinsic, 3 x 3)") from None
    return as_intrinsics(path, intrinsic, centre=0.0), as_rigid(path, extrinsic)

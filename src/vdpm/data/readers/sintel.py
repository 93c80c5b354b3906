"""MPI Sintel: rendered films with depth and cameras. Points are known at their own time only.

    training/{final,clean}/<sequence>/frame_0001.png
    training/depth/<sequence>/frame_0001.dpt          float32 tag 202021.25, int32 width, height, float32 z
    training/camdata_left/<sequence>/frame_0001.cam   float32 tag, float64 K [3, 3], float64 world-to-camera [3, 4]

K counts pixel centres from 0 (its principal point is 511.5, 217.5 for 1024 x 436), so half a pixel is added. Films
have 24 frames a second. The sky has a depth too, far beyond everything: what lies beyond ``MAX_DEPTH`` is not valid.
"""

from functools import partial
from pathlib import Path
from typing import Literal

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
)
from vdpm.data.sequence import DataSequence
from vdpm.errors import InputError
from vdpm.geometry.rigid import invert_rigid

FRAME_RATE = 24.0
MAX_DEPTH = 1000.0
"""In Sintel's own unit, about metres; scenes end well before."""
_TAG = 202021.25


class SintelSequence(DataSequence):
    """One film of Sintel."""

    metric = False

    def __init__(self, training: Path, name: str, render: str) -> None:
        images = sorted((training / render / name).glob("frame_*.png"))
        if not images:
            raise CorruptFile(training / render / name, "holds no frame_*.png")
        super().__init__(name, torch.arange(len(images), dtype=torch.float64) / FRAME_RATE)
        self._images = images
        self._depth, self._cameras = training / "depth" / name, training / "camdata_left" / name

    def frame(self, index: int) -> Frame:
        image = self._images[index]
        path = self._depth / f"{image.stem}.dpt"
        depth = read_dpt(path)
        intrinsics, w2c = read_cam(self._cameras / f"{image.stem}.cam")
        picture = read_rgb(image)
        check_same_size(path, depth, picture)
        valid = depth.isfinite() & (depth > 0) & (depth < MAX_DEPTH)
        return Frame(picture, depth, valid, invert_rigid(w2c), intrinsics)


def open_sintel(
    root: Path, quarantine: Quarantine | None = None, render: Literal["final", "clean"] = "final"
) -> list[DataSequence]:
    """All films under ``root``, which holds ``training`` or is it. Raises InputError where there are none."""
    training = root / "training" if (root / "training").is_dir() else root
    folders = list_folders(training / render, f"give Sintel's folder, which holds training/{render}")
    if not (training / "depth").is_dir():
        raise InputError(f"{training}: holds no 'depth'; Sintel's depth and cameras are a download of their own")
    return open_each([partial(SintelSequence, training, folder.name, render) for folder in folders], quarantine)


def read_dpt(path: Path) -> Float[Tensor, "height width"]:
    """Depth along z."""
    data = read_bytes(path, MAX_PICTURE_BYTES)
    if len(data) < 12 or np.frombuffer(data, "<f4", 1)[0] != _TAG:
        raise CorruptFile(path, "is no .dpt file (its tag is wrong)")
    width, height = (int(side) for side in np.frombuffer(data, "<i4", 2, offset=4))
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE) or len(data) != 12 + 4 * width * height:
        raise CorruptFile(path, f"says {width} x {height}, which its {len(data)} bytes are not")
    return torch.from_numpy(np.frombuffer(data, "<f4", offset=12).reshape(height, width).copy())


def read_cam(path: Path) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "4 4"]]:
    """Intrinsics, pixel centres at +0.5, and world-to-camera, in float64."""
    data = read_bytes(path, 4096)
    if len(data) != 4 + 21 * 8 or np.frombuffer(data, "<f4", 1)[0] != _TAG:
        raise CorruptFile(path, "is no .cam file (its tag or length is wrong)")
    numbers = np.frombuffer(data, "<f8", offset=4)
    intrinsics = as_intrinsics(path, numbers[:9].reshape(3, 3), centre=0.0)
    return intrinsics, as_rigid(path, numbers[9:].reshape(3, 4))

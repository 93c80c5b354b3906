"""COLMAP's text models, cameras.txt and images.txt."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.data.quarantine import CorruptFile
from vdpm.data.readers.files import MAX_SIDE, as_intrinsics, read_words
from vdpm.data.readers.lens import LensCamera
from vdpm.geometry.rigid import quaternion_to_matrix, rigid

MODELS = {"PINHOLE": 0, "OPENCV": 4, "OPENCV_FISHEYE": 4}
"""Models with fx, fy, cx, cy, and how many numbers of distortion follow."""


def read_cameras(path: Path) -> dict[str, LensCamera]:
    """Cameras by their id: CAMERA_ID MODEL WIDTH HEIGHT PARAMS..."""
    cameras = {}
    for words in read_words(path):
        try:
            name, model, width, height = words[0], words[1], int(words[2]), int(words[3])
            numbers = [float(word) for word in words[4:]]
        except (IndexError, ValueError):
            raise CorruptFile(path, "holds a line that is no camera") from None
        if model not in MODELS:
            raise CorruptFile(path, f"camera {name} is of the model {model[:40]}; {', '.join(MODELS)} can be read")
        if len(numbers) != 4 + MODELS[model] or not np.isfinite(numbers).all():
            raise CorruptFile(path, f"camera {name} has {len(numbers)} parameters, {model} has {4 + MODELS[model]}")
        if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
            raise CorruptFile(path, f"camera {name} is of {width} x {height} pixels")
        fx, fy, cx, cy = numbers[:4]
        k = as_intrinsics(path, np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), centre=0.5)
        cameras[name] = LensCamera(model, (height, width), k, tuple(numbers[4:]))
    return cameras


def read_images(path: Path) -> dict[str, tuple[str, Float[Tensor, "4 4"]]]:
    """Id of the camera and world-to-camera of each picture by its name:
    IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of points in threes, or an empty one."""
    images = {}
    for words in read_words(path):
        if len(words) != 10:
            continue
        try:
            numbers = torch.tensor([float(word) for word in words[1:8]], dtype=torch.float64)
        except ValueError:
            raise CorruptFile(path, f"the line of {words[9][:80]} is no camera pose") from None
        if not bool(numbers.isfinite().all()) or abs(float(numbers[:4].norm()) - 1) > 0.01:
            raise CorruptFile(path, f"the pose of {words[9][:80]} holds no unit quaternion")
        rotation = quaternion_to_matrix(numbers[[1, 2, 3, 0]])
        images[words[9]] = (words[8], rigid(rotation, numbers[4:]))
    return images

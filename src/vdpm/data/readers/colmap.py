"""COLMAP's text models, cameras.txt and images.txt, and pictures rid of their lens's distortion.

Cameras with distortion become pinhole cameras of the same intrinsics: each pixel of the new picture takes the place
where the lens puts its ray. Colours are mixed of the four nearest pixels; depth, which must not be mixed, is that of
the nearest one.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from vdpm.data.quarantine import CorruptFile
from vdpm.data.readers.files import MAX_SIDE, as_intrinsics, read_words
from vdpm.geometry.pinhole import pixel_grid
from vdpm.geometry.rigid import quaternion_to_matrix, rigid

MODELS = {"PINHOLE": 0, "OPENCV": 4, "OPENCV_FISHEYE": 4}
"""Models with fx, fy, cx, cy, and how many numbers of distortion follow."""


@dataclass(frozen=True)
class LensCamera:
    """A camera of COLMAP's: pixel centres at +0.5, ``size`` is (height, width)."""

    model: str
    size: tuple[int, int]
    intrinsics: Float[Tensor, "3 3"]
    distortion: tuple[float, ...]

    def places(self) -> Float[Tensor, "height width 2"]:
        """Where the lens puts the rays of the pinhole camera's pixels: positions (x, y) in the picture as taken."""
        k = self.intrinsics
        focal, centre = k.diagonal()[:2], k[:2, 2]
        rays = (pixel_grid(*self.size, device="cpu", dtype=torch.float64) - centre) / focal
        return self._distorted(rays) * focal + centre

    def _distorted(self, rays: Float[Tensor, "*rays 2"]) -> Float[Tensor, "*rays 2"]:
        """Equations of OpenCV's models, on the plane at depth 1."""
        if self.model == "PINHOLE":
            return rays
        square = rays.square().sum(-1, keepdim=True)
        if self.model == "OPENCV_FISHEYE":
            k1, k2, k3, k4 = self.distortion
            radius = square.sqrt().clamp_min(1e-12)
            angle = torch.atan(radius)
            a2 = angle.square()
            return rays * angle * (1 + a2 * (k1 + a2 * (k2 + a2 * (k3 + a2 * k4)))) / radius
        k1, k2, p1, p2 = self.distortion
        x, y = rays[..., :1], rays[..., 1:]
        aside = torch.cat((2 * p1 * x * y + p2 * (square + 2 * x * x), p1 * (square + 2 * y * y) + 2 * p2 * x * y), -1)
        return rays * (1 + square * (k1 + square * k2)) + aside


def nearest_pixels(
    places: Float[Tensor, "height width 2"], size: tuple[int, int]
) -> tuple[Shaped[Tensor, "height width"], Shaped[Tensor, "height width"], Bool[Tensor, "height width"]]:
    """Rows and columns of the pixels that the places lie in, and which lie within a picture of ``size``."""
    column, row = places.floor().long().unbind(-1)
    inside = (column >= 0) & (column < size[1]) & (row >= 0) & (row < size[0])
    return row.clamp(0, size[0] - 1), column.clamp(0, size[1] - 1), inside


def mixed_pixels(
    picture: Shaped[Tensor, "height width 3"], places: Float[Tensor, "height width 2"]
) -> Shaped[Tensor, "height width 3"]:
    """Colours at the places, of the four nearest pixels; black beyond the picture."""
    size = places.new_tensor([picture.shape[1], picture.shape[0]])
    grid = (2 * places / size - 1).float()
    found = torch.nn.functional.grid_sample(
        picture.permute(2, 0, 1)[None].float(), grid[None], mode="bilinear", align_corners=False
    )
    return found[0].permute(1, 2, 0).round().clamp(0, 255).byte()


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

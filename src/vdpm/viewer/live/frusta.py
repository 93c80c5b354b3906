"""The video's cameras as they are: frusta from the result's own intrinsics, and the view from inside one."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

from vdpm.export.colors import VIRIDIS, colorize
from vdpm.geometry.rigid import matrix_to_quaternion
from vdpm.structures import Reconstruction
from vdpm.viewer.choice import content_box
from vdpm.viewer.live.paths import Segments, path_segments

DEPTH = 0.1
"""Of the scene's distance: from a camera's centre to its picture."""
APART = 0.6
"""Of a picture's width: cameras nearer to one that is drawn are left out, as they would lie in each other."""
PICTURE = 240
"""Longer side of the pictures in the frusta, pixels."""


class Placed(NamedTuple):
    """A picture that stands in the scene: its middle, quaternion (w, x, y, z) of its c2w rotation, and extent."""

    middle: Float[np.ndarray, "3"]
    wxyz: Float[np.ndarray, "4"]
    width: float
    height: float


@dataclass(frozen=True, eq=False)
class VideoCamera:
    """Camera of one frame: what of its image shows the video lies within ``box`` (left, top, right, bottom)."""

    frame: int
    c2w: Float[np.ndarray, "4 4"]
    intrinsics: Float[np.ndarray, "3 3"]
    box: tuple[int, int, int, int]

    @property
    def wxyz(self) -> Float[np.ndarray, "4"]:
        """Rotation of ``c2w`` as a quaternion, its real part first, as viser wants it."""
        x, y, z, w = matrix_to_quaternion(torch.from_numpy(self.c2w[:3, :3].copy())).tolist()
        return np.array([w, x, y, z])

    def corners(self, depth: float) -> Float[np.ndarray, "4 3"]:
        """World positions of the corners of the video at ``depth``: top left, top right, bottom right, bottom left."""
        left, top, right, bottom = self.box
        pixels = np.array([[left, top, 1], [right, top, 1], [right, bottom, 1], [left, bottom, 1]], dtype=np.float64)
        rays = pixels @ np.linalg.inv(self.intrinsics).T
        return depth * rays @ self.c2w[:3, :3].T + self.c2w[:3, 3]

    def picture(self, depth: float) -> Placed:
        """Where the frame stands, filling the corners at ``depth``."""
        a, b, c, d = self.corners(depth)
        return Placed((a + c) / 2, self.wxyz, float(np.linalg.norm(b - a)), float(np.linalg.norm(d - a)))

    def vertical_view(self, aspect: float) -> float:
        """Radians from bottom to top of a window of ``aspect`` (width over height) that just holds the frame. The
        window looks along the optical axis, so a frame that is not centred there leaves a rim.
        """
        left, top, right, bottom = self.box
        x = max(self.intrinsics[0, 2] - left, right - self.intrinsics[0, 2]) / self.intrinsics[0, 0]
        y = max(self.intrinsics[1, 2] - top, bottom - self.intrinsics[1, 2]) / self.intrinsics[1, 1]
        return 2 * math.atan(max(y, x / aspect))


def video_cameras(reconstruction: Reconstruction) -> list[VideoCamera]:
    """Those of all frames."""
    box = content_box(reconstruction)
    c2w, intrinsics = (
        values.double().numpy() for values in (reconstruction.cameras.c2w, reconstruction.cameras.intrinsics)
    )
    return [VideoCamera(frame, c2w[frame], intrinsics[frame], box) for frame in range(len(reconstruction))]


def apart(cameras: list[VideoCamera], reach: float) -> list[VideoCamera]:
    """Those whose frusta are drawn: the first, and each that is far enough from the one drawn last."""
    drawn: list[VideoCamera] = []
    for camera in cameras:
        here = camera.picture(DEPTH * reach)
        if all(
            np.linalg.norm(here.middle - other.picture(DEPTH * reach).middle) >= APART * here.width for other in drawn
        ):
            drawn.append(camera)
    return drawn


def wires(drawn: list[VideoCamera], everyone: list[VideoCamera], reach: float) -> Segments:
    """Edges of the frusta, and the path through all cameras; dark is early."""
    last = max(1, len(everyone) - 1)
    shades = colorize(0.15 + 0.85 * np.arange(len(everyone)) / last, VIRIDIS)
    parts = [path_segments(np.stack([camera.c2w[:3, 3] for camera in everyone]), shades)]
    for camera in drawn:
        corners, center = camera.corners(DEPTH * reach), camera.c2w[:3, 3]
        edges = [(corners[a], corners[(a + 1) % 4]) for a in range(4)] + [(center, corner) for corner in corners]
        colors = np.broadcast_to(shades[camera.frame], (8, 2, 3))
        parts.append(Segments(np.array(edges, dtype=np.float32), colors))
    return Segments(*(np.concatenate(values) for values in zip(*parts)))


def small_picture(
    frame: UInt8[np.ndarray, "height width 3"], longer: int = PICTURE
) -> UInt8[np.ndarray, "height2 width2 3"]:
    """A frame no larger than ``longer``."""
    image = Image.fromarray(frame)
    image.thumbnail((longer, longer), Image.Resampling.LANCZOS)
    return np.asarray(image)

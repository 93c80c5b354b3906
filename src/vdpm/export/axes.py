"""Worlds and cameras in other programs' axes.

Every world here is the package's (the camera of the reference view, OpenCV axes) turned as a whole, so that right stays
right, what is up stays up, and nothing is mirrored:

    opencv    x right, y down, z forward
    opengl    x right, y up, z towards the viewer
    y-up      the same axes under the name that glTF, USD, Nuke and Maya give them
    blender   x right, y forward, z up

A camera has axes of its own: OpenCV's (it looks along +z, y down) or OpenGL's (it looks along -z, y up), which glTF,
USD, Blender and Nuke share.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

Axes = Literal["opencv", "opengl", "y-up", "blender"]
CameraAxes = Literal["opencv", "opengl"]

_Y_UP = ((1, 0, 0), (0, -1, 0), (0, 0, -1))
_FROM_OPENCV: dict[str, tuple[tuple[int, int, int], ...]] = {
    "opencv": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "opengl": _Y_UP,
    "y-up": _Y_UP,
    "blender": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
}
WORLD_AXES: dict[str, str] = {
    "opencv": "OpenCV: x right, y down, z forward; right-handed",
    "opengl": "OpenGL: x right, y up, z towards the viewer; right-handed",
    "y-up": "y-up: x right, y up, z towards the viewer; right-handed",
    "blender": "Blender: x right, y forward, z up; right-handed",
}
CAMERA_AXES: dict[str, str] = {
    "opencv": "OpenCV: x right, y down, looks along +z",
    "opengl": "OpenGL: x right, y up, looks along -z",
}


def from_opencv(axes: Axes) -> Float[np.ndarray, "3 3"]:
    """The rotation that takes OpenCV's axes to ``axes``."""
    return np.array(_FROM_OPENCV[axes], dtype=np.float64)


def follow_world(axes: Axes) -> CameraAxes:
    """The axes of cameras that follow the world's: OpenCV's in an OpenCV world, OpenGL's in all others."""
    return "opencv" if axes == "opencv" else "opengl"


def turn_points(points: Shaped[np.ndarray, "*any 3"], axes: Axes, scale: float) -> Float[np.ndarray, "*any 3"]:
    """Points, or velocities, of the package's world -> of the world in ``axes``, ``scale`` times as large; float32."""
    return (points @ (scale * from_opencv(axes)).T.astype(points.dtype)).astype(np.float32)


def turn_cameras(
    c2w: Float[np.ndarray, "frames 4 4"], axes: Axes, camera_axes: CameraAxes, scale: float
) -> Float[np.ndarray, "frames 4 4"]:
    """Camera to world, both OpenCV's -> a camera of ``camera_axes`` to the world in ``axes``; float64.

    Rotations are made orthonormal (the nearest rotation), since a network's are so to a few digits alone.
    """
    u, _, vt = np.linalg.svd(c2w[:, :3, :3].astype(np.float64))
    turned = np.tile(np.eye(4), (len(c2w), 1, 1))
    turned[:, :3, :3] = from_opencv(axes) @ (u @ vt) @ from_opencv(camera_axes).T
    turned[:, :3, 3] = scale * c2w[:, :3, 3] @ from_opencv(axes).T
    return turned


def quaternions(rotations: Float[np.ndarray, "frames 3 3"]) -> Float[np.ndarray, "frames 4"]:
    """Unit quaternions (x, y, z, w), each on the side of the one before it so that blending takes the short way."""
    import torch

    from vdpm.geometry.rigid import matrix_to_quaternion

    result = matrix_to_quaternion(torch.from_numpy(np.ascontiguousarray(rotations))).numpy().copy()
    for frame in range(1, len(result)):
        if result[frame] @ result[frame - 1] < 0:
            result[frame] *= -1
    return result

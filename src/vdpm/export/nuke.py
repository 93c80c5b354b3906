"""The camera's path for Nuke as .chan: ``frame tx ty tz rx ry rz vfov``, one line a frame of the source video.

Import it in a Camera node (File > Import chan file) with Nuke's own rotation order ZXY: about z first, then x, then y,
in degrees. The last column is the vertical field of view in degrees. A chan file has no place for words, so the
conventions stand in a file beside it, with film size and shifts of the lens.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vdpm.export.axes import Axes
from vdpm.export.camera_path import CameraPath
from vdpm.export.options import ExportOptions
from vdpm.progress import Report, silent
from vdpm.structures import Reconstruction


def write(
    reconstruction: Reconstruction,
    place: Path,
    options: ExportOptions,
    axes: Axes,
    said: dict[str, Any],
    report: Report = silent,
) -> list[str]:
    """Writes ``place``; returns what it holds, in lines. Adds lens and columns to ``said``."""
    path = CameraPath.choose(reconstruction, options, axes, "opengl")
    lens = path.lens()
    fov = np.degrees(2 * np.arctan(path.plate_size[0] / 2 / path.plate_intrinsics[:, 1, 1]))
    angles = np.degrees(zxy_angles(path.c2w[:, :3, :3]))
    lines = []
    for row, frame in enumerate(path.indices.tolist()):
        values = (*path.c2w[row, :3, 3], *angles[row], fov[row])
        lines.append("\t".join([str(frame), *(f"{value:.9f}" for value in values)]))
    place.write_text("\n".join(lines) + "\n", encoding="ascii")
    said |= {
        "columns": "frame tx ty tz rx ry rz vertical_fov; degrees",
        "rotation_order": "ZXY: about z first, then x, then y",
        "frame_numbers": f"the source video's, its first is {options.first_frame}",
        "picture": f"the video's, {path.plate_size[1]} x {path.plate_size[0]} pixels, for field of view and film",
        "film_width_mm": lens.width,
        "film_height_mm": lens.height.tolist(),
        "focal_mm": lens.focal.tolist(),
        "film_shift_right_mm": lens.shift_x.tolist(),
        "film_shift_up_mm": lens.shift_y.tolist(),
    }
    return [f"{len(path)} cameras, frames {path.indices[0]} to {path.indices[-1]}"]


def zxy_angles(rotation: Float[np.ndarray, "frames 3 3"]) -> Float[np.ndarray, "frames 3"]:
    """Angles (x, y, z) in radians with R = Ry Rx Rz, unwrapped so that none jumps by a turn."""
    x = np.arcsin(np.clip(-rotation[:, 1, 2], -1, 1))
    y = np.arctan2(rotation[:, 0, 2], rotation[:, 2, 2])
    z = np.arctan2(rotation[:, 1, 0], rotation[:, 1, 1])
    return np.stack([x, *(np.unwrap(angle, period=2 * math.pi) for angle in (y, z))], axis=1)

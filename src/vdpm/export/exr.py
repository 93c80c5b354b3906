"""Depth and position of every frame as OpenEXR, for compositing: one file a frame, named channels, 32 bit.

Channels: R G B (linear light, half), A (1 where the map holds, 0 where padded or less sure than asked), Z (depth along
the camera's axis, positive), P.X P.Y P.Z (position in the world at the frame's own time), confidence. Where A is 0, Z
and P are 0. The header holds worldToCamera as the standard attribute (rows multiply from the left).
"""

from pathlib import Path
from typing import Any

import numpy as np

from vdpm.errors import OutputError
from vdpm.export.axes import Axes, follow_world, turn_points
from vdpm.export.camera_path import CameraPath
from vdpm.export.colors import linear
from vdpm.export.conventions import as_lines
from vdpm.export.extras import require
from vdpm.export.frames import FrameMaps, frame_maps
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
    """Writes a file for each chosen source into the folder ``place``; returns what it holds, in lines."""
    open_exr = require("OpenEXR", "exr")
    path = CameraPath.choose(reconstruction, options, axes, follow_world(axes))
    row_of = {frame: row for row, frame in enumerate(path.frames)}
    count = 0
    for maps in frame_maps(reconstruction, options):
        row = row_of[maps.frame]
        header: dict[str, Any] = {
            "compression": open_exr.ZIP_COMPRESSION,
            "type": open_exr.scanlineimage,
            "comments": "\n".join(as_lines(said)),
            # Contiguous: OpenEXR takes the memory as it lies, whatever the strides say.
            "worldToCamera": np.ascontiguousarray(np.linalg.inv(path.c2w[row]).T, dtype=np.float32),
            "vdpm:intrinsics": "fx {:.9g} fy {:.9g} cx {:.9g} cy {:.9g}".format(
                *(path.intrinsics[row][at] for at in ((0, 0), (1, 1), (0, 2), (1, 2)))
            ),
            "vdpm:seconds": f"{path.seconds[row]:.9g}",
            "vdpm:frame": str(maps.frame),
        }
        try:
            with open_exr.File(header, _channels(maps, axes, options.scale)) as image:
                image.write(str(place / f"frame_{maps.frame:05d}.exr"))
        except (RuntimeError, ValueError) as error:
            raise OutputError(
                f"cannot write frame_{maps.frame:05d}.exr: {error}; choose another place or make room"
            ) from None
        count += 1
    return [f"{count} frames: colour, alpha, depth, position, confidence"]


def _channels(maps: FrameMaps, axes: Axes, scale: float) -> dict[str, Any]:
    valid = maps.valid
    position = turn_points(maps.points, axes, scale) * valid[..., None]
    channels = {name: linear(maps.image)[..., k].astype(np.float16) for k, name in enumerate("RGB")}
    channels |= {"A": valid.astype(np.float16), "Z": (maps.depth * scale * valid).astype(np.float32)}
    channels |= {f"P.{name}": np.ascontiguousarray(position[..., k]) for k, name in enumerate("XYZ")}
    return channels | {"confidence": maps.confidence.astype(np.float32)}

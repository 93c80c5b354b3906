"""The camera's path as plain JSON, for a program of your own: matrices, intrinsics, lens and film of every frame."""

from pathlib import Path
from typing import Any

from vdpm.export.axes import Axes, follow_world
from vdpm.export.camera_path import CameraPath
from vdpm.export.conventions import as_text
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
    """Writes ``place``; returns what it holds, in lines."""
    path = CameraPath.choose(reconstruction, options, axes, follow_world(axes))
    place.write_text(as_text({"conventions": said, **describe(path)}), encoding="utf-8")
    return [f"{len(path)} cameras"]


def describe(path: CameraPath) -> dict[str, Any]:
    """Sizes, film, rate, and for each frame: number in the video, seconds, c2w, intrinsics in pixels of the network's
    image and in those of the video, lens in mm for a film that shows the video's picture.
    """
    lens = path.lens()
    cameras = [
        {
            "frame": frame,
            "number": float(path.numbers[row]),
            "seconds": float(path.seconds[row]),
            "c2w": path.c2w[row].tolist(),
            "intrinsics": path.intrinsics[row].tolist(),
            "video_intrinsics": path.plate_intrinsics[row].tolist(),
            "focal_mm": float(lens.focal[row]),
            "film_height_mm": float(lens.height[row]),
            "film_shift_right_mm": float(lens.shift_x[row]),
            "film_shift_up_mm": float(lens.shift_y[row]),
        }
        for row, frame in enumerate(path.frames)
    ]
    height, width = path.size
    return {
        "width": width,
        "height": height,
        "video_width": path.plate_size[1],
        "video_height": path.plate_size[0],
        "film_width_mm": lens.width,
        "frames_per_second": path.rate,
        "cameras": cameras,
    }

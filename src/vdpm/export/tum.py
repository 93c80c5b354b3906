"""The camera's trajectory in the format of the TUM RGB-D benchmark, camera to world.

One line a frame, ``timestamp tx ty tz qx qy qz qw``, which evo and most SLAM tools read. Timestamps are seconds of the
video. By default world and camera have OpenCV's axes, as in the benchmark.
"""

from pathlib import Path
from typing import Any

import numpy as np

from vdpm.export.axes import Axes, follow_world, quaternions
from vdpm.export.camera_path import CameraPath
from vdpm.export.conventions import as_lines
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
    rows = np.column_stack([path.seconds, path.c2w[:, :3, 3], quaternions(path.c2w[:, :3, :3])])
    lines = [f"# {line}" for line in (*as_lines(said), "columns: timestamp tx ty tz qx qy qz qw")]
    lines += [" ".join(f"{value:.9f}" for value in row) for row in rows.tolist()]
    place.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [f"{len(path)} poses over {path.seconds[-1] - path.seconds[0]:.3f} s"]

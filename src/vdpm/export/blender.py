"""A script that builds the scene in Blender: the animated camera, and the points out of a .glb or .usd beside it.

The export is one file, ``blender_scene.py`` with the camera's path in it. Blender's text editor runs it, and so does

    blender --python scene.py -- points.glb
"""

import json
from pathlib import Path
from typing import Any

from vdpm.export.axes import Axes
from vdpm.export.camera_path import CameraPath
from vdpm.export.cameras_json import describe
from vdpm.export.options import ExportOptions
from vdpm.progress import Report, silent
from vdpm.structures import Reconstruction

SCRIPT = Path(__file__).with_name("blender_scene.py")
"""Runs in Blender's own Python, which has bpy and nothing of ours."""
DATA_LINE = 'SCENE: dict[str, Any] = json.loads("{}")'


def write(
    reconstruction: Reconstruction,
    place: Path,
    options: ExportOptions,
    axes: Axes,
    said: dict[str, Any],
    report: Report = silent,
) -> list[str]:
    """Writes ``place``; returns what it holds, in lines."""
    path = CameraPath.choose(reconstruction, options, axes, "opengl")
    script = SCRIPT.read_text(encoding="utf-8")
    assert DATA_LINE in script
    # JSON in a string literal: text out of a result never becomes code.
    data = json.dumps({"conventions": said, "first_frame": options.first_frame, **describe(path)})
    place.write_text(script.replace(DATA_LINE, f"SCENE: dict[str, Any] = json.loads({data!r})"), encoding="utf-8")
    numbers = path.numbers
    return [f"{len(path)} cameras, frames {numbers[0]:g} to {numbers[-1]:g} at {path.rate:.4g} frames per second"]

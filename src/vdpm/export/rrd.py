"""A recording for the Rerun viewer: points at every time, cameras with their images, tracks; ``rerun result.rrd``.

Timelines: ``video`` (seconds of the video) and ``frame`` (numbers of the result). Cameras are Rerun's pinholes with
OpenCV's axes in every world.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vdpm.errors import OutputError
from vdpm.export.axes import Axes, turn_points
from vdpm.export.camera_path import CameraPath
from vdpm.export.conventions import as_lines
from vdpm.export.extras import require
from vdpm.export.options import ExportOptions
from vdpm.export.selection import MovingCloud, grid_tracks
from vdpm.progress import Report, silent
from vdpm.structures import Reconstruction

MAX_POINTS = 200_000


def write(
    reconstruction: Reconstruction,
    place: Path,
    options: ExportOptions,
    axes: Axes,
    said: dict[str, Any],
    report: Report = silent,
) -> list[str]:
    """Writes ``place``; returns what it holds, in lines. Raises UsageError when nothing is left to write."""
    rr = require("rerun", "rerun")
    cloud = MovingCloud.choose(reconstruction, options, axes, MAX_POINTS)
    path = CameraPath.choose(reconstruction, options, axes, "opencv")
    found = grid_tracks(reconstruction, options)
    recording = rr.RecordingStream("vdpm")
    with _told():
        recording.save(str(place))
    view = {"opencv": rr.ViewCoordinates.RDF, "blender": rr.ViewCoordinates.RFU}.get(axes, rr.ViewCoordinates.RUB)
    recording.log("world", view, static=True)
    recording.log("conventions", rr.TextDocument("\n".join(as_lines(said))), static=True)
    if found is not None:
        points = turn_points(found.points.numpy(), axes, options.scale).transpose(1, 0, 2)
        x, y = found.queries.long().unbind(-1)
        lines = rr.LineStrips3D(np.ascontiguousarray(points), colors=reconstruction.frames[found.source, y, x].numpy())
        recording.log("world/tracks", lines, static=True)
    height, width = path.size
    for row, frame in enumerate(path.frames):
        _set_time(recording, frame, float(path.seconds[row]))
        c2w = path.c2w[row]
        recording.log("world/camera", rr.Transform3D(translation=c2w[:3, 3], mat3x3=c2w[:3, :3]))
        pinhole = rr.Pinhole(
            image_from_camera=path.intrinsics[row], resolution=[width, height], camera_xyz=rr.ViewCoordinates.RDF
        )
        recording.log("world/camera", pinhole)
        recording.log("world/camera/image", rr.Image(reconstruction.frames[frame].numpy()))
    for row, time in enumerate(cloud.times):
        points, _ = cloud.at(row, report)
        if time is not None:
            _set_time(recording, time, float(cloud.seconds[row]))
        shown = rr.Points3D(points, colors=cloud.colors, radii=cloud.widths / 2)
        recording.log("world/points", shown, static=time is None)
    with _told():
        recording.flush()
        recording.disconnect()
    lines = [cloud.note(), f"{len(path)} cameras with images"]
    return lines + ([] if found is None else [f"{len(found.queries)} tracks from frame {found.source}"])


def _set_time(recording: Any, frame: int, seconds: float) -> None:
    recording.set_time("frame", sequence=frame)
    recording.set_time("video", duration=seconds)


@contextmanager
def _told() -> Iterator[None]:
    """Rerun writes in a thread of its own, which tells of a full disk when it is waited for."""
    try:
        yield
    except RuntimeError as error:
        raise OutputError(f"rerun cannot write the recording ({error}); make room or choose another place") from None

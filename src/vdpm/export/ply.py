"""Coloured point clouds as PLY (binary, little endian), which MeshLab, CloudCompare, Blender and Open3D open.

Format: a text header that names the columns, then one packed row a point (Turk, "The PLY Polygon File Format", 1994).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vdpm.export.axes import Axes, turn_points
from vdpm.export.conventions import as_lines
from vdpm.export.files import replace_file
from vdpm.export.options import ExportOptions
from vdpm.export.selection import chosen_cloud, chosen_times
from vdpm.motion import fuse
from vdpm.progress import Report, silent
from vdpm.structures import CONVENTIONS, Reconstruction

ROW = np.dtype(
    [
        ("x", "<f4"),
        ("y", "<f4"),
        ("z", "<f4"),
        ("red", "u1"),
        ("green", "u1"),
        ("blue", "u1"),
        ("confidence", "<f4"),
    ]
)
DROP_PERCENT = 10.0
MAX_POINTS = 4_000_000
_PLY_TYPES = {"<f4": "float", "|u1": "uchar"}


def write_ply(
    reconstruction: Reconstruction,
    target: int | None,
    path: str | Path,
    *,
    drop_percent: float = DROP_PERCENT,
    drop_sky: bool = True,
    drop_edges: bool = True,
) -> int:
    """Write the points of all kept frames at the time of frame ``target``; returns how many there are.

    ``target`` None takes each frame at its own time. Points are in the world (the camera of the reference view, OpenCV
    axes, arbitrary scale). ``drop_percent`` of each frame's pixels, the least sure ones, are left out, and what
    ``motion.fuse`` drops by ``drop_sky`` and ``drop_edges``: most of it hangs in the air beside the outline of
    something. Raises UsageError for a target that the result does not keep, OutputError where the file cannot be
    written.
    """
    cloud = fuse(reconstruction, target, drop_percent=drop_percent, drop_sky=drop_sky, drop_edges=drop_edges)
    without = [
        f"the least sure {drop_percent:g} % of each frame",
        *drop_sky * ["sky"],
        *drop_edges * ["edges of depth"],
    ]
    when = "each at its own time"
    if target is not None:
        when = f"at the time of frame {target} ({float(reconstruction.timestamps[target]):.3f} s)"
    comments = (
        f"vdpm: {reconstruction.name}, all kept frames {when}",
        f"axes: {CONVENTIONS['axes']}",
        f"world: {CONVENTIONS['world']}, frame {reconstruction.reference}",
        f"scale: {CONVENTIONS['scale']}",
        f"confidence: {CONVENTIONS['confidence']}",
        f"left out: {', '.join(without)}",
    )
    write_points(path, cloud.points, cloud.colors, cloud.confidence, comments)
    return len(cloud.points)


def write(
    reconstruction: Reconstruction,
    place: Path,
    options: ExportOptions,
    axes: Axes,
    said: dict[str, Any],
    report: Report = silent,
) -> list[str]:
    """Writes a file for each chosen time into the folder ``place``; returns what it holds, in lines."""
    times = chosen_times(reconstruction, options)
    count = 0
    for done, time in enumerate(times):
        report("fusing points", done, len(times))
        cloud = chosen_cloud(reconstruction, time, options, MAX_POINTS)
        points = torch.from_numpy(turn_points(cloud.points.numpy(), axes, options.scale))
        when = "each frame at its own time" if time is None else f"frame {time}"
        lines = (*as_lines(said), f"time: {when}")
        (place / cloud_file(time)).write_bytes(b"".join(_encode(points, cloud.colors, cloud.confidence, lines)))
        count += len(cloud)
    report("fusing points", len(times), len(times))
    what = f"{count:,} points in {len(times)} file{'s' * (len(times) != 1)}"
    return [what] if times != (None,) else [f"{what}, each frame's at its own time: the result keeps no other times"]


def cloud_file(target: int | None) -> str:
    """Name of the file that holds the points at the time of frame ``target``."""
    return "points_own_times.ply" if target is None else f"points_t{target:05d}.ply"


def write_points(
    path: str | Path,
    points: Float[Tensor, "points 3"],
    colors: UInt8[Tensor, "points 3"],
    confidence: Float[Tensor, "points"],
    comments: tuple[str, ...] = (),
) -> None:
    """Write points with colours (RGB, 8 bit) and confidence. Raises OutputError where the file cannot be written."""
    with replace_file(path) as stream:
        for part in _encode(points, colors, confidence, comments):
            stream.write(part)


def _encode(points: Tensor, colors: Tensor, confidence: Tensor, comments: tuple[str, ...]) -> tuple[bytes, bytes]:
    """Header and rows."""
    rows = np.empty(len(points), dtype=ROW)
    rows["x"], rows["y"], rows["z"] = points.detach().float().cpu().numpy().T
    rows["red"], rows["green"], rows["blue"] = colors.cpu().numpy().T
    rows["confidence"] = confidence.detach().float().cpu().numpy()
    return _header(len(points), comments), rows.tobytes()


def _header(count: int, comments: tuple[str, ...]) -> bytes:
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [f"comment {' '.join(comment.split())}" for comment in comments]
    lines += [f"element vertex {count}"]
    lines += [f"property {_PLY_TYPES[ROW[name].str]} {name}" for name in ROW.names or ()]
    return ("\n".join([*lines, "end_header"]) + "\n").encode("ascii", errors="replace")

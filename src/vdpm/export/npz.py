"""Everything in one NumPy archive, for a notebook: ``numpy.load("result.npz")`` needs neither vdpm nor torch.

Arrays (s sources, t times, n frames; pixels every ``stride``-th in x and y):
    images [s h w 3] u1          points [s h w 3]: P, each frame at its own time
    confidence [s h w]           points_at [t s h w 3]: all frames at each time (P where time and source are one frame)
    depth [s h w]                confidence_at [t s h w]
    valid [s h w] bool           pixels [h w 2]: x, y of each in the network's image, centres at +0.5
    c2w [n 4 4]  intrinsics [n 3 3]  seconds [n]  frames [n]  sources [s]  times [t]
    conventions: JSON text
Lengths are float32 in the axes asked for; intrinsics are those of the whole image, also with a stride.
"""

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from vdpm.export.axes import Axes, follow_world, turn_points
from vdpm.export.camera_path import CameraPath
from vdpm.export.frames import FrameMaps, frame_maps
from vdpm.export.options import ExportOptions
from vdpm.export.selection import READING, chosen_sources, chosen_times
from vdpm.geometry.pinhole import pixel_grid
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
    """Writes ``place``, one map of points in memory at a time; returns what it holds, in lines."""
    sources = chosen_sources(reconstruction, options)
    times = [time for time in chosen_times(reconstruction, options) if time is not None]
    path = CameraPath.choose(reconstruction, options, axes, follow_world(axes))
    step = options.stride or 1
    pixels = pixel_grid(*reconstruction.size).numpy()[::step, ::step].astype(np.float32)
    size = pixels.shape[:2]

    def each(take: Any) -> Iterable[np.ndarray]:
        return (np.ascontiguousarray(take(maps)[::step, ::step]) for maps in frame_maps(reconstruction, options))

    def points(maps: FrameMaps) -> np.ndarray:
        return turn_points(maps.points, axes, options.scale)

    grid = [(time, source) for time in times for source in sources]
    confidence: list[np.ndarray] = []

    def at_times() -> Iterable[np.ndarray]:
        """Points of each pair; keeps its confidence, so that no map is read twice."""
        for done, pair in enumerate(grid):
            report(READING, done, len(grid))
            point_map = reconstruction.maps.at(*pair)
            confidence.append(point_map.confidence.numpy()[::step, ::step].copy())
            yield turn_points(point_map.points.numpy()[::step, ::step], axes, options.scale)
        report(READING, len(grid), len(grid))

    with zipfile.ZipFile(place, "w", allowZip64=True) as archive:
        _add(archive, "conventions", (), np.array(json.dumps(said)), None)
        _add(archive, "c2w", (), path.c2w, None)
        _add(archive, "intrinsics", (), path.intrinsics, None)
        _add(archive, "seconds", (), path.seconds, None)
        for name, numbers in (("frames", path.frames), ("sources", sources), ("times", times)):
            _add(archive, name, (), np.array(numbers, dtype=np.int64), None)
        _add(archive, "pixels", (), pixels, None)
        shape, f4 = (len(sources), *size), np.dtype("<f4")
        _add(archive, "images", (*shape, 3), np.dtype("u1"), each(lambda maps: maps.image))
        _add(archive, "valid", shape, np.dtype("?"), each(lambda maps: maps.valid))
        _add(archive, "points", (*shape, 3), f4, each(points))
        _add(archive, "confidence", shape, f4, each(lambda maps: maps.confidence))
        _add(archive, "depth", shape, f4, each(lambda maps: maps.depth * options.scale))
        shape = (len(times), *shape)
        _add(
            archive,
            "points_at",
            (*shape, 3),
            f4,
            at_times(),
        )
        _add(archive, "confidence_at", shape, f4, confidence)
    return [f"{len(sources)} sources at {len(times)} times, maps of {size[1]} x {size[0]}"]


def _add(
    archive: zipfile.ZipFile,
    name: str,
    shape: tuple[int, ...],
    values: Any,
    parts: Iterable[np.ndarray] | None,
) -> None:
    """One array: ``values`` whole, or ``parts`` one after the other as an array of ``shape`` and type ``values``."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
        if parts is None:
            np.lib.format.write_array(stream, np.asarray(values), allow_pickle=False)
            return
        head = {"descr": np.lib.format.dtype_to_descr(values), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, head)
        for part in parts:
            stream.write(np.ascontiguousarray(part, dtype=values).tobytes())

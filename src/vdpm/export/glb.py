"""Animated points and camera as binary glTF 2.0 (GLB), which browsers, Blender and most engines open.

All points are in one mesh of single vertices. Its shape at the first time is the mesh itself, each later time is a
morph target, and one animation gives the target of each time the weight 1 in turn, so that points move straight from
one time to the next. glTF fixes the axes (y up, cameras look along -z), and colours as linear. It has no way to animate
a lens, nor to shift it: the camera's field of view is the median over the frames, and its centre the picture's.

Sections named below are those of the glTF 2.0 specification (Khronos, 2021).
"""

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vdpm.export.axes import Axes, quaternions
from vdpm.export.camera_path import CameraPath
from vdpm.export.colors import linear
from vdpm.export.options import ExportOptions
from vdpm.export.selection import MovingCloud
from vdpm.progress import Report, silent
from vdpm.structures import Reconstruction

MAX_POINTS = 100_000
"""Every time holds all points: 24 times of so many are 29 MB."""
FLOAT = 5126
ARRAY_BUFFER = 34962
UNLIT = "KHR_materials_unlit"


def write(
    reconstruction: Reconstruction,
    place: Path,
    options: ExportOptions,
    axes: Axes,
    said: dict[str, Any],
    report: Report = silent,
) -> list[str]:
    """Writes ``place``; returns what it holds, in lines. Raises UsageError when nothing is left to write."""
    cloud = MovingCloud.choose(reconstruction, options, axes, MAX_POINTS)
    path = CameraPath.choose(reconstruction, options, axes, "opengl")
    glb = _Glb()
    start = min(float(cloud.seconds[0]), float(path.seconds[0]))
    _add_points(glb, cloud, start, report)
    _add_camera(glb, path, start)
    nodes = [{"name": "vdpm", "children": [1, 2]}, {"name": "points", "mesh": 0}, glb.camera_node]
    document: dict[str, Any] = {
        "asset": {"version": "2.0", "generator": said["made_by"], "extras": said | {"starts_at_second": start}},
        "extensionsUsed": [UNLIT],
        "scene": 0,
        "scenes": [{"name": reconstruction.name, "nodes": [0]}],
        "nodes": nodes,
        "meshes": [glb.mesh],
        "materials": [{"name": "points", "pbrMetallicRoughness": {}, "extensions": {UNLIT: {}}}],
        "cameras": [glb.camera],
    }
    if glb.channels:
        document["animations"] = [{"name": "video", "channels": glb.channels, "samplers": glb.samplers}]
    with open(place, "wb") as stream:
        for part in glb.parts(document):
            stream.write(part)
    return [cloud.note(), f"{len(path)} cameras, field of view {glb.fov:.1f} degrees (height)"]


class _Glb:
    """The parts of the file as they come together: binary buffer, accessors, and the pieces of the document."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.length = 0
        self.views: list[dict[str, Any]] = []
        self.accessors: list[dict[str, Any]] = []
        self.samplers: list[dict[str, Any]] = []
        self.channels: list[dict[str, Any]] = []
        self.mesh: dict[str, Any] = {}
        self.camera: dict[str, Any] = {}
        self.camera_node: dict[str, Any] = {}
        self.fov = 0.0

    def accessor(
        self,
        values: Float[np.ndarray, "..."],
        *,
        vertices: bool = False,
        bounds: bool = False,
    ) -> int:
        """Adds values (one axis: scalars, two: vectors) to the buffer; returns the number of their accessor (3.6.2)."""
        values = np.ascontiguousarray(values, dtype="<f4")
        view = {"buffer": 0, "byteOffset": self.length, "byteLength": values.nbytes}
        self.views.append(view | ({"target": ARRAY_BUFFER} if vertices else {}))
        self.chunks.append(values.tobytes())
        self.length += values.nbytes
        accessor: dict[str, Any] = {
            "bufferView": len(self.views) - 1,
            "componentType": FLOAT,
            "count": len(values),
            "type": "SCALAR" if values.ndim == 1 else f"VEC{values.shape[1]}",
        }
        if bounds:
            flat = values.reshape(len(values), -1)
            accessor |= {"min": flat.min(axis=0).tolist(), "max": flat.max(axis=0).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def animate(self, node: int, path: str, times: int, values: Float[np.ndarray, "..."]) -> None:
        """Adds a channel that blends ``values`` linearly over the accessor of ``times`` (3.11)."""
        self.samplers.append({"input": times, "interpolation": "LINEAR", "output": self.accessor(values)})
        self.channels.append({"sampler": len(self.samplers) - 1, "target": {"node": node, "path": path}})

    def parts(self, document: dict[str, Any]) -> list[bytes]:
        """Header, JSON chunk and binary chunk (4.4)."""
        document |= {"accessors": self.accessors, "bufferViews": self.views, "buffers": [{"byteLength": self.length}]}
        text = json.dumps(document, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 4)
        total = 12 + 8 + len(text) + 8 + self.length
        head = struct.pack("<4sIII4s", b"glTF", 2, total, len(text), b"JSON")
        return [head, text, struct.pack("<I4s", self.length, b"BIN\0"), *self.chunks]


def _add_points(glb: _Glb, cloud: MovingCloud, start: float, report: Report) -> None:
    base, _ = cloud.at(0, report)
    attributes = {"POSITION": glb.accessor(base, vertices=True, bounds=True)}
    attributes["COLOR_0"] = glb.accessor(linear(cloud.colors).astype(np.float32), vertices=True)
    primitive: dict[str, Any] = {"mode": 0, "attributes": attributes, "material": 0}
    glb.mesh = {"name": "points", "primitives": [primitive], "extras": {"point_width": float(np.median(cloud.widths))}}
    count = len(cloud.times)
    if count == 1:
        return
    targets = []
    for row in range(1, count):
        points, _ = cloud.at(row, report)
        targets.append({"POSITION": glb.accessor(points - base, vertices=True, bounds=True)})
    primitive["targets"] = targets
    glb.mesh["weights"] = [0.0] * (count - 1)
    glb.mesh["extras"]["targetNames"] = [f"frame {time}" for time in cloud.times[1:]]
    times = glb.accessor((cloud.seconds - start).astype(np.float32), bounds=True)
    # Row k holds the weights at time k: none for the first time, which is the mesh itself.
    glb.animate(1, "weights", times, np.eye(count, dtype=np.float32)[:, 1:].reshape(-1))


def _add_camera(glb: _Glb, path: CameraPath, start: float) -> None:
    (height, width), k = path.plate_size, path.plate_intrinsics
    glb.fov = math.degrees(2 * math.atan(float(np.median(height / 2 / k[:, 1, 1]))))
    aspect = width / height * float(np.median(k[:, 1, 1] / k[:, 0, 0]))
    # znear must be above 0, and what is nearer is cut off; no zfar: endless.
    near = 1e-3 * max(1e-6, float(np.abs(path.c2w[:, :3, 3]).max()), path_scale(glb))
    lens = {"yfov": math.radians(glb.fov), "aspectRatio": aspect, "znear": near}
    glb.camera = {"name": "camera", "type": "perspective", "perspective": lens}
    rotation, translation = quaternions(path.c2w[:, :3, :3]), path.c2w[:, :3, 3]
    glb.camera_node = {
        "name": "camera",
        "camera": 0,
        "translation": translation[0].tolist(),
        "rotation": rotation[0].tolist(),
    }
    if len(path) > 1:
        times = glb.accessor((path.seconds - start).astype(np.float32), bounds=True)
        glb.animate(2, "translation", times, translation.astype(np.float32))
        glb.animate(2, "rotation", times, rotation.astype(np.float32))


def path_scale(glb: _Glb) -> float:
    """The largest coordinate of the points, which are in the first accessor."""
    box = glb.accessors[0]
    return float(np.abs([box["min"], box["max"]]).max())

"""Where a film looks from: around the scene, through the video's own cameras, or along a path from a file."""

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from vdpm.errors import InputError
from vdpm.geometry.rigid import is_rigid, matrix_to_quaternion, quaternion_to_matrix
from vdpm.json_file import read_json
from vdpm.structures import Reconstruction
from vdpm.viewer.splatting import View

Move = Callable[[float, float], View]
"""``move(share, seconds)``: the view when ``share`` of the film (0 to 1) is over and the clip is at ``seconds``."""

FIELD_OF_VIEW = 50.0
"""Degrees across the picture's longer side, where nothing else is asked for."""
PITCH = 14.0
SWING = 28.0
"""Degrees to either side."""
MOST = 0.93
"""Share of the points that a turn keeps in the picture."""


def around(
    points: Float[np.ndarray, "points 3"], home: Float[np.ndarray, "4 4"], size: tuple[int, int], *, full: bool
) -> Move:
    """A turn about the middle of the scene: ``full`` once around, else a swing to both sides of the reference camera.

    ``home``: c2w of the reference camera. The distance is the least at which most points are in the picture all along.
    """
    seen = (points - home[:3, 3]) @ home[:3, :3]
    low, high = (np.quantile(seen, q, axis=0) for q in (0.04, 0.96))
    middle = (low + high) / 2
    focal = max(size) / 2 / math.tan(math.radians(FIELD_OF_VIEW) / 2)
    center = np.array([size[1] / 2, size[0] / 2])

    def yaw(share: float) -> float:
        return 2 * math.pi * share if full else math.radians(SWING) * math.sin(2 * math.pi * share)

    def view(turn: Float[np.ndarray, "3 3"], distance: float) -> View:
        c2w = np.eye(4)
        c2w[:3, :3] = home[:3, :3] @ turn
        c2w[:3, 3] = home[:3, :3] @ (middle - distance * turn[:, 2]) + home[:3, 3]
        return View(c2w, np.array([focal, focal]), center, size)

    sample = points[:: max(1, len(points) // 2000)]
    turns = [_turned(yaw(share), math.radians(PITCH)) for share in np.arange(8) / 8]
    distance = float(np.linalg.norm(high - low)) * 0.3 + 1e-6
    while min(_share_inside(view(turn, distance), sample) for turn in turns) < MOST and distance < 1e6:
        distance *= 1.05
    return lambda share, seconds: view(_turned(yaw(share), math.radians(PITCH)), distance)


def _share_inside(view: View, points: Float[np.ndarray, "n 3"]) -> float:
    pixels, depth = view.project(points)
    inside = (depth > 0) & (pixels > 0).all(axis=1) & (pixels < [view.size[1], view.size[0]]).all(axis=1)
    return float(inside.mean()) if len(points) else 1.0


def _turned(yaw: float, pitch: float) -> Float[np.ndarray, "3 3"]:
    """Columns right, down, forward of a camera that looks ``yaw`` to its right and ``pitch`` down."""
    a, b = (math.cos(yaw), math.sin(yaw)), (math.cos(pitch), math.sin(pitch))
    about_y = np.array([[a[0], 0, a[1]], [0, 1, 0], [-a[1], 0, a[0]]])
    about_x = np.array([[1, 0, 0], [0, b[0], b[1]], [0, -b[1], b[0]]])
    return about_y @ about_x


@dataclass(frozen=True, eq=False)
class Keys:
    """Cameras at given moments; between them position and focal length go straight, rotation by the shortest turn."""

    moments: list[float]
    c2w: Float[np.ndarray, "keys 4 4"]
    intrinsics: Float[np.ndarray, "keys 4"]

    def at(self, moment: float) -> tuple[Float[np.ndarray, "4 4"], Float[np.ndarray, "4"]]:
        """c2w and (fx, fy, cx, cy) at a moment; before the first and after the last key, theirs."""
        row = min(max(bisect_right(self.moments, moment) - 1, 0), max(len(self.moments) - 2, 0))
        after = min(row + 1, len(self.moments) - 1)
        span = self.moments[after] - self.moments[row]
        mix = min(max((moment - self.moments[row]) / span, 0.0), 1.0) if span > 0 else 0.0
        c2w = np.eye(4)
        c2w[:3, :3] = _between(self.c2w[row, :3, :3], self.c2w[after, :3, :3], mix)
        c2w[:3, 3] = (1 - mix) * self.c2w[row, :3, 3] + mix * self.c2w[after, :3, 3]
        return c2w, (1 - mix) * self.intrinsics[row] + mix * self.intrinsics[after]


def _between(a: Float[np.ndarray, "3 3"], b: Float[np.ndarray, "3 3"], mix: float) -> Float[np.ndarray, "3 3"]:
    p, q = (matrix_to_quaternion(torch.from_numpy(m)).numpy() for m in (a, b))
    dot = float(p @ q)
    if dot < 0:
        q, dot = -q, -dot
    angle = math.acos(min(dot, 1.0))
    if angle < 1e-6:
        return a if mix < 0.5 else b
    mixed = (math.sin((1 - mix) * angle) * p + math.sin(mix * angle) * q) / math.sin(angle)
    return quaternion_to_matrix(torch.from_numpy(mixed)).numpy()


def through_the_video(reconstruction: Reconstruction, box: tuple[int, int, int, int], size: tuple[int, int]) -> Move:
    """The video's own cameras; ``box`` (left, top, right, bottom) of the network's image fills the picture."""
    k = reconstruction.cameras.intrinsics.double().numpy()
    keys = Keys(
        moments=reconstruction.timestamps.tolist(),
        c2w=reconstruction.cameras.c2w.double().numpy(),
        intrinsics=np.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]], axis=1),
    )
    left, top, right, bottom = box
    zoom = np.array([size[1] / (right - left), size[0] / (bottom - top)])

    def move(share: float, seconds: float) -> View:
        c2w, numbers = keys.at(seconds)
        return View(c2w, numbers[:2] * zoom, (numbers[2:] - np.array([left, top])) * zoom, size)

    return move


def along(path: Path, size: tuple[int, int]) -> Move:
    """The path in a JSON file: ``{"keys": [{"from": [x, y, z], "at": [x, y, z], "fov": degrees}, ...]}``.

    A key may hold ``c2w`` (4 x 4) in place of ``from`` and ``at``, and ``share``, the part of the film that is over,
    from 0 to 1; without it the keys are spread evenly. ``fov`` is across the picture's width. All in the result's
    world.
    Raises InputError for any other file.
    """
    keys = _read_keys(path)
    even = np.linspace(0, 1, len(keys)).tolist()
    moments = [_number(path, n, key, "share", even[n]) for n, key in enumerate(keys)]
    if any(b <= a for a, b in pairwise(moments)) or not 0 <= moments[0] <= moments[-1] <= 1:
        raise InputError(f"{path}: the shares of the keys must grow, from 0 to 1")
    fovs = [_number(path, n, key, "fov", FIELD_OF_VIEW) for n, key in enumerate(keys)]
    if not all(1 <= fov <= 170 for fov in fovs):
        raise InputError(f"{path}: a fov lies outside of 1 to 170 degrees")
    focals = [size[1] / 2 / math.tan(math.radians(fov) / 2) for fov in fovs]
    poses = np.stack([_pose(path, n, key) for n, key in enumerate(keys)])
    film = Keys(moments, poses, np.array([[f, f, size[1] / 2, size[0] / 2] for f in focals]))

    def move(share: float, seconds: float) -> View:
        c2w, numbers = film.at(share)
        return View(c2w, numbers[:2], numbers[2:], size)

    return move


def _read_keys(path: Path) -> list[dict[str, Any]]:
    data = read_json(path, "docs/viewer.md shows a camera path")
    keys = data.get("keys") if isinstance(data, dict) else None
    if not isinstance(keys, list) or not keys or not all(isinstance(key, dict) for key in keys):
        raise InputError(f"{path}: holds no list of keys; docs/viewer.md shows a camera path")
    return keys


def _number(path: Path, n: int, key: dict[str, Any], name: str, default: float) -> float:
    return float(_numbers(path, n, key.get(name, default), name, ()))


def _numbers(path: Path, n: int, value: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        numbers = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        numbers = np.zeros(0)
    if numbers.shape != shape or not np.isfinite(numbers).all():
        expected = "a number" if shape == () else f"{' x '.join(map(str, shape))} numbers"
        raise InputError(f"{path}: {name} of key {n} is not {expected}")
    return numbers


def _pose(path: Path, n: int, key: dict[str, Any]) -> Float[np.ndarray, "4 4"]:
    """c2w of a key."""
    if "c2w" in key:
        c2w = _numbers(path, n, key["c2w"], "c2w", (4, 4))
        # 1e-2 leaves room for rotations written by hand with three digits, which are off by up to 2e-3.
        if not bool(is_rigid(torch.from_numpy(c2w), tolerance=1e-2)):
            raise InputError(f"{path}: c2w of key {n} is not a rigid motion")
        return c2w
    start, end = (_numbers(path, n, key.get(name), name, (3,)) for name in ("from", "at"))
    forward = end - start
    # y is down. Looking straight up or down, the picture's top is towards z.
    down = np.array([0.0, 1.0, 0.0]) if np.linalg.norm(forward[[0, 2]]) > 1e-6 else np.array([0.0, 0.0, -1.0])
    length = np.linalg.norm(forward)
    if length < 1e-9:
        raise InputError(f"{path}: key {n} looks from a point at the same point")
    forward = forward / length
    right = np.cross(down, forward)
    right /= np.linalg.norm(right)
    c2w = np.eye(4)
    c2w[:3, :4] = np.stack([right, np.cross(forward, right), forward, start], axis=1)
    return c2w

"""Where a browser looks from: in the camera of a frame, at the first view, or wherever somebody has turned to."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from vdpm.geometry.rigid import matrix_to_quaternion, quaternion_to_matrix
from vdpm.viewer.live.frusta import VideoCamera
from vdpm.viewer.live.reading import Reading
from vdpm.viewer.live.side import Side

SETTLED = 0.8
"""Seconds within which what the browser says of its camera may still be from before it was moved."""
APART = 1.6
"""Two results stand so many times the scene's width apart."""
BACK, ABOVE = 0.7, 0.35
"""Of the scene's distance: how far behind and above the reference camera both of them are looked at from."""
RIM = 1.08
TURNED = math.cos(math.radians(0.5) / 2)


class _Placed(NamedTuple):
    """A view that was chosen. ``fov``: radians from bottom to top, from the window's width over its height."""

    center: Float[np.ndarray, "3"]
    wxyz: Float[np.ndarray, "4"]
    fov: Callable[[float], float]

    @property
    def forward(self) -> Float[np.ndarray, "3"]:
        """Where it looks, in the world."""
        w, x, y, z = self.wxyz
        return np.array([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)])


class Turned(NamedTuple):
    """A view that somebody has turned to. ``fov``: radians from bottom to top."""

    position: Float[np.ndarray, "3"]
    look_at: Float[np.ndarray, "3"]
    up: Float[np.ndarray, "3"]
    fov: float


class Viewpoint:
    """Moves the camera of a browser. ``standing``: the frame whose camera it looks through, if any.

    ``on_leave`` is called when somebody turns away from there.
    """

    def __init__(self, client: Any, sides: list[Side], on_leave: Callable[[], None]) -> None:
        self.client, self.sides, self._on_leave = client, sides, on_leave
        self.standing: int | None = sides[0].reconstruction.reference
        self.apart = 0.0
        self._placed: _Placed | None = None
        self._since = 0.0

    def arrange(self, side_by_side: bool) -> None:
        """Put two results beside each other, or in the same place."""
        if len(self.sides) < 2:
            return
        reading = self.sides[0].reading
        right = _home(reading).c2w[:3, 0]
        self.apart = APART * _extent(reading)[0] if side_by_side else 0.0
        self.sides[0].move(-0.5 * self.apart * right)
        self.sides[1].move(0.5 * self.apart * right)

    def stand(self, frame: int) -> None:
        """Look through the camera of a frame of the first result."""
        side = self.sides[0]
        camera, reading = side.reading.cameras[frame], side.reading
        forward = camera.c2w[:3, 2]
        distance = max(float((reading.pivot - camera.c2w[:3, 3]) @ forward), 0.1 * reading.reach)
        self.standing = frame
        center = camera.c2w[:3, 3] + side.offset
        self._place(_Placed(center, camera.wxyz, camera.vertical_view), distance, -camera.c2w[:3, 1])

    def reset(self) -> None:
        """The first view: through the reference camera; of two results side by side, from behind and above it."""
        reading = self.sides[0].reading
        if not self.apart:
            self.stand(reading.reconstruction.reference)
            return
        self.standing = None
        placed, distance = _from_behind(reading, self.apart)
        self._place(placed, distance, -_home(reading).c2w[:3, 1])

    @property
    def seat(self) -> int | Turned:
        """The frame in whose camera one stands, or the view that somebody has turned to."""
        if self.standing is not None:
            return self.standing
        camera = self.client.camera
        return Turned(
            np.array(camera.position, dtype=np.float64),
            np.array(camera.look_at, dtype=np.float64),
            np.array(camera.up_direction, dtype=np.float64),
            float(camera.fov),
        )

    def take(self, seat: int | Turned) -> None:
        """Look from there again."""
        if isinstance(seat, int):
            self.stand(seat)
            return
        self.standing, self._placed = None, None
        camera = self.client.camera
        with self.client.atomic():
            camera.up_direction = seat.up
            camera.position = seat.position
            camera.look_at = seat.look_at
            camera.fov = seat.fov

    def _place(self, placed: _Placed, distance: float, up: np.ndarray) -> None:
        self._placed, self._since = placed, time.monotonic()
        camera = self.client.camera
        with self.client.atomic():
            camera.up_direction = up
            camera.position = placed.center
            camera.look_at = placed.center + distance * placed.forward
            camera.fov = float(placed.fov(camera.aspect))

    def ray(self, x: float, y: float) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
        """Origin and direction, in the scene, of what the browser shows at a place of its window: 0 to 1 from the left,
        and from the top.
        """
        camera = self.client.camera
        tall = math.tan(camera.fov / 2)
        seen = np.array([(2 * x - 1) * tall * camera.aspect, (2 * y - 1) * tall, 1.0])
        w, i, j, k = camera.wxyz
        turned = quaternion_to_matrix(torch.tensor([i, j, k, w], dtype=torch.float64)).numpy() @ seen
        return np.asarray(camera.position, dtype=np.float64), turned

    def moved(self, camera: Any) -> None:
        """What the browser says of its camera: it was turned, or its window has another shape."""
        placed = self._placed
        if placed is None:
            return
        scale = self.sides[0].reading.reach
        same = bool(np.linalg.norm(camera.position - placed.center) < 5e-3 * scale)
        same = same and abs(float(placed.wxyz @ camera.wxyz)) > TURNED
        if same:
            fov = float(placed.fov(camera.aspect))
            if abs(camera.fov - fov) > 1e-3:
                camera.fov = fov
        elif time.monotonic() - self._since > SETTLED:
            self._placed = None
            if self.standing is not None:
                self.standing = None
                self._on_leave()


def begin(server: Any, reading: Reading, two: bool) -> None:
    """Have browsers begin with the first view, of ``two`` results side by side. They look from there before they can be
    moved.
    """
    home = _home(reading)
    placed, distance = _Placed(home.c2w[:3, 3], home.wxyz, home.vertical_view), reading.reach
    if two:
        placed, distance = _from_behind(reading, APART * _extent(reading)[0])
    start = server.initial_camera
    start.position = tuple(placed.center)
    start.look_at = tuple(placed.center + distance * placed.forward)
    start.up = tuple(-home.c2w[:3, 1])
    start.fov = min(float(placed.fov(1.5)), math.radians(120))
    start.near, start.far = 2e-3 * reading.reach, 200 * reading.reach
    server.scene.set_up_direction(tuple(-home.c2w[:3, 1]))


def _home(reading: Reading) -> VideoCamera:
    return reading.cameras[reading.reconstruction.reference]


def _extent(reading: Reading) -> tuple[float, float]:
    """Width and height that the reference frame has at the scene's distance."""
    camera, reach = _home(reading), reading.reach
    left, top, right, bottom = camera.box
    return reach * (right - left) / camera.intrinsics[0, 0], reach * (bottom - top) / camera.intrinsics[1, 1]


def _from_behind(reading: Reading, apart: float) -> tuple[_Placed, float]:
    """A view of two results so far apart, and how far away they are."""
    c2w, reach = _home(reading).c2w, reading.reach
    right, down, back = c2w[:3, 0], c2w[:3, 1], c2w[:3, 2]
    width, height = _extent(reading)
    middle = c2w[:3, 3] + reach * back
    center = c2w[:3, 3] - reach * (BACK * back + ABOVE * down)
    distance = float(np.linalg.norm(middle - center))
    forward = (middle - center) / distance
    turned = np.stack([right, np.cross(forward, right), forward], axis=1)
    x, y, z, w = matrix_to_quaternion(torch.from_numpy(turned)).tolist()

    def fov(aspect: float) -> float:
        across = 0.5 * RIM * (width + apart) / aspect
        return 2 * math.atan(max(across, 0.5 * RIM * height) / distance)

    return _Placed(center, np.array([w, x, y, z]), fov), distance

"""Where the browsers look from: in the camera of a frame, at the first view, or wherever somebody has turned to."""

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from vdpm.geometry.rigid import matrix_to_quaternion
from vdpm.viewer.live.side import Side

SETTLED = 0.8
"""Seconds within which what a browser says of its camera may still be from before it was moved."""
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


class Viewpoint:
    """Moves the cameras of all browsers, or of one. ``standing``: the frame whose camera they look through, if any.

    ``on_leave`` is called when somebody turns away from there.
    """

    def __init__(self, server: Any, sides: list[Side], on_leave: Callable[[], None]) -> None:
        self.server, self.sides, self._on_leave = server, sides, on_leave
        self.standing: int | None = sides[0].reconstruction.reference
        self.apart = 0.0
        self._placed: _Placed | None = None
        self._since = 0.0

    def arrange(self, side_by_side: bool) -> None:
        """Put two results beside each other, or in the same place."""
        if len(self.sides) < 2:
            return
        first = self.sides[0]
        right = first.cameras[first.reconstruction.reference].c2w[:3, 0]
        self.apart = APART * self._extent()[0] if side_by_side else 0.0
        first.move(-0.5 * self.apart * right)
        self.sides[1].move(0.5 * self.apart * right)

    def _extent(self) -> tuple[float, float]:
        """Width and height that the reference frame has at the scene's distance."""
        camera = self.sides[0].cameras[self.sides[0].reconstruction.reference]
        left, top, right, bottom = camera.box
        reach = self.sides[0].reach
        return reach * (right - left) / camera.intrinsics[0, 0], reach * (bottom - top) / camera.intrinsics[1, 1]

    def stand(self, frame: int, client: Any = None) -> None:
        """Look through the camera of a frame of the first result."""
        side = self.sides[0]
        camera = side.cameras[frame]
        forward = camera.c2w[:3, 2]
        distance = max(float((side.pivot - camera.c2w[:3, 3]) @ forward), 0.1 * side.reach)
        self.standing = frame
        center = camera.c2w[:3, 3] + side.offset
        self._place(_Placed(center, camera.wxyz, camera.vertical_view), distance, -camera.c2w[:3, 1], client)

    def reset(self, client: Any = None) -> None:
        """The first view: through the reference camera; of two results side by side, from behind and above it."""
        side = self.sides[0]
        if not self.apart:
            self.stand(side.reconstruction.reference, client)
            return
        self.standing = None
        placed, distance = self._from_behind()
        self._place(placed, distance, -side.cameras[side.reconstruction.reference].c2w[:3, 1], client)

    def begin(self) -> None:
        """Have browsers that come later begin with the first view. They look from there before they can be moved."""
        side = self.sides[0]
        home = side.cameras[side.reconstruction.reference]
        placed, distance = _Placed(home.c2w[:3, 3], home.wxyz, home.vertical_view), side.reach
        if self.apart:
            placed, distance = self._from_behind()
        start = self.server.initial_camera
        start.position = tuple(placed.center)
        start.look_at = tuple(placed.center + distance * placed.forward)
        start.up = tuple(-home.c2w[:3, 1])
        start.fov = min(float(placed.fov(1.5)), math.radians(120))
        start.near, start.far = 2e-3 * side.reach, 200 * side.reach

    def _from_behind(self) -> tuple[_Placed, float]:
        """A view of both results, and how far away they are."""
        side = self.sides[0]
        c2w = side.cameras[side.reconstruction.reference].c2w
        right, down, back = c2w[:3, 0], c2w[:3, 1], c2w[:3, 2]
        width, height = self._extent()
        middle = c2w[:3, 3] + side.reach * back
        center = c2w[:3, 3] - side.reach * (BACK * back + ABOVE * down)
        distance = float(np.linalg.norm(middle - center))
        forward = (middle - center) / distance
        turned = np.stack([right, np.cross(forward, right), forward], axis=1)
        x, y, z, w = matrix_to_quaternion(torch.from_numpy(turned)).tolist()

        def fov(aspect: float) -> float:
            across = 0.5 * RIM * (width + self.apart) / aspect
            return 2 * math.atan(max(across, 0.5 * RIM * height) / distance)

        return _Placed(center, np.array([w, x, y, z]), fov), distance

    def _place(self, placed: _Placed, distance: float, up: np.ndarray, client: Any) -> None:
        self._placed, self._since = placed, time.monotonic()
        for one in list(self.server.get_clients().values()) if client is None else [client]:
            with one.atomic():
                one.camera.up_direction = up
                one.camera.position = placed.center
                one.camera.look_at = placed.center + distance * placed.forward
                one.camera.fov = float(placed.fov(one.camera.aspect))

    def moved(self, camera: Any) -> None:
        """What a browser says of its camera: it was turned, or its window has another shape."""
        placed = self._placed
        if placed is None:
            return
        scale = self.sides[0].reach
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

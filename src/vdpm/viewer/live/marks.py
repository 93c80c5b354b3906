"""The pixel that is followed, and what is under the pointer: in the scene, and for the frame panel."""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from vdpm.errors import UsageError
from vdpm.viewer.live.picking import Pick, pick_pixel
from vdpm.viewer.live.side import Side

COLOR = (255, 213, 74)
IDLE = "Click the picture or the points to follow a pixel."
HIDDEN = 0.05
"""A point farther than what the frame shows at its pixel by more than this share of its depth is hidden there."""


class Spot(NamedTuple):
    """A place in the frame: pixels (centres at +0.5), and whether nothing is in front."""

    x: float
    y: float
    seen: bool


class Marks:
    """One thread may use it. ``note``: what there is to say of the pixel, in a few lines."""

    def __init__(self, client: Any, sides: list[Side]) -> None:
        self.client, self.sides = client, sides
        self.pick: Pick | None = None
        self.pointed: Spot | None = None
        """Where the frame shows the point under the pointer."""
        self.note = IDLE
        self._number = 0
        self._nodes: dict[str, Any] = {}

    def follow(self, number: int, source: int, xy: tuple[float, float], frame: int) -> None:
        """Follow a pixel of a frame of result ``number``; ``frame``: whose time is shown."""
        self.drop()
        self._number = number
        side = self.sides[number]
        try:
            self.pick = pick_pixel(side.reconstruction, source, xy)
        except UsageError as error:
            self.note = str(error)
            return
        positions = self.pick.positions
        way = float(np.linalg.norm(np.diff(positions, axis=0), axis=1).sum())
        sure = float(self.pick.track.confidence[self.pick.track.targets.index(source)])
        name = f" of {side.reconstruction.name}" if number else ""
        self.note = (
            f"Pixel ({xy[0]:.1f}, {xy[1]:.1f}) of frame {source}{name}, confidence {sure:.2f}\n"
            f"Seen at {int(self.pick.visible.sum())} of {len(positions)} times, way of {way:.3f} units\n"
            "Escape lets it go."
        )
        if len(positions) > 1:
            self._nodes["way"] = self.client.scene.add_line_segments(
                f"{side.root}/pick/way",
                np.stack([positions[:-1], positions[1:]], axis=1).astype(np.float32),
                np.array(COLOR, dtype=np.uint8),
                thickness=3.0,
                thickness_units="screen",
            )
        self._nodes["here"] = self._ball(f"{side.root}/pick/here", 0.012)
        self.show(frame)

    def drop(self) -> None:
        """Follow none."""
        self.pick, self.note = None, IDLE
        for name in [name for name in self._nodes if name != "pointer"]:
            self._nodes.pop(name).remove()

    def show(self, frame: int) -> None:
        """Go to the time of a frame, the nearest at which the pixel is known. What was pointed at is elsewhere then."""
        self.pointed = None
        if self.pick is None or "here" not in self._nodes:
            return
        now = float(self.sides[0].reconstruction.timestamps[frame])
        stamps = self.sides[self._number].reconstruction.timestamps[list(self.pick.track.targets)]
        near = int((stamps - now).abs().argmin())
        self._nodes["here"].position = tuple(self.pick.positions[near])

    def hover(self, frame: int, xy: tuple[float, float] | None) -> None:
        """Mark the point that a pixel of the frame shown shows; None: none."""
        side = self.sides[0]
        known = xy is not None and frame in side.reconstruction.maps.sources
        self._point(side.reading.own_points(frame)[int(xy[1]), int(xy[0])] + side.offset if xy and known else None)

    def point(self, frame: int, number: int, place: Float[np.ndarray, "3"] | None) -> None:
        """Mark a point of result ``number`` in the scene, and where the frame shown shows it; None: none."""
        self._point(place)
        self.pointed = None if place is None else self._in_frame(frame, place - self.sides[number].offset)

    def _in_frame(self, frame: int, position: Float[np.ndarray, "3"]) -> Spot | None:
        """Where a frame of the first result shows a place in the world, None outside of it."""
        reading = self.sides[0].reading
        camera = reading.cameras[frame]
        seen = (position - camera.c2w[:3, 3]) @ camera.c2w[:3, :3]
        if seen[2] <= 0:
            return None
        x, y = (camera.intrinsics @ seen)[:2] / seen[2]
        left, top, right, bottom = camera.box
        if not (left <= x < right and top <= y < bottom):
            return None
        if frame not in reading.reconstruction.maps.sources:
            return Spot(float(x), float(y), True)
        first = (reading.own_points(frame)[int(y), int(x)] - camera.c2w[:3, 3]) @ camera.c2w[:3, 2]
        return Spot(float(x), float(y), bool(seen[2] <= (1 + HIDDEN) * first))

    def _point(self, place: Float[np.ndarray, "3"] | None) -> None:
        if place is None:
            if "pointer" in self._nodes:
                self._nodes["pointer"].visible = False
            return
        if "pointer" not in self._nodes:
            self._nodes["pointer"] = self._ball("/pointer", 0.009)
        self._nodes["pointer"].position = tuple(place)
        self._nodes["pointer"].visible = True

    def in_frame(self, frame: int) -> tuple[Spot | None, list[Spot]]:
        """Where the frame shows the pixel that is followed, and the way to there."""
        if self.pick is None:
            return None, []
        known = list(self.pick.track.targets)
        spots = [
            Spot(round(float(x), 2), round(float(y), 2), bool(seen))
            for (x, y), seen in zip(self.pick.pixels, self.pick.visible)
        ]
        way = [spot for time, spot in zip(known, spots) if time <= frame]
        return spots[known.index(frame)] if frame in known else None, way

    def _ball(self, name: str, radius: float) -> Any:
        """``radius``: over the scene's distance."""
        return self.client.scene.add_icosphere(
            name, radius * self.sides[0].reading.reach, COLOR, subdivisions=2, cast_shadow=False, receive_shadow=False
        )

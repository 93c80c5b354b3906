"""The pixel that is followed, and the one under the pointer: in the scene, and for the frame panel."""

from typing import Any

import numpy as np

from vdpm.errors import UsageError
from vdpm.viewer.live.picking import Pick, pick_pixel
from vdpm.viewer.live.side import Side

COLOR = (255, 213, 74)
IDLE = "Click the picture or the points to follow a pixel."


class Marks:
    """One thread may use it. ``note``: what there is to say of the pixel, in a few lines."""

    def __init__(self, server: Any, sides: list[Side]) -> None:
        self.server, self.sides = server, sides
        self.pick: Pick | None = None
        self._number = 0
        self.note = IDLE
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
            self._nodes["way"] = self.server.scene.add_line_segments(
                f"{side.root}/pick/way",
                np.stack([positions[:-1], positions[1:]], axis=1).astype(np.float32),
                np.array(COLOR, dtype=np.uint8),
                thickness=3.0,
                thickness_units="screen",
            )
        self._nodes["here"] = self._ball(f"{side.root}/pick/here", 0.012 * side.reach)
        self.show(frame)

    def drop(self) -> None:
        """Follow none."""
        self.pick, self.note = None, IDLE
        for name in [name for name in self._nodes if name != "hover"]:
            self._nodes.pop(name).remove()

    def show(self, frame: int) -> None:
        """Go to the time of a frame, the nearest at which the pixel is known."""
        if self.pick is None or "here" not in self._nodes:
            return
        now = float(self.sides[0].reconstruction.timestamps[frame])
        stamps = self.sides[self._number].reconstruction.timestamps[list(self.pick.track.targets)]
        near = int((stamps - now).abs().argmin())
        self._nodes["here"].position = tuple(self.pick.positions[near])

    def hover(self, frame: int, xy: tuple[float, float] | None) -> None:
        """Mark the point that a pixel of the frame shown shows; None: none."""
        side = self.sides[0]
        if xy is None or frame not in side.reconstruction.maps.sources:
            if "hover" in self._nodes:
                self._nodes["hover"].visible = False
            return
        if "hover" not in self._nodes:
            self._nodes["hover"] = self._ball(f"{side.root}/hover", 0.009 * side.reach)
        self._nodes["hover"].position = tuple(side.own_points(frame)[int(xy[1]), int(xy[0])])
        self._nodes["hover"].visible = True

    def in_frame(self, frame: int) -> tuple[list[Any] | None, list[list[Any]]]:
        """Where the frame shows the pixel, and the way to there in pixels: x, y, and whether nothing is in front."""
        if self.pick is None:
            return None, []
        known = list(self.pick.track.targets)
        spots = [
            [round(float(x), 2), round(float(y), 2), bool(seen)]
            for (x, y), seen in zip(self.pick.pixels, self.pick.visible)
        ]
        way = [spot for time, spot in zip(known, spots) if time <= frame]
        return spots[known.index(frame)] if frame in known else None, way

    def _ball(self, name: str, radius: float) -> Any:
        return self.server.scene.add_icosphere(
            name, radius, COLOR, subdivisions=2, cast_shadow=False, receive_shadow=False
        )

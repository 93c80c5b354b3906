"""One result in the scene of one browser: which nodes show it, and which points a click can mean."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from vdpm.viewer.choice import ChosenPoints, patch_sides
from vdpm.viewer.live.frusta import DEPTH, apart, small_picture, wires
from vdpm.viewer.live.look import ColorMode, Look, Painter, in_sizes
from vdpm.viewer.live.paths import flow_arrows, trails
from vdpm.viewer.live.picking import Candidates
from vdpm.viewer.live.reading import Reading
from vdpm.viewer.live.settings import Settings
from vdpm.viewer.live.stage import Key, Made, Stage, Wanted, add_batches, add_segments

SIDE_OF_POINT = 0.65
"""viser's size of a point that just covers its patch, corners included, over the length of the patch."""
CAMERAS: Key = ("cameras",)


class Side:
    """``client``: the browser; ``root``: the result's name in its scene. ``on_camera(frame)`` is called when a camera's
    picture is clicked. One thread may use it.
    """

    def __init__(self, client: Any, root: str, reading: Reading, on_camera: Callable[[int], None]) -> None:
        self.client, self.root, self.reading = client, root, reading
        self.reconstruction = reading.reconstruction
        self.stage = Stage(client, f"{root}/nodes")
        self.offset = np.zeros(3)
        self.number = -1
        """Of the state of reading that was drawn last."""
        self._on_camera = on_camera
        self._frame = client.scene.add_frame(root, show_axes=False)
        self._candidates: tuple[Key, Candidates] | None = None

    def move(self, offset: Float[np.ndarray, "3"]) -> None:
        """Stand elsewhere in the scene."""
        self.offset = offset
        self._frame.position = tuple(offset)

    def wanted(self, settings: Settings, row: int, painter: Painter) -> list[Wanted]:
        """All nodes that show the time ``row`` under these settings. ``painter``: of one moment of reading."""
        times = self.reading.times
        time, look, number = times[row], settings.look, painter.loaded.number
        shown: list[Wanted] = []

        def want(key: Key, make: Callable[[str], Made]) -> None:
            shown.append(Wanted(key, make))

        if settings.points_of == "all frames":
            if look.motion != "moving":
                want(("still", number, look), lambda name: self._still(name, painter, look))
            if look.motion != "still":
                want(("moving", number, look, time), lambda name: self._moving(name, painter, look, time))
        else:
            source, at = self._source(settings, time)
            want(("frame", number, look, source, at), lambda name: self._pixels(name, painter, look, source, at))
        if settings.trails:
            whole = settings.trail_length == 0
            kind = (settings.trail_length, settings.trail_color, settings.trail_count)
            until = times[-1] if whole else time
            want(
                ("trails", number, look.hide, kind, until),
                lambda name: add_segments(self.client, name, trails(painter, look, until, times, *kind), thickness=1.5),
            )
        if settings.arrows:
            count = settings.arrow_count
            want(
                ("arrows", number, look.hide, count, time), lambda name: self._arrows(name, painter, look, time, count)
            )
        if settings.cameras:
            want(CAMERAS, self._cameras)
        return shown

    def show(self, settings: Settings, row: int) -> None:
        """Show this side under these settings, as far as it has been read."""
        painter = self.reading.painter()
        if painter is None:
            return
        self.stage.show(self.wanted(settings, row, painter))
        self.number = painter.loaded.number
        number, look = painter.loaded.number, settings.look
        self.stage.forget(lambda key: len(key) > 1 and (key[1] != number or key[2] not in (look, look.hide)))

    def prepare(self, settings: Settings, row: int) -> bool:
        """Make what the time ``row`` will need. Whether anything was to be made."""
        painter = self.reading.painter()
        if painter is None or painter.loaded.number != self.reading.cloud.number:
            return False
        if self._far(settings, self.reading.times[row]):
            return False
        missing = [one for one in self.wanted(settings, row, painter) if not self.stage.has(one.key)]
        for one in missing:
            self.stage.prepare(one)
        return bool(missing)

    def candidates(self, settings: Settings, row: int) -> Candidates | None:
        """The points that are shown at the time ``row``, where they stand in the scene."""
        painter = self.reading.painter()
        if painter is None:
            return None
        look = settings.look
        key = (painter.loaded.number, settings.points_of, settings.source, look.motion, look.hide, row, *self.offset)
        if self._candidates is None or self._candidates[0] != key:
            self._candidates = (key, self._found(settings, painter, self.reading.times[row]))
        return self._candidates[1]

    def _found(self, settings: Settings, painter: Painter, time: int) -> Candidates:
        if settings.points_of == "all frames":
            parts = []
            if settings.look.motion != "moving":
                parts.append(painter.loaded.still.select(painter.shown(painter.loaded.still, settings.look)))
            if settings.look.motion != "still":
                parts.append(painter.shown_moving(time, settings.look).points)
        else:
            parts = [self.reading.frame_points(painter.loaded, settings.look, *self._source(settings, time))]
            parts[0] = parts[0].select(painter.shown(parts[0], settings.look))
        sides = [patch_sides(self.reconstruction, part, part.positions[0]) for part in parts]
        return Candidates(
            np.concatenate([part.positions[0] for part in parts]).astype(np.float64) + self.offset,
            np.concatenate([part.source for part in parts]),
            np.concatenate([part.pixel for part in parts]),
            np.concatenate(sides),
        )

    def _source(self, settings: Settings, time: int) -> tuple[int, int | None]:
        """The frame whose pixels are shown, and the kept time they are brought to, the nearest; None: their own."""
        maps = self.reconstruction.maps
        if settings.points_of == "frame shown":
            return min(maps.sources, key=lambda source: abs(source - time)), None
        source = min(maps.sources, key=lambda source: abs(source - settings.source))
        near = min({*maps.targets, source}, key=lambda target: (abs(target - time), target))
        return source, None if near == source else near

    def _far(self, settings: Settings, time: int) -> bool:
        """Whether a map is needed that points must travel to through several windows, which takes seconds."""
        if settings.points_of != "one frame":
            return False
        source, target = self._source(settings, time)
        return target is not None and target not in self.reconstruction.maps.together(source)

    def _still(self, name: str, painter: Painter, look: Look) -> Made:
        loaded = painter.loaded
        kept = painter.shown(loaded.still, look)
        points = loaded.still.select(kept)
        colors = painter.colors(look.color, points, None, self.reading.difference(look.color, points, None))
        return self._batches(name, points, colors, loaded.still_sides[kept])

    def _moving(self, name: str, painter: Painter, look: Look, time: int) -> Made:
        moving = painter.shown_moving(time, look)
        points = moving.points
        colors = painter.colors(look.color, points, moving.speed, self.reading.difference(look.color, points, time))
        return self._batches(name, points, colors, patch_sides(self.reconstruction, points, points.positions[0]))

    def _pixels(self, name: str, painter: Painter, look: Look, source: int, time: int | None) -> Made:
        points = self.reading.frame_points(painter.loaded, look, source, time)
        points = points.select(painter.shown(points, look))
        mode: ColorMode = "video" if look.color == "speed" else look.color
        colors = painter.colors(mode, points, None, self.reading.difference(mode, points, time))
        return self._batches(name, points, colors, patch_sides(self.reconstruction, points, points.positions[0]))

    def _batches(self, name: str, points: ChosenPoints, colors: np.ndarray, sides: np.ndarray) -> Made:
        return add_batches(self.client, name, in_sizes(points.positions[0], colors, SIDE_OF_POINT * sides))

    def _arrows(self, name: str, painter: Painter, look: Look, time: int, count: int) -> Made:
        factor = self.reading.arrow_factor(painter)
        ends, colors = flow_arrows(painter, painter.shown_moving(time, look), count, factor)
        if not len(ends):
            return Made([], 0, [])
        thick = 0.0016 * self.reading.reach
        handle = self.client.scene.add_arrows(
            name, ends, colors, shaft_radius=thick, head_radius=2.5 * thick, head_length=6 * thick, visible=False
        )
        return Made([handle], ends.nbytes + colors.nbytes, [None])

    def _cameras(self, name: str) -> Made:
        cameras, reach = self.reading.cameras, self.reading.reach
        drawn = apart(cameras, reach)
        made = add_segments(self.client, f"{name}/wires", wires(drawn, cameras, reach), thickness=1.5)
        handles, nbytes = list(made.handles), made.nbytes
        left, top, right, bottom = cameras[0].box
        for camera in drawn:
            place = camera.picture(DEPTH * reach)
            pixels = small_picture(self.reconstruction.frames[camera.frame, top:bottom, left:right].numpy())
            handle = self.client.scene.add_image(
                f"{name}/{camera.frame}",
                pixels,
                place.width,
                place.height,
                wxyz=place.wxyz,
                position=place.middle,
                cast_shadow=False,
                receive_shadow=False,
                visible=False,
            )
            handle.on_click(lambda event, frame=camera.frame: self._on_camera(frame))
            handles.append(handle)
            nbytes += pixels.nbytes // 8
        return Made(handles, nbytes, [None] * len(handles))

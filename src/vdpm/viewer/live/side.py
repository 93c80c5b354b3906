"""One result in the scene: which nodes show it, and which points a click can mean."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from vdpm.motion import motion_mask
from vdpm.structures import Reconstruction
from vdpm.viewer.choice import ChosenPoints, clear_pixels, patch_sides, pivot
from vdpm.viewer.live.cloud import Cloud, CloudOptions, Loaded, shown_times
from vdpm.viewer.live.compare import Counterpart
from vdpm.viewer.live.frusta import DEPTH, apart, small_picture, video_cameras, wires
from vdpm.viewer.live.look import ColorMode, Look, Painter, in_sizes
from vdpm.viewer.live.paths import arrow_factor, flow_arrows, trails
from vdpm.viewer.live.picking import Candidates
from vdpm.viewer.live.settings import Settings
from vdpm.viewer.live.stage import Key, Made, Stage, Wanted, add_batches, add_segments

SIDE_OF_POINT = 0.65
"""viser's size of a point that just covers its patch, corners included, over the length of the patch."""
CAMERAS: Key = ("cameras",)


class Side:
    """``root``: its name in the scene. ``on_camera(frame)`` is called when a camera's picture is clicked."""

    def __init__(
        self,
        server: Any,
        root: str,
        reconstruction: Reconstruction,
        options: CloudOptions,
        on_camera: Callable[[int, Any], None],
        counterpart: Counterpart | None = None,
    ) -> None:
        self.server, self.root, self.reconstruction, self.options = server, root, reconstruction, options
        self.counterpart = counterpart
        self.cloud = Cloud(reconstruction, options)
        self.stage = Stage(server, f"{root}/nodes")
        self.times = shown_times(reconstruction, options)
        self.stamps = reconstruction.timestamps.double().numpy()[list(self.times)]
        self.cameras = video_cameras(reconstruction)
        self.offset = np.zeros(3)
        self._on_camera = on_camera
        self._frame = server.scene.add_frame(root, show_axes=False)
        self._painter: Painter | None = None
        self._factor: tuple[int, int] | None = None
        self._clear = lru_cache(maxsize=8)(lambda source: clear_pixels(reconstruction, source, options.min_confidence))
        self._moves = lru_cache(maxsize=8)(lambda source: motion_mask(reconstruction, source).numpy())
        self._own = lru_cache(maxsize=4)(lambda frame: reconstruction.maps.time_variant(frame).points.numpy())
        self.home = reconstruction.cameras.centers[reconstruction.reference].double().numpy()
        self.pivot = self._middle()
        self.reach = float(np.linalg.norm(self.pivot - self.home)) or 1.0

    def _middle(self) -> Float[np.ndarray, "3"]:
        maps, reference = self.reconstruction.maps, self.reconstruction.reference
        nearest = min(maps.sources, key=lambda source: abs(source - reference))
        points = maps.time_variant(nearest).points[self.reconstruction.content].double().numpy()
        return pivot(self.reconstruction, points)

    def own_points(self, frame: int) -> Float[np.ndarray, "height width 3"]:
        """Where the pixels of a kept frame are at their own time."""
        return self._own(frame)

    def move(self, offset: Float[np.ndarray, "3"]) -> None:
        """Stand elsewhere in the scene."""
        self.offset = offset
        self._frame.position = tuple(offset)

    def row_at(self, seconds: float) -> int:
        """The last time that is not after ``seconds``."""
        return int(np.clip(np.searchsorted(self.stamps, seconds + 1e-6, side="right") - 1, 0, len(self.times) - 1))

    def painter(self) -> Painter | None:
        """Of what has been read by now; None before the first point."""
        loaded = self.cloud.loaded()
        if loaded is None:
            return None
        if self._painter is None or self._painter.loaded is not loaded:
            self._painter = Painter(loaded, self.reach)
        return self._painter

    @property
    def number(self) -> int:
        """Of the state of reading that was drawn last."""
        return -1 if self._painter is None else self._painter.loaded.number

    def wanted(self, settings: Settings, row: int, painter: Painter) -> list[Wanted]:
        """All nodes that show the time ``row`` under these settings. ``painter``: of one moment of reading."""
        time, look, number = self.times[row], settings.look, painter.loaded.number
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
            until = self.times[-1] if whole else time
            want(
                ("trails", number, look.hide, kind, until),
                lambda name: add_segments(
                    self.server, name, trails(painter, look, until, self.times, *kind), thickness=1.5
                ),
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
        painter = self.painter()
        if painter is None:
            return
        self.stage.show(self.wanted(settings, row, painter))
        number, look = painter.loaded.number, settings.look
        self.stage.forget(lambda key: len(key) > 1 and (key[1] != number or key[2] not in (look, look.hide)))

    def prepare(self, settings: Settings, row: int) -> bool:
        """Make what the time ``row`` will need. Whether anything was to be made."""
        painter = self.painter()
        if painter is None or painter.loaded.number != self.cloud.number or self._far(settings, self.times[row]):
            return False
        missing = [one for one in self.wanted(settings, row, painter) if not self.stage.has(one.key)]
        for one in missing:
            self.stage.prepare(one)
        return bool(missing)

    def candidates(self, settings: Settings, row: int) -> Candidates | None:
        """The points that are shown at the time ``row``, where they stand in the scene."""
        painter, time = self.painter(), self.times[row]
        if painter is None:
            return None
        if settings.points_of == "all frames":
            parts = []
            if settings.look.motion != "moving":
                parts.append(painter.loaded.still.select(painter.shown(painter.loaded.still, settings.look)))
            if settings.look.motion != "still":
                parts.append(painter.shown_moving(time, settings.look).points)
        else:
            parts = [self._frame_points(painter.loaded, settings.look, *self._source(settings, time))]
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
        colors = painter.colors(look.color, points, None, self._difference(look.color, points, None))
        return self._batches(name, points, colors, loaded.still_sides[kept])

    def _moving(self, name: str, painter: Painter, look: Look, time: int) -> Made:
        moving = painter.shown_moving(time, look)
        points = moving.points
        colors = painter.colors(look.color, points, moving.speed, self._difference(look.color, points, time))
        return self._batches(name, points, colors, patch_sides(self.reconstruction, points, points.positions[0]))

    def _pixels(self, name: str, painter: Painter, look: Look, source: int, time: int | None) -> Made:
        points = self._frame_points(painter.loaded, look, source, time)
        points = points.select(painter.shown(points, look))
        mode: ColorMode = "video" if look.color == "speed" else look.color
        colors = painter.colors(mode, points, None, self._difference(mode, points, time))
        return self._batches(name, points, colors, patch_sides(self.reconstruction, points, points.positions[0]))

    def _batches(self, name: str, points: ChosenPoints, colors: np.ndarray, sides: np.ndarray) -> Made:
        return add_batches(self.server, name, in_sizes(points.positions[0], colors, SIDE_OF_POINT * sides))

    def _frame_points(self, loaded: Loaded, look: Look, source: int, time: int | None) -> ChosenPoints:
        """Every clear pixel of a frame, read now."""
        maps = self.reconstruction.maps
        kept: Bool[np.ndarray, "height width"] = self._clear(source)
        if look.motion != "all" and {*maps.targets} - {source}:
            kept = kept & (self._moves(source) == (look.motion == "moving"))
        pixel = np.flatnonzero(kept)
        own = maps.time_variant(source)
        positions = (own if time is None else maps.at(time, source)).points.flatten(0, 1).numpy()[pixel]
        inside = ((positions >= loaded.low) & (positions <= loaded.high)).all(axis=1)
        pixel, positions = pixel[inside], positions[inside]
        return ChosenPoints(
            positions[None],
            self.reconstruction.frames[source].flatten(0, 1).numpy()[pixel],
            own.confidence.flatten().numpy()[pixel],
            np.full(len(pixel), source),
            pixel,
            1.0,
        )

    def _difference(self, mode: ColorMode, points: ChosenPoints, time: int | None) -> np.ndarray | None:
        if mode != "difference" or self.counterpart is None:
            return None
        return self.counterpart.distance(points, time)

    def _arrows(self, name: str, painter: Painter, look: Look, time: int, count: int) -> Made:
        if self._factor is None or self._factor[0] != painter.loaded.number:
            self._factor = (painter.loaded.number, arrow_factor(painter, self.times))
        ends, colors = flow_arrows(painter, painter.shown_moving(time, look), count, self._factor[1])
        if not len(ends):
            return Made([], 0, [])
        thick = 0.0016 * self.reach
        handle = self.server.scene.add_arrows(
            name, ends, colors, shaft_radius=thick, head_radius=2.5 * thick, head_length=6 * thick, visible=False
        )
        return Made([handle], ends.nbytes + colors.nbytes, [None])

    @property
    def factor(self) -> int:
        """How much longer than the motion arrows were drawn last."""
        return 1 if self._factor is None else self._factor[1]

    def _cameras(self, name: str) -> Made:
        drawn = apart(self.cameras, self.reach)
        made = add_segments(self.server, f"{name}/wires", wires(drawn, self.cameras, self.reach), thickness=1.5)
        handles, nbytes = list(made.handles), made.nbytes
        left, top, right, bottom = self.cameras[0].box
        for camera in drawn:
            place = camera.picture(DEPTH * self.reach)
            pixels = small_picture(self.reconstruction.frames[camera.frame, top:bottom, left:right].numpy())
            handle = self.server.scene.add_image(
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
            handle.on_click(lambda event, frame=camera.frame: self._on_camera(frame, event.client))
            handles.append(handle)
            nbytes += pixels.nbytes // 8
        return Made(handles, nbytes, [None] * len(handles))

"""One result as all browsers share it: what has been read of it, on which scales, and where its scene lies."""

import threading
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float

from vdpm.motion import motion_mask
from vdpm.structures import Reconstruction
from vdpm.viewer.choice import ChosenPoints, clear_pixels, pivot
from vdpm.viewer.live.cloud import Cloud, CloudOptions, Loaded, read_sources, shown_times
from vdpm.viewer.live.compare import Counterpart
from vdpm.viewer.live.frusta import video_cameras
from vdpm.viewer.live.look import COLORS, ColorMode, Look, Painter
from vdpm.viewer.live.paths import arrow_factor


class Reading:
    """A result and its cloud. One thread calls ``read``, any may ask.

    ``counterpart``: the other result, where its pixels are the same ones. ``times``: the frames whose time can be gone
    to, at ``stamps`` seconds. ``pivot``: the middle of the scene, ``reach`` away from the reference camera.
    """

    def __init__(
        self, reconstruction: Reconstruction, options: CloudOptions, counterpart: Counterpart | None = None
    ) -> None:
        self.reconstruction, self.options, self.counterpart = reconstruction, options, counterpart
        self.cloud = Cloud(reconstruction, options)
        self.times = shown_times(reconstruction, options)
        self.stamps = reconstruction.timestamps.double().numpy()[list(self.times)]
        self.cameras = video_cameras(reconstruction)
        self.colors: tuple[ColorMode, ...] = COLORS if counterpart is not None else COLORS[:-1]
        self.pivot = self._middle()
        home = reconstruction.cameras.centers[reconstruction.reference].double().numpy()
        self.reach = float(np.linalg.norm(self.pivot - home)) or 1.0
        self._lock = threading.Lock()
        self._painter: Painter | None = None
        self._factor: tuple[int, int] | None = None
        self._clear = lru_cache(maxsize=8)(lambda source: clear_pixels(reconstruction, source, options.min_confidence))
        self._moves = lru_cache(maxsize=8)(lambda source: motion_mask(reconstruction, source).numpy())
        self._own = lru_cache(maxsize=4)(lambda frame: reconstruction.maps.time_variant(frame).points.numpy())

    def _middle(self) -> Float[np.ndarray, "3"]:
        maps, reference = self.reconstruction.maps, self.reconstruction.reference
        nearest = min(maps.sources, key=lambda source: abs(source - reference))
        points = maps.time_variant(nearest).points[self.reconstruction.content].double().numpy()
        return pivot(self.reconstruction, points)

    def read(self, on_news: Callable[[], None], stopped: Callable[[], bool]) -> None:
        """Read it all, unless it is stopped. ``on_news`` is called whenever more is there."""
        for part in read_sources(self.reconstruction, self.options):
            if stopped():
                return
            self.cloud.add(part)
            on_news()
        self.cloud.finish()
        on_news()

    def painter(self) -> Painter | None:
        """Of what has been read by now; None before the first point."""
        with self._lock:
            loaded = self.cloud.loaded()
            if loaded is None:
                return None
            if self._painter is None or self._painter.loaded is not loaded:
                self._painter = Painter(loaded, self.reach)
            return self._painter

    def arrow_factor(self, painter: Painter) -> int:
        """How much longer than the motion arrows are drawn."""
        with self._lock:
            if self._factor is None or self._factor[0] != painter.loaded.number:
                self._factor = (painter.loaded.number, arrow_factor(painter, self.times))
            return self._factor[1]

    def row_at(self, seconds: float) -> int:
        """The last time that is not after ``seconds``."""
        return int(np.clip(np.searchsorted(self.stamps, seconds + 1e-6, side="right") - 1, 0, len(self.times) - 1))

    def row_of(self, frame: int) -> int:
        """The time that is nearest to a frame's."""
        return min(range(len(self.times)), key=lambda row: abs(self.times[row] - frame))

    def own_points(self, frame: int) -> Float[np.ndarray, "height width 3"]:
        """Where the pixels of a kept frame are at their own time."""
        return self._own(frame)

    def frame_points(self, loaded: Loaded, look: Look, source: int, time: int | None) -> ChosenPoints:
        """Every clear pixel of a frame at a time (None: its own), read now."""
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

    def difference(self, mode: ColorMode, points: ChosenPoints, time: int | None) -> np.ndarray | None:
        """How far points are from where the other result has them, where that is the colour."""
        if mode != "difference" or self.counterpart is None:
            return None
        return self.counterpart.distance(points, time)

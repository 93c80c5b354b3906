"""Depth and motion of frames as pictures, on one scale for a whole result."""

import math
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8

from vdpm.errors import InputError
from vdpm.export.colors import INFERNO, colorize, motion_colors
from vdpm.export.preview import REST
from vdpm.motion import depth, scene_flow
from vdpm.structures import Reconstruction, evenly
from vdpm.viewer.choice import content_box


class MapPictures:
    """Depth of each kept frame, near is bright, on a logarithmic scale; or its motion from its time to the next kept
    one, in the world: white is rest, hue is direction. Raises InputError for motion of a result without two times.
    """

    def __init__(self, reconstruction: Reconstruction, show: Literal["depth", "motion"]) -> None:
        if show == "motion" and len(reconstruction.maps.targets) < 2:
            raise InputError("this result keeps no two times, which motion needs; reconstruct with --targets all")
        self.reconstruction, self.show = reconstruction, show
        maps = reconstruction.maps
        sample = [self._values(frame) for frame in evenly(maps.sources, 6)]
        self._near, self._span, self._full = 1.0, 1.0, 1.0
        if show == "depth":
            seen = np.concatenate([z[z > 0] for z in sample] or [np.ones(1)])
            near, far = (float(np.quantile(seen, q)) for q in (0.02, 0.98)) if len(seen) else (1.0, 2.0)
            self._near, self._span = near, math.log(max(far, 1.05 * near) / near)
        else:
            lengths = np.concatenate([np.linalg.norm(flow, axis=-1).ravel() for flow in sample])
            scene = float(maps.time_variant(maps.sources[0]).points.norm(dim=-1).mean())
            self._full = max(float(np.quantile(lengths, 0.98)), REST * scene)

    def draw(self, frame: int) -> UInt8[np.ndarray, "height width 3"]:
        """The picture of a kept frame, without padding. Raises UsageError for a frame that is not kept."""
        found = self._values(frame)
        if self.show == "depth":
            return colorize(1 - np.log(np.maximum(found, self._near * 1e-3) / self._near) / self._span, INFERNO)
        return motion_colors(found, self._full)

    def _values(self, frame: int) -> Float[np.ndarray, "height width ..."]:
        left, top, right, bottom = content_box(self.reconstruction)
        targets = self.reconstruction.maps.targets
        if self.show == "depth":
            found = depth(self.reconstruction, frame)
        else:
            after = [time for time in targets if time > frame] or [targets[-1]]
            before = [time for time in targets if time <= frame and time != after[0]] or [targets[-2]]
            found = scene_flow(self.reconstruction, frame, before[-1], after[0])
        return found[top:bottom, left:right].double().numpy()

"""From a click to a point and its pixel, and to its way through time."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from vdpm.motion import tracks
from vdpm.structures import Reconstruction, Tracks

REACH = 1.5
"""Degrees off the ray at which a point is still meant, where the ray meets none."""
BEHIND = 0.02
"""Of points that a ray meets, those no farther behind the first than this share of its distance are as near; among them
the one closest to the ray is meant."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """The points that are shown, any of which may be meant. ``side``: of its patch, in the world."""

    positions: Float[np.ndarray, "points 3"]
    source: Int[np.ndarray, "points"]
    pixel: Int[np.ndarray, "points"]
    side: Float[np.ndarray, "points"]


@dataclass(frozen=True, eq=False)
class Pick:
    """A pixel of a frame: ``xy`` (centres at +0.5) in ``source``; and where it is at the times that are known."""

    source: int
    xy: tuple[float, float]
    track: Tracks

    @property
    def positions(self) -> Float[np.ndarray, "times 3"]:
        """World positions, a time each."""
        return self.track.points[:, 0].double().numpy()

    @property
    def pixels(self) -> Float[np.ndarray, "times 2"]:
        """Where each frame shows it, or would if nothing were in the way."""
        return self.track.pixels[:, 0].double().numpy()

    @property
    def visible(self) -> Bool[np.ndarray, "times"]:
        """Whether nothing is in the way."""
        return self.track.visible[:, 0].numpy()


def nearest_on_ray(
    candidates: Candidates, origin: Float[np.ndarray, "3"], direction: Float[np.ndarray, "3"]
) -> int | None:
    """Number of the point that a ray means: the first one it meets, else the one nearest to it in angle."""
    direction = direction / np.linalg.norm(direction)
    offset = candidates.positions - origin
    along = offset @ direction
    ahead = np.flatnonzero(along > 1e-9)
    if not len(ahead):
        return None
    along = along[ahead]
    off = np.sqrt(np.maximum((offset[ahead] ** 2).sum(axis=1) - along**2, 0.0))
    met = np.flatnonzero(off <= 0.75 * candidates.side[ahead])
    if len(met):
        first = along[met].min()
        met = met[along[met] <= first * (1 + BEHIND)]
        return int(ahead[met[off[met].argmin()]])
    angle = off / along
    near = int(angle.argmin())
    return int(ahead[near]) if angle[near] <= math.tan(math.radians(REACH)) else None


def pick_pixel(reconstruction: Reconstruction, source: int, xy: tuple[float, float]) -> Pick:
    """A pixel of a kept frame, with its track through all times that the network saw beside the frame.

    Raises UsageError for a frame that is not kept and for a position outside of it.
    """
    maps = reconstruction.maps
    known = tuple(time for time in maps.together(source) if time in maps.targets)
    targets = tuple(sorted({*known, source}))
    query = torch.tensor([xy], dtype=torch.float32)
    return Pick(source, xy, tracks(reconstruction, source, query, targets))


def pixel_center(pixel: int, width: int) -> tuple[float, float]:
    """Flat index -> (x, y)."""
    return pixel % width + 0.5, pixel // width + 0.5

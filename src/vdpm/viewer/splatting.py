"""Points to a picture without a graphics card: discs, the nearest of which is seen."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image

SUPERSAMPLING = 2
"""Drawn larger by this and reduced at the end."""
LARGEST = 12
"""Radius of a disc at most, in pixels of the enlarged picture."""


@dataclass(frozen=True, eq=False)
class View:
    """A pinhole camera and its picture. ``c2w``: camera to world; ``focal`` (x, y) and ``center`` in pixels of a
    picture of ``size`` (height, width), pixel centres at +0.5.
    """

    c2w: Float[np.ndarray, "4 4"]
    focal: Float[np.ndarray, "2"]
    center: Float[np.ndarray, "2"]
    size: tuple[int, int]

    def project(self, points: Float[np.ndarray, "n 3"]) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n"]]:
        """World -> pixels (x, y) and depth; pixels mean nothing where depth is not above 0."""
        rotation, position = self.c2w[:3, :3], self.c2w[:3, 3]
        seen = (points - position) @ rotation
        depth = np.where(seen[:, 2] > 1e-6, seen[:, 2], 1e-6)
        return seen[:, :2] / depth[:, None] * self.focal + self.center, seen[:, 2]


def draw_points(
    view: View,
    points: Float[np.ndarray, "n 3"],
    colors: UInt8[np.ndarray, "n 3"],
    diameters: Float[np.ndarray, "n"],
    background: tuple[int, int, int],
) -> UInt8[np.ndarray, "height width 3"]:
    """The picture. ``diameters``: of the disc that each point is drawn as, in the world, facing the view."""
    height, width = (side * SUPERSAMPLING for side in view.size)
    # Room all around for discs that reach into the picture, and as much again so that nothing has to be cut at the rim.
    margin = 2 * LARGEST
    rows, columns = height + 2 * margin, width + 2 * margin
    pixels, depth = view.project(points)
    nearest = 1e-3 * float(np.median(np.abs(depth))) if len(depth) else 0.0
    corner = np.floor(pixels * SUPERSAMPLING)
    shown = np.flatnonzero(
        (depth > nearest) & ((corner >= -LARGEST) & (corner < [width + LARGEST, height + LARGEST])).all(axis=1)
    )
    depth = depth[shown]
    drawn = diameters[shown] * float(view.focal[0]) * SUPERSAMPLING / depth
    radius = torch.from_numpy(np.clip(drawn / 2, 0.0, LARGEST).astype(np.float32))
    x, y = torch.from_numpy(corner[shown].astype(np.int64) + margin).unbind(-1)
    place = y * columns + x
    # Depth above, number of the point below: the least key of a pixel is its nearest point. The bits of floats above 0
    # are in the order of the floats.
    key = torch.from_numpy(depth.astype(np.float32)).view(torch.int32).long() << 32 | torch.from_numpy(shown)
    empty = torch.iinfo(torch.int64).max
    front = torch.full((rows * columns,), empty)
    last = -1.0
    for needed, offset in _disc(columns):
        if needed != last:
            wide = radius >= needed
            places, keys, last = place[wide], key[wide], needed
            if not len(keys):
                break
        front.scatter_reduce_(0, places + offset, keys, "amin")
    front = front.view(rows, columns)[margin:-margin, margin:-margin].flatten()
    seen = (front != empty).numpy()
    canvas = np.full((height * width, 3), background, dtype=np.uint8)
    canvas[seen] = colors[front.numpy()[seen] & 0xFFFFFFFF]
    picture = Image.fromarray(canvas.reshape(height, width, 3))
    return np.asarray(picture.resize((view.size[1], view.size[0]), Image.Resampling.BOX))


def _disc(columns: int) -> list[tuple[float, int]]:
    """Offsets in a picture of so many columns, each with the radius from which a disc covers it, growing."""
    reach = range(-LARGEST, LARGEST + 1)
    around = [(max(0.0, math.hypot(dx, dy) - 0.25), dy * columns + dx) for dy in reach for dx in reach]
    return sorted((needed, offset) for needed, offset in around if needed <= LARGEST)

"""Two drawings of a coloured cloud and the cameras around it: from above, and from beside the first camera."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from vdpm.export.colors import VIRIDIS, colorize

BACKGROUND = (250, 250, 248)
FRAME = (205, 205, 200)
SUPERSAMPLING = 2
"""Drawn larger by this and reduced at the end, since Pillow's lines are not antialiased."""


def camera_colors(count: int) -> list[tuple[int, int, int]]:
    """One colour a frame, dark violet for the first to yellow-green for the last."""
    t = np.linspace(0.05, 0.88, count) if count > 1 else np.array([0.05])
    return [(int(r), int(g), int(b)) for r, g, b in colorize(t, VIRIDIS)]


def draw_top_view(
    points: Float[np.ndarray, "points 3"],
    colors: UInt8[np.ndarray, "points 3"],
    c2w: Float[np.ndarray, "frames 4 4"],
    half_fov: float,
    size: tuple[int, int],
) -> tuple[Image.Image, float]:
    """World x to the right, z (forward of the reference camera) up, equal axes; returns picture and pixels per unit.

    ``points`` are drawn pale, cameras as frusta of ``half_fov`` radians (half the horizontal field of view) joined by
    their path. ``size``: (width, height) in pixels.
    """
    width, height = (side * SUPERSAMPLING for side in size)
    low, high = _extent(points[:, [0, 2]], c2w[:, [0, 2], 3])
    scale = min(width / (high[0] - low[0]), height / (high[1] - low[1])) * 0.94
    middle = (low + high) / 2

    def to_pixels(xz: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, "n 2"]:
        x = width / 2 + (xz[:, 0] - middle[0]) * scale
        y = height / 2 - (xz[:, 1] - middle[1]) * scale
        return np.stack([x, y], axis=1)

    canvas = np.full((height, width, 3), BACKGROUND, dtype=np.uint8)
    pale = (colors * 0.55 + np.array(BACKGROUND) * 0.45).astype(np.uint8)
    # y is down, so what is on top covers what is below.
    _splat(canvas, to_pixels(points[:, [0, 2]]), pale, points[:, 1], np.full(len(points), 2.0))

    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    centers = to_pixels(c2w[:, [0, 2], 3])
    length = 0.06 * min(width, height)
    shades = camera_colors(len(c2w))
    if len(c2w) > 1:
        draw.line([tuple(xy) for xy in centers], fill=(90, 90, 90), width=SUPERSAMPLING)
    # The last one first: where they lie on each other the reference frame stays visible.
    for camera in reversed(range(len(c2w))):
        corners = [centers[camera]]
        for side in (-1, 1):
            ray = c2w[camera, :3, 0] * math.tan(half_fov) * side + c2w[camera, :3, 2]
            corners.append(centers[camera] + np.array([ray[0], -ray[2]]) * length)
        draw.polygon([tuple(corner) for corner in corners], outline=shades[camera], width=SUPERSAMPLING + 1)
    draw.rectangle((0, 0, width - 1, height - 1), outline=FRAME, width=SUPERSAMPLING)
    return image.resize(size, Image.Resampling.LANCZOS), scale / SUPERSAMPLING


@dataclass(frozen=True, eq=False)
class Viewpoint:
    """A pinhole view: ``w2v`` world to view, focal length and principal point in pixels, ``size`` (w, h)."""

    w2v: Float[np.ndarray, "4 4"]
    focal: float
    center: Float[np.ndarray, "2"]
    size: tuple[int, int]

    @classmethod
    def beside(
        cls, points: Float[np.ndarray, "points 3"], size: tuple[int, int], yaw: float = 20.0, pitch: float = 14.0
    ) -> "Viewpoint":
        """The reference camera swung about the cloud, ``yaw`` degrees to the right and ``pitch`` up, filled by it."""
        middle = np.array([*np.median(points[:, :2], axis=0), np.quantile(points[:, 2], 0.35)])
        a, b = math.radians(yaw), math.radians(pitch)
        about_y = np.array([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
        about_x = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
        w2v = np.eye(4)
        w2v[:3, :3] = about_x @ about_y
        w2v[:3, 3] = -w2v[:3, :3] @ middle + np.array([0, 0, np.linalg.norm(middle) * 1.12])
        view = points @ w2v[:3, :3].T + w2v[:3, 3]
        view = view[view[:, 2] > 0.1 * np.linalg.norm(middle)]
        seen = view[:, :2] / view[:, 2:]
        low, high = (np.quantile(seen, q, axis=0) for q in (0.03, 0.97)) if len(seen) else (-np.ones(2), np.ones(2))
        focal = float((np.array(size) / np.maximum(high - low, 1e-3)).min()) * 0.96
        return cls(w2v, focal, np.array(size) / 2 - focal * (low + high) / 2, size)

    def project(
        self, world: Float[np.ndarray, "n 3"], magnified: int = 1
    ) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n"]]:
        """Pixels of the view, times ``magnified``, and depth; pixels mean nothing where depth is not above 0."""
        view = world @ self.w2v[:3, :3].T + self.w2v[:3, 3]
        depth = np.maximum(view[:, 2], 1e-6)
        return (view[:, :2] / depth[:, None] * self.focal + self.center) * magnified, view[:, 2]


def draw_cloud(
    points: Float[np.ndarray, "points 3"],
    colors: UInt8[np.ndarray, "points 3"],
    c2w: Float[np.ndarray, "frames 4 4"],
    half_fov: float,
    viewpoint: Viewpoint,
    *,
    network_width: int,
) -> Image.Image:
    """The cloud and the cameras' frusta from ``viewpoint``.

    ``network_width``: pixels a row of the maps, which says how large a point is painted.
    """
    width, height = (side * SUPERSAMPLING for side in viewpoint.size)
    pixels, depth = viewpoint.project(points, SUPERSAMPLING)
    front = depth > 1e-3
    # A pixel covers about its distance over the focal length; a little more is painted to close holes.
    spacing = 1.2 * np.linalg.norm(points[front], axis=1) * math.tan(half_fov) * 2 / network_width
    canvas = np.full((height, width, 3), BACKGROUND, dtype=np.uint8)
    footprint = spacing * viewpoint.focal * SUPERSAMPLING / depth[front]
    _splat(canvas, pixels[front], colors[front], depth[front], footprint)

    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    reach = 0.035 * float(np.median(np.linalg.norm(points, axis=1)))
    for camera, shade in reversed(list(enumerate(camera_colors(len(c2w))))):
        side, up = math.tan(half_fov), math.tan(half_fov) * 0.62
        corners = np.array([[0, 0, 0], [-side, -up, 1], [side, -up, 1], [side, up, 1], [-side, up, 1]]) * reach
        xy, z = viewpoint.project(corners @ c2w[camera, :3, :3].T + c2w[camera, :3, 3], SUPERSAMPLING)
        if z.min() <= 1e-3:
            continue
        for a, b in ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1)):
            draw.line([tuple(xy[a]), tuple(xy[b])], fill=shade, width=SUPERSAMPLING)
    draw.rectangle((0, 0, width - 1, height - 1), outline=FRAME, width=SUPERSAMPLING)
    return image.resize(viewpoint.size, Image.Resampling.LANCZOS)


def _extent(
    points: Float[np.ndarray, "points 2"], centers: Float[np.ndarray, "frames 2"]
) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2"]]:
    """A box around all cameras and all but the farthest points."""
    stack = [centers.min(axis=0), centers.max(axis=0)]
    if len(points):
        stack += [np.quantile(points, 0.02, axis=0), np.quantile(points, 0.97, axis=0)]
    low, high = np.min(stack, axis=0), np.max(stack, axis=0)
    margin = max(0.06 * float((high - low).max()), 1e-3)
    return low - margin, high + margin


def _splat(
    canvas: UInt8[np.ndarray, "height width 3"],
    pixels: Float[np.ndarray, "points 2"],
    colors: UInt8[np.ndarray, "points 3"],
    depth: Float[np.ndarray, "points"],
    width: Float[np.ndarray, "points"],
) -> None:
    """Paint each point as a square of about ``width`` pixels, at most 7; where several meet, the least deep is seen."""
    rows, columns = canvas.shape[:2]
    kept = np.isfinite(pixels).all(axis=1) & (np.abs(pixels) < 1e6).all(axis=1)
    xy, colors, depth = np.floor(pixels[kept]).astype(np.int64), colors[kept], depth[kept]
    reach = np.clip(np.ceil((width[kept] - 1) / 2), 0, 3).astype(np.int64)
    places, owners = [], []
    for dy in range(-int(reach.max(initial=0)), int(reach.max(initial=0)) + 1):
        for dx in range(-int(reach.max(initial=0)), int(reach.max(initial=0)) + 1):
            x, y = xy[:, 0] + dx, xy[:, 1] + dy
            seen = (reach >= max(abs(dx), abs(dy))) & (x >= 0) & (x < columns) & (y >= 0) & (y < rows)
            places.append(y[seen] * columns + x[seen])
            owners.append(np.nonzero(seen)[0])
    place, owner = np.concatenate(places), np.concatenate(owners)
    # Of several values for one place numpy keeps the last, so the nearest come last.
    order = np.argsort(-depth[owner], kind="stable")
    canvas.reshape(-1, 3)[place[order]] = colors[owner[order]]

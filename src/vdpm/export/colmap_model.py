"""COLMAP's sparse model as bytes and as text: cameras, images, points.

Layout: https://colmap.github.io/format.html. Its conventions are ours: world to camera, OpenCV axes, pixel centres at
+0.5. Every image has a camera of its own, of the model PINHOLE.
"""

import struct
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

PINHOLE = 1
NO_POINT = -1


@dataclass(frozen=True, eq=False)
class SparseModel:
    """``quaternions``: (w, x, y, z), with ``translations`` world to camera. ``focal_center``: fx, fy, cx, cy.

    An observation k is point ``point[k]`` seen at ``xy[k]`` in image ``image[k]``; rows count from 0. ``error``: mean
    distance in pixels of a point's projections from its observations.
    """

    names: tuple[str, ...]
    size: tuple[int, int]
    quaternions: Float[np.ndarray, "images 4"]
    translations: Float[np.ndarray, "images 3"]
    focal_center: Float[np.ndarray, "images 4"]
    points: Float[np.ndarray, "points 3"]
    colors: UInt8[np.ndarray, "points 3"]
    error: Float[np.ndarray, "points"]
    image: Int[np.ndarray, "observations"]
    point: Int[np.ndarray, "observations"]
    xy: Float[np.ndarray, "observations 2"]

    def files(self) -> dict[str, bytes]:
        """Names and contents: three of text, three binary. Numbers of cameras, images and points start at 1."""
        order = np.lexsort((self.point, self.image))
        image, point, xy = self.image[order], self.point[order], self.xy[order]
        first = np.searchsorted(image, np.arange(len(self.names)))
        place = np.arange(len(image)) - first[image] if len(image) else image
        by_image = [np.nonzero(image == row)[0] for row in range(len(self.names))]
        by_point = np.argsort(point, kind="stable")
        tracks = np.stack([image[by_point] + 1, place[by_point]], axis=1).astype("<i4")
        ends = np.searchsorted(point[by_point], np.arange(len(self.points) + 1))
        observed = [(xy[rows], point[rows] + 1) for rows in by_image]
        return {
            "cameras.bin": self._cameras_bin(),
            "images.bin": self._images_bin(observed),
            "points3D.bin": self._points_bin(tracks, ends),
            "cameras.txt": self._cameras_txt(),
            "images.txt": self._images_txt(observed),
            "points3D.txt": self._points_txt(tracks, ends),
        }

    def _cameras_bin(self) -> bytes:
        height, width = self.size
        rows = (
            struct.pack("<iiQQ4d", row + 1, PINHOLE, width, height, *values)
            for row, values in enumerate(self.focal_center.tolist())
        )
        return struct.pack("<Q", len(self.names)) + b"".join(rows)

    def _images_bin(self, observed: list[tuple[np.ndarray, np.ndarray]]) -> bytes:
        parts = [struct.pack("<Q", len(self.names))]
        for row, (xy, point) in enumerate(observed):
            parts.append(struct.pack("<i7di", row + 1, *self.quaternions[row], *self.translations[row], row + 1))
            parts.append(self.names[row].encode() + b"\0")
            parts.append(struct.pack("<Q", len(xy)))
            table = np.empty(len(xy), dtype=[("xy", "<f8", 2), ("point", "<i8")])
            table["xy"], table["point"] = xy, point
            parts.append(table.tobytes())
        return b"".join(parts)

    def _points_bin(self, tracks: np.ndarray, ends: np.ndarray) -> bytes:
        parts = [struct.pack("<Q", len(self.points))]
        for row, (place, color, error) in enumerate(
            zip(self.points.tolist(), self.colors.tolist(), self.error.tolist())
        ):
            track = tracks[ends[row] : ends[row + 1]]
            parts.append(struct.pack("<Q3d3BdQ", row + 1, *place, *color, error, len(track)))
            parts.append(track.tobytes())
        return b"".join(parts)

    def _cameras_txt(self) -> bytes:
        height, width = self.size
        lines = ["# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]"]
        for row, values in enumerate(self.focal_center.tolist()):
            lines.append(f"{row + 1} PINHOLE {width} {height} {' '.join(map(repr, values))}")
        return _text(lines)

    def _images_txt(self, observed: list[tuple[np.ndarray, np.ndarray]]) -> bytes:
        lines = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME", "# POINTS2D[] as (X, Y, POINT3D_ID)"]
        for row, (xy, point) in enumerate(observed):
            pose = (*self.quaternions[row].tolist(), *self.translations[row].tolist())
            lines.append(f"{row + 1} {' '.join(map(repr, pose))} {row + 1} {self.names[row]}")
            lines.append(" ".join(f"{x:.6f} {y:.6f} {p}" for (x, y), p in zip(xy.tolist(), point.tolist())))
        return _text(lines)

    def _points_txt(self, tracks: np.ndarray, ends: np.ndarray) -> bytes:
        lines = ["# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)"]
        rows = zip(self.points.tolist(), self.colors.tolist(), self.error.tolist())
        for row, ((x, y, z), (r, g, b), error) in enumerate(rows):
            track = " ".join(map(str, tracks[ends[row] : ends[row + 1]].reshape(-1).tolist()))
            lines.append(f"{row + 1} {x:.9g} {y:.9g} {z:.9g} {r} {g} {b} {error:.6f} {track}")
        return _text(lines)


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()

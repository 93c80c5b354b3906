"""Depth of one frame carried into another: how well it agrees there, as the data is read and as it might be meant."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.data.frame import Frame
from vdpm.geometry.pinhole import pixel_grid, project, unproject
from vdpm.geometry.rigid import invert_rigid, transform_points

_OPENGL = torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64))

READINGS = {
    "poses inverted (world to camera taken for camera to world, or the other way round)": "inverted",
    "cameras with OpenGL's axes (y up, z backward) taken for OpenCV's": "opengl",
    "depth as distance from the camera taken for z": "distance",
    "z taken for distance from the camera": "z",
    "left and right of the cameras exchanged (x mirrored)": "mirrored_x",
    "above and below of the cameras exchanged (y mirrored)": "mirrored_y",
}
"""What else a data set might mean, in words, and its short name."""


@dataclass(frozen=True)
class Carried:
    """``relative``: median of |carried depth - depth there| / depth there. ``overlap``: share of the valid pixels of
    the first frame that land on valid ones of the second. ``error`` and ``seen``: relative error, with its sign
    (below 0: in front), where pixels of the first frame land, shown in its own grid."""

    relative: float
    overlap: float
    error: Float[Tensor, "height width"]
    seen: Bool[Tensor, "height width"]


def carry(first: Frame, second: Frame, reading: str = "") -> Carried:
    """The points of ``first``, held to stand still, against the depth of ``second``, under one of ``READINGS``."""
    a, b = (_as(frame, reading) for frame in (first, second))
    return land(a.points(), a.valid, b)


def land(points: Float[Tensor, "height width 3"], valid: Bool[Tensor, "height width"], frame: Frame) -> Carried:
    """World points against the depth of the pixels of ``frame`` that they land on."""
    height, width = frame.depth.shape
    pixels, z = project(transform_points(invert_rigid(frame.c2w.double()), points), frame.intrinsics.double())
    column, row = pixels.nan_to_num(-1.0).clamp(-1, 1e6).floor().long().unbind(-1)
    seen = valid & (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column, row = column.clamp(0, width - 1), row.clamp(0, height - 1)
    there = frame.depth.double()[row, column]
    seen &= frame.valid[row, column] & (there > 0)
    error = torch.where(seen, (z - there) / torch.where(seen, there, 1.0), 0.0)
    relative = float(error[seen].abs().median()) if bool(seen.any()) else float("nan")
    return Carried(relative, float(seen.sum()) / max(1, int(valid.sum())), error, seen)


def nearer_than_all(points: Float[Tensor, "points 3"], frame: Frame, by: float) -> Float[Tensor, "points"]:
    """1 for points of the world that are nearer, by that share, than all that the frame sees within a pixel of where
    they land, else 0; NaN where it sees nothing or they land outside. Edges of things are no pixel too large so."""
    height, width = frame.depth.shape
    local = transform_points(invert_rigid(frame.c2w.double()), points.double())
    pixels, z = project(local, frame.intrinsics.double())
    column, row = pixels.nan_to_num(-1.0).clamp(-1, 1e6).floor().long().unbind(-1)
    inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    depth = torch.where(frame.valid, frame.depth.double(), torch.inf)
    nearest = -torch.nn.functional.max_pool2d(-depth[None], 3, stride=1, padding=1)[0]
    there = nearest[row.clamp(0, height - 1), column.clamp(0, width - 1)]
    found = (z < (1 - by) * there).double()
    return found.masked_fill(~inside | there.isinf(), torch.nan)


def rescaled(frame: Frame, factor: float) -> Frame:
    """The frame, had its depth been in another unit: points go away from the camera, which stays."""
    if factor == 1:
        return frame
    measured = frame.measured
    if measured is not None:
        eye = frame.c2w[:3, 3].double()
        measured = eye + factor * (measured.double() - eye)
    return frame._replace(depth=frame.depth.double() * factor, measured=measured)


def off_pixels(frame: Frame) -> Float[Tensor, "2"]:
    """Median offset (x, y), in pixels, of where points project from the centres of the pixels they belong to."""
    pixels, _ = project(transform_points(invert_rigid(frame.c2w.double()), frame.points()), frame.intrinsics.double())
    height, width = frame.depth.shape
    off = (pixels - pixel_grid(height, width, dtype=torch.float64))[frame.valid]
    return off.median(dim=0).values if len(off) else torch.zeros(2, dtype=torch.float64)


def _as(frame: Frame, reading: str) -> Frame:
    """The frame, had its files meant something else."""
    c2w = frame.c2w.double()
    if reading == "inverted":
        return _placed(frame, invert_rigid(c2w))
    if reading == "opengl":
        return _placed(frame, c2w @ _OPENGL)
    if reading in ("mirrored_x", "mirrored_y"):
        signs = torch.tensor([-1.0, 1, 1, 1] if reading == "mirrored_x" else [1.0, -1, 1, 1], dtype=torch.float64)
        return _placed(frame, c2w * signs[:, None] * signs)
    if reading in ("distance", "z"):
        depth = frame.depth.double()
        length = unproject(torch.ones_like(depth), frame.intrinsics.double()).norm(dim=-1)
        depth = depth / length if reading == "distance" else depth * length
        return frame._replace(depth=depth, measured=None)
    return frame


def _placed(frame: Frame, c2w: Float[Tensor, "4 4"]) -> Frame:
    """The same view from another place: points held in the world move with the camera."""
    measured = frame.measured
    if measured is not None:
        measured = transform_points(c2w, transform_points(invert_rigid(frame.c2w.double()), measured.double()))
    return frame._replace(c2w=c2w, measured=measured)

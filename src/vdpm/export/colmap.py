"""The still part of a scene for COLMAP, gsplat, nerfstudio and other makers of radiance fields.

    images/00000.png            the network's images
    masks/00000.png             white where still, black where moving or padded (nerfstudio and most trainers)
    masks_colmap/00000.png.png  the same under the names that COLMAP's --mask_path wants
    sparse/0/*.bin, *.txt       cameras, images, points with their observations

Points are the still pixels of P (see ``motion.motion_mask``), each moved onto the ray of its own pixel at its depth: a
network's maps and cameras disagree a little, and a point before the wrong pixel is what a radiance field suffers from
most.

A point is observed in its own frame, and in every other frame j whose surface lies where P is seen. Pixel v of j holds
a point that projects to v + e(v) in j's camera, e being that disagreement. What projects to u is therefore the point of
pixel u - e(u), to first order, and that is the observation: reprojection errors are what the network's own maps say.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.export.axes import Axes, quaternions, turn_points
from vdpm.export.camera_path import CameraPath
from vdpm.export.colmap_model import SparseModel
from vdpm.export.options import ExportOptions
from vdpm.export.selection import chosen_cloud, chosen_sources
from vdpm.geometry.pinhole import pixel_grid
from vdpm.geometry.rigid import transform_points
from vdpm.motion import motion_mask, project_to
from vdpm.motion.views import in_view
from vdpm.progress import Report, silent
from vdpm.structures import PointCloud, Reconstruction

MAX_POINTS = 50_000
MAX_ERROR = 4.0
"""Pixels; COLMAP's own filter drops observations beyond it."""
DEPTH_TOLERANCE = 0.05
"""Share of the depth up to which a frame's surface counts as the point's."""


def write(
    reconstruction: Reconstruction,
    place: Path,
    options: ExportOptions,
    axes: Axes,
    said: dict[str, Any],
    report: Report = silent,
) -> list[str]:
    """Writes into the folder ``place``; returns what it holds, in lines. Raises UsageError when no point is left."""
    sources = chosen_sources(reconstruction, options)
    path = CameraPath.choose(reconstruction, options, axes, "opencv")
    still = {}
    for done, source in enumerate(sources):
        report("finding what moves", done, len(sources))
        still[source] = _still(reconstruction, source)
    report("finding what moves", len(sources), len(sources))
    cloud = _still_cloud(reconstruction, options, still)
    model = _model(reconstruction, path, cloud, still, options, axes)
    for name in ("images", "masks", "masks_colmap", "sparse/0"):
        (place / name).mkdir(parents=True)
    for frame in path.frames:
        Image.fromarray(reconstruction.frames[frame].numpy()).save(place / "images" / f"{frame:05d}.png")
    for frame, mask in still.items():
        picture = Image.fromarray(np.where(mask.numpy(), np.uint8(255), np.uint8(0)))
        picture.save(place / "masks" / f"{frame:05d}.png")
        picture.save(place / "masks_colmap" / f"{frame:05d}.png.png")
    for name, content in model.files().items():
        (place / "sparse" / "0" / name).write_bytes(content)
    said |= {"masks": "white: still; black: moving or padded", "camera_model": "PINHOLE, one an image"}
    lines = [
        f"{len(path)} images, {len(model.points):,} still points seen {len(model.image) / len(model.points):.1f} times",
        f"reprojection error {np.median(model.error):.2f} px (median)",
    ]
    if not _knows_motion(reconstruction, sources):
        lines.append("motion is not known (no other times are kept), so all points count as still")
        said["motion"] = lines[-1]
    return lines


def _knows_motion(reconstruction: Reconstruction, sources: tuple[int, ...]) -> bool:
    return all(set(reconstruction.maps.targets) - {source} for source in sources)


def _still(reconstruction: Reconstruction, source: int) -> Bool[Tensor, "height width"]:
    """Pixels that show the video and do not move."""
    if not set(reconstruction.maps.targets) - {source}:
        return reconstruction.content
    return reconstruction.content & ~motion_mask(reconstruction, source)


def _still_cloud(
    reconstruction: Reconstruction, options: ExportOptions, still: dict[int, Bool[Tensor, "height width"]]
) -> PointCloud:
    """Points of the chosen sources' still pixels."""
    cloud = chosen_cloud(reconstruction, None, options, MAX_POINTS)
    x, y = cloud.pixels.long().unbind(-1)
    keep = torch.zeros(len(cloud), dtype=torch.bool)
    for source, mask in still.items():
        mine = cloud.source == source
        keep[mine] = mask[y[mine], x[mine]]
    if not bool(keep.any()):
        raise UsageError("no still point is left: everything moves, or is less sure than --min-confidence")
    return cloud.select(keep)


def _model(
    reconstruction: Reconstruction,
    path: CameraPath,
    cloud: PointCloud,
    still: dict[int, Bool[Tensor, "height width"]],
    options: ExportOptions,
    axes: Axes,
) -> SparseModel:
    """Points with their observations in the frames of ``still``; points that no frame observes are dropped."""
    points = _on_rays(reconstruction, cloud)
    image, row, xy, errors = [], [], [], []
    for frame, mask in still.items():
        seen, where, apart = _observe(reconstruction, cloud, points, frame, mask)
        row.append(seen.numpy())
        image.append(np.full(len(seen), path.frames.index(frame)))
        xy.append(where.numpy())
        errors.append(apart.numpy())
    rows, error = np.concatenate(row), np.concatenate(errors)
    times_seen = np.bincount(rows, minlength=len(cloud))
    kept = times_seen > 0
    new_row = np.cumsum(kept) - 1
    mean_error = np.bincount(rows, weights=error, minlength=len(cloud))[kept] / times_seen[kept]
    w2c, k = np.linalg.inv(path.c2w), path.intrinsics
    return SparseModel(
        names=tuple(f"{frame:05d}.png" for frame in path.frames),
        size=path.size,
        quaternions=quaternions(w2c[:, :3, :3])[:, [3, 0, 1, 2]],
        translations=w2c[:, :3, 3],
        focal_center=np.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]], axis=1),
        points=turn_points(points.numpy()[kept], axes, options.scale),
        colors=cloud.colors.numpy()[kept],
        error=mean_error,
        image=np.concatenate(image),
        point=new_row[rows],
        xy=np.concatenate(xy).astype(np.float64),
    )


def _on_rays(reconstruction: Reconstruction, cloud: PointCloud) -> Float[Tensor, "points 3"]:
    """World points at the depth of the cloud's, each on the ray of its own pixel."""
    cameras, placed = reconstruction.cameras, torch.empty_like(cloud.points)
    for source in cloud.source.unique().tolist():
        mine = cloud.source == source
        _, z = project_to(reconstruction, cloud.points[mine], source)
        ones = torch.ones(len(z), 1)
        rays = torch.cat([cloud.pixels[mine], ones], dim=-1) @ cameras.intrinsics[source].float().inverse().mT
        placed[mine] = transform_points(cameras.c2w[source].float(), rays * z[:, None])
    return placed


def _observe(
    reconstruction: Reconstruction,
    cloud: PointCloud,
    points: Float[Tensor, "points 3"],
    frame: int,
    still: Bool[Tensor, "height width"],
) -> tuple[Int[Tensor, "seen"], Float[Tensor, "seen 2"], Float[Tensor, "seen"]]:
    """Rows of the points that ``frame`` sees, the pixels that hold them there, and distances to their projections.

    What is seen where follows from the cloud (P), distances are to the projections of ``points``.
    """
    height, width = reconstruction.size
    projection, z = project_to(reconstruction, cloud.points, frame)
    own = cloud.source == frame
    surface, depth = project_to(reconstruction, reconstruction.maps.time_variant(frame).points, frame)
    offset = surface - pixel_grid(height, width)
    x = projection[:, 0].clamp(0, width - 1).long()
    y = projection[:, 1].clamp(0, height - 1).long()
    where = torch.where(own[:, None], cloud.pixels, projection - offset[y, x])
    on_surface = still[y, x] & ((depth[y, x] - z).abs() <= DEPTH_TOLERANCE * z)
    size = torch.tensor([width, height])
    found = in_view(reconstruction, projection, z) & on_surface & (where >= 0).all(dim=-1) & (where < size).all(dim=-1)
    error = (where - project_to(reconstruction, points, frame)[0]).norm(dim=-1)
    rows = (((own & (z > 0)) | found) & (error <= MAX_ERROR)).nonzero()[:, 0]
    return rows, where[rows], error[rows]

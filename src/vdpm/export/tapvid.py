"""Tracks in the layout of TAPVid-3D (Koppula et al., 2024), as its loaders and metrics read them.

    images_jpeg_bytes [frames]       JPEG files; the network's images
    queries_xyt [tracks 3]           pixel x, y (centres at +0.5) and the row of the frame that each starts in
    tracks_XYZ [frames tracks 3]     in the camera of each frame: x right, y down, z forward
    visibility [frames tracks]       whether the point is seen in that frame
    fx_fy_cx_cy [4]                  one camera for all frames, as the layout wants: the median

and beyond that layout extrinsics_w2c [frames 4 4] (world to camera), intrinsics [frames 3 3], seconds [frames] and
conventions (JSON text).
"""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vdpm.errors import UsageError
from vdpm.export.axes import Axes
from vdpm.export.camera_path import CameraPath
from vdpm.export.options import ExportOptions
from vdpm.export.selection import grid_tracks
from vdpm.geometry.rigid import transform_points
from vdpm.progress import Report, silent
from vdpm.structures import Reconstruction

JPEG_QUALITY = 95


def write(
    reconstruction: Reconstruction,
    place: Path,
    options: ExportOptions,
    axes: Axes,
    said: dict[str, Any],
    report: Report = silent,
) -> list[str]:
    """Writes ``place``; returns what it holds, in lines.

    Raises UsageError for a result without times, and when no track is left or the tracks' own frame is not chosen.
    """
    found = grid_tracks(reconstruction, options)
    if found is None:
        raise UsageError(
            "tracks need times and sure pixels: reconstruct with --targets all, --tracks above 0, a lower "
            "--min-confidence"
        )
    if found.source not in found.targets:
        raise UsageError(f"tracks start in frame {found.source}, which is not among the times; choose --track-source")
    path = CameraPath.choose(reconstruction, options, axes, "opencv")
    rows = [path.frames.index(frame) for frame in found.targets]
    w2c = np.linalg.inv(path.c2w[rows])
    in_camera = transform_points(torch.from_numpy(w2c), found.points.double() * options.scale)
    k = path.intrinsics[rows]
    start = found.targets.index(found.source)
    queries = np.column_stack([found.queries.numpy(), np.full(len(found.queries), start)])
    with open(place, "wb") as stream:
        np.savez(
            stream,
            images_jpeg_bytes=np.array([_jpeg(reconstruction.frames[frame].numpy()) for frame in found.targets]),
            queries_xyt=queries.astype(np.float32),
            tracks_XYZ=in_camera.float().numpy(),
            visibility=found.visible.numpy(),
            fx_fy_cx_cy=np.median(np.stack([k[:, 0, 0], k[:, 1, 1], k[:, 0, 2], k[:, 1, 2]]), axis=1),
            extrinsics_w2c=w2c,
            intrinsics=k,
            seconds=path.seconds[rows],
            conventions=np.array(json.dumps(said)),
        )
    return [f"{len(queries)} tracks from frame {found.source} over {len(rows)} frames"]


def _jpeg(image: np.ndarray) -> bytes:
    data = io.BytesIO()
    Image.fromarray(image).save(data, format="JPEG", quality=JPEG_QUALITY)
    # NumPy's byte strings lose zeros at their end; a JPEG ends with its end marker, FF D9.
    return data.getvalue()

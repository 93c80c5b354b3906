"""Animated points, tracks and camera as USD, for Blender, Houdini, Maya, Nuke, Omniverse and usdview.

Time codes are frame numbers of the source video, ``timeCodesPerSecond`` its rate. Velocities are in units per second,
as UsdGeom.PointBased defines them: a point moves by velocity times seconds from one sample to the next. Colours are
linear. Lens and film are in mm, shifts of the principal point in the aperture offsets.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from vdpm.errors import OutputError
from vdpm.export.axes import Axes, turn_points
from vdpm.export.camera_path import CameraPath, frame_numbers
from vdpm.export.colors import linear
from vdpm.export.conventions import as_lines
from vdpm.export.extras import require
from vdpm.export.options import ExportOptions
from vdpm.export.selection import MovingCloud, grid_tracks
from vdpm.progress import Report, silent
from vdpm.structures import Reconstruction, Tracks

MAX_POINTS = 100_000
TRACK_WIDTH = 0.3
"""Of the median width of a point."""


def write(
    reconstruction: Reconstruction,
    place: Path,
    options: ExportOptions,
    axes: Axes,
    said: dict[str, Any],
    report: Report = silent,
) -> list[str]:
    """Writes ``place`` (.usdc, .usda or .usd); returns what it holds, in lines. Raises UsageError when nothing is left
    to write, OutputError when USD cannot write there.
    """
    usd, usd_geom, sdf, tf = (require(f"pxr.{name}", "usd") for name in ("Usd", "UsdGeom", "Sdf", "Tf"))
    cloud = MovingCloud.choose(reconstruction, options, axes, MAX_POINTS)
    path = CameraPath.choose(reconstruction, options, axes, "opengl")
    found = grid_tracks(reconstruction, options)
    try:
        stage = usd.Stage.CreateNew(str(place))
        stage.SetMetadata("comment", "\n".join(as_lines(said)))
        stage.GetRootLayer().customLayerData = {key: _plain(value) for key, value in said.items()}
        usd_geom.SetStageUpAxis(stage, usd_geom.Tokens.z if axes == "blender" else usd_geom.Tokens.y)
        usd_geom.SetStageMetersPerUnit(stage, 1.0)
        stage.SetTimeCodesPerSecond(path.rate)
        stage.SetFramesPerSecond(path.rate)
        stage.SetStartTimeCode(float(path.numbers[0]))
        stage.SetEndTimeCode(float(path.numbers[-1]))
        root = usd_geom.Xform.Define(stage, "/vdpm")
        stage.SetDefaultPrim(root.GetPrim())
        _define_points(
            stage, usd_geom, sdf, cloud, frame_numbers(cloud.seconds, path.rate, options.first_frame), report
        )
        _define_camera(stage, usd_geom, path, float(np.median(cloud.widths)))
        if found is not None:
            _define_tracks(stage, usd_geom, sdf, reconstruction, found, cloud)
        stage.GetRootLayer().Save()
    except tf.ErrorException:
        raise OutputError(f"USD cannot save the {place.suffix} file; make room or choose another place") from None
    lines = [cloud.note(), f"{len(path)} cameras, time codes {path.numbers[0]:g} to {path.numbers[-1]:g}"]
    return lines + ([] if found is None else [f"{len(found.queries)} tracks from frame {found.source}"])


def _define_points(
    stage: Any, usd_geom: Any, sdf: Any, cloud: MovingCloud, numbers: Float[np.ndarray, "times"], report: Report
) -> None:
    vt = require("pxr.Vt", "usd")
    points = usd_geom.Points.Define(stage, "/vdpm/points")
    pixels = int(np.prod(cloud.reconstruction.size))
    points.CreateIdsAttr(vt.Int64Array.FromNumpy(cloud.source.astype(np.int64) * pixels + cloud.pixel))
    points.CreateWidthsAttr(vt.FloatArray.FromNumpy(cloud.widths))
    points.SetWidthsInterpolation(usd_geom.Tokens.vertex)
    color = points.CreateDisplayColorPrimvar(usd_geom.Tokens.vertex)
    color.Set(vt.Vec3fArray.FromNumpy(linear(cloud.colors).astype(np.float32)))
    sure = usd_geom.PrimvarsAPI(points).CreatePrimvar(
        "confidence", sdf.ValueTypeNames.FloatArray, usd_geom.Tokens.vertex
    )
    place, extent, speed = points.CreatePointsAttr(), points.CreateExtentAttr(), points.CreateVelocitiesAttr()
    here, confidence = cloud.at(0, report)
    for row, number in enumerate(numbers.tolist()):
        place.Set(vt.Vec3fArray.FromNumpy(here), number)
        sure.Set(vt.FloatArray.FromNumpy(confidence), number)
        margin = cloud.widths[:, None] / 2
        box = np.stack([(here - margin).min(axis=0), (here + margin).max(axis=0)]).astype(np.float32)
        extent.Set(vt.Vec3fArray.FromNumpy(box), number)
        if len(numbers) == 1:
            break
        if row + 1 < len(numbers):
            after, confidence = cloud.at(row + 1, report)
            velocity = (after - here) / np.float32(cloud.seconds[row + 1] - cloud.seconds[row])
            here = after
        # The last sample keeps the velocity that led to it.
        speed.Set(vt.Vec3fArray.FromNumpy(velocity), number)


def _define_camera(stage: Any, usd_geom: Any, path: CameraPath, smallest: float) -> None:
    gf = require("pxr.Gf", "usd")
    camera, lens = usd_geom.Camera.Define(stage, "/vdpm/camera"), path.lens()
    camera.CreateProjectionAttr(usd_geom.Tokens.perspective)
    camera.CreateClippingRangeAttr(gf.Vec2f(smallest, 1e6 * smallest))
    camera.CreateHorizontalApertureAttr(lens.width)
    transform = camera.MakeMatrixXform()
    values = (
        (camera.CreateFocalLengthAttr(), lens.focal),
        (camera.CreateVerticalApertureAttr(), lens.height),
        (camera.CreateHorizontalApertureOffsetAttr(), lens.shift_x),
        (camera.CreateVerticalApertureOffsetAttr(), lens.shift_y),
    )
    for row, number in enumerate(path.numbers.tolist()):
        # USD multiplies rows from the left.
        transform.Set(gf.Matrix4d(path.c2w[row].T.tolist()), number)
        for attribute, series in values:
            attribute.Set(float(series[row]), number)


def _define_tracks(
    stage: Any, usd_geom: Any, sdf: Any, reconstruction: Reconstruction, found: Tracks, cloud: MovingCloud
) -> None:
    """One curve a track through its places at all times, in the colour of its pixel."""
    vt = require("pxr.Vt", "usd")
    curves = usd_geom.BasisCurves.Define(stage, "/vdpm/tracks")
    curves.CreateTypeAttr(usd_geom.Tokens.linear)
    count, times = len(found.queries), len(found.targets)
    points = turn_points(found.points.numpy(), cloud.axes, cloud.scale).transpose(1, 0, 2).reshape(-1, 3)
    curves.CreateCurveVertexCountsAttr([times] * count)
    curves.CreatePointsAttr(vt.Vec3fArray.FromNumpy(np.ascontiguousarray(points)))
    width = TRACK_WIDTH * float(np.median(cloud.widths))
    curves.CreateWidthsAttr([width])
    curves.SetWidthsInterpolation(usd_geom.Tokens.constant)
    box = np.stack([points.min(axis=0) - width / 2, points.max(axis=0) + width / 2]).astype(np.float32)
    curves.CreateExtentAttr(vt.Vec3fArray.FromNumpy(box))
    x, y = found.queries.long().unbind(-1)
    colors = reconstruction.frames[found.source, y, x].numpy()
    curves.CreateDisplayColorPrimvar(usd_geom.Tokens.uniform).Set(
        vt.Vec3fArray.FromNumpy(linear(colors).astype(np.float32))
    )
    seen = usd_geom.PrimvarsAPI(curves).CreatePrimvar("visible", sdf.ValueTypeNames.BoolArray, usd_geom.Tokens.vertex)
    seen.Set(vt.BoolArray.FromNumpy(np.ascontiguousarray(found.visible.numpy().T).reshape(-1)))


def _plain(value: Any) -> Any:
    """Lists of numbers as text: dictionaries of a layer hold no lists of them that every program reads."""
    return " ".join(map(str, value)) if isinstance(value, list) else value

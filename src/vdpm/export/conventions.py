"""What an exported file means, said in or beside it."""

import json
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from vdpm.export.axes import CAMERA_AXES, WORLD_AXES, Axes, CameraAxes
from vdpm.export.options import ExportOptions
from vdpm.export.selection import chosen_frames
from vdpm.structures import CONVENTIONS, Reconstruction

EXPORT_FORMAT = "vdpm.export"
SIDECAR = "conventions.json"


def conventions(
    reconstruction: Reconstruction, options: ExportOptions, to: str, axes: Axes, camera_axes: CameraAxes | None
) -> dict[str, Any]:
    """Axes, unit, times and origin of an export, for its header or the file beside it; plain JSON."""
    frames = chosen_frames(reconstruction, options)
    unit = "the result's arbitrary unit (about the mean distance of the scene's points from the reference camera)"
    said = {
        "format": EXPORT_FORMAT,
        "to": to,
        "made_by": f"vdpm {_version()}",
        "video": reconstruction.name,
        "model": str(reconstruction.provenance.get("model", "unknown")),
        "state": str(reconstruction.provenance.get("state", "complete")),
        "world_axes": WORLD_AXES[axes],
        "world": f"{CONVENTIONS['world']}, frame {reconstruction.reference}; not levelled to the ground",
        "length_unit": unit if options.scale == 1.0 else f"{unit}, times {options.scale:g}",
        "scale": options.scale,
        "pixels": "of the network's image, centres at +0.5",
        "image_size_height_width": list(reconstruction.size),
        "frames": list(frames),
        "source_frame_indices": reconstruction.frame_indices[list(frames)].tolist(),
        "seconds": reconstruction.timestamps[list(frames)].tolist(),
        "confidence": CONVENTIONS["confidence"],
    }
    if camera_axes is not None:
        said["camera_axes"] = CAMERA_AXES[camera_axes]
        said["poses"] = "camera to world"
    return said


def as_text(said: dict[str, Any]) -> str:
    """Indented JSON."""
    return json.dumps(said, indent=1) + "\n"


def as_lines(said: dict[str, Any]) -> tuple[str, ...]:
    """One line an entry, for headers made of comments; long lists are shortened to their ends."""
    return tuple(f"{key}: {_short(value)}" for key, value in said.items())


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 8:
        return f"{value[0]} to {value[-1]}, {len(value)} of them"
    return " ".join(str(value).split())


def _version() -> str:
    try:
        return version("vdpm")
    except PackageNotFoundError:
        return "unknown"

"""A result as one HTML file: points at every time, cameras, frames and the controls to look at them.

The file asks nothing of any network. Its script and style are those of ``browser/``; its Content-Security-Policy allows
them by their hashes and nothing else.
"""

import base64
import hashlib
import html
import io
import json
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from vdpm.errors import UsageError
from vdpm.export.colors import INFERNO, VIRIDIS
from vdpm.export.files import replace_file
from vdpm.progress import Report, silent
from vdpm.structures import CONVENTIONS, Reconstruction
from vdpm.viewer.choice import SceneChoice, choose_points, content_box, pivot
from vdpm.viewer.confidence import ConfidenceScale, least_shown
from vdpm.viewer.packing import (
    PositionGrid,
    as_text,
    pack_bytes,
    pack_positions,
    run_lengths,
)

SCRIPTS = ("matrices.js", "unpack.js", "shaders.js", "drawing.js", "scene.js", "camera.js", "main.js")
THUMBNAIL = 360
"""Longer side of the frames in the page, pixels."""
QUALITY = 72


class PageSummary(NamedTuple):
    """What went into a page. ``least_shown``: confidence below which points are hidden when it opens."""

    megabytes: float
    still: int
    moving: int
    times: int
    left_out: int
    least_shown: float


def write_page(
    reconstruction: Reconstruction,
    path: str | Path,
    *,
    max_points: int = 200_000,
    max_frames: int = 48,
    min_confidence: float = 1.0,
    hide_percent: float = 20.0,
    report: Report = silent,
) -> PageSummary:
    """Write the page of a result. ``choose_points`` says which points it holds.

    ``hide_percent``: share of the least sure points that is hidden when the page opens; its slider shows them.

    Raises UsageError for numbers out of range, InputError where no point is left, and OutputError where the file cannot
    be written.
    """
    if not 0 <= hide_percent <= 95:
        raise UsageError(f"--hide {hide_percent:g} must be from 0 to 95, a percentage of the points")
    choice = choose_points(
        reconstruction, max_points=max_points, max_frames=max_frames, min_confidence=min_confidence, report=report
    )
    report("packing the page", 0, 1)
    meta, data = pack_scene(reconstruction, choice, min_confidence, hide_percent)
    frames = sorted({*choice.sources, *choice.times})
    left, top, right, bottom = meta["box"]
    images = {frame: _thumbnail(reconstruction.frames[frame, top:bottom, left:right].numpy()) for frame in frames}
    content = _assemble(reconstruction.name, meta, data, images).encode()
    with replace_file(path) as stream:
        stream.write(content)
    report("packing the page", 1, 1)
    return PageSummary(
        megabytes=len(content) / 1e6,
        still=len(choice.still),
        moving=len(choice.moving),
        times=len(choice.times),
        left_out=choice.left_out,
        least_shown=least_shown(choice, hide_percent),
    )


def pack_scene(
    reconstruction: Reconstruction, choice: SceneChoice, min_confidence: float, hide_percent: float
) -> tuple[dict[str, Any], str]:
    """What the page's script reads: a description (plain JSON), and all points as text (see ``packing``)."""
    home = reconstruction.cameras.centers[reconstruction.reference].double().numpy()
    middle = pivot(reconstruction, (choice.still if len(choice.still) else choice.moving).positions[0])
    reach = float(np.linalg.norm(middle - home)) or 1.0
    grid = PositionGrid.over(choice.low, choice.high, reach)
    scale = ConfidenceScale.of_scene(choice)
    parts: dict[str, bytes] = {}
    meta: dict[str, Any] = {}
    for kind, points in (("still", choice.still), ("moving", choice.moving)):
        parts[f"{kind}.positions"] = pack_positions(grid.encode(points.positions))
        parts[f"{kind}.colors"] = pack_bytes(points.colors)
        parts[f"{kind}.confidence"] = pack_bytes(scale.encode(points.confidence)[:, None])
        meta[kind] = {"runs": run_lengths(points.source, choice.sources), "spacing": points.spacing}
    data, places = as_text(parts)
    for kind in ("still", "moving"):
        names = ("positions", "colors", "confidence")
        meta[kind]["places"] = {name: places[f"{kind}.{name}"] for name in names}
    cameras = reconstruction.cameras
    meta |= {
        "name": reconstruction.name,
        "model": str(reconstruction.provenance.get("model", "unknown model")),
        "size": list(reconstruction.size),
        "box": content_box(reconstruction),
        "reference": reconstruction.reference,
        "sources": list(choice.sources),
        "times": list(choice.times),
        "timestamps": [round(seconds, 6) for seconds in reconstruction.timestamps.tolist()],
        "cameras": [
            {"c2w": _rounded(c2w.flatten()), "k": _rounded(k[[0, 1, 0, 1], [0, 1, 2, 2]])}
            for c2w, k in zip(cameras.c2w.double().numpy(), cameras.intrinsics.double().numpy())
        ],
        "grid": {"low": choice.low.tolist(), "step": grid.step},
        "confidence": {"levels": _rounded(scale.least), "hide": hide_percent},
        "pivot": _rounded(middle),
        "home": _rounded(home),
        "reach": reach,
        "fullSpeed": _full_speed(reconstruction, choice, reach),
        "colorMaps": {"inferno": INFERNO, "viridis": VIRIDIS},
        "conventions": _conventions(reconstruction, choice, min_confidence, hide_percent, grid),
    }
    return meta, data


def _conventions(
    reconstruction: Reconstruction, choice: SceneChoice, min_confidence: float, hide_percent: float, grid: PositionGrid
) -> list[tuple[str, str]]:
    """What the page says of itself, as terms and their meaning."""
    least = f"points below {min_confidence:g} are not in this file; " if min_confidence > 1 else ""
    below = least_shown(choice, hide_percent)
    opened = f"the page opens with the least sure {hide_percent:g} % hidden (below {below:.2f})"
    left_out = f", {choice.left_out} far outside of the scene left out" if choice.left_out else ""
    if choice.times:
        held = f"{len(choice.times)} of {len(reconstruction)} frames' times, linear motion between them"
    else:
        held = "no times are kept by the result: each frame is at its own"
    return [
        ("Axes", CONVENTIONS["axes"]),
        ("World", f"{CONVENTIONS['world']}, frame {reconstruction.reference}"),
        ("Scale", CONVENTIONS["scale"]),
        ("Confidence", f"{CONVENTIONS['confidence']}; {least}{opened}"),
        (
            "Points",
            f"{len(choice.still):,} still, stored once as P; {len(choice.moving):,} moving, at every time{left_out}",
        ),
        ("Times", held),
        ("Positions", f"rounded to {grid.step:.2g} units; edges of depth and padding are left out"),
        ("Pixels", "of the network's image, centres at +0.5"),
    ]


def _assemble(name: str, meta: dict[str, Any], data: str, images: dict[int, str]) -> str:
    folder = files("vdpm.viewer") / "browser"
    script = "'use strict';\n" + "\n".join((folder / part).read_text("utf-8") for part in SCRIPTS)
    style = (folder / "page.css").read_text("utf-8")
    values = {
        "SCRIPT_HASH": _hash(script),
        "STYLE_HASH": _hash(style),
        "TITLE": html.escape(f"{name} · vdpm"),
        "STYLE": style,
        "META": _json(meta),
        "DATA": data,
        "IMAGES": _json(images),
        "SCRIPT": script,
    }
    # Split first: a value that held another's name would else be filled in turn.
    pieces = (folder / "page.html").read_text("utf-8").split("@")
    return "".join(values[piece] if row % 2 else piece for row, piece in enumerate(pieces))


def _hash(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(value: Any) -> str:
    """JSON that may stand in a script element: a name of a video cannot close it."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _thumbnail(frame: np.ndarray) -> str:
    """A frame as JPEG, base64."""
    image = Image.fromarray(frame)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY, optimize=True)
    return base64.b64encode(stream.getvalue()).decode()


def _full_speed(reconstruction: Reconstruction, choice: SceneChoice, reach: float) -> float:
    """Units a second at which the colours of motion are full: 19 of 20 points are slower at all times."""
    steps = np.diff(choice.moving.positions, axis=0)
    if not steps.size:
        return reach
    seconds = np.diff(reconstruction.timestamps.double().numpy()[list(choice.times)])
    speeds = np.linalg.norm(steps, axis=2) / np.maximum(seconds, 1e-6)[:, None]
    return max(float(np.quantile(speeds, 0.95)), 1e-6 * reach)


def _rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.7g}") for value in values]

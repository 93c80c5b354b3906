"""A result in a notebook: a table with a small moving picture, and its page to look around in.

Both are HTML that asks for nothing: pictures and scripts are inside of it.
"""

import base64
import html
import io
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from vdpm.errors import UsageError, VDPMError
from vdpm.structures import Reconstruction, evenly
from vdpm.viewer.choice import content_box
from vdpm.viewer.map_pictures import MapPictures
from vdpm.viewer.page import write_page

MAX_PICTURES = 12
CELL = 200
"""Longer side of frame, depth and motion in the picture, pixels."""
GAP = 4
QUALITY = 60
SHORTEST, LONGEST = 90, 400
"""Milliseconds that each frame is shown."""


def as_html(reconstruction: Reconstruction) -> str:
    """What a notebook shows for a result: ``Reconstruction._repr_html_``. Damaged maps are told in its place."""
    rows = "".join(
        f'<tr><th style="text-align:left;font-weight:600;padding:1px 14px 1px 0">{html.escape(name)}</th>'
        f'<td style="text-align:left;padding:1px 0">{html.escape(value)}</td></tr>'
        for name, value in _rows(reconstruction)
    )
    try:
        picture = _moving_picture(reconstruction)
    except VDPMError as error:
        picture = f"<p>no picture: {html.escape(str(error))}</p>"
    return (
        f'<div><p style="margin:0 0 4px"><b>{html.escape(reconstruction.name)}</b></p>'
        f'<table style="border:0;margin:0 0 6px;font-size:90%">{rows}</table>{picture}</div>'
    )


class PageView:
    """The page of a result (see ``vdpm page``), which a notebook shows in a frame of its own.

    The frame is sandboxed: its script sees nothing of the notebook. ``str`` of it is the page, ``len`` its bytes.
    """

    def __init__(self, name: str, page: str, height: int) -> None:
        self.name = name
        self.page = page
        self.height = height

    def __repr__(self) -> str:
        return (
            f"<page of {self.name}, {len(self) / 1e6:.1f} MB; a notebook shows it, vdpm.write_page writes it to a file>"
        )

    def __str__(self) -> str:
        return self.page

    def __len__(self) -> int:
        return len(self.page.encode())

    def _repr_html_(self) -> str:
        return (
            f'<iframe title="{html.escape(self.name)}" sandbox="allow-scripts" loading="lazy" '
            f'style="width:100%;height:{self.height}px;border:0" srcdoc="{html.escape(self.page)}"></iframe>'
        )


def page_view(
    reconstruction: Reconstruction, *, height: int = 560, max_points: int = 100_000, max_frames: int = 48
) -> PageView:
    """The page of a result for a notebook, ``height`` pixels high: ``Reconstruction.show``.

    The notebook's file grows by the page, a megabyte or two; ``max_points`` and ``max_frames`` are those of
    ``vdpm.write_page``, whose errors it raises.
    """
    if not 100 <= height <= 4000:
        raise UsageError(f"height {height} must be from 100 to 4000 pixels")
    with tempfile.TemporaryDirectory(prefix="vdpm-") as folder:
        path = Path(folder) / "scene.html"
        write_page(reconstruction, path, max_points=max_points, max_frames=max_frames)
        return PageView(reconstruction.name, path.read_text("utf-8"), height)


def _rows(reconstruction: Reconstruction) -> list[tuple[str, str]]:
    maps, made_by = reconstruction.maps, reconstruction.provenance
    height, width = reconstruction.size
    first, last = float(reconstruction.timestamps[0]), float(reconstruction.timestamps[-1])
    centers = reconstruction.cameras.centers
    path = float((centers[1:] - centers[:-1]).norm(dim=-1).sum())
    model = str(made_by.get("model", "unknown model"))
    seconds = made_by.get("seconds")
    if isinstance(seconds, dict) and "total" in seconds:
        model += f", {seconds['total']:.1f} s on {made_by.get('device', 'an unknown device')}"
    state = [("state", "partial: it was interrupted")] if made_by.get("state") == "partial" else []
    return [
        ("frames", f"{len(reconstruction)} from {first:.2f} s to {last:.2f} s, {width} × {height} pixels"),
        ("maps", f"pixels of {len(maps.sources)} frames at their own time and at {len(maps.targets)} times"),
        ("cameras", f"path {path:.3f} units; the world is the camera of frame {reconstruction.reference}"),
        ("model", model),
        *state,
        ("look", "result.show() here, vdpm.write_page(result, 'scene.html') as a file"),
    ]


def _moving_picture(reconstruction: Reconstruction) -> str:
    """Frames, depth and motion side by side as one animated WebP, inline."""
    shown = evenly(reconstruction.maps.sources, MAX_PICTURES)
    depth = MapPictures(reconstruction, "depth")
    motion = MapPictures(reconstruction, "motion") if len(reconstruction.maps.targets) > 1 else None
    left, top, right, bottom = content_box(reconstruction)
    pictures = []
    for frame in shown:
        cells = [reconstruction.frames[frame, top:bottom, left:right].numpy(), depth.draw(frame)]
        cells += [] if motion is None else [motion.draw(frame)]
        pictures.append(_beside(cells))
    span = float(reconstruction.timestamps[shown[-1]] - reconstruction.timestamps[shown[0]])
    each = round(min(max(1000 * span / max(1, len(shown) - 1), SHORTEST), LONGEST))
    stream = io.BytesIO()
    pictures[0].save(stream, "WEBP", quality=QUALITY, save_all=True, append_images=pictures[1:], duration=each, loop=0)
    data = base64.b64encode(stream.getvalue()).decode()
    told = "frames, depth (near is bright)" + ("" if motion is None else ", motion in the world (white is rest)")
    width, height = pictures[0].size
    return (
        f'<img alt="{told}" width="{width}" height="{height}" style="max-width:100%;height:auto" '
        f'src="data:image/webp;base64,{data}"><p style="margin:2px 0 0;font-size:85%;opacity:.75">{told}</p>'
    )


def _beside(cells: list[UInt8[np.ndarray, "height width 3"]]) -> Image.Image:
    height, width = cells[0].shape[:2]
    scale = CELL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    image = Image.new("RGB", (len(cells) * (size[0] + GAP) - GAP, size[1]), "white")
    for column, cell in enumerate(cells):
        image.paste(Image.fromarray(cell).resize(size, Image.Resampling.LANCZOS), (column * (size[0] + GAP), 0))
    return image

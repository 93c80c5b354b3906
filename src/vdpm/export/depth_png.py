"""Depth of every frame as PNG of 16 bit grey, as RGB-D data sets have it: depth = value / factor, 0 where none is.

One factor serves all frames. It is the largest of 1, 2, 5, 10, 20, 50 ... with which the farthest depth fits, so a step
is between 1 / 65,535 and 1 / 26,214 of that depth. It stands in ``conventions.json`` and in each file (text
``factor``).
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vdpm.errors import UsageError
from vdpm.export.axes import Axes
from vdpm.export.frames import frame_maps
from vdpm.export.options import ExportOptions
from vdpm.progress import Report, silent
from vdpm.structures import Reconstruction

LARGEST = 65_535


def write(
    reconstruction: Reconstruction,
    place: Path,
    options: ExportOptions,
    axes: Axes,
    said: dict[str, Any],
    report: Report = silent,
) -> list[str]:
    """Writes a file for each chosen source into the folder ``place``; returns what it holds, in lines.

    Adds the factor to ``said``. Raises UsageError when no pixel has a depth.
    """
    farthest = 0.0
    for maps in frame_maps(reconstruction, options):
        farthest = max(farthest, options.scale * float(maps.depth.max(where=maps.valid, initial=0.0)))
    if farthest == 0:
        raise UsageError(f"no pixel has a confidence of {options.min_confidence:g}; lower --min-confidence")
    factor = round_factor(farthest)
    said |= {"depth": "along the camera's axis: value / factor, in length_unit; 0: none", "factor": factor}
    count = 0
    for maps in frame_maps(reconstruction, options):
        values = np.where(maps.valid, np.round(maps.depth * (options.scale * factor)).clip(1, LARGEST), 0)
        text = PngInfo()
        text.add_text("factor", repr(factor))
        image = Image.fromarray(values.astype(np.uint16))
        image.save(place / f"depth_{maps.frame:05d}.png", format="PNG", pnginfo=text)
        count += 1
    return [f"{count} frames, depth = value / {factor:g}, farthest {farthest:.4g}"]


def round_factor(farthest: float) -> float:
    """The largest of 1, 2 or 5 times a power of ten with which ``farthest`` stays within 16 bits."""
    power = 10.0 ** math.floor(math.log10(LARGEST / farthest))
    return max(step * power for step in (1.0, 2.0, 5.0) if step * power * farthest <= LARGEST)

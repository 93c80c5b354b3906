"""Maps of whole frames at their own time, one frame in memory at a time."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from vdpm.export.options import ExportOptions
from vdpm.export.selection import chosen_sources
from vdpm.motion import depth
from vdpm.structures import Reconstruction


class FrameMaps(NamedTuple):
    """One frame: image, world points of P, depth in its own camera, confidence; all in the package's conventions.

    ``valid``: the pixel shows the video, is as sure as asked and lies in front of the camera.
    """

    frame: int
    image: UInt8[np.ndarray, "height width 3"]
    points: Float[np.ndarray, "height width 3"]
    depth: Float[np.ndarray, "height width"]
    confidence: Float[np.ndarray, "height width"]
    valid: Bool[np.ndarray, "height width"]


def frame_maps(reconstruction: Reconstruction, options: ExportOptions) -> Iterator[FrameMaps]:
    """The chosen sources in order. UsageError when there is none."""
    content = reconstruction.content.numpy()
    for frame in chosen_sources(reconstruction, options):
        points, confidence = (value.numpy() for value in reconstruction.maps.time_variant(frame))
        z = depth(reconstruction, frame).numpy()
        valid = content & (confidence >= options.min_confidence) & (z > 0)
        yield FrameMaps(frame, reconstruction.frames[frame].numpy(), points, z, confidence, valid)

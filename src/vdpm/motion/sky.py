"""Sky, told by what the network says of it: very far, and in doubt."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.structures import Reconstruction, evenly

FAR = 3.0
"""Sky lies farther from its camera than so many times the median of what is sure."""
SURE = 1.1
"""Confidence from which a pixel tells how far things are in this clip."""
IN_DOUBT = 1.02
"""Confidence below which a pixel may be sky."""
LEAST_SURE = 0.02
"""Share of sure pixels with less of which nothing is called sky: there would be nothing to measure by."""
SAMPLED = 8
"""Frames whose maps are read to learn how far things are."""


def sky(reconstruction: Reconstruction, frame: int, *, beyond: float | None = None) -> Bool[Tensor, "height width"]:
    """Which pixels of ``frame`` are sky, or as far and as unknown: in doubt, and farther than ``beyond``.

    ``vdpm-small`` is trained to put sky far away and to doubt it; networks that are not will have none, or the wrong
    pixels. ``beyond``: ``sky_distance`` of the result, which is worked out where it is not given (maps of up to eight
    frames are read). Padding is no sky. Raises UsageError for a frame that the result does not keep as a source.
    """
    if beyond is None:
        beyond = sky_distance(reconstruction)
    distance, confidence = _distance(reconstruction, frame)
    return reconstruction.content & (confidence < IN_DOUBT) & (distance > beyond)


def sky_distance(reconstruction: Reconstruction) -> float:
    """Distance from a camera, in the result's unit, beyond which what is in doubt is taken for sky; infinite where
    hardly a pixel is sure."""
    distances = []
    for source in evenly(reconstruction.maps.sources, SAMPLED):
        distance, confidence = _distance(reconstruction, source)
        distances.append(distance[reconstruction.content & (confidence >= SURE)])
    known = torch.cat(distances)
    if len(known) < max(1, LEAST_SURE * len(distances) * int(reconstruction.content.sum())):
        return math.inf
    return FAR * float(known.median())


def _distance(
    reconstruction: Reconstruction, frame: int
) -> tuple[Float[Tensor, "height width"], Float[Tensor, "height width"]]:
    """How far each pixel's point is from its own camera, and its confidence."""
    points, confidence = reconstruction.maps.time_variant(frame)
    return (points - reconstruction.cameras.centers[frame].to(points)).norm(dim=-1), confidence

"""Which of two readings of a data set carries depth over better: part by part of the pictures, by a sign test.

Medians over whole pictures drown what the camera's small steps tell in the coarseness of pixels, and things that move
disturb them. Held against each other in the same part of the same picture, the right reading wins nearly everywhere,
if by little; where nothing tells the readings apart, neither wins. Less than what the depth was rounded to tells
nothing: neighbouring parts are rounded alike, so that many of them may side with a reading that is wrong.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.data.checks.carry import Carried
from vdpm.data.frame import Frame

PARTS = 8
"""Along each side of a picture."""
FEWEST_PIXELS = 10
"""Of a part, seen under both readings."""
TIE = 1.1
"""Parts whose median errors are within this factor tell nothing."""
NEAR = 0.1
"""Depths that differ by less than this share have about the same step: a Kinect's grows with the square of depth."""


def parts(values: Float[Tensor, "height width"]) -> Float[Tensor, "parts"]:
    """The median of each part of a picture over what is not NaN; NaN where that is less than FEWEST_PIXELS."""
    height, width = (side // PARTS * PARTS for side in values.shape)
    if not height or not width:
        return values.new_full((0,), torch.nan)
    tiles = values[:height, :width].unflatten(0, (PARTS, -1)).unflatten(2, (PARTS, -1))
    flat = tiles.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
    return flat.nanmedian(dim=1).values.masked_fill((~flat.isnan()).sum(1) < FEWEST_PIXELS, torch.nan)


def typical_parts(carried: Sequence[Carried]) -> Float[Tensor, "parts"]:
    """The errors of the parts of all pairs, smallest first."""
    found = torch.cat([parts(one.error.abs().masked_fill(~one.seen, torch.nan)) for one in carried])
    return found[~found.isnan()].sort().values


def rounding(frame: Frame) -> Float[Tensor, "height width"]:
    """How far depth may be off by its sensor's or its file's steps, as a share of itself: half of a step; NaN where
    depth is unknown.

    The step is told by the values that occur: the lower quartile of the gaps between those that are near. Of floating
    point next to nothing is left.
    """
    known = frame.valid & (frame.depth > 0)
    depth = frame.depth[known].double().numpy()
    band = np.floor(np.log(depth) / math.log1p(NEAR))
    half = np.zeros_like(depth)
    for one in np.unique(band):
        gaps = np.diff(np.unique(depth[band == one]))
        half[band == one] = np.quantile(gaps, 0.25) / 2 if len(gaps) else 0.0
    found = torch.full(frame.depth.shape, torch.nan, dtype=torch.float64)
    found[known] = torch.from_numpy(half / depth)
    return found


def chance(
    as_read: Sequence[Carried], other: Sequence[Carried], rounded: Sequence[Float[Tensor, "height width"]]
) -> float:
    """How likely it is that the other reading wins in so many parts, or more, if none were better: a sign test.

    ``rounded``: the ``rounding`` of the frames that are carried. Ties are left out; where all are, it is 1.
    """
    better = worse = 0
    for one, two, coarse in zip(as_read, other, rounded):
        unseen = ~(one.seen & two.seen)
        was, would_be = (parts(carried.error.abs().masked_fill(unseen, torch.nan)) for carried in (one, two))
        least = parts(coarse.masked_fill(unseen, torch.nan))
        better += int(((would_be * TIE < was) & (was - would_be > least)).sum())
        worse += int(((was * TIE < would_be) & (would_be - was > least)).sum())
    if not better + worse:
        return 1.0
    # The binomial's normal approximation, with its correction for whole numbers.
    surplus = (better - worse - 1) / math.sqrt(better + worse)
    return math.erfc(surplus / math.sqrt(2)) / 2

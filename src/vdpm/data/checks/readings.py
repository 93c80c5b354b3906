"""Which of two readings of a data set carries depth over better: part by part of the pictures, by a sign test.

Medians over whole pictures drown what the camera's small steps tell in the coarseness of pixels, and things that move
disturb them. Held against each other in the same part of the same picture, the right reading wins nearly everywhere,
however small the difference; where nothing tells the readings apart, neither wins.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.data.checks.carry import Carried

PARTS = 8
"""Along each side of a picture."""
FEWEST_PIXELS = 10
"""Of a part, seen under both readings."""
TIE = 1.1
"""Parts whose median errors are within this factor tell nothing."""


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


def chance(as_read: Sequence[Carried], other: Sequence[Carried]) -> float:
    """How likely it is that the other reading wins in so many parts, or more, if none were better: a sign test.

    Ties are left out; where all are, it is 1.
    """
    better = worse = 0
    for one, two in zip(as_read, other):
        unseen = ~(one.seen & two.seen)
        was, would_be = (parts(carried.error.abs().masked_fill(unseen, torch.nan)) for carried in (one, two))
        better += int((would_be * TIE < was).sum())
        worse += int((was * TIE < would_be).sum())
    if not better + worse:
        return 1.0
    # The binomial's normal approximation, with its correction for whole numbers.
    surplus = (better - worse - 1) / math.sqrt(better + worse)
    return math.erfc(surplus / math.sqrt(2)) / 2

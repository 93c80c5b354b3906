"""How sure a mean over snippets is: percentile bootstrap, with a seed of its own."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

RESAMPLES = 2000


class Interval(NamedTuple):
    """A mean over ``snippets`` of them and the 95 % confidence interval around it; NaN where there is no snippet."""

    mean: float
    low: float
    high: float
    snippets: int


def bootstrap(values: Sequence[float], *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Mean of ``values`` (NaN left out) and its 2.5th to 97.5th percentile over resampled sets of snippets.

    The same values in the same order give the same interval.
    """
    known = torch.tensor([v for v in values if not math.isnan(v)], dtype=torch.float64)
    if not len(known):
        return Interval(math.nan, math.nan, math.nan, 0)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(known), (resamples, len(known)), generator=generator)
    means = known[drawn].mean(1)
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(known.mean().item(), low, high, len(known))

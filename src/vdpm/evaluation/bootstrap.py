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


def bootstrap(
    values: Sequence[float], *, weights: Sequence[float] | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> Interval:
    """Mean of ``values`` (NaN left out) and its 2.5th to 97.5th percentile over resampled sets of snippets.

    ``weights``: how much each counts in the mean (all alike where None); each is as likely to be drawn. The same values
    in the same order give the same interval.
    """
    kept = [i for i, v in enumerate(values) if not math.isnan(v) and (weights is None or weights[i] > 0)]
    known = torch.tensor([values[i] for i in kept], dtype=torch.float64)
    if not len(known):
        return Interval(math.nan, math.nan, math.nan, 0)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(len(known), (resamples, len(known)), generator=generator)
    if weights is None:
        means, mean = known[drawn].mean(1), known.mean()
    else:
        share = torch.tensor([weights[i] for i in kept], dtype=torch.float64)
        means, mean = (known * share)[drawn].sum(1) / share[drawn].sum(1), (known * share).sum() / share.sum()
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Interval(mean.item(), low, high, len(known))

"""Predicted depth brought to the truth's unit, in each of the ways that papers do it and under names of their own.

``scale_published`` and ``scale_shift_published`` follow what MonST3R's and CUT3R's evaluations compute, to the letter,
since tables of the field are made so. Neither is the fit that it looks like: the first is ten rounds of reweighting,
the second a thousand steps of Adam at 1e-4 from (ratio of medians, 0), which move scale and shift by at most about 0.1
whatever the unit. The exact minimisers stand beside them.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.errors import UsageError

_RATE = 1e-4
_STEPS_A_LOOK = 40
"""Steps between looks at all pixels. A step of Adam is below (1 - 0.9) / sqrt(1 - 0.999) = 3.2 times its rate."""


class DepthFit(NamedTuple):
    """Aligned depth is ``scale`` * predicted + ``shift``."""

    scale: float
    shift: float

    def apply(self, depth: Float[Tensor, "pixels"]) -> Float[Tensor, "pixels"]:
        return self.scale * depth + self.shift


def fit_depth(name: str, predicted: Float[Tensor, "pixels"], true: Float[Tensor, "pixels"]) -> DepthFit:
    """The fit called ``name`` (see ALIGNMENTS) over pixels with truth. NaN where there is none.

    Raises UsageError for a name that there is not.
    """
    if name not in ALIGNMENTS:
        raise UsageError(f"no alignment of depth {name!r}; choose from {', '.join(ALIGNMENTS)}")
    if not len(true):
        return DepthFit(math.nan, math.nan)
    return ALIGNMENTS[name](predicted, true)


def _none(predicted: Tensor, true: Tensor) -> DepthFit:
    return DepthFit(1.0, 0.0)


def _median(predicted: Tensor, true: Tensor) -> DepthFit:
    """Ratio of medians; torch's median, the lower of two middle values, as the published code takes."""
    return DepthFit((true.median() / predicted.median()).item(), 0.0)


def _scale_lsq(predicted: Tensor, true: Tensor) -> DepthFit:
    """The s that minimises sum (s d^ - d)^2."""
    p, d = predicted.double(), true.double()
    return DepthFit((p @ d / (p @ p)).item(), 0.0)


def _scale_lad(predicted: Tensor, true: Tensor) -> DepthFit:
    """The s that minimises sum |s d^ - d|: the median of d / d^, each counted |d^| times."""
    used = predicted != 0
    ratio, order = (true[used].double() / predicted[used].double()).sort()
    weight = predicted[used].double().abs()[order].cumsum(0)
    return DepthFit(ratio[torch.searchsorted(weight, weight[-1] / 2)].item(), 0.0)


def _scale_published(predicted: Tensor, true: Tensor) -> DepthFit:
    """Ten rounds of weights 1 / |residual| from the ratio of means; never below 1e-3."""
    scale = true.nanmean() / predicted.nanmean()
    for _ in range(10):
        weight = 1.0 / ((scale * predicted - true).abs() + 1e-8)
        scale = (weight * predicted * true).sum() / (weight * predicted.square()).sum()
    return DepthFit(scale.clamp(min=1e-3).item(), 0.0)


def _scale_shift_lsq(predicted: Tensor, true: Tensor) -> DepthFit:
    """The s and t that minimise sum (s d^ + t - d)^2; a flat prediction gets s = 0."""
    p, d = predicted.double(), true.double()
    middle, true_middle = p.mean(), d.mean()
    spread = (p - middle).square().sum()
    scale = ((p - middle) * (d - true_middle)).sum() / spread if spread > 0 else spread
    return DepthFit(scale.item(), (true_middle - scale * middle).item())


def _scale_shift_lad(predicted: Tensor, true: Tensor) -> DepthFit:
    """The s and t that minimise sum |s d^ + t - d|, within 1e-7 of the scale.

    For a scale the best shift is a median, and what is left is convex in the scale: golden sections.
    """
    p, d = predicted.double(), true.double()

    def left(scale: float) -> float:
        rest = d - scale * p
        return (rest - rest.median()).abs().sum().item()

    middle = _median(predicted, true).scale
    width = abs(middle) or 1.0
    low, high, best = middle - width, middle + width, left(middle)
    while left(low) < best:
        low, best, width = low - 2 * width, left(low), 2 * width
    width = abs(middle) or 1.0
    best = left(middle)
    while left(high) < best:
        high, best, width = high + 2 * width, left(high), 2 * width
    golden = (math.sqrt(5) - 1) / 2
    a, b = high - golden * (high - low), low + golden * (high - low)
    at_a, at_b = left(a), left(b)
    floor = 1e-7 * (abs(middle) or 1.0)
    while high - low > floor:
        if at_a <= at_b:
            high, b, at_b = b, a, at_a
            a = high - golden * (high - low)
            at_a = left(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + golden * (high - low)
            at_b = left(b)
    # The ratio of medians itself, where no other scale is better: an exact prediction keeps its exact scale.
    scale = middle if left(middle) <= left((low + high) / 2) else (low + high) / 2
    return DepthFit(scale, (d - scale * p).median().item())


def _scale_shift_published(predicted: Tensor, true: Tensor) -> DepthFit:
    """Adam at 1e-4 on sum |s d^ + t - d|, 1000 steps, or until the sum, in float32, changes by less than 1e-6.

    The gradient is that of a sum of signs, and few signs change in few steps: pixels too far from 0 to get there before
    the next look at all of them are summed once.
    """
    scale = torch.tensor([_median(predicted, true).scale], dtype=predicted.dtype, device=predicted.device)
    shift = torch.zeros_like(scale)
    optimizer = torch.optim.Adam([scale.requires_grad_(), shift.requires_grad_()], lr=_RATE)
    before = math.nan
    with torch.no_grad():
        for step in range(1000):
            if step % _STEPS_A_LOOK == 0:
                residual = predicted * scale + shift - true
                far = residual.abs() > _STEPS_A_LOOK * 4 * _RATE * (predicted.abs() + 1)
                side = residual[far].sign().double()
                along, count, level = side @ predicted[far].double(), side.sum(), side @ true[far].double()
                near, near_true = predicted[~far], true[~far]
            residual = near * scale + shift - near_true
            loss = residual.abs().sum().double() + scale[0] * along + shift[0] * count - level
            side = residual.sign_()
            scale.grad = ((side @ near).double() + along).to(scale.dtype)[None]
            shift.grad = (side.sum().double() + count).to(scale.dtype)[None]
            optimizer.step()
            now = loss.float().item()
            if abs(before - now) < 1e-6:
                break
            before = now
    return DepthFit(scale.item(), shift.item())


ALIGNMENTS: dict[str, Callable[[Tensor, Tensor], DepthFit]] = {
    "none": _none,
    "median": _median,
    "scale_lsq": _scale_lsq,
    "scale_lad": _scale_lad,
    "scale_published": _scale_published,
    "scale_shift_lsq": _scale_shift_lsq,
    "scale_shift_lad": _scale_shift_lad,
    "scale_shift_published": _scale_shift_published,
}
"""lsq: least squares; lad: least absolute deviations, both exact."""

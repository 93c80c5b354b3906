"""Matrices on a coarse grid of integers, rounded so that what the network computes changes least.

Column after column, the error of rounding is made good in the columns still to come, as far as the inputs of the matrix
go together (GPTQ, Frantar et al., 2023). How they do is measured on clips that the network is run on, and so is how
much the maps depend on each matrix: what matters less may be coarser.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int8
from torch import Tensor, nn

from vdpm.errors import UsageError
from vdpm.model.checkpoint_file import INT8_LEVELS, is_quantized, row_scales
from vdpm.model.factors import IntegerFactors
from vdpm.model.updates import REACH
from vdpm.progress import Report, silent

FINE_STEP = 0.12
"""The step of matrices outside of the transformers' blocks: those are few, and nothing after them makes up for it."""
COARSE = ("frame_blocks.", "global_blocks.")
WIDEST_STEP = 1.8
"""In root mean squares of a row: beyond, most of a matrix is zero, and slopes no longer tell what that does."""
SENSITIVITY_POWER = 0.7
"""Steps go with this power of what sensitivities ask for: errors that large do not follow slopes alone (1 and 0.5 do
as well, 0 doubles the change of the maps)."""
ZERO_SAVING = 0.5
"""How much shorter codes count against error, of what they are worth where steps are fine."""
SCALE_DIGITS = 3
REST_DIGITS = 7
"""Binary digits after the first of stored scales and of what stays in float32."""
SLACK = 0.005
"""By how much of it a file may be smaller than wanted."""
_DAMPING = 0.01
_COLUMNS = 64


class Feedback(NamedTuple):
    """How errors of rounding are made good: columns in ``order``, those after them by the triangle ``upper``."""

    order: Tensor
    upper: Float[Tensor, "inputs inputs"]

    @property
    def remaining(self) -> Float[Tensor, "inputs"]:
        """Of each column's squared inputs, in ``order``, what the columns after it cannot make good."""
        return 1 / self.upper.diagonal().square()


@dataclass(frozen=True)
class Compacted:
    """A network for a small file: ``integers`` and scales of the rows of its matrices, ``rest`` of its tensors, and of
    an update also matrices as thin ``factors``."""

    integers: Mapping[str, tuple[Tensor, Tensor]]
    rest: Mapping[str, Tensor]
    factors: Mapping[str, IntegerFactors] = field(default_factory=dict)


def second_moments(network: nn.Module, run: Callable[[], object]) -> dict[str, Float[Tensor, "inputs inputs"]]:
    """Sums of the products of any two inputs of each matrix, by the name of its weight, over all that ``run`` feeds
    to ``network``. A convolution is a matrix whose inputs are a window's values; those in groups, or with padding told
    by name, are left out."""
    sums: dict[str, Tensor] = {}

    def add(name: str, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        values = inputs[0].detach().float()
        if isinstance(layer, nn.Conv2d):
            padding = (layer.padding, layer.padding) if isinstance(layer.padding, int) else layer.padding
            if isinstance(padding, str) or layer.groups != 1:
                return
            windows = nn.functional.unfold(values, layer.kernel_size, layer.dilation, padding, layer.stride)
            values = windows.transpose(1, 2)
        rows = values.reshape(-1, values.shape[-1])
        sums[name] = sums.get(name, 0) + rows.T @ rows

    handles = [
        layer.register_forward_pre_hook(partial(add, f"{name}.weight"))
        for name, layer in network.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and is_quantized(f"{name}.weight", layer.weight)
    ]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return sums


def coarse_integers(
    tensors: Mapping[str, Tensor], moments: Mapping[str, Tensor], step: float
) -> dict[str, tuple[Tensor, Tensor]]:
    """Integers and scales of its rows for each matrix of ``tensors`` whose inputs' ``moments`` are known.

    ``step``: from integer to integer, in root mean squares of a row, in the transformers' blocks; elsewhere at most
    ``FINE_STEP``. No row gets integers beyond those of 8 bits.
    """
    rounded = {}
    for name, inputs in moments.items():
        weight = tensors[name].detach().cpu().float()
        rows = weight.flatten(1)
        size = step if any(part in name for part in COARSE) else min(step, FINE_STEP)
        scale = grid_scales(rows, size)
        integers = round_with_feedback(rows, scale, feedback_of(inputs))
        rounded[name] = (integers.reshape(weight.shape), scale)
    return rounded


def relative_steps(
    tensors: Mapping[str, Tensor], feedback: Mapping[str, Feedback], sensitivity: Mapping[str, Tensor]
) -> dict[str, float]:
    """The step of each matrix, in root mean squares of its rows and relative to that of the others.

    Bits are spent best where one more saves the same error everywhere. For that, the square of a matrix' step goes with
    one over how much error in it changes the output (``sensitivity`` of its rows, see ``training.compact``) and over
    what its columns cannot make good for each other. The geometric mean over all entries is 1.
    """
    logs, entries = {}, {}
    for name, (rows, known) in {name: (tensors[name].flatten(1), feedback[name]) for name in feedback}.items():
        tiny = torch.finfo(torch.float32).tiny
        felt = sensitivity[name].clamp_min(0.01 * float(sensitivity[name].mean()) + tiny).log().mean()
        size = rows.float().square().mean(1).clamp_min(tiny).log().mean()
        logs[name] = -0.5 * SENSITIVITY_POWER * float(felt + known.remaining.log().mean() + size)
        entries[name] = rows.numel()
    middle = sum(logs[name] * entries[name] for name in logs) / sum(entries.values())
    return {name: math.exp(value - middle) for name, value in logs.items()}


def cheap_integers(
    tensors: Mapping[str, Tensor], feedback: Mapping[str, Feedback], steps: Mapping[str, float]
) -> dict[str, tuple[Tensor, Tensor]]:
    """As ``coarse_integers``, each matrix with its own step of at most ``WIDEST_STEP``; where two integers do nearly
    as well the one with the shorter code is taken, and scales have few digits."""
    rounded = {}
    for name, known in feedback.items():
        weight = tensors[name].detach().cpu().float()
        rows = weight.flatten(1)
        least = row_scales(rows)
        scale = few_digits(grid_scales(rows, min(steps[name], WIDEST_STEP)), SCALE_DIGITS)
        scale = torch.where(scale < least, few_digits(scale * (1 + 2.0**-SCALE_DIGITS), SCALE_DIGITS), scale)
        nearest = (rows / scale.clamp_min(1e-30)[:, None]).round()
        once = round_with_feedback(rows, scale, known, code_lengths(nearest))
        integers = round_with_feedback(rows, scale, known, code_lengths(once))
        rounded[name] = (integers.reshape(weight.shape), scale)
    return rounded


def cheap_differences(
    tensors: Mapping[str, Tensor],
    before: Mapping[str, Tensor],
    feedback: Mapping[str, Feedback],
    steps: Mapping[str, float],
) -> Compacted:
    """The way from ``before`` to ``tensors`` for ``model.updates``: integers of -7 to 7, the rest in bfloat16.

    Steps are in root mean squares of a matrix' rows, not of the differences', as for ``cheap_integers``: errors hurt as
    much. Where two networks are near, the same error takes fewer bits than that of the whole matrix.
    """
    integers = {}
    for name, known in feedback.items():
        rows = tensors[name].detach().cpu().float().flatten(1)
        way = rows - before[name].float().flatten(1)
        size = min(steps[name], WIDEST_STEP) * rows.square().mean(1).sqrt()
        scale = few_digits(torch.maximum(size, way.abs().amax(1) / (REACH + 0.5)), SCALE_DIGITS)
        nearest = (way / scale.clamp_min(1e-30)[:, None]).round()
        once = round_with_feedback(way, scale, known, code_lengths(nearest))
        chosen = round_with_feedback(way, scale, known, code_lengths(once)).clamp(-REACH, REACH)
        integers[name] = (chosen.reshape(tensors[name].shape), scale)
    rest = {name: value.float() - before[name].float() for name, value in tensors.items() if name not in feedback}
    return Compacted(integers, {name: value.to(torch.bfloat16).float() for name, value in rest.items()})


def check_size(mib: float) -> None:
    """Raises UsageError for a size of a file that is none."""
    if not (math.isfinite(mib) and mib > 0):
        raise UsageError(f"a size of {mib:g} MiB; it must be above 0")


def finest_of_size(
    mib: float,
    at: Callable[[float], tuple[Compacted, float]],
    bounds: tuple[float, float],
    rounds: int,
    report: Report = silent,
) -> Compacted:
    """What ``at`` gives for the smallest logarithm of steps within ``bounds`` whose file has no more than ``mib`` MiB,
    the second thing it gives; found in so many ``rounds``, or to within ``SLACK``.

    Raises UsageError for a size out of reach.
    """
    low, high = bounds
    best, least = at(high)
    if least > mib:
        raise UsageError(f"the file can be no smaller than {least:.2f} MiB; {mib:g} is too little")
    most, share, aim = math.inf, 0.5, math.log(mib * (1 - SLACK / 2))
    for done in range(1, rounds + 1):
        middle = low + share * (high - low)
        tried, size = at(middle)
        if size > mib:
            low, most, missed = middle, size, share > 0.5
        else:
            high, least, best, missed = middle, size, tried, share < 0.5
            if size > mib * (1 - SLACK):
                break
        # Logarithms of sizes fall nearly evenly; where they do not, and little was won by that, halves win more.
        share = 0.5
        if math.isfinite(most) and not missed:
            share = min(max((math.log(most) - aim) / (math.log(most) - math.log(least)), 0.1), 0.9)
        report("steps for the size", done, rounds)
    report("steps for the size", rounds, rounds)
    return best


def code_lengths(integers: Tensor) -> Float[Tensor, "integers"]:
    """Bits that the best code takes for -127 to 127 if they are as frequent as in ``integers``, by either sign."""
    counts = torch.bincount((integers.flatten().long() + INT8_LEVELS), minlength=2 * INT8_LEVELS + 1).float()
    counts = (counts + counts.flip(0)) / 2 + 0.02
    return -(counts / counts.sum()).log2()


def few_digits(values: Tensor, digits: int) -> Tensor:
    """``values`` rounded to ``digits`` binary digits after the first: the bytes that are left out become zeros."""
    mantissa, exponent = torch.frexp(values)
    return torch.ldexp((mantissa * 2.0 ** (digits + 1)).round() / 2.0 ** (digits + 1), exponent)


def grid_scales(rows: Float[Tensor, "*rows inputs"], step: float) -> Float[Tensor, "*rows"]:
    """The distance from integer to integer in each row: ``step`` root mean squares of it, or what 8 bits need."""
    return torch.maximum(row_scales(rows), step * rows.square().mean(-1).sqrt())


def damped(moments: Float[Tensor, "inputs inputs"]) -> Float[Tensor, "inputs inputs"]:
    """Second moments made regular, in float64: as if every input had a little noise of its own."""
    moments = moments.cpu().double()
    return moments + _DAMPING * moments.diagonal().mean().clamp_min(1e-12) * torch.eye(len(moments)).double()


def feedback_of(moments: Float[Tensor, "inputs inputs"]) -> Feedback:
    """How errors in a matrix are made good whose inputs have these second moments; they need not be regular."""
    regular = damped(moments)
    # Columns that matter most come first, while there are many left to make good what they lose.
    order = regular.diagonal().argsort(descending=True)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(regular[order][:, order]))
    return Feedback(order, torch.linalg.cholesky(inverse, upper=True).float())


def round_with_feedback(
    weight: Float[Tensor, "rows inputs"],
    scale: Float[Tensor, "rows"],
    feedback: Feedback,
    lengths: Float[Tensor, "integers"] | None = None,
) -> Int8[Tensor, "rows inputs"]:
    """Integers times ``scale`` near ``weight``, with a small sum over inputs x of |(weight - rounded) x|^2.

    ``lengths``: of the codes of -127 to 127, in bits. An integer next to the nearest, on the side of zero, or zero
    itself is then taken where what it saves is worth its error.
    """
    order, upper = feedback
    # In NumPy, with each column in one piece: there is little to do for each, and calls of PyTorch would cost most.
    left, size = weight.float().T[order].contiguous(), scale.float().clamp_min(1e-30).numpy()
    matter = (feedback.remaining / feedback.remaining.log().mean().exp()).numpy()
    # Where steps are fine, one bit more of each entry saves this share of a squared step: of 1/12, by 2 ln 2. Codes of
    # negative integers lie at the end, where these count from.
    worth = None if lengths is None else (ZERO_SAVING * 2 * math.log(2) / 12 * lengths).roll(-INT8_LEVELS).numpy()
    integers = np.zeros(left.shape, dtype=np.int8)
    for start in range(0, len(order), _COLUMNS):
        end = min(start + _COLUMNS, len(order))
        columns, triangle = left[start:end].numpy(), upper[start:end, start:end].numpy()
        errors = np.zeros_like(columns)
        for column, values in enumerate(columns):
            wanted = values / size
            chosen = np.minimum(np.maximum(np.rint(wanted), -INT8_LEVELS), INT8_LEVELS)
            if worth is not None:
                cost = np.square(wanted - chosen) * matter[start + column] + worth[chosen.astype(np.int64)]
                for other in (chosen - np.sign(chosen), np.zeros_like(chosen)):
                    others = np.square(wanted - other) * matter[start + column] + worth[other.astype(np.int64)]
                    chosen, cost = np.where(others < cost, other, chosen), np.minimum(others, cost)
            integers[start + column] = chosen
            errors[column] = (values - chosen * size) / triangle[column, column]
            columns[column + 1 :] -= errors[column] * triangle[column, column + 1 :, None]
        left[end:] -= (torch.from_numpy(errors).T.contiguous() @ upper[start:end, end:]).T
    return torch.from_numpy(integers)[order.argsort()].T.contiguous()

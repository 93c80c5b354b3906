"""Differences of low rank as two thin integer factors, rounded so that what the network computes changes least.

A number of a factor takes as many bits as one of a dense matrix, so the same rule tells how fine it should be: one bit
more saves the same error everywhere (``rounding.relative_steps``).
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.model.checkpoint_file import INT8_LEVELS
from vdpm.model.factors import NOTHING, SPREAD, IntegerFactors
from vdpm.model.rounding import (
    SCALE_DIGITS,
    Feedback,
    code_lengths,
    damped,
    feedback_of,
    few_digits,
    round_with_feedback,
)

BACKBONE = ("aggregator.frame_blocks.", "aggregator.global_blocks.")
_FINEST = 2.0**-24
"""No step is finer, so that scales stay far from the smallest numbers."""
_RIDGE = 1e-9
"""Components that have become the same would have no inverse."""


class Components(NamedTuple):
    """A difference as ``left @ right``: the columns of ``left`` are orthonormal, and the rows of ``right`` add nothing
    to each other's outputs for inputs with these second ``moments``. All of float64."""

    left: Float[Tensor, "m rank"]
    right: Float[Tensor, "rank n"]
    moments: Float[Tensor, "n n"]


def backbone_matrices(tensors: Mapping[str, Tensor], rank: int) -> tuple[str, ...]:
    """Names of the matrices of the backbone's blocks. Raises UsageError for a rank that one of them cannot have."""
    names = matrices_in(tensors, BACKBONE)
    smallest = min((min(tensors[name].shape) for name in names), default=0)
    if not 1 <= rank < smallest:
        raise UsageError(
            f"a rank of {rank}; the sides of the backbone's matrices begin at {smallest}: give 1 to {smallest - 1}"
        )
    return names


def matrices_in(tensors: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the matrices whose names begin so."""
    return tuple(name for name, value in tensors.items() if name.startswith(prefixes) and value.ndim == 2)


def thin_matrices(tensors: Mapping[str, Tensor], before: Mapping[str, Tensor], rank: int) -> tuple[str, ...]:
    """Names of the matrices whose differences are to be factors: those of the backbone's blocks, and all others that
    differ by no more than ``rank`` components. Raises UsageError for a rank that the backbone's cannot have."""
    backbone = backbone_matrices(tensors, rank)
    others = (name for name in matrices_in(tensors, ("",)) if name not in backbone)
    return backbone + tuple(name for name in others if _is_thin(tensors[name].float() - before[name].float(), rank))


def _is_thin(difference: Float[Tensor, "m n"], rank: int) -> bool:
    """Whether it is of that rank and not 0."""
    if rank >= min(difference.shape) or not difference.any():
        return False
    values = torch.linalg.svdvals(difference.double())
    return bool(values[rank] <= NOTHING * values[0])


def components_of(difference: Float[Tensor, "m n"], moments: Float[Tensor, "n n"], rank: int) -> Components:
    """The ``rank`` components of ``difference``, or as many as there are, that matter most for inputs with ``moments``.

    With the root C of the moments, difference C = U S V^T; left is U, and right U^T difference.
    """
    exact, weights = difference.double(), damped(moments)
    # By the eigenvectors of the smaller product: many times faster than a decomposition of the matrix.
    if exact.shape[0] <= exact.shape[1]:
        squares, found = torch.linalg.eigh(exact @ weights @ exact.T)
    else:
        root = torch.linalg.cholesky(weights)
        squares, found = torch.linalg.eigh(root.T @ (exact.T @ exact) @ root)
        found = exact @ root @ found / squares.clamp_min(torch.finfo(torch.float64).tiny).sqrt()
    squares, found = squares.flip(0), found.flip(1)
    count = min(rank, int((squares > NOTHING**2 * squares[0]).sum()))
    left = found[:, :count]
    return Components(left, left.T @ exact, weights)


def rounded_factors(components: Components, feedback: Feedback, step: float) -> IntegerFactors:
    """Integer factors near ``components``; those that ``step`` makes zero are left out, maybe all.

    ``step``: from integer to integer in the right factor. As the columns of the left one are of length 1, an error in
    the right is one of the difference, so this means what the step of a dense matrix means. Where that would lead
    beyond 8 bits it is wider. ``feedback``: of the inputs' moments.
    """
    exact, moments, step = components.right, components.moments, max(step, _FINEST)
    steps = (exact.abs().amax(1) / INT8_LEVELS).clamp_min(step)
    right = _rounded(exact, steps, feedback)
    live = (right != 0).any(1)
    right, steps = right[live], steps[live]
    # What has become of the right factor, and the left one that then comes nearest for these inputs.
    known = right.double() * steps[:, None]
    gram = known @ moments @ known.T
    inverse = torch.linalg.inv(gram + _RIDGE * gram.diagonal().diag())
    left = components.left @ (exact @ moments @ known.T) @ inverse
    # Errors of a component's column in the left factor count what the other components cannot make good of its squared
    # output (one over the inverse's diagonal); those of the right one, at the mean of logarithms, what other inputs
    # cannot make good of an input's square. Each number is to lose as much. With widths twice or half as large the sum
    # of squares is a quarter to a third larger in as many bytes; with 1.25 or 0.8 times the same as here.
    widths = step * (feedback.remaining.double().log().mean().exp() * inverse.diagonal()).sqrt()
    live = left.abs().amax(0) > widths / 2
    right, steps, gram, left, widths = right[live], steps[live], gram[live][:, live], left[:, live], widths[live]
    if len(right) == 0:
        return _nothing(components)
    least = left.abs().amax(0) / INT8_LEVELS * steps
    scale = few_digits(torch.maximum(widths * steps, least), SCALE_DIGITS)
    scale = torch.where(scale < least, few_digits(scale * (1 + 2.0**-SCALE_DIGITS), SCALE_DIGITS), scale)
    scale = scale.clamp_min(float(scale.max()) * 2.0 ** (1 - SPREAD))
    widths = scale / steps
    made_good = feedback_of(gram * widths * widths[:, None])
    chosen = _rounded(left / widths, torch.ones_like(widths[:1]).expand(len(left)), made_good)
    live = (chosen != 0).any(0)
    return IntegerFactors(chosen[:, live], right[live], scale[live].to(torch.bfloat16))


def _rounded(rows: Float[Tensor, "rows n"], steps: Float[Tensor, "rows"], feedback: Feedback) -> Int8[Tensor, "rows n"]:
    nearest = (rows / steps[:, None]).round().clamp(-INT8_LEVELS, INT8_LEVELS)
    return round_with_feedback(rows, steps, feedback, code_lengths(nearest))


def _nothing(components: Components) -> IntegerFactors:
    return IntegerFactors(
        torch.zeros(len(components.left), 0, dtype=torch.int8),
        torch.zeros(0, components.right.shape[1], dtype=torch.int8),
        torch.zeros(0, dtype=torch.bfloat16),
    )

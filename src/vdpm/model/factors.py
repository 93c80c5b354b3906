"""Thin factors of a matrix of low rank, and such of small integers, whose product is the same on every machine."""

from typing import NamedTuple

import torch
from jaxtyping import BFloat16, Float, Int8
from torch import Tensor

NOTHING = 1e-5
"""Singular values below this share of the largest are rounding."""
MOST_RANK = 2**10
SPREAD = 20
"""Scales of integer factors lie within so many powers of two of each other,"""
FARTHEST = 64
"""and within so many of 1."""


class Factors(NamedTuple):
    """``left @ right`` is the matrix [m, n]."""

    left: Float[Tensor, "m rank"]
    right: Float[Tensor, "rank n"]


class IntegerFactors(NamedTuple):
    """``(left * scale) @ right`` is the matrix [m, n]. Scales are such that ``have_exact_product``."""

    left: Int8[Tensor, "m rank"]
    right: Int8[Tensor, "rank n"]
    scale: BFloat16[Tensor, "rank"]


def have_exact_product(scale: BFloat16[Tensor, "rank"]) -> bool:
    """Whether float64 holds every sum of products of any integers of 8 bits with these scales.

    Scales are whole multiples, below 2 ** (8 + SPREAD), of 2 ** -8 times the least one's power of two, and products of
    two integers reach 2 ** 14; so many sums of up to MOST_RANK of them stay within the 53 bits of float64. Scales are
    not near the ends of float32 either, where some machines know no numbers.
    """
    exponents = torch.frexp(scale.float()).exponent
    return (
        0 < len(scale) <= MOST_RANK
        and bool(torch.isfinite(scale).all())
        and bool((scale > 0).all())
        and int(exponents.max()) - int(exponents.min()) <= SPREAD
        and int(exponents.abs().max()) <= FARTHEST
    )


def product(factors: IntegerFactors) -> Float[Tensor, "m n"]:
    """The matrix, rounded once to float32, in whatever order sums are taken."""
    return ((factors.left.double() * factors.scale.double()) @ factors.right.double()).float()


def factors_of(matrix: Float[Tensor, "m n"], rank: int, generator: torch.Generator) -> Factors:
    """``matrix`` cut to its ``rank`` largest singular values, which go into the left factor; the rows of the right one
    are orthonormal. Those in which the matrix has nothing are drawn from ``generator`` (their columns of the left one
    are 0)."""
    exact = matrix.double()
    # By the eigenvectors of its products with itself: many times faster than a decomposition of the matrix.
    squares, directions = torch.linalg.eigh(exact.T @ exact if exact.shape[0] > exact.shape[1] else exact @ exact.T)
    squares, directions = squares.flip(0).clamp_min(0), directions.flip(1)
    count = min(rank, int((squares > NOTHING**2 * squares[0]).sum()))
    values, found = squares[:count].sqrt(), directions[:, :count]
    right = found.T if exact.shape[0] > exact.shape[1] else (exact.T @ found / values).T
    drawn = torch.randn(rank - count, matrix.shape[1], generator=generator, dtype=torch.float64)
    rows, _ = torch.linalg.qr(torch.cat([right, drawn]).T)
    # QR may turn a row's sign.
    rows = torch.cat([right, rows.T[count:]])
    left = torch.cat([exact @ right.T, exact.new_zeros(len(exact), rank - count)], dim=1)
    return Factors(left.float(), rows.float())

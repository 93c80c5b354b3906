"""Differences of low rank as two factors of small integers: the same bits in any order, near what they stand for."""

import math

import pytest
import torch
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.model.factor_rounding import backbone_matrices, components_of, rounded_factors
from vdpm.model.factors import MOST_RANK, SPREAD, IntegerFactors, have_exact_product, product
from vdpm.model.rounding import feedback_of

RANK = 4


def random_factors(rows: int, rank: int, columns: int) -> IntegerFactors:
    """Integers of all 8 bits, scales as far from each other as they may be."""
    generator = torch.Generator().manual_seed(0)
    left = torch.randint(-128, 128, (rows, rank), generator=generator).to(torch.int8)
    right = torch.randint(-128, 128, (rank, columns), generator=generator).to(torch.int8)
    powers = torch.randint(0, SPREAD, (rank,), generator=generator)
    powers[0], powers[1] = 0, SPREAD - 1
    digits = torch.randint(128, 256, (rank,), generator=generator)
    return IntegerFactors(left, right, torch.ldexp(digits.float(), powers - 40).to(torch.bfloat16))


def low_rank(rows: int, columns: int, rank: int = RANK) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    parts = 2.0 ** -torch.arange(rank)
    return (torch.randn(rows, rank, generator=generator) * parts) @ torch.randn(rank, columns, generator=generator)


def moments_of(columns: int) -> Tensor:
    """Of inputs that mostly lie in a quarter of their directions."""
    generator = torch.Generator().manual_seed(2)
    few = torch.randn(300, columns // 4, generator=generator) @ torch.randn(columns // 4, columns, generator=generator)
    inputs = few + 0.1 * torch.randn(300, columns, generator=generator)
    return inputs.T @ inputs


def loss(difference: Tensor, found: Tensor, moments: Tensor) -> float:
    """Share of the squared outputs."""
    error = (found - difference).double()
    return float(((error @ moments.double()) * error).sum() / ((difference @ moments) * difference).sum())


def test_a_product_has_the_same_bits_in_any_order() -> None:
    factors = random_factors(20, 300, 30)
    assert have_exact_product(factors.scale)
    whole = product(factors)
    # By Python's integers, which have no end; scales are multiples of 2 ** -40.
    scales = [int(value) for value in torch.ldexp(factors.scale.double(), torch.tensor(40)).tolist()]
    left, right = factors.left.tolist(), factors.right.T.tolist()
    exact = [
        [math.ldexp(sum(a * s * b for a, s, b in zip(row, scales, column)), -40) for column in right] for row in left
    ]
    assert torch.equal(whole, torch.tensor(exact, dtype=torch.float64).float())
    for seed in range(3):
        order = torch.randperm(300, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(
            product(IntegerFactors(*(factors.left[:, order], factors.right[order], factors.scale[order]))), whole
        )
    chunks = torch.zeros(20, 30, dtype=torch.float64)
    for start in range(0, 300, 7):
        part = slice(start, start + 7)
        chunks += (factors.left[:, part].double() * factors.scale[part].double()) @ factors.right[part].double()
    assert torch.equal(chunks.float(), whole)


@pytest.mark.parametrize(
    "scale",
    [
        torch.zeros(0),
        torch.tensor([1.0, 0.0]),
        torch.tensor([1.0, -1.0]),
        torch.tensor([1.0, math.inf]),
        torch.tensor([1.0, math.nan]),
        torch.tensor([1.0, 2.0 ** (SPREAD + 1)]),
        torch.tensor([2.0**-70]),
        torch.tensor([2.0**70]),
        torch.ones(MOST_RANK + 1),
    ],
    ids=["none", "zero", "negative", "infinite", "no number", "spread", "tiny", "huge", "many"],
)
def test_scales_whose_sums_could_be_rounded_are_told(scale: Tensor) -> None:
    assert not have_exact_product(scale.to(torch.bfloat16))
    assert have_exact_product(torch.tensor([1.0, 2.0**SPREAD]).to(torch.bfloat16))


@pytest.mark.parametrize(("rows", "columns"), [(24, 40), (40, 24), (32, 32)])
def test_a_difference_of_low_rank_comes_back_within_the_step(rows: int, columns: int) -> None:
    difference, moments = low_rank(rows, columns), moments_of(columns)
    components = components_of(difference, moments, RANK + 3)
    # There are no more than it has.
    assert components.left.shape == (rows, RANK)
    torch.testing.assert_close(components.left.T @ components.left, torch.eye(RANK).double())
    torch.testing.assert_close((components.left @ components.right).float(), difference, atol=1e-5, rtol=1e-5)
    losses = []
    for step in (1.6, 0.8, 0.4):
        factors = rounded_factors(components, feedback_of(moments), step)
        assert have_exact_product(factors.scale)
        # An entry sums errors of both factors in each component, of up to half a step; feedback moves some on.
        assert float((product(factors) - difference).square().mean().sqrt()) < 0.3 * step
        losses.append(loss(difference, product(factors), moments))
    assert 2.5 < losses[0] / losses[1] < 6
    assert 2.5 < losses[1] / losses[2] < 6


def test_a_higher_rank_is_cut_where_inputs_notice_least() -> None:
    difference, moments = low_rank(30, 40, rank=12), moments_of(40)
    components = components_of(difference, moments, RANK)
    found = rounded_factors(components, feedback_of(moments), 1e-3)
    left, values, right = torch.linalg.svd(difference)
    plain = (left[:, :RANK] * values[:RANK]) @ right[:RANK]
    assert loss(difference, product(found), moments) < loss(difference, plain, moments)


def test_feedback_and_a_fitted_left_factor_lose_less_than_the_nearest_integers() -> None:
    difference, moments, step = low_rank(48, 64), moments_of(64), 0.4
    components = components_of(difference, moments, RANK)
    found = rounded_factors(components, feedback_of(moments), step)
    nearest = IntegerFactors(
        (components.left * 127).round().to(torch.int8),
        (components.right / step).round().to(torch.int8),
        torch.full((RANK,), step / 127).to(torch.bfloat16),
    )
    assert loss(difference, product(found), moments) < 0.5 * loss(difference, product(nearest), moments)


def test_components_that_round_to_nothing_are_left_out() -> None:
    difference, moments = low_rank(24, 40), moments_of(40)
    components, feedback = components_of(difference, moments, RANK), feedback_of(moments)
    ranks = [len(rounded_factors(components, feedback, step).scale) for step in (0.3, 6.0, 1e3)]
    assert ranks[0] == RANK > ranks[1] > ranks[2] == 0
    nothing = components_of(torch.zeros(24, 40), moments, RANK)
    factors = rounded_factors(nothing, feedback, 0.1)
    assert [part.shape for part in factors] == [(24, 0), (0, 40), (0,)]


def test_what_goes_far_has_wider_steps_and_no_clipped_ends() -> None:
    difference, moments = low_rank(24, 40), moments_of(40)
    factors = rounded_factors(components_of(difference, moments, RANK), feedback_of(moments), 1e-6)
    assert max(int(part.abs().max()) for part in factors[:2]) == 127
    assert have_exact_product(factors.scale)
    assert float((product(factors) - difference).abs().max()) < 0.1


def test_ranks_that_no_matrix_has_are_refused() -> None:
    tensors = {
        "aggregator.frame_blocks.0.x.weight": torch.ones(6, 8),
        "aggregator.global_blocks.0.x.bias": torch.ones(9),
    }
    tensors["decoder.frame_blocks.0.x.weight"] = torch.ones(2, 2)
    assert backbone_matrices(tensors, 5) == ("aggregator.frame_blocks.0.x.weight",)
    for rank in (0, -1, 6):
        with pytest.raises(UsageError, match=f"rank of {rank}.*1 to 5"):
            backbone_matrices(tensors, rank)

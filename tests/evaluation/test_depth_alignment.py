"""Alignments of depth on a handful of pixels worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.evaluation.depth_alignment import ALIGNMENTS, fit_depth


def pixels(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def test_each_fit_on_five_pixels() -> None:
    """d = 2 d^ + 1 on four pixels, and one that is far off: d^ = 1, 2, 3, 4, 5 and d = 3, 5, 7, 9, 25.

    Medians 3 and 7. Least squares without shift: sum d^ d = 195 over sum d^2 = 55. With it: means 3 and 9.8, covariance
    48 over 10. Least deviations with a shift pass through the four; without, the ratios 9/4, 7/3, 5/2, 3, 5 count 4, 3,
    2, 1, 5 times, and half of 15 is passed at 5/2.
    """
    predicted, true = pixels(1, 2, 3, 4, 5), pixels(3, 5, 7, 9, 25)
    assert fit_depth("none", predicted, true) == (1.0, 0.0)
    assert fit_depth("median", predicted, true) == pytest.approx((7 / 3, 0.0))
    assert fit_depth("scale_lsq", predicted, true).scale == pytest.approx(195 / 55)
    assert fit_depth("scale_lad", predicted, true).scale == pytest.approx(2.5)
    assert fit_depth("scale_shift_lsq", predicted, true) == pytest.approx((4.8, -4.6))
    assert fit_depth("scale_shift_lad", predicted, true) == pytest.approx((2.0, 1.0), abs=1e-5)


def test_the_published_fit_moves_by_a_tenth_at_most() -> None:
    """The same pixels: Adam starts at (7/3, 0) and has 1000 steps of 1e-4 at most; the exact fit is (2, 1)."""
    published = fit_depth("scale_shift_published", pixels(1, 2, 3, 4, 5), pixels(3, 5, 7, 9, 25))
    assert 0 < abs(published.scale - 7 / 3) <= 0.11
    assert 0 < published.shift <= 0.11


@pytest.mark.parametrize(("unit", "noise"), [(1.0, 0.1), (1.0, 2.0), (0.05, 0.1), (30.0, 0.5)])
def test_the_published_fit_is_what_autograd_and_adam_make_of_it(unit: float, noise: float) -> None:
    generator = torch.Generator().manual_seed(3)
    predicted = 1 + 3 * torch.rand(500, generator=generator)
    true = unit * (0.9 * predicted + 0.05 + noise * torch.randn(500, generator=generator).abs())
    scale = (true.median() / predicted.median()).reshape(1).requires_grad_()
    shift = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([scale, shift], lr=1e-4)
    before = None
    for _ in range(1000):
        optimizer.zero_grad()
        loss = (scale * predicted + shift - true).abs().sum()
        loss.backward()
        optimizer.step()
        if before is not None and abs(before - loss.item()) < 1e-6:
            break
        before = loss.item()
    found = fit_depth("scale_shift_published", predicted, true)
    # Where the sum hardly changes any more, rounding says when it stops: within some steps.
    assert found == pytest.approx((scale.item(), shift.item()), abs=1e-3)
    assert found.shift == pytest.approx(shift.item(), rel=0.02, abs=1e-3)


def test_the_published_fit_depends_on_the_unit_and_the_exact_do_not() -> None:
    """In a unit a hundred times as small the steps of Adam are a hundred times as short."""
    predicted, true = pixels(1, 2, 3, 4, 5), pixels(3, 5, 7, 9, 25)
    for name in ("median", "scale_lsq", "scale_lad", "scale_shift_lsq", "scale_shift_lad"):
        near, far = fit_depth(name, predicted, true), fit_depth(name, 100 * predicted, 100 * true)
        assert far == pytest.approx((near.scale, 100 * near.shift), rel=1e-4, abs=1e-4), name
    near, far = (fit_depth("scale_shift_published", f * predicted, f * true) for f in (1.0, 100.0))
    assert abs(far.shift - 100 * near.shift) > 1


def test_the_published_scale_comes_near_least_deviations() -> None:
    generator = torch.Generator().manual_seed(4)
    predicted = 1 + torch.rand(500, generator=generator)
    true = 3 * predicted
    true[:50] *= 4
    assert fit_depth("scale_lad", predicted, true).scale == pytest.approx(3)
    assert fit_depth("scale_published", predicted, true).scale == pytest.approx(3, rel=1e-3)
    assert fit_depth("scale_lsq", predicted, true).scale > 3.5


def test_exact_depth_stays_exact() -> None:
    depth = pixels(1, 2, 3.5, 7)
    for name in ALIGNMENTS:
        found = fit_depth(name, depth, depth)
        assert (found.apply(depth) - depth).abs().max() < 1e-5, name
    for name in ("median", "scale_shift_published", "scale_shift_lad"):
        assert fit_depth(name, depth, depth) == (1.0, 0.0)


def test_degenerate_depth() -> None:
    flat = fit_depth("scale_shift_lsq", pixels(2, 2, 2), pixels(1, 2, 3))
    assert flat == pytest.approx((0.0, 2.0))
    assert math.isnan(fit_depth("median", pixels(), pixels()).scale)
    with pytest.raises(UsageError, match="choose from"):
        fit_depth("best", flat.apply(pixels(1)), pixels(1))

"""Which of two readings of depth is the better one: what depth was rounded to speaks for neither."""

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.data.checks.carry import Carried
from vdpm.data.checks.readings import chance, rounding
from vdpm.data.frame import Frame

SIZE = (64, 80)


def seen(depth: Float[Tensor, "height width"]) -> Frame:
    eye = torch.eye(4, dtype=torch.float64)
    return Frame(torch.zeros(*SIZE, 3, dtype=torch.uint8), depth, depth > 0, eye, eye[:3, :3])


def slanted() -> Float[Tensor, "height width"]:
    """A floor from 1 m to 3 m, where every pixel has a depth of its own."""
    return torch.linspace(1, 3, SIZE[0] * SIZE[1], dtype=torch.float64).view(SIZE)


def off_by(error: float) -> Carried:
    return Carried(error, 1.0, torch.full(SIZE, error, dtype=torch.float64), torch.ones(SIZE, dtype=torch.bool))


def test_steps_are_told_by_the_values_that_occur() -> None:
    depth = slanted()
    depth[:, 0] = 0
    found = rounding(seen((depth / 0.01).round() * 0.01))
    assert found[:, 0].isnan().all(), "nothing is known there"
    assert (found * depth)[:, 1:] == pytest.approx(0.005, rel=0.02)
    assert rounding(seen(slanted())).max() < 0.0005


def test_steps_that_grow_with_the_square_of_depth() -> None:
    """As those of a Kinect, which counts its disparity in eighths of pixels, and writes whole millimetres."""
    per_metre = 585 * 0.075 * 8
    depth = per_metre / (per_metre / slanted()).round()
    found = rounding(seen((1000 * depth).round() / 1000)) * depth
    for metres in (1.2, 2.0, 2.8):
        there = (depth - metres).abs() < 0.03
        assert float(found[there].median()) == pytest.approx(metres**2 / per_metre / 2, rel=0.25)


@pytest.mark.parametrize(("step", "told"), [(0.02, False), (0.002, True)])
def test_a_reading_that_wins_everywhere_by_less_than_the_rounding_wins_nothing(step: float, told: bool) -> None:
    depth = (slanted() / step).round() * step
    worse, better = off_by(0.003), off_by(0.001)
    found = chance([worse], [better], [rounding(seen(depth))])
    assert (found < 1e-6) if told else (found == 1.0)

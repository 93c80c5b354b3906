import pytest
import torch
from torch import Tensor, nn

from vdpm.model import VDPM
from vdpm.model.checkpoint_file import INT8_LEVELS, dequantize_rows
from vdpm.model.rounding import (
    FINE_STEP,
    SENSITIVITY_POWER,
    WIDEST_STEP,
    cheap_integers,
    coarse_integers,
    code_lengths,
    feedback_of,
    few_digits,
    relative_steps,
    round_with_feedback,
    second_moments,
)


def correlated(rows: int, inputs: int) -> Tensor:
    """Inputs that mostly lie in a quarter of their directions, as those of a trained network do."""
    generator = torch.Generator().manual_seed(1)
    few = torch.randn(rows, inputs // 4, generator=generator)
    return few @ torch.randn(inputs // 4, inputs, generator=generator) + 0.1 * torch.randn(
        rows, inputs, generator=generator
    )


def test_outputs_change_less_than_with_the_nearest_integers() -> None:
    x = correlated(500, 96)
    weight = torch.randn(20, 96, generator=torch.Generator().manual_seed(2))
    scale = torch.full((20,), 0.4)
    integers = round_with_feedback(weight, scale, feedback_of(x.T @ x))
    nearest = (weight / scale[:, None]).round()

    def error(chosen: Tensor) -> float:
        return float((x @ (dequantize_rows(chosen, scale) - weight).T).square().mean())

    assert error(integers) < 0.3 * error(nearest)
    # Inputs that have nothing to do with each other leave nothing to make good.
    alone = round_with_feedback(weight, scale, feedback_of(torch.eye(96)))
    assert torch.equal(alone.float(), nearest)


def test_integers_stay_within_eight_bits() -> None:
    x = correlated(300, 64)
    weight = torch.randn(3, 64, generator=torch.Generator().manual_seed(3)) * 100
    integers = round_with_feedback(weight, torch.ones(3), feedback_of(x.T @ x))
    assert int(integers.abs().max()) == INT8_LEVELS


def test_moments_are_those_of_what_each_matrix_multiplies() -> None:
    generator = torch.Generator().manual_seed(4)
    network = nn.Sequential(nn.Conv2d(16, 64, 3, stride=2, padding=1), nn.Flatten(2), nn.Linear(20, 60))
    images = torch.rand(2, 16, 8, 10, generator=generator)
    moments = second_moments(network, lambda: network(images))
    convolution = network[0]
    assert set(moments) == {"0.weight", "2.weight"}
    inputs = convolution(images).flatten(2).reshape(-1, 20).detach()
    torch.testing.assert_close(moments["2.weight"], inputs.T @ inputs)
    # x of a window times the matrix is what the convolution gives: so is the sum of their squares.
    flat = convolution.weight.detach().flatten(1)
    outputs = (convolution(images) - convolution.bias[:, None, None]).detach()
    torch.testing.assert_close((flat @ moments["0.weight"] * flat).sum(), outputs.square().sum(), rtol=1e-4, atol=1e-4)
    assert not network[0]._forward_pre_hooks


@pytest.mark.parametrize("step", [0.3, 0.05])
def test_blocks_get_the_step_and_all_else_is_finer(tiny: VDPM, step: float) -> None:
    side = 2 * tiny.config.patch_size
    images = torch.rand(1, 2, 3, side, side, generator=torch.Generator().manual_seed(5))
    moments = second_moments(tiny, lambda: tiny(images, torch.zeros(1, 1, dtype=torch.long)))
    rounded = coarse_integers(tiny.state_dict(), moments, step)
    assert any("_blocks." in name for name in rounded)
    assert any("_blocks." not in name for name in rounded)
    for name, (integers, scale) in rounded.items():
        weight = tiny.state_dict()[name]
        wanted = step if "frame_blocks." in name or "global_blocks." in name else min(step, FINE_STEP)
        least = weight.flatten(1).abs().amax(1) / INT8_LEVELS
        expected = torch.maximum(least, wanted * weight.flatten(1).square().mean(1).sqrt())
        torch.testing.assert_close(scale, expected)
        assert integers.dtype == torch.int8
        assert integers.shape == weight.shape


def test_shorter_codes_are_taken_where_that_costs_little() -> None:
    x = correlated(500, 96)
    weight = torch.randn(40, 96, generator=torch.Generator().manual_seed(2))
    scale, feedback = torch.full((40,), 1.0), feedback_of(x.T @ x)
    exact = round_with_feedback(weight, scale, feedback)
    lengths = code_lengths(exact)
    cheap = round_with_feedback(weight, scale, feedback, lengths)

    def bits(integers: Tensor) -> float:
        return float(lengths[integers.long() + INT8_LEVELS].mean())

    def error(chosen: Tensor, steps: Tensor) -> float:
        return float((x @ (dequantize_rows(chosen, steps) - weight).T).square().mean())

    saved = bits(exact) - bits(cheap)
    assert saved > 0.05
    # A wider step that saves as many bits, one for each doubling, does no better.
    wider = scale * 2**saved
    assert error(cheap, scale) < 1.02 * error(round_with_feedback(weight, wider, feedback), wider)


def test_codes_are_as_long_as_integers_are_rare() -> None:
    lengths = code_lengths(torch.tensor([0] * 500 + [1] * 200 + [-1] * 300))
    torch.testing.assert_close(lengths[INT8_LEVELS], torch.tensor(1.0), atol=0.02, rtol=0)
    torch.testing.assert_close(lengths[INT8_LEVELS + 1], torch.tensor(2.0), atol=0.02, rtol=0)
    assert lengths[INT8_LEVELS - 1] == lengths[INT8_LEVELS + 1]
    assert float(lengths[0]) > 10


@pytest.mark.parametrize("digits", [3, 7])
def test_few_digits_leave_zeros_behind(digits: int) -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(1)).mul(3).exp() * torch.tensor([1, -1]).repeat(
        500
    )
    short = few_digits(torch.cat([values, torch.zeros(1)]), digits)
    assert (short[:-1] / values - 1).abs().max() <= 2.0 ** -(digits + 1)
    assert not (short.view(torch.int32) & (2 ** (23 - digits) - 1)).any()
    assert short[-1] == 0


def test_what_the_output_feels_more_gets_finer_steps() -> None:
    generator = torch.Generator().manual_seed(7)
    tensors = {name: torch.randn(20, 30, generator=generator) for name in ("felt", "hardly", "small")}
    tensors["small"] = tensors["felt"] / 8
    feedback = dict.fromkeys(tensors, feedback_of(torch.eye(30)))
    sensitivity = {"felt": torch.full((20,), 4.0), "hardly": torch.ones(20), "small": torch.full((20,), 4.0)}
    steps = relative_steps(tensors, feedback, sensitivity)
    assert steps["hardly"] / steps["felt"] == pytest.approx(2**SENSITIVITY_POWER, rel=0.1)
    assert steps["small"] / steps["felt"] == pytest.approx(8**SENSITIVITY_POWER)
    assert torch.tensor(list(steps.values())).log().mean() == pytest.approx(0, abs=1e-6)
    assert cheap_integers(tensors, feedback, {"felt": 0.3, "hardly": 0.3, "small": 99.0}).keys() == tensors.keys()
    for step in (0.3, 99.0):
        integers, scale = cheap_integers(tensors, feedback, dict.fromkeys(tensors, step))["felt"]
        size = tensors["felt"].square().mean(1).sqrt()
        torch.testing.assert_close(scale, min(step, WIDEST_STEP) * size, rtol=0.07, atol=0)
        assert (dequantize_rows(integers, scale) - tensors["felt"]).abs().max() <= 1.2 * scale.max()

import pytest
import torch
from torch import Tensor, nn

from vdpm.model import VDPM
from vdpm.model.checkpoint_file import INT8_LEVELS, dequantize_rows
from vdpm.model.rounding import FINE_STEP, coarse_integers, round_with_feedback, second_moments


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
    integers = round_with_feedback(weight, scale, (x.T @ x).double())
    nearest = (weight / scale[:, None]).round()

    def error(chosen: Tensor) -> float:
        return float((x @ (dequantize_rows(chosen, scale) - weight).T).square().mean())

    assert error(integers) < 0.3 * error(nearest)
    # Inputs that have nothing to do with each other leave nothing to make good.
    alone = round_with_feedback(weight, scale, torch.eye(96).double())
    assert torch.equal(alone.float(), nearest)


def test_integers_stay_within_eight_bits() -> None:
    x = correlated(300, 64)
    weight = torch.randn(3, 64, generator=torch.Generator().manual_seed(3)) * 100
    integers = round_with_feedback(weight, torch.ones(3), (x.T @ x).double())
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

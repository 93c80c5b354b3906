import pytest
import torch
from torch import nn

from vdpm.training.config import OptimizerConfig
from vdpm.training.distributed import Ranks, average_and_clip
from vdpm.training.optimizer import Muon, build_optimizers, learning_rate, orthogonalize


def test_orthogonalize_brings_singular_values_near_one() -> None:
    matrices = torch.randn(3, 12, 40, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrices))
    assert 0.6 < values.min() < values.max() < 1.3
    tall = orthogonalize(matrices.transpose(-1, -2))
    torch.testing.assert_close(tall, orthogonalize(matrices).transpose(-1, -2), atol=1e-4, rtol=1e-3)


def test_muon_solves_a_linear_problem() -> None:
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(8, 8, generator=generator)
    weight = nn.Parameter(torch.zeros(8, 8))
    optimizer = Muon([weight], lr=0.1)
    before = (weight - target).square().mean().item()
    for step in range(200):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 * (1 - step / 200)
        (weight - target).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert (weight - target).square().mean().item() < 0.05 * before


def test_every_parameter_is_optimised_once() -> None:
    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([nn.Linear(4, 4)])
            self.head = nn.Linear(4, 2)
            self.camera_token = nn.Parameter(torch.zeros(1, 2, 4))

    model = Small()
    optimizers = build_optimizers(model, OptimizerConfig())
    assert [type(o).__name__ for o in optimizers] == ["Muon", "AdamW"]
    seen = [id(p) for o in optimizers for g in o.param_groups for p in g["params"]]
    assert sorted(seen) == sorted(id(p) for p in model.parameters())
    muon = optimizers[0].param_groups[0]["params"]
    assert [id(p) for p in muon] == [id(model.blocks[0].weight)]
    decayed = optimizers[1].param_groups[0]["params"]
    assert all(p.ndim >= 2 for p in decayed)
    assert model.camera_token.shape not in [p.shape for p in decayed]


def test_schedule_warms_up_stays_and_cools_down() -> None:
    config = OptimizerConfig(lr=1.0, warmup_steps=10, cooldown_steps=20, final_fraction=0.0)
    assert learning_rate(0, 100, config) == pytest.approx(0.1)
    assert learning_rate(50, 100, config) == 1.0
    assert learning_rate(90, 100, config) == pytest.approx(0.5)
    assert learning_rate(100, 100, config) == 0.0
    cosine = OptimizerConfig(lr=1.0, warmup_steps=1, schedule="cosine", final_fraction=0.0)
    assert learning_rate(50, 100, cosine) == pytest.approx(0.5)


def parameters_with_gradients(*gradients: list[float]) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.zeros(len(g))) for g in gradients]
    for parameter, gradient in zip(parameters, gradients):
        parameter.grad = torch.tensor(gradient)
    return [*parameters, nn.Parameter(torch.zeros(2))]  # the last one was not used: it has no gradient


def test_gradients_are_clipped_by_their_norm_over_all() -> None:
    alone = Ranks(0, 1, torch.device("cpu"))
    parameters = parameters_with_gradients([3.0, 0.0], [0.0, 4.0, 0.0])
    assert average_and_clip(parameters, alone, 1.0).item() == pytest.approx(5.0)
    torch.testing.assert_close(parameters[0].grad, torch.tensor([0.6, 0.0]))
    torch.testing.assert_close(parameters[1].grad, torch.tensor([0.0, 0.8, 0.0]))
    assert parameters[2].grad is None
    small = parameters_with_gradients([0.3], [0.4])
    average_and_clip(small, alone, 1.0)
    torch.testing.assert_close(small[1].grad, torch.tensor([0.4]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_makes_all_zero(bad: float) -> None:
    parameters = parameters_with_gradients([1.0, bad], [2.0])
    assert not torch.isfinite(average_and_clip(parameters, Ranks(0, 1, torch.device("cpu")), 1.0))
    assert all(not p.grad.any() for p in parameters if p.grad is not None)

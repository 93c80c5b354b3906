import pytest
import torch
from torch import nn

from fixtures.tiny_run import ALONE
from vdpm.training.config import OptimizerConfig
from vdpm.training.optimizer import Muon, build_optimizers, learning_rate, orthogonalize, orthogonalize_all
from vdpm.training.parameters import FlatParameters, sorted_parameters


def test_orthogonalize_brings_singular_values_near_one() -> None:
    matrices = torch.randn(3, 12, 40, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrices))
    assert 0.6 < values.min() < values.max() < 1.3
    tall = orthogonalize(matrices.transpose(-1, -2))
    torch.testing.assert_close(tall, orthogonalize(matrices).transpose(-1, -2), atol=1e-4, rtol=1e-3)


def test_muon_solves_a_linear_problem() -> None:
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(8, 8, generator=generator)
    weight = nn.Parameter(torch.zeros(1, 8, 8))
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
    matrices, weights, vectors = sorted_parameters(model, muon=True)
    assert matrices == [["blocks.0.weight"]]
    assert weights == ["head.weight"]
    assert sorted(vectors) == ["blocks.0.bias", "camera_token", "head.bias"]
    parameters = FlatParameters(model, ALONE, muon=True)
    muon, adamw = build_optimizers(parameters, OptimizerConfig())
    seen = [id(p) for o in (muon, adamw) for g in o.param_groups for p in g["params"]]
    assert sorted(seen) == sorted(id(p) for p in parameters.tensors)
    assert [g["weight_decay"] for g in adamw.param_groups] == [0.05, 0.0]
    (only,) = build_optimizers(FlatParameters(Small(), ALONE, muon=False), OptimizerConfig(kind="adamw"))
    assert isinstance(only, torch.optim.AdamW)


def test_equal_and_turned_shapes_are_orthogonalised_as_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    stacks = [torch.randn(*shape, generator=generator) for shape in ((2, 4, 6), (1, 6, 4), (3, 4, 6), (1, 5, 5))]
    for together, stack in zip(orthogonalize_all(stacks), stacks):
        torch.testing.assert_close(together, orthogonalize(stack))


def test_schedule_warms_up_stays_and_cools_down() -> None:
    config = OptimizerConfig(lr=1.0, warmup_steps=10, cooldown_steps=20, final_fraction=0.0)
    assert learning_rate(0, 100, config) == pytest.approx(0.1)
    assert learning_rate(50, 100, config) == 1.0
    assert learning_rate(90, 100, config) == pytest.approx(0.5)
    assert learning_rate(100, 100, config) == 0.0
    cosine = OptimizerConfig(lr=1.0, warmup_steps=1, schedule="cosine", final_fraction=0.0)
    assert learning_rate(50, 100, cosine) == pytest.approx(0.5)

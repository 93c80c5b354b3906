import pytest
import torch
from torch import Tensor, nn

from fixtures.tiny_run import ALONE
from vdpm.training.config import OptimizerConfig
from vdpm.training.parameters import ALIGNMENT, FlatParameters
from vdpm.training.update import Update


class Small(nn.Module):
    """Matrices of two shapes, sizes that are no multiple of the alignment, one parameter that nothing uses."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3, bias=False)])
        self.head = nn.Conv2d(3, 2, 1)
        self.unused = nn.Parameter(torch.ones(7))
        self.fixed = nn.Parameter(torch.ones(3), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x.T[None, :, :, None]).square().mean()


def batch() -> Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(1))


def test_laid_flat_a_network_computes_what_it_did_and_keeps_its_names() -> None:
    model = Small()
    before, loss = {k: v.clone() for k, v in model.state_dict().items()}, model(batch()).item()
    flat = FlatParameters(model, ALONE, muon=True)
    assert [tuple(t.shape) for t in flat.matrices] == [(2, 5, 5), (1, 3, 5)]
    assert model(batch()).item() == loss
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
        if name != "fixed":
            assert value.storage_offset() % ALIGNMENT == 0, name
    flat.vectors[0].data.zero_()
    assert not model.blocks[0].bias.any()
    assert model.fixed.all()


def test_gradients_are_clipped_by_their_norm_over_all() -> None:
    model = Small()
    flat = FlatParameters(model, ALONE, muon=True)
    model(batch()).backward()
    gradients = {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}
    norm = torch.cat([g.flatten() for g in gradients.values()]).norm()
    assert flat.collect_gradients().item() == pytest.approx(norm.item(), rel=1e-6)
    assert all(p.grad is None for p in model.parameters())
    flat.scale_gradients(torch.tensor(0.25))
    collected = flat.named(lambda tensor: tensor.grad)
    assert collected.keys() == gradients.keys() | {"unused"}
    for name, gradient in gradients.items():
        torch.testing.assert_close(collected[name], 0.25 * gradient)
    assert not collected["unused"].any()


def test_flat_adamw_is_adamw() -> None:
    flat_model, plain = Small(), Small()
    config = OptimizerConfig(kind="adamw", clip_norm=0.1, weight_decay=0.1, lr=1e-2)
    update = Update(FlatParameters(flat_model, ALONE, muon=False), config)
    decayed = [p for p in plain.parameters() if p.requires_grad and p.ndim >= 2]
    others = [p for p in plain.parameters() if p.requires_grad and p.ndim < 2]
    adamw = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=1e-2, betas=config.betas
    )
    for _ in range(3):
        flat_model(batch()).backward()
        update(1e-2, 0.9)
        plain(batch()).backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
        adamw.step()
        adamw.zero_grad()
    for (name, value), expected in zip(flat_model.named_parameters(), plain.parameters()):
        torch.testing.assert_close(value, expected, msg=name)


def test_the_average_follows_the_weights() -> None:
    model = Small()
    update = Update(FlatParameters(model, ALONE, muon=True), OptimizerConfig())
    before = update.weights()
    model(batch()).backward()
    update(1e-2, 0.75)
    weights, averages = update.weights(), update.averages()
    for name, value in averages.items():
        torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * weights[name])


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_what_was_kept_can_be_restored(kind: str) -> None:
    def begin() -> tuple[Small, Update]:
        model = Small()
        config = OptimizerConfig(kind="muon" if kind == "muon" else "adamw")
        return model, Update(FlatParameters(model, ALONE, muon=kind == "muon"), config)

    def step(model: Small, update: Update) -> None:
        model(batch()).backward()
        update(1e-2, 0.5)

    whole, update = begin()
    step(whole, update)
    kept = {k: v.clone() for k, v in whole.state_dict().items()}, update.averages(), update.moments(), update.updates
    step(whole, update)
    late, later = begin()
    late.load_state_dict(kept[0])
    later.restore(*kept[1:])
    step(late, later)
    assert later.updates == update.updates == 2
    for name, value in update.averages().items():
        assert torch.equal(value, later.averages()[name]), name
    with pytest.raises(ValueError, match="names differ"):
        later.restore({}, {}, 0)
    with pytest.raises(ValueError, match="its optimiser keeps"):
        later.restore(kept[1], {"momentum": {}, "else": {}}, 1)

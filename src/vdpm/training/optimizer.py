"""Optimisers and the schedule of the learning rate.

Muon (momentum whose update is made nearly orthogonal by a Newton-Schulz iteration) moves the matrices of the
transformer blocks; its update is scaled to the size of AdamW's so that both share one learning rate. AdamW moves
everything else.
"""

import math
from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vdpm.training.config import OptimizerConfig

# Coefficients of the quintic iteration that pushes all singular values towards 1 (Jordan et al., "Muon", 2024).
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 5


def orthogonalize(matrices: Tensor) -> Tensor:
    """Nearly orthogonal matrices with the singular vectors of ``matrices`` [k, m, n], in float32.

    Computed in bfloat16 on CUDA, where the small error does not matter, and in float32 elsewhere.
    """
    a, b, c = _NEWTON_SCHULZ
    x = matrices.to(torch.bfloat16 if matrices.is_cuda else torch.float32)
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.transpose(-1, -2)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.01 + 1e-7)
    for _ in range(_NEWTON_SCHULZ_STEPS):
        gram = x @ x.transpose(-1, -2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    if tall:
        x = x.transpose(-1, -2)
    return x.float()


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay, for two-dimensional parameters.

    The update of an m x n matrix is scaled by ``0.2 * sqrt(max(m, n))``, which gives it AdamW's usual root mean square.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update; matrices of one shape are orthogonalised together."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                buffers = []
                for parameter in parameters:
                    state = self.state[parameter]
                    if "momentum" not in state:
                        state["momentum"] = torch.zeros_like(parameter)
                    buffers.append(state["momentum"])
                gradients = [p.grad for p in parameters if p.grad is not None]
                torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
                nesterov = torch._foreach_lerp(gradients, buffers, group["momentum"])
                updates = orthogonalize(torch.stack(list(nesterov)))
                scale = 0.2 * math.sqrt(max(shape))
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, list(updates.unbind()), alpha=-group["lr"] * scale)


def build_optimizers(model: nn.Module, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """AdamW alone, or Muon for the blocks' matrices and AdamW for the rest.

    Vectors (biases, norms, tokens) have no weight decay.
    """
    matrices, weights, vectors = [], [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if config.kind == "muon" and parameter.ndim == 2 and "blocks" in name:
            matrices.append(parameter)
        elif parameter.ndim >= 2 and not name.endswith("token"):
            weights.append(parameter)
        else:
            vectors.append(parameter)
    adamw = torch.optim.AdamW(
        [{"params": weights, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=config.lr,
        betas=config.betas,
        fused=True,
    )
    if not matrices:
        return [adamw]
    for group in adamw.param_groups:
        group["lr_ratio"] = config.beside_muon
    return [Muon(matrices, lr=config.lr, weight_decay=config.weight_decay), adamw]


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all groups, each by its own ratio."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_ratio", 1.0)


def learning_rate(step: float | int, total: int, config: OptimizerConfig) -> float:
    """Learning rate at position ``step`` (from 0) of a schedule of ``total`` steps."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.schedule == "cosine":
        progress = min(1.0, step / max(1, total))
        floor = config.final_fraction
        return config.lr * warm * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
    left = total - step
    fall = 1.0
    if config.cooldown_steps and left < config.cooldown_steps:
        fall = config.final_fraction + (1 - config.final_fraction) * max(0, left) / config.cooldown_steps
    return config.lr * warm * fall

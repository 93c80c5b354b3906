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
from vdpm.training.parameters import TrainedParameters

# Coefficients of the quintic iteration that pushes all singular values towards 1 (Jordan et al., "Muon", 2024).
_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ_STEPS = 5


def orthogonalize(matrices: Tensor) -> Tensor:
    """Nearly orthogonal matrices with the singular vectors of ``matrices`` [k, m, n], in float32.

    Computed in bfloat16 on CUDA, where the small error does not matter, and in float32 elsewhere.
    """
    return orthogonalize_all([matrices])[0]


def orthogonalize_all(stacks: list[Tensor]) -> list[Tensor]:
    """``orthogonalize`` for several stacks; those of one shape, or of that shape turned, share their kernels."""
    a, b, c = _NEWTON_SCHULZ
    wide = [x.transpose(-1, -2) if x.shape[-2] > x.shape[-1] else x for x in stacks]
    alike: dict[torch.Size, list[int]] = defaultdict(list)
    for index, x in enumerate(wide):
        alike[x.shape[1:]].append(index)
    done: dict[int, Tensor] = {}
    for indices in alike.values():
        parts = [wide[index] for index in indices]
        x = torch.cat(parts) if len(parts) > 1 else parts[0]
        x = x.to(torch.bfloat16 if x.is_cuda else torch.float32)
        x = x / (x.norm(dim=(-2, -1), keepdim=True) * 1.01 + 1e-7)
        for _ in range(_NEWTON_SCHULZ_STEPS):
            gram = x @ x.transpose(-1, -2)
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
        done |= dict(zip(indices, x.float().split([len(part) for part in parts])))
    return [
        done[index].transpose(-1, -2) if given.shape[-2] > given.shape[-1] else done[index]
        for index, given in enumerate(stacks)
    ]


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum and decoupled weight decay, for stacks [k, m, n] of matrices.

    The update of an m x n matrix is scaled by ``0.2 * sqrt(max(m, n))``, which gives it AdamW's usual root mean square.
    ``found_inf`` as in PyTorch's fused optimisers: a tensor that is 1 where a step must change nothing, else 0.
    """

    found_inf: Tensor | None = None

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One update of every stack that has a gradient."""
        skipped = None if self.found_inf is None else self.found_inf > 0
        for group in self.param_groups:
            stacks = [parameter for parameter in group["params"] if parameter.grad is not None]
            looked_ahead = []
            for parameter in stacks:
                state, gradient = self.state[parameter], parameter.grad
                if "momentum" not in state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"]
                if skipped is not None:
                    # The momentum moved towards itself stays what it is.
                    gradient = torch.where(skipped, momentum, gradient)
                momentum.lerp_(gradient, 1 - group["momentum"])
                looked_ahead.append(gradient.lerp(momentum, group["momentum"]))
            applied = 1.0 if self.found_inf is None else 1 - self.found_inf
            decay = 1 - group["lr"] * group["weight_decay"] * applied
            for parameter, update in zip(stacks, orthogonalize_all(looked_ahead)):
                scale = 0.2 * math.sqrt(max(parameter.shape[-2:]))
                parameter.mul_(decay).add_(update * applied, alpha=-group["lr"] * scale)


def build_optimizers(parameters: TrainedParameters, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """Muon for the stacks of matrices, if there are any, and AdamW for the rest; vectors have no weight decay."""
    groups = [
        {"params": parameters.weights, "weight_decay": config.weight_decay},
        {"params": parameters.vectors, "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=config.lr, betas=config.betas, fused=True
    )
    if not parameters.matrices:
        return [adamw]
    for group in adamw.param_groups:
        group["lr_ratio"] = config.beside_muon
    return [Muon(parameters.matrices, lr=config.lr, weight_decay=config.weight_decay), adamw]


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all groups, each by its own ratio."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_ratio", 1.0)


def is_falling(step: float | int, total: int, config: OptimizerConfig) -> bool:
    """Whether the learning rate falls at position ``step`` of a schedule of ``total`` steps."""
    return config.schedule == "cosine" or (config.cooldown_steps > 0 and total - step <= config.cooldown_steps)


def learning_rate(step: float | int, total: int, config: OptimizerConfig) -> float:
    """Learning rate at position ``step`` (from 0) of a schedule of ``total`` steps."""
    warm = min(1.0, (step + 1) / max(1, config.warmup_steps))
    if config.schedule == "cosine":
        progress = min(1.0, step / max(1, total))
        floor = config.final_fraction
        return config.lr * warm * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
    left = total - step
    fall = 1.0
    if is_falling(step, total, config):
        fall = config.final_fraction + (1 - config.final_fraction) * max(0, left) / config.cooldown_steps
    return config.lr * warm * fall

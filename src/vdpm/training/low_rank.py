"""Matrices that move by a product of two thin ones (LoRA, Hu et al., 2021), so that what was learnt is few numbers.

A matrix W [m, n] of the backbone's blocks becomes ``W + left right``, with left [m, rank] and right [rank, n]; W itself
stays. Outside of training nothing knows of it: what is saved as a network is the sum (``merged``), and an update finds
the two factors in it again (``model.factors``).
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from vdpm.errors import CheckpointError, UsageError
from vdpm.model import VDPM
from vdpm.model.factors import Factors, factors_of

LEFT, RIGHT = ".left", ".right"
WEIGHT = ".weight"
_BLOCKS = ("frame_blocks", "global_blocks")


class LowRankLinear(nn.Linear):
    """A linear layer whose ``weight`` stays and whose factors ``left`` [out, rank] and ``right`` [rank, in] move."""

    def __init__(self, layer: nn.Linear, factors: Factors) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.left = nn.Parameter(factors.left.to(layer.weight))
        self.right = nn.Parameter(factors.right.to(layer.weight))

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast(input.device.type, enabled=False):
            weight = torch.addmm(self.weight, self.left, self.right)
        return F.linear(input, weight, self.bias)


def make_low_rank(
    model: VDPM, rank: int, generator: torch.Generator, base: Mapping[str, Tensor] | None = None
) -> tuple[str, ...]:
    """Turn the linear layers of the backbone's blocks into ``LowRankLinear``, in place; returns their names.

    What stays of them are the tensors in ``base``, by the names of a plain network, and their factors are the way from
    there, cut to its ``rank`` largest singular values; without ``base`` the present weights stay, and ``left`` is 0.
    Directions in which nothing has moved are drawn from ``generator``. Raises UsageError for a rank that none has,
    CheckpointError where ``base`` does not fit.
    """
    layers = {
        f"aggregator.{name}": layer
        for name, layer in model.aggregator.named_modules()
        if isinstance(layer, nn.Linear) and name.startswith(_BLOCKS)
    }
    for name, layer in layers.items():
        weight = layer.weight.detach()
        if not 1 <= rank < min(weight.shape):
            raise UsageError(
                f"no rank {rank} for {name}, {tuple(weight.shape)}; it lies in 1 to {min(weight.shape) - 1}"
            )
        start = weight if base is None else base.get(name + WEIGHT)
        if start is None or start.shape != weight.shape:
            raise CheckpointError(f"the weights to start from have no {name}{WEIGHT} of {tuple(weight.shape)}")
        factors = factors_of(weight.float().cpu() - start.float().cpu(), rank, generator)
        layer.weight.data.copy_(start)
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, LowRankLinear(layer, factors))
    return tuple(layers)


def train_low_rank(model: VDPM) -> None:
    """Of the backbone's blocks let the factors move, and the vectors, which are few numbers."""
    for name, parameter in model.aggregator.named_parameters():
        if name.startswith(_BLOCKS):
            parameter.requires_grad_(parameter.ndim == 1 or name.endswith((LEFT, RIGHT)))


def merged(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``tensors`` of a network, low rank or not, as those of a plain one."""
    plain = {name: value for name, value in tensors.items() if not name.endswith((LEFT, RIGHT))}
    for name, left in tensors.items():
        if name.endswith(LEFT):
            layer = name.removesuffix(LEFT)
            plain[layer + WEIGHT] = _sum(tensors[layer + WEIGHT], left, tensors[layer + RIGHT])
    return plain


def _sum(
    weight: Float[Tensor, "m n"], left: Float[Tensor, "m rank"], right: Float[Tensor, "rank n"]
) -> Float[Tensor, "m n"]:
    return torch.addmm(weight.float(), left.float(), right.float())

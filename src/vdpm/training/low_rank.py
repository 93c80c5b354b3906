"""Matrices that move by a product of two thin ones (LoRA, Hu et al., 2021), so that what was learnt is few numbers.

A matrix W [m, n] of the backbone's blocks, or of other modules, becomes ``W + left right``, with left [m, rank] and
right [rank, n]; W itself stays. Outside of training nothing knows of it: what is saved as a network is the sum
(``merged``), and an update finds the two factors in it again (``model.factor_rounding``).
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vdpm.errors import CheckpointError
from vdpm.model import VDPM
from vdpm.model.factor_rounding import BACKBONE, backbone_matrices, matrices_in
from vdpm.model.factors import Factors, factors_of

LEFT, RIGHT = ".left", ".right"
BASE = ".base"
WEIGHT = ".weight"


class LowRankLinear(nn.Module):
    """A linear layer: ``base`` [out, in] stays, the factors ``left`` [out, rank] and ``right`` [rank, in] move."""

    def __init__(self, layer: nn.Linear, factors: Factors) -> None:
        super().__init__()
        self.base, self.bias = layer.weight, layer.bias
        self.left = nn.Parameter(factors.left.to(layer.weight))
        self.right = nn.Parameter(factors.right.to(layer.weight))

    @property
    def weight(self) -> Tensor:
        """The sum, [out, in]."""
        with torch.autocast(self.base.device.type, enabled=False):
            return torch.addmm(self.base, self.left, self.right)

    def forward(self, input: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        return F.linear(input, self.weight, self.bias)


def make_low_rank(
    model: VDPM,
    rank: int,
    generator: torch.Generator,
    base: Mapping[str, Tensor] | None = None,
    others: Sequence[str] = (),
) -> tuple[str, ...]:
    """Turn the linear layers of the backbone's blocks, and of the modules ``others`` where they are large enough for
    that rank, into ``LowRankLinear``, in place; returns their names.

    What stays of them are the tensors in ``base``, by the names of a plain network, and their factors are the way from
    there, cut to its ``rank`` largest singular values; without ``base`` the present weights stay, and ``left`` is 0.
    Directions in which nothing has moved are drawn from ``generator``. Raises UsageError for a rank that none has,
    CheckpointError where ``base`` does not fit.
    """
    tensors = model.state_dict()
    linear = {f"{name}{WEIGHT}" for name, layer in model.named_modules() if isinstance(layer, nn.Linear)}
    beside = tuple(
        name for name in matrices_in(tensors, _prefixes(others)) if name in linear and rank < min(tensors[name].shape)
    )
    names = tuple(name.removesuffix(WEIGHT) for name in backbone_matrices(tensors, rank) + beside)
    for name in names:
        layer = model.get_submodule(name)
        assert isinstance(layer, nn.Linear), name
        weight = layer.weight.detach()
        start = weight if base is None else base.get(name + WEIGHT)
        if start is None or start.shape != weight.shape:
            raise CheckpointError(f"the weights to start from have no {name}{WEIGHT} of {tuple(weight.shape)}")
        factors = factors_of(weight.float().cpu() - start.float().cpu(), rank, generator)
        layer.weight.data.copy_(start)
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, LowRankLinear(layer, factors))
    return names


def train_low_rank(model: VDPM, others: Sequence[str] = ()) -> None:
    """Of the backbone's blocks, and of the modules ``others``, let all move but what factors are added to."""
    prefixes = BACKBONE + _prefixes(others)
    for name, parameter in model.named_parameters():
        if name.startswith(prefixes):
            parameter.requires_grad_(not name.endswith(BASE))


def merged(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``tensors`` of a network, low rank or not, as those of a plain one."""
    plain = {name: value for name, value in tensors.items() if not name.endswith((LEFT, RIGHT, BASE))}
    for name, base in tensors.items():
        if name.endswith(BASE):
            layer = name.removesuffix(BASE)
            plain[layer + WEIGHT] = torch.addmm(base, tensors[layer + LEFT], tensors[layer + RIGHT])
    return plain


def _prefixes(modules: Sequence[str]) -> tuple[str, ...]:
    return tuple(f"{name}." for name in modules)

"""The parameters that training moves, laid out for the optimisers: as one flat tensor, or as this rank's shards.

Hundreds of small tensors cost hundreds of calls at every step. Laid flat, gradients are averaged, measured and clipped,
weights moved and averaged by a handful of kernels, whatever their number.
"""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping, Set

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from vdpm.training.distributed import Ranks

ALIGNMENT = 64
"""Elements: 256 bytes, as the allocator itself aligns, so that kernels may read whole vectors."""

ValueOf = Callable[[nn.Parameter], Tensor | None]
"""What belongs to a training tensor and has its shape (its moment, its average, itself), or None where nothing does."""


class TrainedParameters(ABC):
    """``matrices``, ``weights``, ``vectors``: the tensors an optimiser moves; together they hold every parameter once.

    ``matrices`` are stacks [k, m, n] of equal ones, for Muon; ``weights`` have weight decay, ``vectors`` have none.
    """

    matrices: list[nn.Parameter]
    weights: list[nn.Parameter]
    vectors: list[nn.Parameter]

    @property
    def tensors(self) -> list[nn.Parameter]:
        """All training tensors."""
        return [*self.matrices, *self.weights, *self.vectors]

    @abstractmethod
    def collect_gradients(self) -> Float[Tensor, ""]:
        """Mean over ranks of the network's gradients, put into ``grad`` of the training tensors; returns its norm."""

    @abstractmethod
    def scale_gradients(self, factor: Float[Tensor, ""]) -> None:
        """Multiply what was collected by ``factor``."""

    @abstractmethod
    def values(self) -> list[Tensor]:
        """All values, to be changed in place: few tensors, which together hold every parameter once."""

    @torch.no_grad()
    def average_towards(self, average: list[Tensor], weight: Float[Tensor, ""]) -> None:
        """Move ``average``, made by ``copies``, by ``weight`` of the way towards the present values."""
        for kept, value in zip(average, self.values(), strict=True):
            kept.lerp_(value, weight)

    def copies(self) -> list[Tensor]:
        """A copy of all ``values``."""
        return [value.clone() for value in self.values()]

    @abstractmethod
    def value_in(self, copies: list[Tensor]) -> ValueOf:
        """Which part of ``copies`` belongs to a training tensor."""

    @abstractmethod
    def named(self, value_of: ValueOf) -> dict[str, Tensor]:
        """Whole tensors on the CPU by the parameters' names, on rank 0 (elsewhere nothing); every rank must call it."""

    @abstractmethod
    def fill(self, value_of: ValueOf, named: Mapping[str, Tensor]) -> None:
        """Copy whole tensors, the same on every rank, to where they belong; raises ValueError where they do not fit."""


def sorted_parameters(model: nn.Module, muon: bool) -> tuple[list[list[str]], list[str], list[str]]:
    """Names of all trained parameters: blocks' matrices by equal shape (only for ``muon``), other weights, vectors.

    Vectors (biases, norms, tokens) are what has no weight decay.
    """
    by_shape: dict[torch.Size, list[str]] = defaultdict(list)
    weights, vectors = [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if muon and parameter.ndim == 2 and "blocks" in name:
            by_shape[parameter.shape].append(name)
        elif parameter.ndim >= 2 and not name.endswith(("token", "tokens")):
            weights.append(name)
        else:
            vectors.append(name)
    return list(by_shape.values()), weights, vectors


class FlatParameters(TrainedParameters):
    """All trained parameters of ``model`` in one tensor of which they become views; every rank holds all of it."""

    def __init__(self, model: nn.Module, ranks: Ranks, *, muon: bool) -> None:
        by_shape, weights, vectors = sorted_parameters(model, muon)
        groups = [*by_shape, weights, vectors]
        self._ranks = ranks
        self._parameters = dict(model.named_parameters())
        self._spans = {name: _aligned(self._parameters[name].numel()) for group in groups for name in group}
        self._flat = torch.zeros(sum(self._spans.values()), device=ranks.device)
        # A stand-in where a parameter had no part in the loss, and for the gaps that alignment leaves.
        self._zeros = torch.zeros(max(self._spans.values(), default=0), device=ranks.device)
        self._lie: dict[int, tuple[list[str], slice]] = {}
        self.matrices: list[nn.Parameter] = []
        self.weights: list[nn.Parameter] = []
        self.vectors: list[nn.Parameter] = []
        kinds = [*[self.matrices] * len(by_shape), self.weights, self.vectors]
        start = 0
        for kind, names in zip(kinds, groups):
            where = slice(start, start + sum(self._spans[name] for name in names))
            if names:
                kind.append(nn.Parameter(self._view(self._flat[where], names, stacked=kind is self.matrices)))
                self._lie[id(kind[-1])] = names, where
            start = where.stop
        with torch.no_grad():
            for piece, name in zip(self._flat.split(list(self._spans.values())), self._spans):
                parameter = self._parameters[name]
                parameter.data = piece[: parameter.numel()].view(parameter.shape).copy_(parameter.data)

    def collect_gradients(self) -> Float[Tensor, ""]:
        pieces = []
        for name, span in self._spans.items():
            parameter = self._parameters[name]
            gradient = parameter.grad
            count = 0
            if gradient is not None:
                pieces.append(gradient.reshape(-1))
                count = gradient.numel()
                parameter.grad = None
            if count < span:
                pieces.append(self._zeros[: span - count])
        self._gradient = torch.cat(pieces)
        norm = _sum_over_ranks(self._gradient, self._ranks).norm()
        value_of = self.value_in([self._gradient])
        for tensor in self.tensors:
            tensor.grad = value_of(tensor)
        return norm / self._ranks.world

    def scale_gradients(self, factor: Float[Tensor, ""]) -> None:
        self._gradient.mul_(factor / self._ranks.world)

    def values(self) -> list[Tensor]:
        return [self._flat]

    def value_in(self, copies: list[Tensor]) -> ValueOf:
        def value_of(tensor: nn.Parameter) -> Tensor | None:
            names, where = self._lie[id(tensor)]
            return self._view(copies[0][where], names, stacked=tensor.ndim == 3)

        return value_of

    def named(self, value_of: ValueOf) -> dict[str, Tensor]:
        if not self._ranks.is_main:
            return {}
        return {name: value.detach().to("cpu", copy=True) for name, value in self._pieces(value_of)}

    @torch.no_grad()
    def fill(self, value_of: ValueOf, named: Mapping[str, Tensor]) -> None:
        pieces = self._pieces(value_of)
        _check_names({name for name, _ in pieces}, named)
        for name, value in pieces:
            _check_shape(name, named[name], value.shape)
            value.copy_(named[name])

    def _pieces(self, value_of: ValueOf) -> list[tuple[str, Tensor]]:
        """The part of each parameter, in its own shape."""
        pieces = []
        for tensor in self.tensors:
            names, value = self._lie[id(tensor)][0], value_of(tensor)
            if value is None:
                continue
            if value.ndim == 3:
                pieces += list(zip(names, value.unbind()))
                continue
            for name, piece in zip(names, value.split([self._spans[name] for name in names])):
                parameter = self._parameters[name]
                pieces.append((name, piece[: parameter.numel()].view_as(parameter)))
        return pieces

    def _view(self, flat: Tensor, names: list[str], stacked: bool) -> Tensor:
        """``flat`` as the training tensor of the parameters ``names``."""
        if not stacked:
            return flat
        shape = self._parameters[names[0]].shape
        return flat.view(len(names), -1)[:, : math.prod(shape)].unflatten(1, shape)


class ShardedParameters(TrainedParameters):
    """This rank's part of every trained parameter of a network cut up by ``sharding.shard_network``; for AdamW."""

    def __init__(self, model: nn.Module, ranks: Ranks) -> None:
        _, weights, vectors = sorted_parameters(model, muon=False)
        self._ranks = ranks
        self._model = model
        # Plain tensors that share memory with the shards: operations on DTensors take tens of microseconds each.
        self._local = {name: nn.Parameter(_shard_of(model.get_parameter(name))) for name in (*weights, *vectors)}
        self.matrices: list[nn.Parameter] = []
        self.weights = [self._local[name] for name in weights]
        self.vectors = [self._local[name] for name in vectors]

    @torch.no_grad()
    def collect_gradients(self) -> Float[Tensor, ""]:
        gradients: list[Tensor] = []
        for name, local in self._local.items():
            whole = self._model.get_parameter(name)
            # The first forward pass may have moved the shards to padded memory.
            local.data = _shard_of(whole)
            gradient = whole.grad
            whole.grad = None
            local.grad = torch.zeros_like(local) if gradient is None else _shard_of(gradient)
            gradients.append(local.grad)
        self._gradients = gradients
        norms = torch._foreach_norm([gradient for gradient in gradients if gradient.numel()])
        squares = torch.stack(list(norms)).square().sum() if norms else torch.zeros((), device=self._ranks.device)
        return _sum_over_ranks(squares, self._ranks).sqrt()

    @torch.no_grad()
    def scale_gradients(self, factor: Float[Tensor, ""]) -> None:
        torch._foreach_mul_(self._gradients, factor)

    def values(self) -> list[Tensor]:
        return [local.detach() for local in self._local.values()]

    def value_in(self, copies: list[Tensor]) -> ValueOf:
        by_tensor = {id(tensor): value for tensor, value in zip(self.tensors, copies)}
        return lambda tensor: by_tensor[id(tensor)]

    def named(self, value_of: ValueOf) -> dict[str, Tensor]:
        named = {}
        for name, local in self._local.items():
            value = value_of(local)
            if value is not None:
                whole = whole_tensor(value, self._model.get_parameter(name))
                if self._ranks.is_main:
                    named[name] = whole.cpu()
        return named

    @torch.no_grad()
    def fill(self, value_of: ValueOf, named: Mapping[str, Tensor]) -> None:
        places = {name: value for name, local in self._local.items() if (value := value_of(local)) is not None}
        _check_names(places.keys(), named)
        for name, place in places.items():
            like = self._model.get_parameter(name)
            _check_shape(name, named[name], like.shape)
            assert isinstance(like, DTensor)
            whole = named[name].to(self._ranks.device, like.dtype)
            place.copy_(distribute_tensor(whole, like.device_mesh, like.placements).to_local())


def whole_tensor(local: Tensor, like: Tensor) -> Tensor:
    """All ranks' parts of a tensor cut as ``like`` is, put together; every rank must call it."""
    assert isinstance(like, DTensor)
    return DTensor.from_local(
        local.detach(), like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    ).full_tensor()


def _shard_of(tensor: Tensor) -> Tensor:
    part = tensor.detach()
    assert isinstance(part, DTensor), "every parameter of a sharded network is a DTensor"
    return part.to_local()


def _sum_over_ranks(tensor: Tensor, ranks: Ranks) -> Tensor:
    """In place; the same tensor where there is one rank alone."""
    if ranks.world > 1:
        dist.all_reduce(tensor)
    return tensor


def _aligned(count: int) -> int:
    return -(-count // ALIGNMENT) * ALIGNMENT


def _check_names(expected: Set[str], named: Mapping[str, Tensor]) -> None:
    differing = sorted(expected ^ set(named))
    if differing:
        raise ValueError(f"{len(differing)} names differ, such as {differing[0]}")


def _check_shape(name: str, value: Tensor, shape: torch.Size) -> None:
    if value.shape != shape:
        raise ValueError(f"{name} is {tuple(value.shape)} there and {tuple(shape)} here")

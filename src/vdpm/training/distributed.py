"""Several GPUs of one host under ``torchrun``: who am I, the same weights for all, agree on stopping."""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Ranks:
    """This process among ``world``; rank 0 writes files."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0


def join_ranks(device: str | None = None) -> Ranks:
    """Join the process group that ``torchrun`` describes in the environment, even one of one; alone without it.

    ``device``: "cuda", "cpu" or None for CUDA where there is one.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 and not dist.is_torchelastic_launched():
        return Ranks(0, 1, torch.device(kind))
    local = int(os.environ["LOCAL_RANK"])
    place = torch.device(kind, local) if kind == "cuda" else torch.device(kind)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    dist.init_process_group("nccl" if kind == "cuda" else "gloo")
    return Ranks(dist.get_rank(), world, place)


def leave_ranks() -> None:
    """Leave the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()


def share_weights(model: nn.Module, ranks: Ranks) -> None:
    """Give every rank the weights of rank 0."""
    if ranks.world > 1:
        for tensor in model.state_dict().values():
            dist.broadcast(tensor, 0)


def largest_over_ranks(value: float, ranks: Ranks) -> float:
    """The largest of all ranks' values, on every rank: how they agree on stopping and on the time."""
    if ranks.world == 1:
        return value
    largest = torch.tensor(value, device=ranks.device, dtype=torch.float32)
    dist.all_reduce(largest, op=dist.ReduceOp.MAX)
    return float(largest.item())


def mean_over_ranks(values: Tensor, ranks: Ranks) -> Tensor:
    """Mean of a tensor over the ranks."""
    if ranks.world > 1:
        dist.all_reduce(values)
        values = values / ranks.world
    return values

"""A network cut up over GPUs (FSDP2): every rank holds a part of every tensor, and whole blocks only while they work.

Parameters stay float32, and autocast does the rest, so that a sharded run computes what a replicated one does.
"""

import warnings

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from vdpm.model import VDPM
from vdpm.model.layers import Block, ConditionedBlock
from vdpm.training.distributed import Ranks


def shard_network(model: VDPM, ranks: Ranks) -> VDPM:
    """Cut ``model``, which must be the same on all ranks, into parts, in place; compile its blocks before.

    Units are the blocks of backbone and decoder, the camera head (which runs its blocks several times), the point head,
    and the rest.
    """
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(ranks.device.type, (ranks.world,))
    transformers: tuple[nn.Module, ...] = (model.aggregator, model.decoder)
    blocks = [m for t in transformers for m in t.modules() if isinstance(m, Block | ConditionedBlock)]
    for unit in (*blocks, model.camera_head, model.point_head):
        fully_shard(unit, mesh=mesh)
    fully_shard(model, mesh=mesh)
    # It warns of outputs that are views, which would matter if something wrote into them.
    warnings.filterwarnings("ignore", message=".*returned a view tensor", category=UserWarning)
    return model


def whole_state(model: nn.Module, ranks: Ranks) -> dict[str, Tensor]:
    """The state dict of a network, cut up or not, whole, on the CPU, on rank 0; every rank must call it."""
    whole = {}
    for name, value in model.state_dict().items():
        full = value.full_tensor() if isinstance(value, DTensor) else value
        if ranks.is_main:
            whole[name.replace("_orig_mod.", "")] = full.detach().to("cpu", torch.float32, copy=True)
    return whole

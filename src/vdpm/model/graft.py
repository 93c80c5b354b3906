"""A trained backbone under a decoder of another kind, as V-DPM was built on VGGT (Sec. 3.3)."""

import torch

from vdpm.errors import CheckpointError
from vdpm.model.vdpm import VDPM
from vdpm.model.weights import DECODER_PREFIX

_POINT_HEAD, _OWN_HEAD = "point_head.", "decoder.head."


@torch.no_grad()
def graft(model: VDPM, donor: VDPM) -> VDPM:
    """``model`` with all weights of ``donor`` but its decoder's; returns it.

    A head of the decoder's own (``decoder_kind`` "head" and "pairwise") starts as a copy of the donor's point head and,
    as its condition's weights are small at first, says about the same. Every other weight of the decoder stays as it
    is. Raises CheckpointError where the networks differ beyond their decoders.
    """
    own, given = model.state_dict(), donor.state_dict()
    kept = {name: value for name, value in given.items() if not name.startswith(DECODER_PREFIX)}
    wanted = {name: value for name, value in own.items() if not name.startswith(DECODER_PREFIX)}
    differing = sorted(
        name for name in kept.keys() | wanted.keys() if _shape(kept.get(name)) != _shape(wanted.get(name))
    )
    if differing:
        raise CheckpointError(
            f"networks {model.config.name} and {donor.config.name} differ beyond their decoders ({differing[0]}, "
            f"{len(differing)} tensors in all); give weights of the same backbone and heads"
        )
    for name, value in own.items():
        if name in kept:
            value.copy_(kept[name])
        elif name.startswith(_OWN_HEAD) and _POINT_HEAD + name.removeprefix(_OWN_HEAD) in kept:
            value.copy_(kept[_POINT_HEAD + name.removeprefix(_OWN_HEAD)])
    steered = own.get(f"{_OWN_HEAD}norm.lin.bias")
    if steered is not None:
        # (1 + scale) * norm(x) + shift with the scale and shift that the donor's norm has learned.
        steered.copy_(torch.cat([kept[f"{_POINT_HEAD}norm.weight"] - 1, kept[f"{_POINT_HEAD}norm.bias"]]))
    return model


def _shape(value: torch.Tensor | None) -> torch.Size | None:
    return None if value is None else value.shape

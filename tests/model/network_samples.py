"""The network the released code was run with, tiny ones of both kinds, and the rule that gives their weights."""

import zlib
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from vdpm.model import VDPM, VDPMConfig

TINY_RELEASED = VDPMConfig(
    name="tiny-released",
    dim=32,
    heads=2,
    pairs=4,
    vit_depth=1,
    vit_heads=2,
    vit_image_size=42,
    taps=(0, 1, 2, 3),
    decoder_dim=64,
    decoder_heads=2,
    decoder_pairs=1,
    head_features=16,
    head_channels=(8, 8, 16, 16),
    camera_dim=64,
    camera_heads=2,
    camera_depth=1,
)
TINY_OURS = VDPMConfig(
    name="tiny-ours",
    patch_encoder="conv",
    patch_size=8,
    stem_channels=(8, 12, 16),
    dim=32,
    heads=2,
    pairs=2,
    layer_scale_init=None,
    init="scratch",
    taps=(0, 1),
    tap_fusion=True,
    decoder_dim=24,
    decoder_heads=2,
    decoder_pairs=1,
    decoder_mlp_ratio=2.0,
    mark_target=True,
    head="conv",
    head_channels=(16, 12, 8, 8),
    camera_dim=16,
    camera_heads=2,
    camera_depth=1,
    match_dim=8,
    match_pair=0,
)
PARITY = VDPMConfig(
    name="parity",
    dim=384,
    heads=6,
    pairs=8,
    vit_depth=12,
    vit_heads=6,
    vit_image_size=98,
    taps=(1, 3, 5, 7),
    decoder_dim=768,
    decoder_heads=6,
    decoder_pairs=2,
    head_features=64,
    head_channels=(48, 96, 192, 384),
    camera_dim=768,
    camera_heads=12,
)


def rule_weight(name: str, shape: Iterable[int]) -> Tensor:
    """The weight the released code was run with: drawn from the name alone."""
    shape = tuple(shape)
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    w = generator.standard_normal(size=shape, dtype=np.float32)
    if len(shape) >= 2:
        w = w / np.float32(np.sqrt(np.prod(shape[1:])))
    elif name.endswith(".gamma"):
        w = np.float32(0.5) + np.float32(0.1) * w
    elif name.endswith(".weight"):
        w = np.float32(1) + np.float32(0.1) * w
    else:
        w = np.float32(0.1) * w
    return torch.from_numpy(w)


def fill_by_rule(model: VDPM) -> VDPM:
    model.load_state_dict({name: rule_weight(name, tensor.shape) for name, tensor in model.state_dict().items()})
    return model.eval()

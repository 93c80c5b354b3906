"""Our point head: fused tokens and the conv stem's finer maps, upsampled step by step; shared by P and Q."""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vdpm.model.config import VDPMConfig
from vdpm.model.layers import AdaptiveNorm, image_plane
from vdpm.model.patch_encoder import PlaneEmbedding, ResidualConv
from vdpm.model.point_map import PointMaps, activate_point_map, last_layer

SCENE_DEPTH_INIT = 0.6
"""Bias of z before its activation: exp(0.6) - 1 = 0.82, about the depth of a scene of unit mean distance."""


class _DoubleSize(torch.autograd.Function):
    """Bilinear enlargement by two whose gradient gathers: that of ``interpolate`` scatters atomically, and forward and
    backward pass then took ten times as long (20.8 against 2.1 ms for 480 maps of 48 x 56 x 84, on an H200).

    The gradient is written with channels last, as it lies in memory: the compiler otherwise writes the other order,
    reads across the lines of memory, and takes a fifth of a training step for it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x = gradients[0].permute(0, 2, 3, 1)
        for axis in (1, 2):
            # Entry i went to 2i - 1, 2i, 2i + 1, 2i + 2; the first and the last stood for those beyond the edge, too.
            count = x.shape[axis]
            low = torch.arange(-1, count - 1, 2, device=x.device).clamp(min=0)
            high = torch.arange(2, count + 2, 2, device=x.device).clamp(max=count - 1)
            near = x.unflatten(axis, (-1, 2)).sum(axis + 1)
            x = 0.75 * near + 0.25 * (x.index_select(axis, low) + x.index_select(axis, high))
        return x.permute(0, 3, 1, 2)


def double_size(x: Float[Tensor, "maps channels height width"]) -> Float[Tensor, "maps channels height2 width2"]:
    """Bilinear enlargement by two, corners not aligned."""
    return _DoubleSize.apply(x)


class UpStage(nn.Module):
    """One step from coarse to fine: narrow, double the size, add the stem's map of that size, one residual unit."""

    def __init__(self, coarse: int, skip: int, fine: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(coarse, fine, 1)
        self.skip = nn.Conv2d(skip, fine, 1)
        self.unit = ResidualConv(fine)

    def forward(self, x: Tensor, skip: Tensor, targets: int) -> Tensor:
        """``x`` holds (batch targets frames) maps, ``targets`` for each of ``skip`` [batch, frames, c, h, w]."""
        batch, frames = skip.shape[:2]
        detail = self.skip(skip.flatten(0, 1))
        x = double_size(self.narrow(x))
        if targets > 1:
            detail = detail.unflatten(0, (batch, 1, frames)).expand(-1, targets, -1, -1, -1, -1).flatten(0, 2)
        return self.unit(x + detail)


class ConvHead(nn.Module):
    """Tokens at stride 8 -> 4 -> 2 -> full size, with the image plane's coordinates added at strides 8 and 2.

    ``conditioned``: its LayerNorm is adaptive, steered by a condition for each target.
    """

    def __init__(self, config: VDPMConfig, *, conditioned: bool = False) -> None:
        super().__init__()
        coarse, quarter, half, full = config.head_channels
        self.special_tokens = config.special_tokens
        self.norm: nn.Module = (AdaptiveNorm if conditioned else nn.LayerNorm)(config.decoder_dim)
        self.proj = nn.Linear(config.decoder_dim, coarse)
        self.position8 = PlaneEmbedding(coarse)
        self.unit8 = ResidualConv(coarse)
        self.stage4 = UpStage(coarse, config.stem_channels[1], quarter)
        self.stage2 = UpStage(quarter, config.stem_channels[0], half)
        self.position2 = PlaneEmbedding(half)
        self.conv = nn.Conv2d(half, full, 3, padding=1)
        self.last = nn.Conv2d(full, 4, 1)
        if config.init == "scratch":
            with torch.no_grad():
                assert self.last.bias is not None
                self.last.bias.zero_()
                self.last.bias[2] = SCENE_DEPTH_INIT

    def forward(
        self,
        taps: tuple[Float[Tensor, "batch targets frames tokens channels"], ...],
        skips: tuple[Tensor, ...],
        grid: tuple[int, int],
        size: tuple[int, int],
        condition: Float[Tensor, "batch targets channels"] | None = None,
    ) -> PointMaps:
        """Maps [batch, targets, frames, height, width] of ``size`` (h, w). ``skips``: maps at strides 2 and 4."""
        (tokens,) = taps
        leading = tokens.shape[:3]
        patches = tokens[..., self.special_tokens :, :]
        normed = self.norm(patches) if condition is None else self.norm(patches, condition[:, :, None, None])
        patches = self.proj(normed.flatten(0, 2)).unflatten(1, grid)
        # Channels stand last in memory from here to the end, as tensor cores want them.
        x = (patches + self.position8(image_plane(grid, size, tokens.device))).permute(0, 3, 1, 2)
        x = self.unit8(x)
        x = self.stage4(x, skips[1], leading[1])
        x = self.stage2(x, skips[0], leading[1])
        position = self.position2(image_plane((x.shape[-2], x.shape[-1]), size, x.device)).permute(2, 0, 1)
        x = double_size(x + position)
        raw = last_layer(F.gelu(self.conv(x)), self.last)
        return activate_point_map(raw.unflatten(0, leading))

"""Pairwise dynamic point maps (DPM, Sec. 3.1 of the paper): two frames, four maps, no wanted time.

With two frames the time other than a frame's own is the other frame's. So P_0(t_0), P_1(t_1) come from the point head
as ever, and P_0(t_1), P_1(t_0) from plain blocks and a head of their own: as many layers as the time-conditioned
decoder has, so that parameters and compute are comparable.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vdpm.model.config import VDPMConfig
from vdpm.model.conv_head import ConvHead
from vdpm.model.decoder import AlternatingBlocks, plain_block
from vdpm.model.dpt_head import DPTHead
from vdpm.model.layers import Block, init_linear
from vdpm.model.point_map import PointMaps


class PairDecoder(AlternatingBlocks):
    """Alternating attention over both frames, and the head for each frame's points at the other's time."""

    def __init__(self, config: VDPMConfig) -> None:
        super().__init__(config, lambda: plain_block(config))
        for block in self.modules():
            if isinstance(block, Block):
                init_linear(block)
        self.head: nn.Module = (DPTHead if config.head == "dpt" else ConvHead)(config)

    def forward(
        self, taps: tuple[Float[Tensor, "batch frames tokens channels"], ...], grid: tuple[int, int]
    ) -> tuple[Float[Tensor, "batch 1 frames tokens channels"], ...]:
        """Each tap moved to the time of the other frame."""
        return self.run_pairs(torch.stack(taps)[:, :, None], grid).unbind(0)


def at_targets(
    own: PointMaps, other: PointMaps, targets: Int[Tensor, "batch targets"], sources: Int[Tensor, "sources"]
) -> PointMaps:
    """Maps [batch, targets, sources, h, w]: of ``own`` where the target is the source's own time, else of ``other``.

    ``own``, ``other``: maps [batch, sources, h, w] of the frames ``sources`` (0 or 1).
    """
    is_own = targets[:, :, None, None, None] == sources[:, None, None]
    return PointMaps(
        torch.where(is_own[..., None], own.points[:, None], other.points[:, None]),
        torch.where(is_own, own.confidence[:, None], other.confidence[:, None]),
    )

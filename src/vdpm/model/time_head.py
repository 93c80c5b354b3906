"""The paper's variant *DPT decoder* (supplement, Sec. 7): no decoder, a second point head steered by the time token."""

from typing import NamedTuple

from jaxtyping import Float, Int
from torch import Tensor, nn

from vdpm.model.config import VDPMConfig
from vdpm.model.conv_head import ConvHead
from vdpm.model.decoder import condition_projection, marked, target_mark
from vdpm.model.dpt_head import DPTHead


class HeadInput(NamedTuple):
    """What the conditioned head reads: taps repeated for each target, and the targets' conditions."""

    taps: tuple[Float[Tensor, "batch targets frames tokens channels"], ...]
    condition: Float[Tensor, "batch targets channels"]


class TimeConditionedHead(nn.Module):
    """A point head of its own for Q, of the kind and size of the one for P, whose LayerNorm the time token modulates.

    It sees one frame at a time: what moves where must stand in the backbone's tokens already.
    """

    checkpoint_blocks = False

    def __init__(self, config: VDPMConfig) -> None:
        super().__init__()
        self.condition = condition_projection(config)
        if config.mark_target:
            self.target_mark = target_mark(config.decoder_dim)
        head = DPTHead if config.head == "dpt" else ConvHead
        self.head: nn.Module = head(config, conditioned=True)
        self.marks = config.mark_target

    def forward(
        self,
        taps: tuple[Float[Tensor, "batch frames tokens channels"], ...],
        time_tokens: Float[Tensor, "batch targets condition"],
        target_frames: Int[Tensor, "batch targets"],
    ) -> HeadInput:
        """Taps and conditions for ``head``; ``time_tokens`` are those of the frames ``target_frames``."""
        repeated = tuple(tap[:, None].expand(-1, time_tokens.shape[1], -1, -1, -1) for tap in taps)
        if self.marks:
            repeated = tuple(marked(tap, self.target_mark, target_frames) for tap in repeated)
        return HeadInput(repeated, self.condition(time_tokens))

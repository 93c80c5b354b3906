"""The time-conditioned decoder (Fig. 4): moves the scene of every frame to one chosen time."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vdpm.model.config import VDPMConfig
from vdpm.model.layers import Block, ConditionedBlock, RotaryTable, init_linear, rotary_table


class AlternatingBlocks(nn.Module):
    """``decoder_pairs`` pairs of frame and global attention over taps, each tap as a sequence of its own."""

    checkpoint_blocks = False

    def __init__(self, config: VDPMConfig, block: Callable[[], Block | ConditionedBlock]) -> None:
        super().__init__()
        self.config = config
        # The released names hold one more level: decoder.frame_blocks.0.K
        self.frame_blocks = nn.ModuleList([nn.ModuleList(block() for _ in range(config.decoder_pairs))])
        self.global_blocks = nn.ModuleList([nn.ModuleList(block() for _ in range(config.decoder_pairs))])

    def rotary(self, grid: tuple[int, int], device: torch.device) -> RotaryTable:
        """The table of one frame of ``grid`` (rows, columns) patches, for the decoder's width of a head."""
        config = self.config
        head_dim = config.decoder_dim // config.decoder_heads
        return rotary_table(grid, config.special_tokens, head_dim, config.rope_frequency, device)

    def run_pairs(
        self, x: Float[Tensor, "*clips frames tokens channels"], grid: tuple[int, int], *condition: Tensor
    ) -> Float[Tensor, "*clips frames tokens channels"]:
        """Frame block and global block in turn; ``condition``, where blocks take one, has a row for every frame."""
        frames, tokens, channels = x.shape[-3:]
        shape = x.shape
        frame_rotary = self.rotary(grid, x.device)
        global_rotary = frame_rotary.repeat(frames)
        for pair in range(self.config.decoder_pairs):
            frame_block = self.get_submodule(f"frame_blocks.0.{pair}")
            global_block = self.get_submodule(f"global_blocks.0.{pair}")
            x = self._run(frame_block, x.reshape(-1, tokens, channels), frame_rotary, *condition)
            x = self._run(global_block, x.reshape(-1, frames * tokens, channels), global_rotary, *condition)
        return x.reshape(shape)

    def _run(self, block: nn.Module, x: Tensor, rotary: RotaryTable, *condition: Tensor) -> Tensor:
        if self.checkpoint_blocks and torch.is_grad_enabled():
            return checkpoint(block, x, rotary, *condition, use_reentrant=False)
        return block(x, rotary, *condition)


class TimeConditionedDecoder(AlternatingBlocks):
    """Alternating attention steered by the backbone's time token of the wanted time.

    The token modulates the blocks' LayerNorm and gate (``time_conditioning="adaln"``, Fig. 4) or is added to the input
    of plain blocks ("add", the variant *Addition conditioning* of the paper's supplement).
    """

    def __init__(self, config: VDPMConfig) -> None:
        super().__init__(config, lambda: plain_block(config) if config.time_conditioning == "add" else _block(config))
        dim = config.decoder_dim
        self.condition = condition_projection(config)
        if config.mark_target:
            self.target_mark = target_mark(dim)
        for block in self.modules():
            if isinstance(block, Block | ConditionedBlock):
                init_linear(block.attn)
                init_linear(block.mlp)
            if isinstance(block, ConditionedBlock) and config.init == "scratch":
                # A default gate is near zero of random sign; one starts each block as a plain pre-norm block.
                nn.init.trunc_normal_(block.modulation.lin.weight, std=0.02)
                with torch.no_grad():
                    block.modulation.lin.bias.zero_()
                    block.modulation.lin.bias[2 * dim :] = 1.0

    def forward(
        self,
        taps: tuple[Float[Tensor, "batch frames tokens channels"], ...],
        time_tokens: Float[Tensor, "batch targets condition"],
        target_frames: Int[Tensor, "batch targets"],
        grid: tuple[int, int],
    ) -> tuple[Float[Tensor, "batch targets frames tokens channels"], ...]:
        """Each tap, as a sequence of its own, decoded to each target's time; the condition is never updated.

        ``time_tokens`` are those of the frames ``target_frames``.
        """
        frames = taps[0].shape[1]
        condition = self.condition(time_tokens)
        x = torch.stack([tap[:, None].expand(-1, time_tokens.shape[1], -1, -1, -1) for tap in taps])
        if self.config.mark_target:
            x = marked(x, self.target_mark, target_frames)
        if self.config.time_conditioning == "add":
            return self.run_pairs(x + condition[:, :, None, None].to(x.dtype), grid).unbind(0)
        # One row for each frame, the same for all frames of a target.
        rows = condition[None, :, :, None].expand(len(taps), -1, -1, frames, -1).flatten(0, 3)
        return self.run_pairs(x, grid, rows).unbind(0)


def _block(config: VDPMConfig) -> ConditionedBlock:
    return ConditionedBlock(
        config.decoder_dim,
        config.decoder_heads,
        mlp_ratio=config.decoder_mlp_ratio,
        layer_scale_init=config.layer_scale_init,
    )


def plain_block(config: VDPMConfig) -> Block:
    """A block of the decoder's sizes without a condition."""
    return Block(
        config.decoder_dim,
        config.decoder_heads,
        mlp_ratio=config.decoder_mlp_ratio,
        qk_norm=True,
        layer_scale_init=config.layer_scale_init,
    )


def condition_projection(config: VDPMConfig) -> nn.Module:
    """Time token -> condition: as it is where the widths agree (the released network), else normed and projected."""
    if config.decoder_dim == config.tap_dim:
        return nn.Identity()
    return nn.Sequential(nn.LayerNorm(config.tap_dim), nn.Linear(config.tap_dim, config.decoder_dim))


def target_mark(dim: int) -> nn.Parameter:
    """The learned vector that ``marked`` adds, drawn anew."""
    mark = nn.Parameter(torch.empty(dim))
    nn.init.normal_(mark, std=0.5)
    return mark


def marked(
    x: Float[Tensor, "*taps batch targets frames tokens channels"],
    mark: Float[Tensor, "channels"],
    target_frames: Int[Tensor, "batch targets"],
) -> Float[Tensor, "*taps batch targets frames tokens channels"]:
    """``x`` with ``mark`` added to all tokens of each target's own frame."""
    is_target = torch.arange(x.shape[-3], device=x.device) == target_frames[:, :, None]
    return x + is_target[..., None, None].to(x.dtype) * mark.to(x.dtype)

"""The time-conditioned decoder (Fig. 4): moves the scene of every frame to one chosen time."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vdpm.model.config import VDPMConfig
from vdpm.model.layers import ConditionedBlock, RotaryTable, init_linear, rotary_table


class TimeConditionedDecoder(nn.Module):
    """Pairs of frame and global attention, modulated by the backbone's time token of the wanted time."""

    checkpoint_blocks = False

    def __init__(self, config: VDPMConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.decoder_dim
        # The released names hold one more level: decoder.frame_blocks.0.K
        self.frame_blocks = nn.ModuleList([self._blocks()])
        self.global_blocks = nn.ModuleList([self._blocks()])
        self.condition: nn.Module = (
            nn.Identity()
            if dim == config.tap_dim
            else nn.Sequential(nn.LayerNorm(config.tap_dim), nn.Linear(config.tap_dim, dim))
        )
        if config.mark_target:
            self.target_mark = nn.Parameter(torch.empty(dim))
            nn.init.normal_(self.target_mark, std=0.5)
        for block in self.modules():
            if isinstance(block, ConditionedBlock):
                init_linear(block.attn)
                init_linear(block.mlp)
                if config.init == "scratch":
                    # A default gate is near zero of random sign; one starts each block as a plain pre-norm block.
                    nn.init.trunc_normal_(block.modulation.lin.weight, std=0.02)
                    with torch.no_grad():
                        block.modulation.lin.bias.zero_()
                        block.modulation.lin.bias[2 * dim :] = 1.0

    def _blocks(self) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList(
            ConditionedBlock(
                config.decoder_dim,
                config.decoder_heads,
                mlp_ratio=config.decoder_mlp_ratio,
                layer_scale_init=config.layer_scale_init,
            )
            for _ in range(config.decoder_pairs)
        )

    def rotary(self, grid: tuple[int, int], device: torch.device) -> RotaryTable:
        """The table of one frame of ``grid`` (rows, columns) patches, for the decoder's width of a head."""
        config = self.config
        head_dim = config.decoder_dim // config.decoder_heads
        return rotary_table(grid, config.special_tokens, head_dim, config.rope_frequency, device)

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
        batch, frames, tokens, channels = taps[0].shape
        targets = time_tokens.shape[1]
        condition = self.condition(time_tokens)
        # One row for each frame, the same for all frames of a target.
        condition = condition[None, :, :, None].expand(len(taps), -1, -1, frames, -1).flatten(0, 3)
        x = torch.stack([tap[:, None].expand(-1, targets, -1, -1, -1) for tap in taps])
        if self.config.mark_target:
            is_target = torch.arange(frames, device=x.device) == target_frames[:, :, None]
            x = x + is_target[..., None, None].to(x.dtype) * self.target_mark.to(x.dtype)
        frame_rotary = self.rotary(grid, x.device)
        global_rotary = frame_rotary.repeat(frames)
        for pair in range(self.config.decoder_pairs):
            frame_block = self.get_submodule(f"frame_blocks.0.{pair}")
            global_block = self.get_submodule(f"global_blocks.0.{pair}")
            x = self._run(frame_block, x.reshape(-1, tokens, channels), frame_rotary, condition)
            x = self._run(global_block, x.reshape(-1, frames * tokens, channels), global_rotary, condition)
        return x.reshape(len(taps), batch, targets, frames, tokens, channels).unbind(0)

    def _run(self, block: nn.Module, x: Tensor, rotary: RotaryTable, condition: Tensor) -> Tensor:
        if self.checkpoint_blocks and torch.is_grad_enabled():
            return checkpoint(block, x, rotary, condition, use_reentrant=False)
        return block(x, rotary, condition)

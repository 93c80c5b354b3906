"""The backbone (`aggregator`): special tokens, then pairs of frame and global attention; keeps tapped outputs only."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vdpm.model.config import VDPMConfig
from vdpm.model.layers import Block, RotaryTable, init_linear, rotary_table
from vdpm.model.patch_encoder import ConvStem, VisionTransformer, normalize_images

CAMERA_TOKEN, TIME_TOKEN = 0, 1


class BackboneFeatures(NamedTuple):
    """Outputs of pairs, frame block's and global block's side by side (2 dim channels), frames in given order."""

    taps: tuple[Float[Tensor, "batch frames tokens channels"], ...]
    last: Float[Tensor, "batch frames 2 channels"]
    match: Float[Tensor, "batch frames patches channels"] | None
    skips: tuple[Tensor, ...]


class Backbone(nn.Module):
    """Alternating-attention transformer over the tokens of all frames of a clip (Fig. 2)."""

    checkpoint_blocks = False

    def __init__(self, config: VDPMConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.patch_embed: VisionTransformer | ConvStem = (
            VisionTransformer(config) if config.patch_encoder == "dinov2" else ConvStem(config)
        )
        # Of each learned pair, the first version is the reference view's, the second every other frame's.
        self.camera_token = nn.Parameter(torch.zeros(1, 2, 1, dim))
        self.register_token = nn.Parameter(torch.zeros(1, 2, config.registers, dim))
        self.time_conditioning_token = nn.Parameter(torch.zeros(1, 1, dim))

        self.frame_blocks, self.global_blocks = self._blocks(), self._blocks()
        init_linear(self.frame_blocks)
        init_linear(self.global_blocks)
        deviation = 1e-6 if config.init == "released" else 0.02
        nn.init.normal_(self.camera_token, std=deviation)
        nn.init.normal_(self.register_token, std=deviation)
        nn.init.normal_(self.time_conditioning_token)

    def _blocks(self) -> nn.ModuleList:
        config = self.config
        return nn.ModuleList(
            Block(
                config.dim,
                config.heads,
                mlp_ratio=config.mlp_ratio,
                qk_norm=True,
                layer_scale_init=config.layer_scale_init,
            )
            for _ in range(config.pairs)
        )

    def rotary(self, grid: tuple[int, int], device: torch.device) -> RotaryTable:
        """The table of one frame of ``grid`` (rows, columns) patches."""
        config = self.config
        return rotary_table(grid, config.special_tokens, config.dim // config.heads, config.rope_frequency, device)

    def special_tokens(
        self, batch: int, frames: int, reference: int
    ) -> Float[Tensor, "batch frames specials channels"]:
        """Camera, time and register tokens of every frame, in this order."""
        version = [0 if frame == reference else 1 for frame in range(frames)]
        # Slices, not an index tensor: nothing to copy to the device.
        learned = torch.cat(
            [self.camera_token, self.time_conditioning_token[None].expand(-1, 2, -1, -1), self.register_token], 2
        )
        return torch.stack([learned[0, v] for v in version])[None].expand(batch, -1, -1, -1)

    def forward(self, images: Float[Tensor, "batch frames 3 height width"], reference: int) -> BackboneFeatures:
        """RGB in [0, 1] -> tapped features.

        Attention does not depend on the order of frames, so instead of moving the reference view to the front and back
        again it gets the first version of the special tokens where it stands.
        """
        config = self.config
        batch, frames = images.shape[:2]
        grid = (images.shape[-2] // config.patch_size, images.shape[-1] // config.patch_size)
        patches = self.patch_embed(normalize_images(images.flatten(0, 1)))
        specials = self.special_tokens(batch, frames, reference)
        x = torch.cat([specials.flatten(0, 1), patches.tokens], dim=1)
        tokens = x.shape[1]
        frame_rotary = self.rotary(grid, x.device)
        global_rotary = frame_rotary.repeat(frames)
        taps: list[Tensor] = []
        match = None
        for pair, (frame_block, global_block) in enumerate(zip(self.frame_blocks, self.global_blocks)):
            within = self._run(frame_block, x, frame_rotary)
            across = self._run(global_block, within.reshape(batch, frames * tokens, -1), global_rotary)
            x = across.reshape(batch * frames, tokens, -1)
            if pair in config.taps:
                taps.append(torch.cat([within, x], dim=-1).unflatten(0, (batch, frames)))
            if config.match_dim and pair == config.match_pair:
                patch_pair = torch.cat([within, x], dim=-1)[:, config.special_tokens :]
                match = patch_pair.unflatten(0, (batch, frames))
        last = torch.cat([within[:, :2], x[:, :2]], dim=-1).unflatten(0, (batch, frames))
        skips = tuple(skip.unflatten(0, (batch, frames)) for skip in patches.skips)
        return BackboneFeatures(tuple(taps), last, match, skips)

    def _run(self, block: nn.Module, x: Tensor, rotary: RotaryTable) -> Tensor:
        if self.checkpoint_blocks and torch.is_grad_enabled():
            return checkpoint(block, x, rotary, use_reentrant=False)
        return block(x, rotary)

"""Images to patch tokens: the DINOv2 vision transformer of the released network, and our convolutional stem."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vdpm.model.config import VDPMConfig
from vdpm.model.layers import Block, ImagePlane, image_plane, init_linear

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)
DINO_REGISTERS = 4


class PatchFeatures(NamedTuple):
    """Patch tokens row by row, and the finer maps a convolutional head may read (none from the transformer)."""

    tokens: Float[Tensor, "images patches channels"]
    skips: tuple[Tensor, ...]


def normalize_images(images: Float[Tensor, "*batch 3 height width"]) -> Float[Tensor, "*batch 3 height width"]:
    """RGB in [0, 1] to zero mean and unit deviation by ImageNet's statistics."""
    # Scalars instead of a constant tensor: nothing to copy to the device, so the call can be captured in a graph.
    channels = [
        (images[..., c, :, :] - mean) / deviation
        for c, (mean, deviation) in enumerate(zip(IMAGENET_MEAN, IMAGENET_DEVIATION))
    ]
    return torch.stack(channels, dim=-3)


class PatchProjection(nn.Module):
    """One linear map of the pixels of each patch."""

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        return self.proj(images).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """DINOv2 with registers: class token, registers, patches; LayerNorm epsilon 1e-6, no QK-norm, LayerScale."""

    checkpoint_blocks = False

    def __init__(self, config: VDPMConfig) -> None:
        super().__init__()
        self.grid = config.vit_image_size // config.patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid**2, config.dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, DINO_REGISTERS, config.dim))
        # DINOv2's pre-training alone reads the mask token; checkpoints hold it.
        self.mask_token = nn.Parameter(torch.zeros(1, config.dim), requires_grad=False)
        self.patch_embed = PatchProjection(config.patch_size, config.dim)
        self.blocks = nn.ModuleList(
            Block(config.dim, config.vit_heads, layer_scale_init=1.0, eps=1e-6) for _ in range(config.vit_depth)
        )
        self.norm = nn.LayerNorm(config.dim, eps=1e-6)
        init_linear(self)
        for parameter in (self.cls_token, self.register_tokens):
            nn.init.normal_(parameter, std=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.zeros_(self.mask_token)

    def position_embedding(self, grid: tuple[int, int]) -> Float[Tensor, "1 patches channels"]:
        """The learned grid resized to ``grid`` (rows, columns): bicubic, antialiased, to an exact size, in float32."""
        patches = self.pos_embed[:, 1:]
        if grid == (self.grid, self.grid):
            return patches
        square = patches.float().unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        if square.device.type == "mps":
            square = square.cpu()  # PyTorch 2.6 has no antialiased bicubic resize there
        resized = F.interpolate(square, size=grid, mode="bicubic", antialias=True, align_corners=False)
        return resized.flatten(2).transpose(1, 2).to(self.pos_embed)

    def forward(self, images: Float[Tensor, "images 3 height width"]) -> PatchFeatures:
        """Normalised images -> the final LayerNorm's patch tokens alone."""
        images = images.to(self.pos_embed.dtype)
        patch = self.patch_embed.proj.stride[0]
        patches = self.patch_embed(images)
        patches = patches + self.position_embedding((images.shape[-2] // patch, images.shape[-1] // patch))
        count = len(patches)
        # The first position embedding belongs to the class token; registers have none.
        cls_token = (self.cls_token + self.pos_embed[:, :1]).expand(count, -1, -1)
        x = torch.cat([cls_token, self.register_tokens.expand(count, -1, -1), patches], dim=1)
        for block in self.blocks:
            if self.checkpoint_blocks and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return PatchFeatures(self.norm(x)[:, 1 + DINO_REGISTERS :], ())


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each cell of a map [n, c, h, w]; free of copies on channels-last maps."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ResidualConv(nn.Module):
    """``x + conv(gelu(conv(norm(x))))`` with 3x3 convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.gelu(self.conv1(self.norm(x))))


class PlaneEmbedding(nn.Module):
    """A learned linear map of Fourier features of where a cell lies in the image plane: absolute position."""

    octaves = 6

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * (1 + 2 * self.octaves), dim)

    def features(self, plane: ImagePlane) -> Float[Tensor, "height width features"]:
        """(u, v) and sine and cosine of pi/2 * 2^i of each, i = 0 ... octaves - 1."""
        width, height = len(plane.u), len(plane.v)
        u, v = plane.u[None, :].expand(height, width), plane.v[:, None].expand(height, width)
        position = torch.stack([u, v], dim=-1)
        waves = torch.cat([position * (math.pi / 2 * 2**octave) for octave in range(self.octaves)], dim=-1)
        return torch.cat([position, waves.sin(), waves.cos()], dim=-1)

    def forward(self, plane: ImagePlane) -> Float[Tensor, "height width channels"]:
        return self.linear(self.features(plane).to(self.linear.weight.dtype))


class ConvStem(nn.Module):
    """Three strided convolutions to tokens of 8 x 8 pixels; its maps at strides 2 and 4 stay for the head.

    Each is followed by LayerNorm over channels and GELU; one residual unit works at stride 4, one at stride 8.
    """

    checkpoint_blocks = False

    def __init__(self, config: VDPMConfig) -> None:
        super().__init__()
        half, quarter, eighth = config.stem_channels
        self.conv1 = nn.Conv2d(3, half, 3, stride=2, padding=1)
        self.norm1 = ChannelNorm(half)
        self.conv2 = nn.Conv2d(half, quarter, 3, stride=2, padding=1)
        self.norm2 = ChannelNorm(quarter)
        self.unit2 = ResidualConv(quarter)
        self.conv3 = nn.Conv2d(quarter, eighth, 3, stride=2, padding=1)
        self.norm3 = ChannelNorm(eighth)
        self.unit3 = ResidualConv(eighth)
        self.proj = nn.Linear(eighth, config.dim)
        self.position = PlaneEmbedding(config.dim)

    def forward(self, images: Float[Tensor, "images 3 height width"]) -> PatchFeatures:
        """Normalised images -> tokens row by row, maps at strides 2 and 4."""
        size = (images.shape[-2], images.shape[-1])
        x = images.to(self.conv1.weight.dtype, memory_format=torch.channels_last)
        half = F.gelu(self.norm1(self.conv1(x)))
        quarter = self.unit2(F.gelu(self.norm2(self.conv2(half))))
        eighth = self.unit3(F.gelu(self.norm3(self.conv3(quarter))))
        position = self.position(image_plane((eighth.shape[-2], eighth.shape[-1]), size, images.device))
        tokens = self.proj(eighth.permute(0, 2, 3, 1)) + position
        return PatchFeatures(tokens.flatten(1, 2), (half, quarter))

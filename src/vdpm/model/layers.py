"""Attention, rotary embedding and the two transformer blocks every part of the network is made of."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class RotaryTable(NamedTuple):
    """Cosines and sines of the 2-D rotary embedding: the first axis of each token's entry is y, then x.

    Next to it the two quarters of channels that turn together, which have one cosine, and sines of opposite sign.
    """

    cos: Float[Tensor, "tokens 2 1 quarter"]
    sin: Float[Tensor, "tokens 2 2 quarter"]

    def repeat(self, frames: int) -> "RotaryTable":
        """The table of ``frames`` frames in a row: every frame has the same positions, in global attention too."""
        return RotaryTable(self.cos.repeat(frames, 1, 1, 1), self.sin.repeat(frames, 1, 1, 1))


def rotary_table(
    grid: tuple[int, int], special_tokens: int, head_dim: int, frequency: float, device: torch.device
) -> RotaryTable:
    """Float32 table of one frame: special tokens at (0, 0), then patches row by row, positions from 1.

    Half of a head's channels turn with y, half with x, by position * frequency^(-2k/half), k = 0 ... half/2 - 1.
    """
    height, width = grid
    half = head_dim // 2
    exponents = torch.arange(0, half, 2, device=device, dtype=torch.float32) / half
    inverse_wavelength = 1.0 / (frequency**exponents)
    y = torch.arange(1, height + 1, device=device, dtype=torch.float32)[:, None].expand(height, width)
    x = torch.arange(1, width + 1, device=device, dtype=torch.float32)[None, :].expand(height, width)
    positions = F.pad(torch.stack([y, x], dim=-1).reshape(height * width, 2), (0, 0, special_tokens, 0))
    angles = positions[:, :, None] * inverse_wavelength
    sin = angles.sin()
    return RotaryTable(angles.cos()[:, :, None], torch.stack([-sin, sin], dim=-2))


def apply_rotary(
    x: Float[Tensor, "batch heads tokens channels"], table: RotaryTable
) -> Float[Tensor, "batch heads tokens channels"]:
    """Turn channels by the token's position; inside a half, channel c pairs with c + half/2, not with its neighbour."""
    quarters = x.unflatten(-1, (2, 2, -1))
    # Each quarter meets its partner by a roll, not by stacking: compiled, that is one pass over the channels.
    return torch.addcmul(quarters * table.cos, quarters.roll(1, -2), table.sin).flatten(-3)


class Attention(nn.Module):
    """Multi-head self-attention; QKV rows are ordered (q/k/v, head, channel); q and k are normalised, then rotated."""

    def __init__(self, dim: int, heads: int, qk_norm: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm: nn.Module = nn.LayerNorm(dim // heads) if qk_norm else nn.Identity()
        self.k_norm: nn.Module = nn.LayerNorm(dim // heads) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, rotary: RotaryTable | None = None) -> Tensor:
        """Attend within each row of ``x`` [batch, tokens, channels]."""
        batch, tokens, channels = x.shape
        # Taken apart as they lie in memory: so their gradients are put together without being copied once more.
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, channels // self.heads)
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        q, k = self.q_norm(q), self.k_norm(k)
        if rotary is not None:
            # One after the other: the table is float32, and so is what is turned until attention's type replaces it.
            q = apply_rotary(q, rotary).to(v.dtype)
            k = apply_rotary(k, rotary).to(v.dtype)
        # Under autocast LayerNorm gives float32; attention runs in the values' type.
        attended = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v)
        return self.proj(attended.transpose(1, 2).reshape(batch, tokens, channels))


class Mlp(nn.Module):
    """Linear, exact GELU, Linear."""

    def __init__(self, dim: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim if out is None else out)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class LayerScale(nn.Module):
    """A learned factor for each channel of a residual branch."""

    def __init__(self, dim: int, init: float) -> None:
        super().__init__()
        self.init = init
        self.gamma = nn.Parameter(torch.full((dim,), init))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def layer_scale(dim: int, init: float | None) -> nn.Module:
    """LayerScale, or nothing where ``init`` is None."""
    return nn.Identity() if init is None else LayerScale(dim, init)


class Block(nn.Module):
    """Pre-norm transformer block: ``x += ls1(attention(norm1(x)))``, ``x += ls2(mlp(norm2(x)))``."""

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        mlp_ratio: float = 4.0,
        qk_norm: bool = False,
        layer_scale_init: float | None = 0.01,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = Attention(dim, heads, qk_norm)
        self.ls1 = layer_scale(dim, layer_scale_init)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.ls2 = layer_scale(dim, layer_scale_init)

    def forward(self, x: Tensor, rotary: RotaryTable | None = None) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x), rotary))
        return x + self.ls2(self.mlp(self.norm2(x)))


class ModulationSignal(NamedTuple):
    """What adaptive LayerNorm does to a sequence: ``gate * branch((1 + scale) * norm(x) + shift)``."""

    shift: Tensor
    scale: Tensor
    gate: Tensor


class Modulation(nn.Module):
    """(shift, scale, gate) = Linear(SiLU(condition)), one triple for each row of the batch."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lin = nn.Linear(dim, 3 * dim)

    def forward(self, condition: Tensor, batch: int) -> ModulationSignal:
        """``condition`` [batch * m, channels], rows equal by m -> three [batch, 1, channels]."""
        rows = self.lin(F.silu(condition)).unflatten(0, (batch, -1))
        return ModulationSignal(*rows[:, :1].chunk(3, dim=-1))


class AdaptiveNorm(nn.Module):
    """LayerNorm whose scale and shift come from a condition: ``(1 + scale) * norm(x) + shift``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)
        self.lin = nn.Linear(dim, 2 * dim)
        init_linear(self.lin)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """``x`` [*leading, channels]; ``condition`` has the same axes, of length one where it is shared."""
        scale, shift = self.lin(F.silu(condition)).chunk(2, dim=-1)
        return (1 + scale) * self.norm(x) + shift


class ConditionedBlock(nn.Module):
    """Block of the time-conditioned decoder (Fig. 4): AdaLN on the attention branch, LayerScale on the MLP."""

    def __init__(self, dim: int, heads: int, *, mlp_ratio: float, layer_scale_init: float | None) -> None:
        super().__init__()
        self.modulation = Modulation(dim)
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False)
        self.attn = Attention(dim, heads, qk_norm=True)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.ls2 = layer_scale(dim, layer_scale_init)

    def forward(self, x: Tensor, rotary: RotaryTable, condition: Tensor) -> Tensor:
        """``x`` [batch, tokens, channels]; ``condition`` [batch * m, channels], m equal rows for each row of ``x``.

        In global attention m is the number of frames: a product of as many rows as the released code's rounds alike.
        """
        signal = self.modulation(condition, x.shape[0])
        x = x + signal.gate * self.attn((1 + signal.scale) * self.norm1(x) + signal.shift, rotary)
        return x + self.ls2(self.mlp(self.norm2(x)))


class ImagePlane(NamedTuple):
    """Coordinates of the cells of a map, centred on the image and scaled so that the image's half diagonal is 1."""

    u: Float[Tensor, "width"]
    v: Float[Tensor, "height"]


def image_plane(cells: tuple[int, int], image_size: tuple[int, int], device: torch.device) -> ImagePlane:
    """Cell centres for a map of ``cells`` (h, w) over an image of ``image_size`` (h, w): within +-(a/d), +-(1/d).

    a is the aspect width / height and d = sqrt(1 + a^2).
    """
    height, width = cells
    aspect = image_size[1] / image_size[0]
    diagonal = math.sqrt(1 + aspect**2)
    reach_u, reach_v = aspect / diagonal * (width - 1) / width, (height - 1) / height / diagonal
    return ImagePlane(
        torch.linspace(-reach_u, reach_u, width, device=device),
        torch.linspace(-reach_v, reach_v, height, device=device),
    )


def init_linear(module: nn.Module) -> None:
    """Weights of every Linear inside from a truncated normal of deviation 0.02, biases zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            nn.init.zeros_(part.bias)

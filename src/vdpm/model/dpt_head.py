"""The released point head: a dense prediction transformer head (DPT) over four taps, shared by P and Q."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vdpm.model.config import VDPMConfig
from vdpm.model.layers import AdaptiveNorm, ImagePlane, image_plane
from vdpm.model.point_map import PointMaps, activate_point_map, last_layer

POSITION_WEIGHT = 0.1
POSITION_FREQUENCY = 100.0


def sincos_position(plane: ImagePlane, channels: int) -> Float[Tensor, "channels height width"]:
    """[sin(u w), cos(u w), sin(v w), cos(v w)] with w_i = 100^(-i/(C/4)), i = 0 ... C/4 - 1."""
    quarter = channels // 4
    device = plane.u.device
    # As the released code: double precision where the device has it, then rounded.
    precision = torch.float32 if device.type == "mps" else torch.float64
    order = torch.arange(quarter, device=device, dtype=precision) / quarter
    frequencies = (1.0 / POSITION_FREQUENCY**order)[:, None]
    width, height = len(plane.u), len(plane.v)
    u, v = frequencies * plane.u, frequencies * plane.v
    along_x = torch.cat([u.sin(), u.cos()])[:, None, :].expand(-1, height, -1)
    along_y = torch.cat([v.sin(), v.cos()])[:, :, None].expand(-1, -1, width)
    return torch.cat([along_x, along_y]).float()


def enlarge(
    x: Float[Tensor, "maps channels height width"], size: tuple[int, int]
) -> Float[Tensor, "maps channels h w"]:
    """Bilinear resize to ``size`` (h, w), corners aligned.

    With gradients it is written as two matrix products: the gradient of ``interpolate`` scatters atomically, tens of
    times slower than a product on tensor cores. Channels stand last in memory on the way, as convolutions want them.
    """
    if not torch.is_grad_enabled():
        return F.interpolate(x, size=size, mode="bilinear", align_corners=True)
    rows, columns = (_bilinear(x.shape[axis], count, x.device) for axis, count in ((-2, size[0]), (-1, size[1])))
    last = x.permute(0, 2, 3, 1)
    wide = torch.matmul(columns, last.flatten(0, 1)).unflatten(0, last.shape[:2])
    high = torch.matmul(rows, wide.flatten(2)).unflatten(-1, wide.shape[2:])
    return high.permute(0, 3, 1, 2)


def _bilinear(count: int, wanted: int, device: torch.device) -> Float[Tensor, "wanted count"]:
    """Weights of the linear interpolation of ``count`` values at ``wanted`` places, corners aligned."""
    places = torch.arange(wanted, device=device) * ((count - 1) / max(wanted - 1, 1))
    return F.relu(1 - (places[:, None] - torch.arange(count, device=device)).abs())


class ResidualUnit(nn.Module):
    """ReLU, convolution, ReLU, convolution, plus the input after its ReLU.

    The released weights were trained with a ReLU that worked in place, so what is added back is ReLU(x), not x.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        return self.conv2(F.relu(self.conv1(x))) + x


class FusionBlock(nn.Module):
    """``unit2(path + unit1(skip))``, upsampled with aligned corners, 1x1 convolution; the coarsest has no skip."""

    def __init__(self, channels: int, coarsest: bool) -> None:
        super().__init__()
        if not coarsest:
            self.resConfUnit1 = ResidualUnit(channels)
        self.resConfUnit2 = ResidualUnit(channels)
        self.out_conv = nn.Conv2d(channels, channels, 1)

    def forward(self, path: Tensor, skip: Tensor | None, size: tuple[int, int]) -> Tensor:
        if skip is not None:
            path = path + self.resConfUnit1(skip)
        path = enlarge(self.resConfUnit2(path), size)
        return self.out_conv(path)


class FusionNetwork(nn.Module):
    """The convolutions after the projections; its names are the released checkpoint's."""

    def __init__(self, channels: tuple[int, ...], features: int) -> None:
        super().__init__()
        self.layer1_rn = nn.Conv2d(channels[0], features, 3, padding=1, bias=False)
        self.layer2_rn = nn.Conv2d(channels[1], features, 3, padding=1, bias=False)
        self.layer3_rn = nn.Conv2d(channels[2], features, 3, padding=1, bias=False)
        self.layer4_rn = nn.Conv2d(channels[3], features, 3, padding=1, bias=False)
        self.refinenet1 = FusionBlock(features, coarsest=False)
        self.refinenet2 = FusionBlock(features, coarsest=False)
        self.refinenet3 = FusionBlock(features, coarsest=False)
        self.refinenet4 = FusionBlock(features, coarsest=True)
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.output_conv2 = nn.Sequential(nn.Conv2d(features // 2, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 4, 1))

    @property
    def last(self) -> nn.Conv2d:
        """The 1x1 convolution to four channels."""
        layer = self.output_conv2[2]
        assert isinstance(layer, nn.Conv2d)
        return layer

    def before_last(self, x: Tensor) -> Tensor:
        """Full-size map -> the 32 channels that ``last`` reads."""
        return self.output_conv2[:2](x)

    def forward(self, maps: list[Tensor]) -> Float[Tensor, "maps channels height width"]:
        """Four maps, finest first -> one at twice the finest's size."""
        first, second = self.layer1_rn(maps[0]), self.layer2_rn(maps[1])
        third, fourth = self.layer3_rn(maps[2]), self.layer4_rn(maps[3])
        path = self.refinenet4(fourth, None, _size(third))
        path = self.refinenet3(path, third, _size(second))
        path = self.refinenet2(path, second, _size(first))
        path = self.refinenet1(path, first, (2 * first.shape[-2], 2 * first.shape[-1]))
        return self.output_conv1(path)


class DPTHead(nn.Module):
    """Patch tokens of four taps -> points and confidence of every pixel.

    ``conditioned``: its LayerNorm is adaptive, steered by a condition for each target.
    """

    def __init__(self, config: VDPMConfig, *, conditioned: bool = False) -> None:
        super().__init__()
        widths = config.head_channels
        self.special_tokens = config.special_tokens
        self.norm: nn.Module = (AdaptiveNorm if conditioned else nn.LayerNorm)(config.decoder_dim)
        self.projects = nn.ModuleList(nn.Conv2d(config.decoder_dim, width, 1) for width in widths)
        self.resize_layers = nn.ModuleList(
            [
                nn.ConvTranspose2d(widths[0], widths[0], 4, stride=4),
                nn.ConvTranspose2d(widths[1], widths[1], 2, stride=2),
                nn.Identity(),
                nn.Conv2d(widths[3], widths[3], 3, stride=2, padding=1),
            ]
        )
        self.scratch = FusionNetwork(widths, config.head_features)

    def forward(
        self,
        taps: tuple[Float[Tensor, "batch targets frames tokens channels"], ...],
        skips: tuple[Tensor, ...],
        grid: tuple[int, int],
        size: tuple[int, int],
        condition: Float[Tensor, "batch targets channels"] | None = None,
    ) -> PointMaps:
        """Maps [batch, targets, frames, height, width] of ``size`` (h, w); ``grid`` counts patches. Reads no skips."""
        leading = taps[0].shape[:3]
        maps: list[Tensor] = []
        for tap, project, resize in zip(taps, self.projects, self.resize_layers):
            patches = tap[..., self.special_tokens :, :]
            normed = self.norm(patches) if condition is None else self.norm(patches, condition[:, :, None, None])
            tokens = normed.flatten(0, 2).transpose(1, 2).unflatten(-1, grid)
            maps.append(resize(add_position(project(tokens), size)))
        full = enlarge(self.scratch(maps), size)
        raw = last_layer(self.scratch.before_last(add_position(full, size)), self.scratch.last)
        return activate_point_map(raw.unflatten(0, leading))


def add_position(x: Tensor, image_size: tuple[int, int]) -> Tensor:
    """``x`` [maps, channels, h, w] plus 0.1 times the position embedding of its cells."""
    plane = image_plane(_size(x), image_size, x.device)
    return x + (POSITION_WEIGHT * sincos_position(plane, x.shape[1])).to(x.dtype)


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[-2], x.shape[-1]

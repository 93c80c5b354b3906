"""From the last layer's four channels to points and confidence; what both point heads share."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class PointMaps(NamedTuple):
    """Points in the world of pi_0 and confidence (>= 1) for every pixel, float32. Leading axes as the call says."""

    points: Float[Tensor, "*batch height width 3"]
    confidence: Float[Tensor, "*batch height width"]


def activate_point_map(raw: Float[Tensor, "*batch height width 4"]) -> PointMaps:
    """``sign(y) (exp|y| - 1)`` for the three coordinates, ``1 + exp(y)`` for the confidence, in float32."""
    raw = raw.float()
    coordinates = raw[..., :3]
    return PointMaps(coordinates.sign() * torch.expm1(coordinates.abs()), 1 + raw[..., 3].exp())


def last_layer(features: Float[Tensor, "maps channels height width"], layer: nn.Conv2d) -> Float[Tensor, "maps h w 4"]:
    """The 1x1 convolution to four channels, in float32 whatever the rest runs in: an exponential follows."""
    with torch.autocast(features.device.type, enabled=False):
        weight, bias = layer.weight.float(), layer.bias
        raw = F.conv2d(features.float(), weight, None if bias is None else bias.float())
    return raw.permute(0, 2, 3, 1)

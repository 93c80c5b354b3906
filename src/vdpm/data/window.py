"""A part of a picture brought to another size, and what becomes of its maps: the way from a data set to a batch.

Colours are mixed (bicubic, antialiased, as where the network reads videos). Points are never mixed: each pixel of the
new picture takes over one pixel of the old one, with its depth, its motion and all else.
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor

Size = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """``left``, ``top``, ``width``, ``height``: the part, in pixels of the picture; ``size``: (height, width) of the
    result. Positions (x, y) have pixel centres at +0.5 on both sides."""

    left: float
    top: float
    width: float
    height: float
    size: Size

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the result in one of the picture, along x and y."""
        return self.size[1] / self.width, self.size[0] / self.height

    @property
    def spare(self) -> int:
        """By how much the picture may be made smaller before this part of it is taken: a power of two, 8 at most, that
        leaves twice the pixels, along each side, that the result needs (Pillow's own rule for JPEG files)."""
        most = 1 / (2 * max(self.scale))
        return next((factor for factor in (8, 4, 2) if factor <= most), 1)

    def coarser(self, factor: float) -> "Window":
        """The same part of a picture that is smaller by ``factor``."""
        return Window(self.left / factor, self.top / factor, self.width / factor, self.height / factor, self.size)

    def intrinsics(self, k: Float[Tensor, "3 3"]) -> Float[Tensor, "3 3"]:
        """Those of the picture -> those of the result."""
        along_x, along_y = self.scale
        moved = k.clone()
        moved[:2, 2] -= k.new_tensor([self.left, self.top])
        moved[0] *= along_x
        moved[1] *= along_y
        return moved

    def picture(self, image: UInt8[Tensor, "height width 3"]) -> UInt8[Tensor, "rows columns 3"]:
        """The part of the picture in its new size."""
        box = (self.left, self.top, self.left + self.width, self.top + self.height)
        source = Image.fromarray(image.numpy())
        # Pillow refuses boxes that stick out by rounding.
        box = (max(0.0, box[0]), max(0.0, box[1]), min(box[2], float(source.width)), min(box[3], float(source.height)))
        resized = source.resize((self.size[1], self.size[0]), Image.Resampling.BICUBIC, box=box)
        return torch.from_numpy(np.array(resized))

    def sources(self, size: Size) -> Int[Tensor, "rows columns"]:
        """For each pixel of the result the pixel of a picture of ``size`` that its centre lies in, numbered by rows."""
        along_x, along_y = self.scale
        column = ((torch.arange(self.size[1], dtype=torch.float64) + 0.5) / along_x + self.left).floor().long()
        row = ((torch.arange(self.size[0], dtype=torch.float64) + 0.5) / along_y + self.top).floor().long()
        return row.clamp(0, size[0] - 1)[:, None] * size[1] + column.clamp(0, size[1] - 1)

    def places(self, pixels: Int[Tensor, "pixels"], size: Size) -> tuple[Int[Tensor, "pixels"], Bool[Tensor, "pixels"]]:
        """For each of ``pixels`` of a picture of ``size`` the pixel of the result that its centre comes to lie in, and
        whether it lies in the part at all."""
        along_x, along_y = self.scale
        column = ((pixels % size[1] + 0.5 - self.left) * along_x).floor().long()
        row = ((pixels.div(size[1], rounding_mode="floor") + 0.5 - self.top) * along_y).floor().long()
        inside = (column >= 0) & (column < self.size[1]) & (row >= 0) & (row < self.size[0])
        return torch.where(inside, row * self.size[1] + column, 0), inside


def fitting(size: Size, target: Size, zoom: float = 1.0, across: float = 0.5, down: float = 0.5) -> Window:
    """The largest part of a picture of ``size`` that has the shape of ``target``, or the ``zoom``-th of its sides.

    ``across``, ``down``: where it lies in what is left over, from 0 (left, top) to 1.
    """
    shrink = min(size[0] / target[0], size[1] / target[1]) / zoom
    height, width = target[0] * shrink, target[1] * shrink
    return Window((size[1] - width) * across, (size[0] - height) * down, width, height, target)

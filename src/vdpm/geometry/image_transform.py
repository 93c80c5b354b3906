"""Resizing, padding and cropping of images, kept as numbers so that intrinsics and positions follow and can go back.

Positions are (x, y) in pixels with pixel centres at +0.5, so the top left corner of an image is (0, 0) and a resize is
a plain scaling: output_xy = source_xy * scale + offset.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from vdpm.errors import UsageError

PAD_VALUE = 1.0
"""Padding is white, as in the padding mode of VGGT, whose weights the large network starts from."""

Size = tuple[int, int]


@dataclass(frozen=True)
class ImageTransform:
    """A resize to whole pixels followed by a shift by whole pixels: source -> output.

    ``source_size`` and ``output_size`` are (height, width); ``scale`` and ``offset`` are (x, y). A negative offset
    crops, a positive one pads. ``pixel_aspect``: width over height of a source pixel, as it is meant to be shown.
    Raises UsageError when the resized image would not be a whole number of pixels.
    """

    source_size: Size
    output_size: Size
    scale: tuple[float, float]
    offset: tuple[int, int]
    pixel_aspect: float = 1.0

    def __post_init__(self) -> None:
        sizes = (*self.source_size, *self.output_size)
        if len(sizes) != 4 or any(side != int(side) or side < 1 for side in sizes):
            raise UsageError(
                f"image sizes {self.source_size} and {self.output_size} must be two whole numbers of at least 1 each"
            )
        if len(self.scale) != 2 or not all(math.isfinite(value) and value > 0 for value in self.scale):
            raise UsageError(f"image scale {self.scale} must be two finite numbers above 0 (x, y)")
        if len(self.offset) != 2 or any(value != int(value) for value in self.offset):
            raise UsageError(f"image offset {self.offset} must be two whole numbers of pixels (x, y)")
        if not (math.isfinite(self.pixel_aspect) and self.pixel_aspect > 0):
            raise UsageError(f"pixel aspect {self.pixel_aspect} must be a finite number above 0 (width over height)")
        for side, scale in zip(self.source_size, reversed(self.scale), strict=True):
            if abs(side * scale - round(side * scale)) > 1e-3 or round(side * scale) < 1:
                raise UsageError(f"image scale {self.scale} does not take {self.source_size} to whole pixels")

    @classmethod
    def from_resized(
        cls,
        source_size: Size,
        resized_size: Size,
        output_size: Size,
        offset: tuple[int, int],
        pixel_aspect: float = 1.0,
    ) -> "ImageTransform":
        """Resize to ``resized_size``, then put its top left corner at ``offset`` (x, y) of the output."""
        scale = (resized_size[1] / source_size[1], resized_size[0] / source_size[0])
        return cls(source_size, output_size, scale, offset, pixel_aspect)

    @classmethod
    def identity(cls, size: Size) -> "ImageTransform":
        """Leaves an image of ``size`` (height, width) as it is."""
        return cls.from_resized(size, size, size, (0, 0))

    @classmethod
    def stretch(cls, source_size: Size, output_size: Size, pixel_aspect: float = 1.0) -> "ImageTransform":
        """Fills the output, whatever that does to the aspect."""
        return cls.from_resized(source_size, output_size, output_size, (0, 0), pixel_aspect)

    @classmethod
    def fit_pad(cls, source_size: Size, output_size: Size, pixel_aspect: float = 1.0) -> "ImageTransform":
        """The largest resize that keeps the aspect and lies within the output, centred; the rest is padded.

        ``pixel_aspect``: width over height of a source pixel. The output's pixels are square.
        """
        shape_height, shape_width = source_size[0], source_size[1] * pixel_aspect
        scale = min(output_size[0] / shape_height, output_size[1] / shape_width)
        resized = (
            min(output_size[0], max(1, round(shape_height * scale))),
            min(output_size[1], max(1, round(shape_width * scale))),
        )
        return cls.from_resized(source_size, resized, output_size, _centred(resized, output_size), pixel_aspect)

    @classmethod
    def fill_crop(cls, source_size: Size, output_size: Size, pixel_aspect: float = 1.0) -> "ImageTransform":
        """The smallest resize that keeps the aspect and covers the output, centred; what sticks out is cropped."""
        shape_height, shape_width = source_size[0], source_size[1] * pixel_aspect
        scale = max(output_size[0] / shape_height, output_size[1] / shape_width)
        resized = (
            max(output_size[0], round(shape_height * scale)),
            max(output_size[1], round(shape_width * scale)),
        )
        return cls.from_resized(source_size, resized, output_size, _centred(resized, output_size), pixel_aspect)

    @classmethod
    def long_side(cls, source_size: Size, long_side: int, multiple: int, pixel_aspect: float = 1.0) -> "ImageTransform":
        """Resize to a long side of ``long_side`` (rounded to ``multiple``); pad the short one up to ``multiple``."""
        shape_height, shape_width = source_size[0], source_size[1] * pixel_aspect
        longest = max(multiple, round(long_side / multiple) * multiple)
        scale = longest / max(shape_height, shape_width)
        output = (_up_to_multiple(shape_height * scale, multiple), _up_to_multiple(shape_width * scale, multiple))
        resized = (max(1, round(shape_height * scale)), max(1, round(shape_width * scale)))
        return cls.from_resized(source_size, resized, output, _centred(resized, output), pixel_aspect)

    @classmethod
    def width_crop(cls, source_size: Size, width: int, multiple: int) -> "ImageTransform":
        """The released preprocessing: resize to ``width``, heights to a ``multiple``, centre-crop those above it."""
        height = max(multiple, round(source_size[0] * (width / source_size[1]) / multiple) * multiple)
        output = (min(height, width), width)
        return cls.from_resized(source_size, (height, width), output, (0, -((height - output[0]) // 2)))

    @property
    def resized_size(self) -> Size:
        """(height, width) of the resized image, before it is padded or cropped."""
        return round(self.source_size[0] * self.scale[1]), round(self.source_size[1] * self.scale[0])

    @property
    def square_ratio(self) -> float:
        """fx / fy, in pixels of the output, of a camera with as long a focal length across as down.

        1 up to the rounding to whole pixels where the resize keeps the aspect; else as far from 1 as it stretches.
        """
        return self.scale[0] / (self.scale[1] * self.pixel_aspect)

    def apply(
        self, images: Shaped[Tensor, "*batch channels h w"], fill: float | int = PAD_VALUE
    ) -> Shaped[Tensor, "*batch channels H W"]:
        """Images, source -> output: antialiased bicubic resize, clamped, then pad with ``fill`` or crop.

        Images are floating point in [0, 1] or, on the CPU, 8 bit; ``fill`` is in [0, 1] for both.
        """
        self._check_size(images, self.source_size, "source")
        batch, channels = images.shape[:-3], images.shape[-3]
        flat = images.reshape(-1, channels, *self.source_size)
        if self.resized_size != self.source_size:
            # The antialiased kernels know these types only.
            wide = flat if flat.dtype in (torch.float64, torch.uint8) else flat.float()
            wide = F.interpolate(wide, size=self.resized_size, mode="bicubic", align_corners=False, antialias=True)
            flat = wide if wide.dtype == torch.uint8 else wide.clamp(0, 1).to(images.dtype)
        left, top = self.offset
        height, width = self.resized_size
        right, bottom = self.output_size[1] - left - width, self.output_size[0] - top - height
        if (left, top, right, bottom) != (0, 0, 0, 0):
            flat = F.pad(
                flat, (left, right, top, bottom), value=fill if flat.is_floating_point() else round(255 * fill)
            )
        return flat.reshape(*batch, channels, *self.output_size)

    def intrinsics_to_output(self, intrinsics: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
        """Intrinsics in pixels of the source -> in pixels of the output."""
        (sx, sy), (ox, oy) = self.scale, self.offset
        return intrinsics.new_tensor([[sx, 0, ox], [0, sy, oy], [0, 0, 1]]) @ intrinsics

    def intrinsics_to_source(self, intrinsics: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
        """Intrinsics in pixels of the output -> in pixels of the source."""
        (sx, sy), (ox, oy) = self.scale, self.offset
        return intrinsics.new_tensor([[1 / sx, 0, -ox / sx], [0, 1 / sy, -oy / sy], [0, 0, 1]]) @ intrinsics

    def points_to_output(self, xy: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Positions (x, y) in the source -> in the output."""
        return xy * xy.new_tensor(self.scale) + xy.new_tensor(self.offset)

    def points_to_source(self, xy: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        """Positions (x, y) in the output -> in the source."""
        return (xy - xy.new_tensor(self.offset)) / xy.new_tensor(self.scale)

    def content_mask(self, device: torch.device | str | None = None) -> Bool[Tensor, "H W"]:
        """True where a pixel of the output shows the source, False where it was padded."""
        top, bottom, left, right = self._content_box()
        mask = torch.zeros(self.output_size, dtype=torch.bool, device=device)
        mask[top:bottom, left:right] = True
        return mask

    def source_mask(self, device: torch.device | str | None = None) -> Bool[Tensor, "h w"]:
        """True where the centre of a pixel of the source lies in the output, False where it was cropped."""
        inside = []
        for side, output, scale, offset in zip(
            self.source_size, self.output_size, reversed(self.scale), reversed(self.offset), strict=True
        ):
            position = (torch.arange(side, dtype=torch.float64) + 0.5) * scale + offset
            inside.append((position >= 0) & (position < output))
        return (inside[0][:, None] & inside[1][None, :]).to(device)

    def restore(
        self,
        maps: Shaped[Tensor, "*batch channels H W"],
        mode: Literal["bilinear", "nearest"] = "bilinear",
        fill: float | int = 0.0,
    ) -> Shaped[Tensor, "*batch channels h w"]:
        """Maps over the output, such as point maps or labels, -> over the source's pixels.

        ``bilinear`` mixes the four nearest pixels (points, colours, confidence), ``nearest`` takes one (labels, masks).
        Padding is never mixed in. Source pixels that were cropped get ``fill`` (see ``source_mask``).
        """
        self._check_size(maps, self.output_size, "output")
        if mode not in ("bilinear", "nearest"):
            raise UsageError(f"mode {mode!r} is unknown; use bilinear or nearest")
        if mode == "bilinear" and not maps.is_floating_point():
            raise UsageError(f"maps of {maps.dtype} cannot be mixed; use mode='nearest'")
        top, bottom, left, right = self._content_box()
        maps = _resample(maps, -2, self.source_size[0], self.scale[1], self.offset[1], (top, bottom), mode)
        maps = _resample(maps, -1, self.source_size[1], self.scale[0], self.offset[0], (left, right), mode)
        seen = self.source_mask(maps.device)
        return maps if bool(seen.all()) else torch.where(seen, maps, torch.full_like(maps, fill))

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers, for a result file."""
        return {
            "source_size": list(self.source_size),
            "output_size": list(self.output_size),
            "scale": list(self.scale),
            "offset": list(self.offset),
            "pixel_aspect": self.pixel_aspect,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "ImageTransform":
        """The inverse of ``to_json``. Raises UsageError for anything else."""
        try:
            (source_height, source_width), (height, width) = data["source_size"], data["output_size"]
            (scale_x, scale_y), (offset_x, offset_y) = data["scale"], data["offset"]
            return cls(
                source_size=(int(source_height), int(source_width)),
                output_size=(int(height), int(width)),
                scale=(float(scale_x), float(scale_y)),
                offset=(int(offset_x), int(offset_y)),
                # Results of before it was told.
                pixel_aspect=float(data.get("pixel_aspect", 1.0)),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"not an image transform ({error!r}); source_size, output_size, scale and offset are needed"
            ) from None

    def _content_box(self) -> tuple[int, int, int, int]:
        """Top, bottom, left and right of the part of the output that shows the source."""
        top, left = max(0, self.offset[1]), max(0, self.offset[0])
        bottom = min(self.output_size[0], self.offset[1] + self.resized_size[0])
        right = min(self.output_size[1], self.offset[0] + self.resized_size[1])
        return top, bottom, left, right

    def _check_size(self, images: Tensor, size: Size, name: str) -> None:
        if tuple(images.shape[-2:]) != tuple(size):
            found = f"{images.shape[-2]} x {images.shape[-1]}" if images.ndim >= 2 else f"{images.ndim} axes"
            raise UsageError(f"the {name} of this transform is {size[0]} x {size[1]} (height x width), got {found}")


def _resample(
    maps: Tensor, axis: int, length: int, scale: float, offset: int, content: tuple[int, int], mode: str
) -> Tensor:
    """Values of ``maps`` along ``axis`` at the centres of ``length`` source pixels; never reads outside ``content``."""
    # float64 on the CPU: half-pixel positions stay exact, and MPS has no float64.
    position = (torch.arange(length, dtype=torch.float64) + 0.5) * scale + offset
    first, last = content[0], content[1] - 1
    if mode == "nearest":
        return maps.index_select(axis, position.floor().long().clamp(first, last).to(maps.device))
    position = (position - 0.5).clamp(first, last)
    below = position.floor().long()
    above = (below + 1).clamp(max=last)
    shape = [1] * maps.ndim
    shape[axis] = length
    weight = (position - below).to(maps.dtype).to(maps.device).reshape(shape)
    low, high = maps.index_select(axis, below.to(maps.device)), maps.index_select(axis, above.to(maps.device))
    return torch.lerp(low, high, weight)


def _centred(inner: Size, outer: Size) -> tuple[int, int]:
    """Offset (x, y) that centres ``inner`` in ``outer``, to whole pixels."""
    return (outer[1] - inner[1]) // 2, (outer[0] - inner[0]) // 2


def _up_to_multiple(length: float, multiple: int) -> int:
    return max(1, math.ceil(max(1, round(length)) / multiple)) * multiple

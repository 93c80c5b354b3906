"""Pictures rid of their lens's distortion.

Cameras with distortion become pinhole cameras of the same intrinsics: each pixel of the new picture takes the place
where the lens puts its ray. Colours are mixed of the four nearest pixels; depth, which must not be mixed, is that of
the nearest one.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from vdpm.geometry.pinhole import pixel_grid

NEWTON_STEPS = 20
SMALLEST_STEP = 1e-12
"""On the plane at depth 1, where a pixel is about a thousandth wide: what is below it changes no pixel."""


@dataclass(frozen=True)
class LensCamera:
    """Pixel centres at +0.5, ``size`` is (height, width).

    ``distortion``: k1, k2, k3, k4 of OPENCV_FISHEYE; k1, k2, p1, p2 and, if given, k3 of OPENCV; PINHOLE minds none.
    """

    model: str
    size: tuple[int, int]
    intrinsics: Float[Tensor, "3 3"]
    distortion: tuple[float, ...]

    def coarser(self, factor: int) -> "LensCamera":
        """The same camera with pixels as large as ``factor`` x ``factor`` of its own, which they divide into."""
        if factor == 1:
            return self
        k = self.intrinsics.clone()
        k[:2] /= factor
        return LensCamera(self.model, (self.size[0] // factor, self.size[1] // factor), k, self.distortion)

    def places(self) -> Float[Tensor, "height width 2"]:
        """Where the lens puts the rays of the pinhole camera's pixels: positions (x, y) in the picture as taken."""
        k = self.intrinsics
        focal, centre = k.diagonal()[:2], k[:2, 2]
        rays = (pixel_grid(*self.size, device="cpu", dtype=torch.float64) - centre) / focal
        return self._distorted(rays) * focal + centre

    def kept_places(self) -> Float[Tensor, "height width 2"]:
        """``places`` in float32, kept for the last cameras: the same for all frames of a film."""
        return _kept_places(self.model, self.size, tuple(self.intrinsics.flatten().tolist()), self.distortion)

    def straightened(self, places: Float[Tensor, "*places 2"]) -> Float[Tensor, "*places 2"]:
        """Positions (x, y) in the picture as taken -> in the pinhole camera's: the inverse of what ``places`` does.

        By Newton's method with the distortion's slope taken for 1, which lenses of cars and telephones allow.
        """
        k = self.intrinsics
        focal, centre = k.diagonal()[:2], k[:2, 2]
        wanted = (places - centre) / focal
        rays = wanted
        for _ in range(NEWTON_STEPS if self.model != "PINHOLE" else 0):
            step = wanted - self._distorted(rays)
            rays = rays + step
            if not bool((step.abs() > SMALLEST_STEP).any()):
                break
        return rays * focal + centre

    def _distorted(self, rays: Float[Tensor, "*rays 2"]) -> Float[Tensor, "*rays 2"]:
        """Equations of OpenCV's models, on the plane at depth 1."""
        if self.model == "PINHOLE":
            return rays
        x, y = rays[..., :1], rays[..., 1:]
        # Not a sum over the last axis, which takes longer for two numbers than all the rest.
        square = x.square() + y.square()
        if self.model == "OPENCV_FISHEYE":
            k1, k2, k3, k4 = self.distortion
            radius = square.sqrt().clamp_min(1e-12)
            angle = torch.atan(radius)
            a2 = angle.square()
            return rays * angle * (1 + a2 * (k1 + a2 * (k2 + a2 * (k3 + a2 * k4)))) / radius
        k1, k2, p1, p2, k3 = (*self.distortion, 0.0)[:5]
        aside = torch.cat((2 * p1 * x * y + p2 * (square + 2 * x * x), p1 * (square + 2 * y * y) + 2 * p2 * x * y), -1)
        return rays * (1 + square * (k1 + square * (k2 + square * k3))) + aside


@lru_cache(maxsize=2)
def _kept_places(
    model: str, size: tuple[int, int], intrinsics: tuple[float, ...], distortion: tuple[float, ...]
) -> Float[Tensor, "height width 2"]:
    k = torch.tensor(intrinsics, dtype=torch.float64).view(3, 3)
    return LensCamera(model, size, k, distortion).places().float()


def nearest_pixels(
    places: Float[Tensor, "height width 2"], size: tuple[int, int]
) -> tuple[Shaped[Tensor, "height width"], Shaped[Tensor, "height width"], Bool[Tensor, "height width"]]:
    """Rows and columns of the pixels that the places lie in, and which lie within a picture of ``size``."""
    column, row = places.floor().long().unbind(-1)
    inside = (column >= 0) & (column < size[1]) & (row >= 0) & (row < size[0])
    return row.clamp(0, size[0] - 1), column.clamp(0, size[1] - 1), inside


def mixed_pixels(
    picture: Shaped[Tensor, "height width 3"], places: Float[Tensor, "height width 2"]
) -> Shaped[Tensor, "height width 3"]:
    """Colours at the places, of the four nearest pixels (of those that there are, at its edge); black beyond it."""
    size = places.new_tensor([picture.shape[1], picture.shape[0]])
    grid = (places * (2 / size) - 1).float()
    found = torch.nn.functional.grid_sample(
        picture.permute(2, 0, 1)[None].float(), grid[None], mode="bilinear", padding_mode="border", align_corners=False
    )
    inside = (grid.abs() <= 1).all(-1)
    return found[0].mul_(inside).permute(1, 2, 0).round_().clamp_(0, 255).byte()

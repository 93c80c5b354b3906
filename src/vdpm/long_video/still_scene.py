"""What stands still, seen by cameras: sampled pixels of each frame with their depths, and where these lie in others."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vdpm.geometry.pinhole import project
from vdpm.geometry.rigid import invert_rigid, rigid, rotation_vector_to_matrix, transform_points

NEAREST = 1e-6
"""Least depth that is divided by. What has come behind a camera is out of every picture."""


class Seen(NamedTuple):
    """Of the pixels of some frames: their points ``q`` in their own cameras and ``x`` in other cameras, reached by
    ``relative``; ``place`` in pixels there.
    """

    q: Float[Tensor, "rows samples 3"]
    x: Float[Tensor, "rows others samples 3"]
    relative: Float[Tensor, "rows others 4 4"]
    place: Float[Tensor, "rows others samples 2"]


@dataclass(frozen=True, eq=False)
class Scene:
    """Cameras and what they see. ``depth``: of ``pixels`` (x, y), the same in every frame; 0 where none is known.
    ``slope``: by what share the depth grows from pixel to pixel, to the right and down. ``followed``: pixels that are
    looked for in other frames.
    """

    c2w: Float[Tensor, "frames 4 4"]
    intrinsics: Float[Tensor, "frames 3 3"]
    depth: Float[Tensor, "frames samples"]
    pixels: Float[Tensor, "samples 2"]
    slope: Float[Tensor, "frames samples 2"]
    followed: Bool[Tensor, "frames samples"]

    def world(self) -> Float[Tensor, "frames samples 3"]:
        """The pixels' points."""
        return transform_points(self.c2w, self.local(torch.arange(len(self.c2w))))

    def local(self, rows: Int[Tensor, "rows"]) -> Float[Tensor, "rows samples 3"]:
        """The points of some frames' pixels in their own cameras."""
        return self._rays(rows) * self.depth[rows][..., None]

    def moved(self, poses: Tensor, focal: Tensor, depth: Tensor) -> "Scene":
        """By small steps of poses [frames, 6] from the right, and of the logarithms of focal lengths and depths."""
        k = self.intrinsics.clone()
        k[:, [0, 1], [0, 1]] *= focal.exp()
        c2w = self.c2w @ rigid(rotation_vector_to_matrix(poses[:, 3:]), poses[:, :3])
        return replace(self, c2w=c2w, intrinsics=k, depth=self.depth * depth.exp())

    def seen(self, rows: Int[Tensor, "rows"], others: Int[Tensor, "rows others"]) -> Seen:
        """The pixels of frames ``rows`` in the frames ``others`` of each."""
        q = self.local(rows)
        relative = invert_rigid(self.c2w)[others] @ self.c2w[rows][:, None]
        x = transform_points(relative, q[:, None].expand(-1, others.shape[1], -1, -1))
        before = torch.cat((x[..., :2], x[..., 2:].clamp(min=NEAREST)), dim=-1)
        return Seen(q, x, relative, project(before, self.intrinsics[others])[0])

    def warps(self, rows: Int[Tensor, "rows"], others: Int[Tensor, "rows"]) -> Float[Tensor, "rows samples 3 2"]:
        """How a pixel's surroundings lie in another frame, where the surface is flat: what is u away here is
        A u / (1 + b u) away there, A the first two rows and b the last.
        """
        seen = self.seen(rows, others[:, None])
        focal, slope, depth = self.intrinsics[rows][:, None, [0, 1], [0, 1]], self.slope[rows], self.depth[rows]
        # A step to the right or down changes the ray and, where the surface is aslant, the depth.
        aside = torch.cat((torch.diag_embed(1 / focal), torch.zeros_like(focal)[..., None, :]), dim=-2)
        by_pixel = depth[..., None, None] * (aside + self._rays(rows)[..., :, None] * slope[..., None, :])
        relative = seen.relative[:, 0, None]
        by_point = self.by_point(seen.x, others[:, None])[:, 0] @ relative[..., :3, :3]
        # Of a plane 1 / depth is linear in the pixel, and so is the depth there over that here.
        farther = depth[..., None] * relative[..., 2, :2] / focal - relative[..., 2, 3:] * slope
        farther = farther / seen.x[:, 0, :, 2:].clamp(min=NEAREST)
        return torch.cat((by_point @ by_pixel, farther[..., None, :]), dim=-2)

    def by_point(self, x: Float[Tensor, "rows others samples 3"], others: Tensor) -> Tensor:
        """Derivatives of places by points in the cameras ``others``, [rows, others, samples, 2, 3]."""
        focal = self.intrinsics[others][:, :, None, [0, 1], [0, 1]]
        near = 1 / x[..., 2:].clamp(min=NEAREST)
        across = torch.diag_embed((focal * near).expand_as(x[..., :2]))
        return torch.cat((across, (-focal * x[..., :2] * near**2)[..., None]), -1)

    def _rays(self, rows: Tensor) -> Float[Tensor, "rows samples 3"]:
        k = self.intrinsics[rows]
        aside = (self.pixels - k[:, None, :2, 2]) / k[:, None, [0, 1], [0, 1]]
        return torch.cat((aside, torch.ones_like(aside[..., :1])), dim=-1)

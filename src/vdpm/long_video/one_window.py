"""A clip that the network saw at once: cameras by what its pictures show (``sight``), and its maps put to them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from vdpm.geometry.pinhole import project, unproject, ways_to_rays
from vdpm.geometry.rigid import transform_points
from vdpm.long_video.alignment import align, sharpen
from vdpm.long_video.observations import WindowMaps, observe
from vdpm.structures import Cameras, PointMap

TORN = 0.1
"""Median distance of a network's points from their own pixels, as a share of the picture's diagonal, from which points
and cameras do not go together, and cameras that are right would say nothing about the points."""
ZOOMS = 0.045
"""Spread of the logarithm of the network's focal lengths over a clip from which the lens zooms, and no one focal
length is right. ``vdpm-small`` has 0.004 to 0.038 where it does not, in 36 clips."""


@dataclass(frozen=True, eq=False)
class Followed:
    """``cameras`` that the pictures bear out, in place of ``before``; the world of both is the camera of one frame.

    A network's points lie some pixels off the rays of its own camera head's cameras. With cameras that are right, the
    rays are right too: each pixel keeps its depth and goes to its ray.
    """

    before: Cameras
    cameras: Cameras

    def points(
        self,
        points: Float[Tensor, "sources height width 3"],
        own: Float[Tensor, "sources height width 3"],
        sources: Sequence[int],
    ) -> Float[Tensor, "sources height width 3"]:
        """Maps of frames ``sources`` at any time, from the world of ``before`` to that of ``cameras``.

        ``own``: the same pixels at their own times, world of ``before``; they come to lie on their pixels' rays, at the
        depths they had. At other times they keep what they have moved: as seen from their frame's camera, the shift is
        that of their own time in proportion to the depth.
        """
        rows = list(sources)
        w2c, c2w = self.before.w2c[rows].to(points), self.cameras.c2w[rows].to(points)
        intrinsics = self.cameras.intrinsics[rows].to(points)
        there, here = transform_points(w2c, points), transform_points(w2c, own)
        rays = unproject(torch.ones_like(here[..., 0]), intrinsics)[..., :2]
        off = ways_to_rays(here, rays, intrinsics, self.cameras.size)
        return transform_points(c2w, torch.cat((there[..., :2] + off * there[..., 2:], there[..., 2:]), dim=-1))


def follow_pictures(
    pictures: UInt8[Tensor, "frames height width 3"],
    cameras: Cameras,
    points: Float[Tensor, "frames height width 3"],
    confidence: Float[Tensor, "frames height width"],
    *,
    reference: int = 0,
    content: Bool[Tensor, "height width"] | None = None,
) -> Followed | None:
    """``cameras`` of a network, which has ``points`` of all frames at their own times, moved to where the pictures show
    what stands still. None where that cannot be told: too little is found again (two frames on and farther), nothing
    comes nearer, the network's points lie far from their pixels, or its focal lengths change as where a lens zooms.

    World: the camera of frame ``reference``, before and after; the unit stays. ``content``: where pictures show the
    video, if not everywhere. Half a second for ten frames, on the processor.
    """
    frames = tuple(range(len(pictures)))
    shown = torch.ones(pictures.shape[1:3], dtype=torch.bool) if content is None else content

    def read(frame: int) -> PointMap:
        return PointMap(points[frame], confidence[frame])

    seen = observe([WindowMaps(frames, cameras, read)], shown, len(frames))
    places, _ = project(transform_points(cameras.w2c.to(seen.points), seen.points), cameras.intrinsics.to(seen.points))
    if not float((places - seen.pixels).norm(dim=-1).median()) < TORN * math.hypot(*shown.shape):
        return None
    if float(cameras.intrinsics[:, 0, 0].log().std(correction=0)) > ZOOMS:
        return None
    found = align(seen, reference=reference)
    sharp = sharpen(seen, found, pictures, reference=reference, content=content, rival=cameras)
    return None if sharp is None else Followed(cameras, sharp.cameras)

"""Where pixels of some frames were found in others, beside where a scene has them, and how that moves with the scene.

A point q of a frame's pixel lies in another camera at x = R q + s, and its place there is f (x_1, x_2) / x_3 + c. A
small motion, x moved by t + w x x, stands for steps of both poses: one of the other frame's is such a motion turned
about, one of the own frame's is [R, [s] R; 0, R] times itself. So derivatives are taken by the six numbers of each pair
of frames. By the logarithm of the depth x moves by x - s; along x no place moves, which leaves -s. Numbers have 32
bits, and coordinates come before samples.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdpm.geometry.rigid import cross_matrix, invert_rigid
from vdpm.long_video.sightings import Sightings
from vdpm.long_video.still_scene import NEAREST, Scene


class Line(NamedTuple):
    """``places``, less where they were found and over what is reckoned with, by the motion of each pair's points,
    (t, w), and by the logarithm of the focal length, with themselves behind; and ``by_depth``, that of their pixels.
    """

    by_motion: Float[Tensor, "rows used 8 2 samples"]
    by_depth: Float[Tensor, "rows used 2 samples"]


@dataclass(frozen=True, eq=False)
class SightedPlaces:
    """Of the frames ``rows``; ``used`` are numbers of the frames ahead in which anything was found, ``others`` these
    frames. ``roots``: of the sureness, (a, b, c) so that it is the square of (a, 0; b, c); 0 where nothing was found.
    """

    rows: Int[Tensor, "rows"]
    used: Int[Tensor, "used"]
    others: Int[Tensor, "rows used"]
    places: Float[Tensor, "rows used 2 samples"]
    roots: Float[Tensor, "rows used 3 samples"]

    @classmethod
    def of(cls, found: Sightings, rows: Int[Tensor, "rows"], others: Int[Tensor, "frames ahead"]) -> "SightedPlaces":
        """``others``: the frames ahead of all frames."""
        ahead = others.shape[1]
        places, sureness = found.places[rows, :ahead], found.sureness[rows, :ahead]
        used = Sightings(places, sureness).sure.any(2).any(0).nonzero()[:, 0]
        sureness = sureness[:, used]
        first = sureness[..., 0, 0].sqrt()
        across = sureness[..., 0, 1] / first.clamp(min=1e-12)
        second = (sureness[..., 1, 1] - across.square()).clamp(min=0).sqrt()
        roots = torch.stack((first, across, second), dim=2)
        return cls(rows, used, others[rows][:, used], places[:, used].mT.contiguous(), roots)

    def off(self, scene: Scene) -> Float[Tensor, "rows used samples"]:
        """How far ``scene`` has them from where they were found, over what is reckoned with."""
        x, y = _View(self, scene).off.unbind(2)
        return (x.square() + y.square()).sqrt()

    def line(self, scene: Scene, scales: Float[Tensor, "ahead"]) -> Line:
        """Weighed as by Geman and McClure, with ``scales``."""
        view = _View(self, scene)
        limit = scales.float()[self.used, None]
        weight = 1 / (limit * (1 + view.off.square().sum(2) / (2 * limit).square()))
        return view.line(weight)

    def turned(self, scene: Scene) -> Float[Tensor, "rows used 6 6"]:
        """The motion (t, w) of points in the others' cameras that small steps of the ``rows``' own poses are."""
        relative = self.relative(scene)
        rotation, none = relative[..., :3, :3], torch.zeros_like(relative[..., :3, :3])
        across = cross_matrix(relative[..., :3, 3]) @ rotation
        return torch.cat((torch.cat((rotation, across), -1), torch.cat((none, rotation), -1)), -2)

    def relative(self, scene: Scene) -> Float[Tensor, "rows used 4 4"]:
        """From the cameras of ``rows`` to those of ``others``."""
        return invert_rigid(scene.c2w[self.others]) @ scene.c2w[self.rows][:, None]


class _View:
    """The pixels as ``scene`` has them in the others' cameras. ``off``: from where they were found, whitened."""

    def __init__(self, at: SightedPlaces, scene: Scene) -> None:
        relative = at.relative(scene).float()
        self.at, self.rotation, self.shift = at, relative[..., :3, :3], relative[..., :3, 3, None]
        own = scene.local(at.rows).float().mT
        self.depth = own[:, None, 2]
        x = self.rotation @ own[:, None] + self.shift
        self.near = 1 / x[:, :, 2].clamp(min=NEAREST)
        self.ray = x[:, :, :2] * self.near[:, :, None]
        intrinsics = scene.intrinsics[at.others].float()
        self.focal = intrinsics[..., [0, 1], [0, 1]][..., None]
        self.from_centre = self.focal * self.ray
        self.off = self.whitened(self.from_centre + intrinsics[..., :2, 2:] - at.places)

    def whitened(self, places: Float[Tensor, "rows used 2 samples"]) -> Float[Tensor, "rows used 2 samples"]:
        (x, y), (a, b, c) = places.unbind(2), self.at.roots.unbind(2)
        return torch.stack((a * x + b * y, c * y), dim=2)

    def line(self, weight: Float[Tensor, "rows used samples"]) -> Line:
        """All times ``weight``."""
        a, b, c = (self.at.roots * weight[:, :, None]).unbind(2)
        across, down = self.focal.unbind(2)
        # What each of the two whitened rows takes of the two places' derivatives by rays.
        by_x = torch.stack((a * across, torch.zeros_like(a)), dim=2)
        by_y = torch.stack((b, c), dim=2) * down[:, :, None]
        x, y = self.ray[:, :, 0, None], self.ray[:, :, 1, None]
        along = by_x * x + by_y * y
        near = self.near[:, :, None]
        moved = torch.stack((by_x * near, by_y * near, -along * near), dim=2)
        by_depth = -(moved * self.shift[:, :, :, None]).sum(2)
        # At a longer lens a pixel's ray is narrower: what it gains in the other picture it loses in its own.
        ahead = (moved * self.rotation[:, :, :, 2, None, None]).sum(2) * self.depth[:, :, None]
        weighed = weight[:, :, None]
        by_lens = self.whitened(self.from_centre) * weighed - by_depth + ahead
        turned = (-along * y - by_y, along * x + by_x, by_y * x - by_x * y)
        columns = (*moved.unbind(2), *turned, by_lens, self.off * weighed)
        return Line(torch.stack(columns, dim=2), by_depth)

"""A frame of a data set, in one convention whatever its files say, and where its points are at other times."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped, UInt8
from torch import Tensor

from vdpm.data.window import Size, Window
from vdpm.geometry.pinhole import unproject
from vdpm.geometry.rigid import invert_rigid


class Origin(NamedTuple):
    """Where the pixels of a frame come from that was brought to another size: which pixels, numbered along the rows, of
    a picture of ``size``."""

    size: Size
    pixels: Int[Tensor, "height width"]

    def places(self, pixels: Int[Tensor, "pixels"]) -> Int[Tensor, "pixels"]:
        """For each of ``pixels`` on disk the new pixel that has taken it over, the last one of several; -1 for none."""
        taken_over = np.full(self.size[0] * self.size[1], -1)
        # Not torch: of several pixels that took over the same one, numpy keeps the last, whatever the machine.
        taken_over[self.pixels.flatten().numpy()] = np.arange(self.pixels.numel())
        return torch.from_numpy(taken_over.take(pixels.numpy()))


class Frame(NamedTuple):
    """One frame as a data set has it, in OpenCV axes and pixels with centres at +0.5, whatever its files say.

    ``depth`` is z in the camera (not the distance), in the data set's unit; it means something where ``valid``.
    ``c2w`` goes to the data set's own world. ``instances`` numbers objects (0: background); ``sky`` marks pixels known
    to show nothing at any distance; ``measured`` are points in the data set's world, where files hold points and not
    depth. None: the data set does not say. ``origin``: set where this is no longer the frame as it lies on disk.
    """

    image: UInt8[Tensor, "height width 3"]
    depth: Float[Tensor, "height width"]
    valid: Bool[Tensor, "height width"]
    c2w: Float[Tensor, "4 4"]
    intrinsics: Float[Tensor, "3 3"]
    instances: Int[Tensor, "height width"] | None = None
    sky: Bool[Tensor, "height width"] | None = None
    measured: Float[Tensor, "height width 3"] | None = None
    origin: Origin | None = None

    def through(self, window: Window, wanted: Int[Tensor, "wanted"] | None = None) -> "Frame":
        """A part of it in another size. Points stay what they are and so may lie beside the middle of their new pixel.

        ``wanted``: pixels that are taken over where there is a choice, those further back in the list first.
        """
        size = (self.depth.shape[0], self.depth.shape[1])
        pixels = window.sources(size)
        if wanted is not None:
            place, inside = window.places(wanted, size)
            # One after the other: what comes last stays.
            pixels.view(-1).numpy()[place[inside].numpy()] = wanted[inside].numpy()
        flat = pixels.flatten()

        def taken(values: Tensor) -> Tensor:
            return values.flatten(0, 1).index_select(0, flat).unflatten(0, window.size)

        return Frame(
            image=window.coarser(size[1] / self.image.shape[1]).picture(self.image),
            depth=taken(self.depth),
            valid=taken(self.valid),
            c2w=self.c2w,
            intrinsics=window.intrinsics(self.intrinsics),
            instances=None if self.instances is None else taken(self.instances),
            sky=None if self.sky is None else taken(self.sky),
            measured=self.points_of(flat).unflatten(0, window.size),
            origin=Origin(size, pixels),
        )

    def points_of(self, pixels: Int[Tensor, "pixels"], dtype: torch.dtype = torch.float64) -> Float[Tensor, "pixels 3"]:
        """The points that some of its pixels, numbered along the rows, see, in the data set's world."""
        if self.measured is not None:
            return self.measured.reshape(-1, 3).index_select(0, pixels).to(dtype)
        rays = pixel_rays(self.intrinsics, (self.depth.shape[0], self.depth.shape[1])).flatten(1)
        depth = torch.where(self.valid.flatten()[pixels], self.depth.flatten()[pixels], 0)
        return placed(self.c2w.to(dtype), rays.index_select(1, pixels).to(dtype) * depth.to(dtype)).T

    def points(self) -> Float[Tensor, "height width 3"]:
        """The points its pixels see, in the data set's world, in float64; what lies where depth is unknown is 0."""
        if self.measured is not None:
            return self.measured.double()
        return placed(self.c2w.double(), self.in_camera().double()).movedim(0, -1).contiguous()

    def in_camera(self) -> Float[Tensor, "3 height width"]:
        """The points in the camera, in float32, x, y and z apart; what lies where depth is unknown is 0."""
        if self.measured is None:
            depth = self.depth.float().masked_fill(~self.valid, 0)
            return pixel_rays(self.intrinsics, (self.depth.shape[0], self.depth.shape[1])) * depth
        return placed(invert_rigid(self.c2w.double()), planes(self.measured, torch.float64)).float()

    def place_into(self, world: Float[Tensor, "4 4"], out: Float[Tensor, "height width 3"]) -> Float[Tensor, "3 *seen"]:
        """Writes the points, taken from the data set's world by ``world``, in float32; 0 where depth is unknown.

        Returns them as ``planes``; those that are unknown are 0 there, or left out.
        """
        if self.measured is None:
            points = placed((world @ self.c2w.double()).float(), self.in_camera()).mul_(self.valid)
            out.copy_(points.movedim(0, -1))
            return points
        rows = self.measured.view(-1, 3)
        if 2 * np.count_nonzero(self.valid.numpy()) > len(rows):
            moved = blanked(moved_rows(world, rows), self.valid.flatten())
            out.view(-1, 3).copy_(moved)
        else:
            # Of lidar: few pixels see anything.
            some = self.valid.flatten().nonzero()[:, 0]
            moved = moved_rows(world, rows.index_select(0, some))
            out.zero_().view(-1, 3).index_copy_(0, some, moved)
        return moved.T


class MovedPoints(NamedTuple):
    """Where pixels of one frame are at another time, in the data set's world, and for which of them it is known.

    ``pixels``: which pixels it speaks of, numbered along the rows. ``rest_stands``: all others stand still (else they
    are unknown). ``rejected``: how many more the files hold that the reader found to belie their own frame. ``dense``:
    ``pixels`` are all there are, in order.
    """

    pixels: Int[Tensor, "pixels"]
    points: Float[Tensor, "pixels 3"]
    valid: Bool[Tensor, "pixels"]
    rest_stands: bool = False
    rejected: int = 0
    dense: bool = False

    def of(self, values: Shaped[Tensor, "all *rest"]) -> Shaped[Tensor, "pixels *rest"]:
        """What its pixels have of the ``values`` of all pixels."""
        return values if self.dense else values.index_select(0, self.pixels)

    def write(self, values: Shaped[Tensor, "pixels *rest"], into: Shaped[Tensor, "all *rest"]) -> None:
        """Puts the values of its pixels in place among those of all pixels."""
        if self.dense:
            into.copy_(values)
        else:
            into.index_copy_(0, self.pixels, values)

    def through(self, place: Int[Tensor, "pixels"]) -> "MovedPoints":
        """Those of its pixels that a frame brought to another size has taken over, by their ``Origin.places``."""
        kept = (place >= 0).nonzero()[:, 0]
        return self._replace(
            pixels=place.index_select(0, kept),
            points=self.points.index_select(0, kept),
            valid=self.valid.index_select(0, kept),
            dense=False,
        )

    def maps(self, frame: Frame) -> tuple[Float[Tensor, "height width 3"], Bool[Tensor, "height width"]]:
        """The same for all pixels of ``frame``, whose pixels these are: points in float64, and where they are known."""
        points = frame.points() if self.rest_stands else torch.zeros(*frame.depth.shape, 3, dtype=torch.float64)
        known = frame.valid.clone() if self.rest_stands else torch.zeros_like(frame.valid)
        self.write(self.points.double(), points.view(-1, 3))
        self.write(self.valid & self.of(frame.valid.flatten()), known.view(-1))
        return points, known


def pixel_rays(k: Float[Tensor, "3 3"], size: Size) -> Float[Tensor, "3 height width"]:
    """Points at depth 1 that the pixels of a picture see, in the camera, float32; kept for the last cameras."""
    return _kept_rays(tuple(k.double().flatten().tolist()), size)


@lru_cache(maxsize=4)
def _kept_rays(k: tuple[float, ...], size: Size) -> Float[Tensor, "3 height width"]:
    ones = torch.ones(size, dtype=torch.float64)
    return planes(unproject(ones, torch.tensor(k, dtype=torch.float64).view(3, 3)), torch.float32)


def planes(points: Float[Tensor, "*pixels 3"], dtype: torch.dtype) -> Float[Tensor, "3 *pixels"]:
    """The same, x, y and z apart: a CPU works on many numbers of one kind at a time."""
    return torch.empty(3, *points.shape[:-1], dtype=dtype).copy_(points.movedim(-1, 0))


def moved_rows(transform: Float[Tensor, "4 4"], points: Float[Tensor, "pixels 3"]) -> Float[Tensor, "pixels 3"]:
    """Points of a data set's world, taken elsewhere by ``transform``, in float32; new memory.

    Worlds of float64 may be large: only what comes out is rounded.
    """
    if torch.equal(transform, torch.eye(4, dtype=transform.dtype)):
        return points.to(torch.float32, copy=True)
    transform = transform.to(points.dtype)
    # Not addmm, which spreads the translation over all points first: that takes longer than the product.
    return torch.mm(points, transform[:3, :3].T).add_(transform[:3, 3]).float()


def placed(transform: Float[Tensor, "4 4"], points: Float[Tensor, "3 *pixels"]) -> Float[Tensor, "3 *pixels"]:
    """``geometry.rigid.transform_points`` for one motion and many points, as ``planes``: fast where they come so."""
    moved = torch.mm(transform[:3, :3], points.flatten(1)).add_(transform[:3, 3:])
    return moved.view(points.shape)


def depths(w2c: Float[Tensor, "4 4"], points: Float[Tensor, "*pixels 3"]) -> Float[Tensor, "*pixels"]:
    """z, in the camera, of points of the world."""
    x, y, z = (points[..., axis] for axis in range(3))
    along, offset = w2c[2, :3].tolist(), float(w2c[2, 3])
    return (x * along[0]).add_(y, alpha=along[1]).add_(z, alpha=along[2]).add_(offset)


def blanked(points: Float[Tensor, "*pixels 3"], known: Bool[Tensor, "*pixels"]) -> Float[Tensor, "*pixels 3"]:
    """The points, contiguous, changed in place: 0 where they are not ``known``."""
    if not known.numpy().all():
        points.view(-1, 3).index_fill_(0, (~known).flatten().nonzero()[:, 0], 0)
    return points


def squared_lengths(points: Float[Tensor, "3 *pixels"]) -> Float[Tensor, "*pixels"]:
    """|X|^2 of points, or ways, as ``planes``."""
    x, y, z = points
    return (x * x).add_(y * y).add_(z * z)

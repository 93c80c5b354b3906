"""Errors of tracks in a long clip, apart for what is in sight and for what moves; used by ``long_clip``."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vdpm.geometry.pinhole import project
from vdpm.geometry.rigid import invert_rigid, transform_points

MOVES = 1e-3
"""Way from the first frame's time, as a share of the scene's mean distance, from which a pixel counts as moving."""
BEHIND = 0.02
"""Share of the depth by which a point may lie behind the nearest pixels' surface and still count as in sight."""


@dataclass(frozen=True)
class TrackErrors:
    """Mean distance of points from the truth, over the mean distance of the first frame's points: of all pixels at all
    times, of those that move or stand still, and the same of (pixel, time) pairs in sight. ``share_in_sight``: of the
    pairs; ``share_moving``: of the pixels. ``staying``: the error if nothing moved at all; ``oracle``: if all were
    known but the motion out of sight, where a point stays as it was last seen.
    """

    epe: float = math.nan
    moving: float = math.nan
    still: float = math.nan
    in_sight: float = math.nan
    in_sight_moving: float = math.nan
    in_sight_still: float = math.nan
    share_in_sight: float = math.nan
    share_moving: float = math.nan
    staying: float = math.nan
    staying_in_sight: float = math.nan
    oracle: float = math.nan

    @classmethod
    def mean(cls, several: list["TrackErrors"]) -> "TrackErrors":
        """Of each figure over those that have it: not every stretch has something that moves."""
        names = cls.__dataclass_fields__
        values = [[getattr(one, name) for one in several if math.isfinite(getattr(one, name))] for name in names]
        return cls(*(sum(column) / len(column) if column else math.nan for column in values))


@dataclass(frozen=True, eq=False)
class Tracked:
    """True points of some pixels at their own time, ``first`` [pixels, 3], and at the times of ``targets``, ``points``
    [targets, pixels, 3]; ``sight`` [targets, pixels]: in the picture of that time, and not hidden.
    """

    targets: list[int]
    first: Tensor
    points: Tensor
    sight: Tensor


def in_sight(points: Tensor, c2w: Tensor, surface: Tensor, valid: Tensor) -> Tensor:
    """Whether ``points`` [n, 3] lie in the picture of the camera ``c2w`` and before what it sees there: its true points
    ``surface`` [height, width, 3], nothing where not ``valid``.
    """
    height, width = valid.shape
    w2c = invert_rigid(c2w.double())
    here, seen = transform_points(w2c, points.double()), transform_points(w2c, surface.double())
    places, depth_there = project(here, _intrinsics(seen, valid))
    inside = (depth_there > 0) & ((places > 0) & (places < places.new_tensor((width, height)))).all(-1)
    depth = torch.where(valid, seen[..., 2], torch.inf)
    # Of the four pixels around a place the farthest: at a rim, and on a floor seen from aside, they differ much.
    corner = (torch.where(inside[:, None], places, 0.5) - 0.5).floor().long()
    x = torch.stack((corner[:, 0], corner[:, 0] + 1), dim=-1).clamp(0, width - 1)
    y = torch.stack((corner[:, 1], corner[:, 1] + 1), dim=-1).clamp(0, height - 1)
    farthest = depth[y[:, :, None], x[:, None, :]].flatten(1).amax(1)
    return inside & (depth_there < (1 + BEHIND) * farthest)


def _intrinsics(seen: Tensor, valid: Tensor) -> Tensor:
    """Of the lens through which all pixels see their points, in the camera's axes: by least squares."""
    height, width = valid.shape
    rays = seen[valid][:, :2] / seen[valid][:, 2:]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    k = torch.eye(3, dtype=seen.dtype)
    for axis, places in enumerate((x[valid].to(seen), y[valid].to(seen))):
        line = torch.stack((rays[:, axis], torch.ones_like(places)), dim=-1)
        k[axis, axis], k[axis, 2] = torch.linalg.lstsq(line, places[:, None]).solution[:, 0]
    return k


def track_errors(truth: Tracked, first: Tensor, read: Callable[[int], Tensor]) -> TrackErrors:
    """Of ``read(target)`` [pixels, 3], where ``first`` are the same pixels at their own time; both in the camera that
    the truth is in, and in any unit: each is taken over the mean distance of its ``first``.
    """
    if not truth.targets:
        return TrackErrors()
    unit, true_unit = first.norm(dim=-1).mean(), truth.first.norm(dim=-1).mean()
    true, own = truth.points / true_unit, truth.first / true_unit
    moving = ((true - own).norm(dim=-1) > MOVES).any(0).expand_as(truth.sight)
    errors = torch.stack([(read(t) / unit - at).norm(dim=-1) for t, at in zip(truth.targets, true)])
    stay = (first / unit - true).norm(dim=-1)
    sight, everything = truth.sight, torch.ones_like(truth.sight)
    last, missed = own, []
    for at, seen in zip(true, sight):
        last = torch.where(seen[:, None], at, last)
        missed.append((last - at).norm(dim=-1))
    groups = (everything, moving, ~moving, sight, sight & moving, sight & ~moving)
    return TrackErrors(
        *(_mean(errors, group) for group in groups),
        share_in_sight=float(sight.double().mean()),
        share_moving=float(moving[0].double().mean()),
        staying=_mean(stay, everything),
        staying_in_sight=_mean(stay, sight),
        oracle=float(torch.stack(missed).mean()),
    )


def _mean(errors: Tensor, chosen: Tensor) -> float:
    return float(errors[chosen].mean()) if bool(chosen.any()) else math.nan

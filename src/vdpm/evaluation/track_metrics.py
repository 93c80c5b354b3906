"""Errors of 3D tracks as benchmarks other than the paper's define them: WorldTrack's and TAPVid-3D's.

WorldTrack (St4RTrack; 4RC and others report it): points in the world, over all times, visible or not. TAPVid-3D
(Koppula et al., 2024): points in the camera of each time, with visibility, within distances that are pixels at the
point's depth.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.geometry.alignment import umeyama

WORLD_DISTANCES = (0.1, 0.3, 0.5, 1.0)
"""Metres within which WorldTrack counts a point as right."""
WORLD_TRAVEL = 0.01
"""Metres of way over all times above which WorldTrack calls a point dynamic."""
PIXEL_DISTANCES = (1, 2, 4, 8, 16)
"""Pixels, at the depth of the true point, within which TAPVid-3D counts a point as right."""
TAPVID_SIDE = 256
"""Shorter side of the pictures whose pixels these are."""


@dataclass(frozen=True)
class WorldTrackErrors:
    """``apd``: share of points within a distance, mean over WORLD_DISTANCES. ``epe``: mean distance, in metres.

    NaN where there is no such point, or where the alignment is open.
    """

    apd: float
    epe: float


@dataclass(frozen=True)
class TAPVid3DErrors:
    """``average_jaccard`` (3D-AJ), ``apd`` (APD_3D) and ``occlusion_accuracy`` (OA), shares in [0, 1]; NaN if none."""

    average_jaccard: float
    apd: float
    occlusion_accuracy: float


def world_track_errors(
    predicted: Float[Tensor, "times tracks 3"],
    true: Float[Tensor, "times tracks 3"],
    known: Bool[Tensor, "times tracks"],
    align: str = "median",
    distances: tuple[float, ...] = WORLD_DISTANCES,
) -> WorldTrackErrors:
    """Points in the world of frame 0, ``true`` in metres; ``known``: where there is truth.

    ``align``: "median" scales the prediction by the ratio of the median distances from the first camera, "sim3" fits a
    similarity to all points by least squares, "none" leaves it. A point at exactly a distance is within it.
    Raises UsageError for another ``align``.
    """
    p, t = predicted[known].double(), true[known].double()
    if align not in ("none", "median", "sim3"):
        raise UsageError(f"no alignment of tracks {align!r}; choose none, median or sim3")
    if not len(p):
        return WorldTrackErrors(math.nan, math.nan)
    if align == "median":
        p = p * _middle(t.norm(dim=-1)) / _middle(p.norm(dim=-1)).clamp(min=1e-12)
    elif align == "sim3":
        try:
            p = umeyama(p, t).apply(p)
        except UsageError:
            return WorldTrackErrors(math.nan, math.nan)
    distance = (p - t).norm(dim=-1)
    within = [(distance <= limit).double().mean() for limit in distances]
    return WorldTrackErrors(torch.stack(within).mean().item(), distance.mean().item())


def dynamic_tracks(
    true: Float[Tensor, "times tracks 3"], known: Bool[Tensor, "times tracks"], travel: float = WORLD_TRAVEL
) -> Bool[Tensor, "tracks"]:
    """Which points go a longer way than ``travel`` over all times, from each to the next where both are known."""
    steps = (true[1:] - true[:-1]).norm(dim=-1)
    return torch.where(known[1:] & known[:-1], steps, 0.0).sum(0) > travel


def tapvid3d_errors(
    predicted: Float[Tensor, "times tracks 3"],
    true: Float[Tensor, "times tracks 3"],
    predicted_visible: Bool[Tensor, "times tracks"],
    visible: Bool[Tensor, "times tracks"],
    known: Bool[Tensor, "times tracks"],
    focal: Float[Tensor, "times"],
    align: str = "median",
) -> TAPVid3DErrors:
    """Points in the camera of each time. ``focal``: sqrt(fx fy), in pixels of a picture of TAPVID_SIDE.

    ``align`` "median": the prediction is scaled by the ratio of the median distances from the cameras, over points that
    both sides call visible. A point is right where it is nearer to the truth than so many times its depth over
    ``focal``. Jaccard: points right and visible on both sides, over those truly visible and those wrongly called
    visible (hidden, or not right). Pixels and times without truth (not ``known``) count nowhere.
    """
    if align not in ("none", "median"):
        raise UsageError(f"no alignment of tracks in cameras {align!r}; choose none or median")
    p, t = predicted.double(), true.double()
    if align == "median":
        both = known & visible & predicted_visible
        if not bool(both.any()):
            return TAPVid3DErrors(math.nan, math.nan, _share(predicted_visible == visible, known))
        p = p * _middle(t[both].norm(dim=-1)) / _middle(p[both].norm(dim=-1)).clamp(min=1e-6)
    distance = (p - t).norm(dim=-1)
    limit = (t[..., 2] / focal.double()[:, None]).abs()
    seen = known & visible
    jaccards, shares = [], []
    for pixels in PIXEL_DISTANCES:
        near = distance < pixels * limit
        right = near & seen & predicted_visible
        wrong = known & predicted_visible & ~(visible & near)
        jaccards.append(right.sum() / (seen.sum() + wrong.sum()))
        shares.append((near & seen).sum() / seen.sum())
    return TAPVid3DErrors(
        average_jaccard=torch.stack(jaccards).mean().item(),
        apd=torch.stack(shares).mean().item(),
        occlusion_accuracy=_share(predicted_visible == visible, known),
    )


def _middle(values: Float[Tensor, "values"]) -> Float[Tensor, ""]:
    """The median as NumPy has it: the mean of two middle values."""
    ordered = values.sort().values
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _share(right: Tensor, of: Tensor) -> float:
    return (right & of).sum().item() / max(1, int(of.sum())) if bool(of.any()) else math.nan

"""Scene flow and the pixels that move."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.structures import Reconstruction

LEAST_MOTION = 0.01
"""Displacement, as a share of the distance (see ``displacement``), below which nothing counts as moving by default."""
NOISE_FACTOR = 4.0
"""Of the lower quartile of displacements, which estimates noise. For displacements of deviation s in each
coordinate (Gaussian) the quartile is 1.10 s, and 1 still pixel in 4,000 exceeds four times that (fewer where several
times are kept: farthest displacements scatter less). Three quarters of the pixels may move before the estimate
breaks; with the median, one half."""
DOUBT = 4.0
"""How much a displacement counts less with doubt: a fifth where confidence is 1. Sky and far
background, of confidence near 1 in real videos, would else pass for moving."""


def scene_flow(reconstruction: Reconstruction, source: int, start: int, end: int) -> Float[Tensor, "height width 3"]:
    """World displacement of each pixel of ``source`` from the time of frame ``start`` to that of ``end``.

    P_i(t_end) - P_i(t_start), Sec. 3.1. Both are maps of the decoder where the result keeps them, also at the frame's
    own time: what the decoder gets wrong at every time alike cancels. Where the own time is not kept, P takes its
    place. Raises UsageError for a time that the result does not keep.
    """
    return _at_time(reconstruction, end, source) - _at_time(reconstruction, start, source)


def displacement(reconstruction: Reconstruction, source: int, target: int) -> Float[Tensor, "height width"]:
    """How far each pixel of ``source`` has moved at the time of ``target``, over its distance from the camera.

    The distance is that from its own or from the reference camera, whichever is larger: the errors of point maps grow
    with both, so this share has about the same noise everywhere.
    """
    points = _at_time(reconstruction, source, source)
    own = (points - reconstruction.cameras.centers[source].float()).norm(dim=-1)
    distance = torch.maximum(own, points.norm(dim=-1))
    moved = (reconstruction.maps.at(target, source).points - points).norm(dim=-1)
    return moved / distance.clamp(min=torch.finfo(distance.dtype).tiny)


def motion_mask(
    reconstruction: Reconstruction, source: int, threshold: float | None = None
) -> Bool[Tensor, "height width"]:
    """Pixels of ``source`` whose world point moves by more than ``threshold``, at any kept target.

    In a clip of several windows: at any that the network saw beside ``source``, or at the nearest where it saw none.

    ``threshold`` is a share of the point's distance (see ``displacement``), the same for all pixels. By default each
    displacement is first divided by 1 + ``DOUBT`` / confidence, and the threshold is the larger of 1 % and four times
    the lower quartile of all pixels' farthest: most of a scene stands still, so that quartile measures noise. Padded
    pixels are False. Raises UsageError when no target but the frame's own is kept.
    """
    maps, content = reconstruction.maps, reconstruction.content
    targets = [target for target in maps.together(source) if target != source]
    if not targets:
        # The frame whose own time its window shows: the nearest time of another window says what moves.
        others = [target for target in maps.targets if target != source]
        targets = [min(others, key=lambda target: abs(target - source))] if others else []
    if not targets:
        raise UsageError(f"motion of frame {source} needs another target than its own; reconstruct with --targets all")
    if threshold is not None and not threshold > 0:
        raise UsageError(f"threshold {threshold} must be above 0, a share of the distance from the camera")
    own_confidence = maps.time_variant(source).confidence
    farthest = torch.zeros(reconstruction.size)
    for target in targets:
        moved = displacement(reconstruction, source, target)
        if threshold is None:
            moved = moved / (1 + DOUBT / torch.minimum(maps.at(target, source).confidence, own_confidence))
        farthest = torch.maximum(farthest, moved)
    if threshold is None:
        threshold = max(LEAST_MOTION, NOISE_FACTOR * float(farthest[content].quantile(0.25)))
    return (farthest > threshold) & content


def _at_time(reconstruction: Reconstruction, target: int, source: int) -> Float[Tensor, "height width 3"]:
    """P_i(t_j) from the decoder, and P at the frame's own time where the result does not keep that target."""
    maps = reconstruction.maps
    decoded = target in maps.targets
    return (maps.time_invariant(target, source) if decoded else maps.at(target, source)).points

"""Whether pictures and depth belong together: things end in both at the same places.

Where depth jumps, colours usually change as well. If they do so clearly more in the picture before or after than in the
frame's own, files are off by one.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.data.checks.found import SequenceCheck
from vdpm.data.frame import Frame

JUMP = 0.1
"""Of depth from one pixel to the next, as a share of itself: an edge of a thing."""
FEWEST_EDGES = 150
CLEARLY_MORE = 1.12
"""Times the change of colour at edges of depth."""
MOST_PIXELS = 320
"""Larger pictures are looked at in steps."""


def check_pairing(read: dict[int, Frame], check: SequenceCheck) -> None:
    """Adds a measure, and a finding where pictures fit the depth of their neighbours better than their own."""
    scores: dict[int, list[float]] = {-1: [], 0: [], 1: []}
    for index, frame in read.items():
        if index - 1 not in read or index + 1 not in read:
            continue
        edges = _edges_of_depth(frame)
        if int(edges.sum()) < FEWEST_EDGES:
            continue
        pictures = {shift: _changes(read[index + shift]) for shift in scores}
        if len({picture.shape for picture in pictures.values()}) > 1:
            return
        for shift, changes in pictures.items():
            scores[shift].append(float(changes[edges].mean() / changes.mean().clamp_min(1e-6)))
    if not scores[0]:
        return
    before, own, after = (sum(scores[shift]) / len(scores[shift]) for shift in (-1, 0, 1))
    check.measures |= {"edges_in_common": own, "edges_with_neighbours": max(before, after)}
    if max(before, after) > CLEARLY_MORE * own and min(before, after) < own:
        which = "before" if before > after else "after"
        check.findings.append(
            f"edges of depth fit the picture {which} ({max(before, after):.2f}) better than their own ({own:.2f}): "
            "pictures and depth are paired off by one"
        )


def _edges_of_depth(frame: Frame) -> Bool[Tensor, "height width"]:
    step = _step(frame)
    depth = frame.depth[::step, ::step].double()
    valid = frame.valid[::step, ::step]
    edges = torch.zeros_like(valid)
    for axis in (0, 1):
        one, other = depth.narrow(axis, 0, depth.shape[axis] - 1), depth.narrow(axis, 1, depth.shape[axis] - 1)
        known = valid.narrow(axis, 0, valid.shape[axis] - 1) & valid.narrow(axis, 1, valid.shape[axis] - 1)
        jump = known & ((one - other).abs() > JUMP * torch.minimum(one, other))
        edges.narrow(axis, 0, jump.shape[axis]).logical_or_(jump)
        edges.narrow(axis, 1, jump.shape[axis]).logical_or_(jump)
    return edges


def _changes(frame: Frame) -> Float[Tensor, "height width"]:
    """How much the grey value changes from each pixel to those beside and below it, in both directions."""
    step = _step(frame)
    grey = frame.image[::step, ::step].float().mean(-1)
    found = torch.zeros_like(grey)
    for axis in (0, 1):
        change = grey.diff(dim=axis).abs()
        found.narrow(axis, 0, change.shape[axis]).add_(change)
        found.narrow(axis, 1, change.shape[axis]).add_(change)
    return found


def _step(frame: Frame) -> int:
    return max(1, -(-max(frame.depth.shape) // MOST_PIXELS))

"""Scenes shown more than once: which step shows which batch, and what is new about it when it comes back.

To make a batch is dear: sampling, tracing, shading, the sensor. What follows is cheap and makes another example of it:
other target times, another reference view, left and right exchanged, other colours. Running clips backwards would add
nothing: the network is the same function whatever the order of frames.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vdpm.data.clips import mirrored
from vdpm.geometry.rigid import transform_points
from vdpm.structures import Snippet

GAP = 8
"""Batches in a row that are new, and then come back in the same order: so many are kept."""


class Turn(NamedTuple):
    """What a step shows: batch number ``batch`` for the ``use``-th time (from 0), first shown at ``first_step``."""

    batch: int
    use: int
    first_step: int


def turn_of(step: int, uses: int) -> Turn:
    """``GAP`` new batches, the same again until each has been shown ``uses`` times, then new ones."""
    cycle, within = divmod(step, GAP * uses)
    use, place = divmod(within, GAP)
    return Turn(cycle * GAP + place, use, cycle * GAP * uses + place)


def first_step(batch: int, uses: int) -> int:
    """The step that shows batch number ``batch`` for the first time."""
    cycle, place = divmod(batch, GAP)
    return cycle * GAP * uses + place


def another_use(snippet: Snippet, use: int, uses: int, reference: int) -> Snippet:
    """Use number ``use`` of ``uses`` of a batch whose targets are those of all uses, one after the other.

    In the world of frame ``reference``; mirrored in every second use. Not yet in unit scale.
    """
    columns: dict[str, Any] = {}
    if uses > 1:
        count = snippet.targets.shape[-1] // uses
        axes = Snippet.TARGET_AXES.items()
        columns = {n: v.narrow(a, use * count, count) for n, a in axes if (v := getattr(snippet, n)) is not None}
    snippet = seen_from(replace(snippet, **columns), reference)
    return mirrored(snippet) if use % 2 else snippet


def seen_from(snippet: Snippet, reference: int) -> Snippet:
    """The same batch of clips with frame ``reference``'s camera for the world. Nothing is copied to the device."""
    if reference == snippet.reference:
        return snippet
    pose = snippet.c2w[:, reference]
    turn = pose[:, :3, :3].transpose(-1, -2)
    w2c = torch.zeros_like(pose)
    w2c[:, :3, :3] = turn
    w2c[:, :3, 3:] = -(turn @ pose[:, :3, 3:])
    w2c[:, 3, 3] = 1
    c2w = w2c[:, None] @ snippet.c2w
    # Exactly, as where the scene was made for this reference.
    c2w[:, reference] = torch.eye(4, device=c2w.device, dtype=c2w.dtype)
    return replace(
        snippet,
        c2w=c2w,
        points=transform_points(w2c, snippet.points),
        target_points=transform_points(w2c, snippet.target_points),
        reference=reference,
    )


def kept(snippet: Snippet) -> Snippet:
    """Without what training does not read, for the time until the batch comes back."""
    return replace(snippet, instances=None, visible=None)


def kept_bytes(snippet: Snippet) -> int:
    """What a batch costs in memory until it has been used up."""
    return sum(v.numel() * v.element_size() for v in vars(snippet).values() if isinstance(v, Tensor))

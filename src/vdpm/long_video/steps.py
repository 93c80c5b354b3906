"""From frame to frame as the windows' camera heads say, in the large as the alignment does.

Poses of the alignment follow the points, which hold windows together; a frame near a border then lies where two
windows meet, each with errors of its own. What a camera head says of neighbouring frames in one window is finer than
that, though its paths bend: so each window gives steps, and positions are those that keep to the steps and, loosely, to
where they were. Where windows do not agree on the steps, positions stay.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vdpm.geometry.alignment import Similarity
from vdpm.long_video.observations import Observations

ANCHOR = 0.003
"""Weight of where a frame was, over that of a step. Steps so lead over some 1 / sqrt(ANCHOR) = 18 frames; on two scenes
anything from 0.0003 to 0.03 did about as well."""
HELD = 1e6
"""The same of a frame whose pose is known."""
LONGEST = 2.0
"""Most by which a window's steps are drawn out to the length of the way that they are to follow."""


def follow_steps(
    seen: Observations,
    windows: Similarity,
    c2w: Float[Tensor, "frames 4 4"],
    entry_weight: Float[Tensor, "entries"],
    fixed: Bool[Tensor, "frames"],
) -> Float[Tensor, "frames 4 4"]:
    """``c2w`` with positions that follow the steps; rotations stay, and so do poses of ``fixed`` frames.

    ``windows``: each window's world -> the common one. Each window's steps are brought to the length of its frames' way
    in ``c2w``, count less towards its borders, and as far as ``entry_weight`` believes what it says of both frames.
    All stays where two windows differ more about a step than they do from ``c2w``.
    """
    positions, anchor = c2w[:, :3, 3], torch.where(fixed, HELD, ANCHOR).to(c2w)
    first, step, weight = _steps(seen, windows, positions, entry_weight)
    if not _agreed(first, step, positions):
        return c2w
    # Normal equations of |x_j - x_i - step|^2 over all steps and anchor * |x_i - position_i|^2: each frame meets the
    # one before and the one after.
    after, pull = first + 1, weight[:, None] * step
    diagonal = anchor.index_add(0, first, weight).index_add(0, after, weight)
    beside = torch.zeros_like(anchor).index_add(0, first, -weight)
    rhs = (anchor[:, None] * positions).index_add(0, after, pull).index_add(0, first, -pull)
    followed = c2w.clone()
    followed[:, :3, 3] = torch.where(fixed[:, None], positions, _solved_along(diagonal, beside[:-1], rhs))
    return followed


def _steps(
    seen: Observations, windows: Similarity, positions: Tensor, entry_weight: Tensor
) -> tuple[Int[Tensor, "steps"], Float[Tensor, "steps 3"], Float[Tensor, "steps"]]:
    """All steps to the next frame, by window: the frame before, the step in the common world, its weight."""
    firsts, steps, weights = [], [], []
    for window in seen.window.unique().tolist():
        entries = (seen.window == window).nonzero()[:, 0]
        entries = entries[seen.frame[entries].argsort()]
        frames, count = seen.frame[entries], len(entries)
        own = windows.scale[window] * seen.c2w[entries, :3, 3] @ windows.rotation[window].T
        row = torch.arange(1, count, device=frames.device)
        believed = torch.minimum(entry_weight[entries[1:]], entry_weight[entries[:-1]])
        next_frames = frames[1:] == frames[:-1] + 1
        firsts.append(frames[:-1][next_frames])
        steps.append(_drawn_out(own, positions[frames])[next_frames])
        weights.append((believed * torch.minimum(row, count - row) / count)[next_frames])
    return torch.cat(firsts), torch.cat(steps), torch.cat(weights)


def _agreed(first: Tensor, step: Tensor, positions: Tensor) -> bool:
    """Whether windows agree on the steps that two of them tell, more than these do with the way as it is."""
    order = first.argsort(stable=True)
    first, step = first[order], step[order]
    twice = (first[1:] == first[:-1]).nonzero()[:, 0]
    if not len(twice):
        return False
    between = (step[twice + 1] - step[twice]).norm(dim=-1).median()
    from_way = (positions[first + 1] - positions[first] - step).norm(dim=-1).median()
    return bool(between < from_way)


def _solved_along(
    diagonal: Float[Tensor, "n"], beside: Float[Tensor, "n-1"], rhs: Float[Tensor, "n 3"]
) -> Float[Tensor, "n 3"]:
    """Solves a symmetric tridiagonal system with a heavy diagonal (Thomas), in time that grows with n."""
    pivots, couplings, rows = diagonal.tolist(), beside.tolist(), rhs.tolist()
    for k, coupling in enumerate(couplings):
        share = coupling / pivots[k]
        pivots[k + 1] -= share * coupling
        rows[k + 1] = [value - share * before for value, before in zip(rows[k + 1], rows[k])]
    found = [[value / pivots[-1] for value in rows[-1]]]
    for k in reversed(range(len(couplings))):
        found.append([(value - couplings[k] * after) / pivots[k] for value, after in zip(rows[k], found[-1])])
    return rhs.new_tensor(found[::-1])


def _drawn_out(own: Float[Tensor, "n 3"], way: Float[Tensor, "n 3"]) -> Float[Tensor, "n-1 3"]:
    """Steps of ``own`` by the factor that brings it nearest to ``way``; none for one that goes against it."""
    centred, wanted = own - own.mean(0), way - way.mean(0)
    factor = (centred * wanted).sum() / centred.square().sum().clamp(min=1e-30)
    return factor.clamp(0, LONGEST) * (own[1:] - own[:-1])

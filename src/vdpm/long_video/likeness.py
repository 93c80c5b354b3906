"""What frames look like, in little: where shots change, and where the camera comes back to a place."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

ROWS, COLUMNS = 9, 16
"""Of a thumbnail: coarse enough that a person walking through changes little of it."""

CUT = 0.1
"""Least mean difference of thumbnails (of 1) at a cut. Within a shot of usual video it is below 0.05 at 5 frames a
second."""
CUT_RATIO = 3.5
"""How many times as large a cut's difference is as the largest of those beside it."""
SHORTEST_SHOT = 4
"""Frames. What is shorter (a flash, a lamp going out) is no shot of its own."""

COMPARED = 2000
"""Frames of a clip, spread over all of it, that are compared with each other at most."""
ALIKE = 0.9
"""Correlation from which two thumbnails may show one place. The alignment tells the wrong ones."""


def thumbnails(frames: UInt8[Tensor, "frames height width 3"]) -> Float[Tensor, "frames 3 rows columns"]:
    """Means over a grid of cells, in [0, 1]; 16 frames in memory as floats at a time."""
    parts = [
        F.adaptive_avg_pool2d(part.permute(0, 3, 1, 2).float() / 255, (ROWS, COLUMNS)) for part in frames.split(16)
    ]
    return torch.cat(parts)


def find_shots(small: Float[Tensor, "frames 3 rows columns"]) -> list[tuple[int, int]]:
    """(first, stop) of each shot. A cut is a difference that stands out from those before and after it."""
    count = len(small)
    if count < 2 * SHORTEST_SHOT:
        return [(0, count)]
    # Of the picture and of its colours regardless of place: a fast pan changes the one and hardly the other.
    moved = (small[1:] - small[:-1]).abs().mean((1, 2, 3))
    colours = _histograms(small)
    changed = (colours[1:] - colours[:-1]).abs().sum(1) / 2
    difference = (moved * (0.25 + changed)).sqrt() * moved.sqrt()
    borders = [0]
    for cut in range(count - 1):
        around = torch.cat((difference[max(0, cut - 4) : cut], difference[cut + 1 : cut + 5]))
        stands_out = float(difference[cut]) > CUT_RATIO * float(around.median()) and difference[cut] >= around.max()
        if moved[cut] > CUT and stands_out and changed[cut] > 0.2 and cut + 1 - borders[-1] >= SHORTEST_SHOT:
            borders.append(cut + 1)
    if count - borders[-1] < SHORTEST_SHOT and len(borders) > 1:
        borders.pop()
    return list(zip(borders, [*borders[1:], count]))


def find_loops(small: Float[Tensor, "frames 3 rows columns"], gap: int, most: int = 8) -> list[tuple[int, int]]:
    """Pairs of frames, at least ``gap`` apart, that look like the same place seen again; best first.

    Thumbnails are compared after their own mean and contrast are taken off, so that light may change. No two pairs
    lie within ``gap`` / 2 of each other at both ends. A camera that stands still looks the same all along: pairs
    between which the picture has not been a different one are no loops.
    """
    every = math.ceil(len(small) / COMPARED)
    flat, gap = small[::every].flatten(1), math.ceil(gap / every)
    flat = flat - flat.mean(1, keepdim=True)
    flat = flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-6)
    alike = flat @ flat.T
    pairs: list[tuple[int, int]] = []
    apart = torch.ones_like(alike, dtype=torch.bool).triu(gap)
    scores = torch.where(apart & (alike > ALIKE), alike, -1.0)
    while len(pairs) < most and scores.numel() and float(scores.max()) > 0:
        a, b = divmod(int(scores.argmax()), scores.shape[1])
        near = gap // 2
        scores[max(0, a - near) : a + near + 1, max(0, b - near) : b + near + 1] = -1.0
        if float(alike[a, a : b + 1].min()) < ALIKE - 0.25:
            pairs.append((every * a, every * b))
    return pairs


def _histograms(small: Float[Tensor, "frames 3 rows columns"]) -> Float[Tensor, "frames bins"]:
    """Share of cells in each of 6 x 6 x 6 soft colour bins; nearest alone would flicker."""
    level = small.clamp(0, 1) * 5
    low = level.floor().clamp(max=4)
    share = level - low
    bins = torch.zeros(len(small), 216)
    for corner in range(8):
        picks = [(corner >> axis) & 1 for axis in range(3)]
        index = sum((low[:, axis] + picks[axis]).long() * 6**axis for axis in range(3))
        weight = torch.ones_like(share[:, 0])
        for axis in range(3):
            weight = weight * (share[:, axis] if picks[axis] else 1 - share[:, axis])
        bins.scatter_add_(1, torch.as_tensor(index).flatten(1), weight.flatten(1))
    return bins / (ROWS * COLUMNS)

"""Where each window lies to begin with: similarities between windows that share frames, along a spanning tree."""

from itertools import combinations
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.geometry.alignment import Similarity, umeyama
from vdpm.long_video.observations import Observations

SHARED_FRAMES = 8
"""Shared frames that a pair is fitted to, spread over all it shares."""
ROUNDS = 12
FEWEST = 30
"""Points that place a window."""
FINEST = 0.002
"""Share of a point's distance below which no error is told from noise."""
TOGETHER = 128
"""Pairs that are fitted at a time: their points are the most of what the start needs of memory."""
AGREEING = 0.1
"""Points of a pair that lie within this share of their distance agree."""


class Edges(NamedTuple):
    """Pairs of windows that share frames. ``a``, ``b``: the windows; ``similarity``: a's world -> b's world.

    ``score``: how much the tree should like the pair: agreeing weight over error. ``agreeing``: share of the weight
    of points that agree within a tenth of their distance. ``error``: their median disagreement, as a share of it.
    """

    a: Int[Tensor, "edges"]
    b: Int[Tensor, "edges"]
    similarity: Similarity
    score: Float[Tensor, "edges"]
    agreeing: Float[Tensor, "edges"]
    error: Float[Tensor, "edges"]


def fit_edges(seen: Observations, robust: bool = True) -> Edges:
    """Fits a similarity to each pair of windows that share a frame, on the pixels that both have of it.

    Shared frames show the same pixels at the same time, so moving pixels count like still ones. Errors are taken as
    shares of the distance from the camera, which is how errors of point maps grow. ``robust``: iterated weights of
    Geman and McClure; else plain least squares. Raises UsageError where two windows share nothing that fixes one.
    """
    pairs = _shared_entries(seen)
    parts = [_fit_pairs(seen, _Pairs(*part), robust) for part in zip(*(field.split(TOGETHER) for field in pairs))]
    similarity = Similarity(*(torch.cat(part) for part in zip(*(edges.similarity for edges in parts))))
    numbers = (torch.cat(part) for part in zip(*((edges.score, edges.agreeing, edges.error) for edges in parts)))
    return Edges(pairs.a, pairs.b, similarity, *numbers)


def _fit_pairs(seen: Observations, pairs: "_Pairs", robust: bool) -> Edges:
    first, second = pairs.entries_a, pairs.entries_b
    a, b = seen.points[first].flatten(1, 2), seen.points[second].flatten(1, 2)
    present = pairs.present[..., None]
    weight = (present * (seen.weights[first] * seen.weights[second]).sqrt()).flatten(1, 2)
    depth = (seen.points[second] - seen.c2w[second][:, :, None, :3, 3]).norm(dim=-1).flatten(1, 2)
    depth = depth.clamp(min=1e-6)
    similarity = _robust(a, b, weight, depth) if robust else _fit(a, b, weight)
    error = (similarity.apply(a) - b).norm(dim=-1) / depth
    agreeing = (weight * (error < AGREEING)).sum(-1)
    middle = _weighted_median(error, weight).clamp(min=FINEST)
    return Edges(pairs.a, pairs.b, similarity, agreeing / middle, agreeing / weight.sum(-1), middle)


def fit_windows(
    seen: Observations,
    start: Similarity,
    points: Float[Tensor, "frames samples 3"],
    reach: Float[Tensor, "frames samples"],
) -> Similarity:
    """Each window's world -> that of ``points``, robustly, by the pixels of all its frames. ``reach``: how far a point
    is from its camera, 0 where none is known; a window of which next to nothing is known stays at ``start``.
    """
    parts = []
    for window in range(seen.num_windows):
        entries = (seen.window == window).nonzero()[:, 0]
        frames = seen.frame[entries]
        far = reach[frames].flatten()[None]
        weight = seen.weights[entries].flatten()[None] * (far > 0)
        if int((weight > 0).sum()) < FEWEST:
            parts.append(Similarity(*(part[window : window + 1] for part in start)))
            continue
        own, there = seen.points[entries].flatten(0, 1)[None], points[frames].flatten(0, 1)[None]
        parts.append(_robust(own, there, weight, torch.where(far > 0, far, 1.0)))
    return Similarity(*(torch.cat(part) for part in zip(*parts)))


def spanning_tree(edges: Edges, num_windows: int, placed: int = 0) -> list[int]:
    """Edges of a maximum spanning forest by ``score``, best first (Kruskal). The first ``placed`` windows count as
    one already.
    """
    parent = [0 if window < placed else window for window in range(num_windows)]

    def root(window: int) -> int:
        while parent[window] != window:
            parent[window] = parent[parent[window]]
            window = parent[window]
        return window

    chosen = []
    for edge in edges.score.argsort(descending=True, stable=True).tolist():
        a, b = root(int(edges.a[edge])), root(int(edges.b[edge]))
        if a != b:
            parent[a] = b
            chosen.append(edge)
    return chosen


def chain(edges: Edges, num_windows: int) -> list[int]:
    """Edges from each window to the next. Raises UsageError where two neighbours share no frame."""
    number = {(a, b): edge for edge, (a, b) in enumerate(zip(edges.a.tolist(), edges.b.tolist()))}
    try:
        return [number[window, window + 1] for window in range(num_windows - 1)]
    except KeyError as missing:
        raise UsageError(f"windows {missing} share no frame; use a larger overlap") from None


def place(edges: Edges, chosen: list[int], num_windows: int, start: Similarity | None = None) -> Similarity:
    """Each window's world -> that of window 0, along ``chosen`` edges; with ``start``, which says where the first
    windows lie, -> the world of those.

    Raises UsageError when some window is not reached.
    """
    matrix = edges.similarity.matrix()
    neighbours: dict[int, list[tuple[int, Tensor]]] = {window: [] for window in range(num_windows)}
    for edge in chosen:
        a, b = int(edges.a[edge]), int(edges.b[edge])
        neighbours[b].append((a, matrix[edge]))
        neighbours[a].append((b, torch.linalg.inv(matrix[edge])))
    placed = {0: torch.eye(4).to(matrix)} if start is None else dict(enumerate(start.matrix().to(matrix)))
    waiting = list(placed)
    while waiting:
        window = waiting.pop()
        for other, to_window in neighbours[window]:
            if other not in placed:
                placed[other] = placed[window] @ to_window
                waiting.append(other)
    if len(placed) < num_windows:
        lost = sorted({*range(num_windows)} - {*placed})
        raise UsageError(f"windows {lost} share no frame with the others; use a larger overlap or more windows")
    stacked = torch.stack([placed[window] for window in range(num_windows)])
    scale = torch.linalg.det(stacked[:, :3, :3]).pow(1 / 3)
    return Similarity(scale, stacked[:, :3, :3] / scale[:, None, None], stacked[:, :3, 3])


class _Pairs(NamedTuple):
    a: Tensor
    b: Tensor
    entries_a: Tensor
    entries_b: Tensor
    present: Tensor


def _shared_entries(seen: Observations) -> _Pairs:
    """For each pair of windows the entries of frames that both hold, at most ``SHARED_FRAMES`` of them."""
    entries: list[dict[int, int]] = [{} for _ in range(seen.num_windows)]
    holders: dict[int, list[int]] = {}
    for entry, (window, frame) in enumerate(zip(seen.window.tolist(), seen.frame.tolist())):
        entries[window][frame] = entry
        holders.setdefault(frame, []).append(window)
    frames_of: dict[tuple[int, int], list[int]] = {}
    for frame, windows in sorted(holders.items()):
        for a, b in combinations(sorted(windows), 2):
            frames_of.setdefault((a, b), []).append(frame)
    ends = sorted(frames_of)
    held: tuple[list[list[int]], list[list[int]]] = ([], [])
    for a, b in ends:
        shared = frames_of[a, b]
        step = max(1.0, len(shared) / SHARED_FRAMES)
        picked = [shared[int(k * step)] for k in range(min(len(shared), SHARED_FRAMES))]
        for side, window in zip(held, (a, b)):
            side.append([entries[window][frame] for frame in picked])
    if not ends:
        raise UsageError("no two windows share a frame; use a larger overlap")
    longest = max(map(len, held[0]))
    device = seen.points.device

    def padded(rows: list[list[int]]) -> Tensor:
        return torch.tensor([row + row[:1] * (longest - len(row)) for row in rows], device=device)

    present = torch.tensor([[k < len(row) for k in range(longest)] for row in held[0]], device=device)
    first, second = torch.tensor(ends, device=device).unbind(-1)
    return _Pairs(first, second, padded(held[0]), padded(held[1]), present)


def _fit(source: Tensor, target: Tensor, weights: Tensor) -> Similarity:
    """All pairs at once; where one leaves its rotation open, one by one, with nothing moved for those."""
    try:
        return umeyama(source, target, weights)
    except UsageError:
        fits = []
        for one in range(len(source)):
            try:
                fits.append(umeyama(source[one], target[one], weights[one]))
            except UsageError:
                eye = torch.eye(3, dtype=source.dtype, device=source.device)
                fits.append(Similarity(eye[0, 0], eye, torch.zeros_like(eye[0])))
        return Similarity(*(torch.stack(parts) for parts in zip(*fits)))


def _robust(source: Tensor, target: Tensor, weight: Tensor, reach: Tensor) -> Similarity:
    """Errors as shares of ``reach``, with iterated weights of Geman and McClure."""
    relative = weight / reach.square()
    similarity = _fit(source, target, relative)
    for _ in range(ROUNDS):
        error = (similarity.apply(source) - target).norm(dim=-1) / reach
        sigma = _weighted_median(error, weight).clamp(min=FINEST)
        similarity = _fit(source, target, relative / (1 + (error / (2 * sigma[:, None])).square()).square())
    return similarity


def _weighted_median(values: Float[Tensor, "rows n"], weights: Float[Tensor, "rows n"]) -> Float[Tensor, "rows"]:
    order = values.argsort(dim=-1)
    cumulated = weights.gather(-1, order).cumsum(-1)
    index = torch.searchsorted(cumulated, cumulated[:, -1:] / 2).clamp(max=values.shape[-1] - 1)
    return values.gather(-1, order.gather(-1, index))[:, 0]

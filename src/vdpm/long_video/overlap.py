"""Places seen again, told by geometry: frames far apart in time whose cameras, as found so far, see the same points."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.geometry.alignment import Similarity
from vdpm.geometry.pinhole import project
from vdpm.geometry.rigid import invert_rigid
from vdpm.long_video.alignment import BELIEVED, Alignment
from vdpm.long_video.observations import Observations

EVERY = 4
"""Of the sampled points every fourth is projected."""
COMPARED = 1500
"""Frames of a clip, spread over all of it, that are compared with each other at most."""
OVERLAP = 0.4
"""Share of each frame's points that the other must have in its picture. Drift moves pictures, so not more."""
NEARER = 2.0
"""Most by which a point may be nearer to one camera than to the other."""
TURN = 0.7
"""Least cosine of the angle between two views of a point: networks do not know a thing again from behind."""


def find_overlaps(seen: Observations, found: Alignment, gap: int, most: int = 8) -> list[tuple[int, int]]:
    """Pairs of frames at least ``gap`` apart that see the same place and that no window holds together, the farthest
    apart in time first; no two pairs within ``gap`` / 2 of each other at both ends.
    """
    every = math.ceil(seen.num_frames / COMPARED)
    share = overlaps(seen, found, every)
    gap = math.ceil(gap / every)
    count, near = len(share), max(1, gap // 2)
    together = torch.zeros(count, count, dtype=torch.bool)
    window_of, frame_of = seen.window.cpu(), seen.frame.cpu()
    for window in (found.window_weight >= BELIEVED).nonzero()[:, 0].tolist():
        frames = frame_of[window_of == window] // every
        together[frames[:, None], frames] = True
    apart = (torch.arange(count) - torch.arange(count)[:, None]).clamp(min=0)
    open_pairs = (share > OVERLAP) & (apart >= gap)
    for a, b in (together.triu(gap)).nonzero().tolist():
        _close(open_pairs, a, b, near)
    pairs: list[tuple[int, int]] = []
    while len(pairs) < most and bool(open_pairs.any()):
        # The farthest apart in time tie up the most drift; among those of one stretch, the fullest view.
        score = torch.where(open_pairs, apart // near + share, torch.zeros_like(share))
        a, b = divmod(int(score.argmax()), count)
        pairs.append((every * a, every * b))
        _close(open_pairs, a, b, near)
    return pairs


def overlaps(seen: Observations, found: Alignment, every: int = 1) -> Float[Tensor, "compared compared"]:
    """The lesser share of points that frame a shows in frame b and b in a: in the picture, about as far, and seen from
    about the same side. ``every``: of so many frames one.
    """
    points, weights = (values[::every, ::EVERY] for values in _points(seen.to("cpu"), found))
    c2w, k = found.cameras.c2w[::every].double(), found.cameras.intrinsics[::every].double()
    centres, w2c = c2w[:, :3, 3], invert_rigid(c2w)
    height, width = seen.size
    away = points - centres[:, None]
    reach = away.norm(dim=-1)
    share = torch.zeros(len(points), len(points))
    for b in range(len(points)):
        local = points @ w2c[b, :3, :3].T + w2c[b, :3, 3]
        x, y = project(local, k[b])[0].unbind(-1)
        ray = points - centres[b]
        far = ray.norm(dim=-1).clamp(min=1e-9)
        alike = (ray * away).sum(-1) > TURN * far * reach
        visible = (local[..., 2] > 1e-9) & (x > 0) & (x < width) & (y > 0) & (y < height) & alike
        visible &= (far < NEARER * reach) & (reach < NEARER * far)
        share[:, b] = ((weights * visible).sum(-1) / weights.sum(-1).clamp(min=1e-9)).float()
    return torch.minimum(share, share.T)


def _points(seen: Observations, found: Alignment) -> tuple[Float[Tensor, "frames n 3"], Float[Tensor, "frames n"]]:
    """The sampled points of each frame in the common world, as the window says that is believed most."""
    points = torch.zeros(seen.num_frames, *seen.points.shape[1:], dtype=seen.points.dtype)
    weights = torch.zeros(seen.num_frames, seen.points.shape[1], dtype=seen.points.dtype)
    for entry in found.window_weight[seen.window].argsort(stable=True).tolist():
        window, frame = int(seen.window[entry]), int(seen.frame[entry])
        similarity = Similarity(*(part[window].to(points) for part in found.windows))
        points[frame], weights[frame] = similarity.apply(seen.points[entry]), seen.weights[entry]
    return points, weights


def _close(pairs: Tensor, a: int, b: int, near: int) -> None:
    pairs[max(0, a - near) : a + near + 1, max(0, b - near) : b + near + 1] = False

"""Clips by pairs: a network that knows two frames at a time, applied to pairs of a clip and aligned globally.

What the paper's DPM baseline does (Secs. 3.1 and 4.1): "it can only make predictions on pairs of frames".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.evaluation.pair_alignment import AlignedPairs, align_pairs
from vdpm.evaluation.protocol import NetworkPredictor, Prediction, Predictor
from vdpm.geometry.rigid import rigid
from vdpm.model import VDPM, Mirrored

PAIRS_AT_ONCE = 32
"""Pairs that run through the network together."""


@dataclass(frozen=True, eq=False)
class PairMaps:
    """What a network says of ``pairs`` (i, j) of frames, each in the camera of its frame i and in its own unit.

    ``own``: P_i(t_i), P_j(t_j). ``other``: P_i(t_j), P_j(t_i). ``c2w``: camera of j. ``intrinsics`` of both, pixels.
    """

    pairs: tuple[tuple[int, int], ...]
    own: Float[Tensor, "batch pairs 2 height width 3"]
    own_confidence: Float[Tensor, "batch pairs 2 height width"]
    other: Float[Tensor, "batch pairs 2 height width 3"]
    other_confidence: Float[Tensor, "batch pairs 2 height width"]
    c2w: Float[Tensor, "batch pairs 4 4"]
    intrinsics: Float[Tensor, "batch pairs 2 3 3"]


class PairwisePredictor:
    """A network applied to pairs of frames; any network will do, one of ``decoder_kind="pairwise"`` knows no more.

    ``graph`` "star": the pairs (0, k), enough for tracks of frame 0's pixels, and those that other maps asked for need;
    "complete": all pairs both ways, more to average over. The world is the camera of frame 0.
    """

    def __init__(self, model: VDPM, graph: Literal["star", "complete"] = "star") -> None:
        self.model, self.graph = model.eval(), graph

    @torch.inference_mode()
    def predict(
        self,
        images: Float[Tensor, "*batch frames 3 height width"],
        targets: Sequence[int],
        sources: Sequence[int] | None = None,
    ) -> Prediction:
        """See ``evaluation.protocol.Predictor``. Raises UsageError for a single frame and frames that do not exist."""
        batch, frames = images.shape[:-4], images.shape[-4]
        chosen = list(range(frames)) if sources is None else list(sources)
        unknown = sorted({f for f in (*targets, *chosen) if not 0 <= f < frames})
        if unknown or frames < 2:
            raise UsageError(
                f"frames {unknown} asked of a clip of {frames}; give two frames or more, and ask for those"
            )
        pairs = frame_pairs(frames, targets, chosen, self.graph)
        maps = run_pairs(self.model, images.reshape(-1, *images.shape[-4:]), pairs)
        aligned = align_pairs(maps.own, maps.own_confidence, pairs, frames)
        c2w, intrinsics = _cameras(maps, aligned, frames)
        answers = (aligned.points, _at_targets(maps, aligned, targets, chosen), c2w, intrinsics)
        return Prediction(*(a.to(images.device).reshape(*batch, *a.shape[1:]) for a in answers))


def knows_pairs_alone(model: VDPM) -> bool:
    """Whether the network takes two frames and no more, as DPM: it answers longer clips by pairs, asked to or not."""
    return model.config.decoder_kind == "pairwise"


def network_predictor(model: VDPM, pairwise: bool = False) -> Predictor:
    """All frames of a clip in one pass, or, if asked to or able to no more, by pairs that are aligned globally."""
    return PairwisePredictor(model) if pairwise or knows_pairs_alone(model) else NetworkPredictor(model)


def row_name(model: VDPM, name: str, pairwise: bool = False) -> str:
    """What tables call the network ``name`` where it answers as ``network_predictor``."""
    if isinstance(model, Mirrored):
        name = f"{name}, the mirrored clip as well"
    if knows_pairs_alone(model):
        return f"{name}, pairwise DPM aligned globally"
    return f"{name} by pairs" if pairwise else name


def frame_pairs(
    frames: int, targets: Sequence[int], sources: Sequence[int], graph: Literal["star", "complete"]
) -> tuple[tuple[int, int], ...]:
    """The pairs (i, j) to run: (0, k); then all others ("complete") or those that P_i(t_j) needs ("star")."""
    star = [(0, k) for k in range(1, frames)]
    if graph == "complete":
        others = [(i, j) for i in range(1, frames) for j in range(frames) if i != j]
    else:
        others = [(i, j) for i in sorted(set(sources)) for j in sorted(set(targets)) if i != j and i and j]
    return (*star, *others)


def run_pairs(
    model: VDPM, images: Float[Tensor, "batch frames 3 height width"], pairs: tuple[tuple[int, int], ...]
) -> PairMaps:
    """The network on each pair (i, j) of every clip, frame i as the reference view; on its device, in its own dtype."""
    weights = next(model.parameters())
    clips = images.to(weights.device, weights.dtype)
    rows = clips[:, torch.tensor(pairs, device=clips.device)].flatten(0, 1)
    parts: list[tuple[Tensor, ...]] = []
    for some in rows.split(PAIRS_AT_ONCE):
        tokens = model.encode(some, reference=0)
        at = model.decode(tokens, torch.tensor([0, 1]))
        own = model.time_variant(tokens)
        cameras = model.cameras(tokens)
        parts.append(
            (
                own.points.float(),
                own.confidence.float(),
                # Row k is the time of frame k: frame 0 at time 1, then frame 1 at time 0.
                torch.stack([at.points[:, 1, 0], at.points[:, 0, 1]], 1).float(),
                torch.stack([at.confidence[:, 1, 0], at.confidence[:, 0, 1]], 1).float(),
                cameras.c2w[:, 1].float(),
                cameras.intrinsics.float(),
            )
        )
    joined = [torch.cat(part).unflatten(0, (len(images), len(pairs))) for part in zip(*parts)]
    return PairMaps(pairs, *joined)


def _at_targets(maps: PairMaps, aligned: AlignedPairs, targets: Sequence[int], sources: Sequence[int]) -> Tensor:
    """P_i(t_j) [batch, targets, sources, h, w, 3] in the world, the mean over pairs (i, j) and (j, i) by log C."""
    moved = aligned.transforms.apply(maps.other)
    weights = (maps.other_confidence.log() + 1e-4)[..., None]
    number = {pair: e for e, pair in enumerate(maps.pairs)}

    def one(target: int, source: int) -> Tensor:
        if target == source:
            return aligned.points[:, source]
        known = [(number.get((source, target)), 0), (number.get((target, source)), 1)]
        places = [(e, side) for e, side in known if e is not None]
        total = sum(moved[:, e, side] * weights[:, e, side] for e, side in places)
        mass = sum(weights[:, e, side] for e, side in places)
        assert isinstance(total, Tensor)
        return total / mass

    if not len(targets) or not len(sources):
        batch, _, _, height, width = maps.own_confidence.shape
        return maps.own.new_zeros(batch, len(targets), len(sources), height, width, 3)
    return torch.stack([torch.stack([one(j, i) for i in sources], 1) for j in targets], 1)


def _cameras(maps: PairMaps, aligned: AlignedPairs, frames: int) -> tuple[Tensor, Tensor]:
    """c2w and intrinsics of every frame: means over the pairs it is in. Frame 0's camera is the world."""
    scale, turn, shift = aligned.transforms
    centers = aligned.transforms.apply(maps.c2w[:, :, :3, 3])
    rotations = turn @ maps.c2w[:, :, :3, :3]
    batch = maps.c2w.shape[0]
    eye = torch.eye(4, dtype=scale.dtype, device=scale.device)
    c2w, intrinsics = [eye.expand(batch, 4, 4)], []
    for frame in range(frames):
        as_first = [e for e, (i, _) in enumerate(maps.pairs) if i == frame]
        as_second = [e for e, (_, j) in enumerate(maps.pairs) if j == frame]
        lenses = torch.cat([maps.intrinsics[:, as_first, 0], maps.intrinsics[:, as_second, 1]], 1)
        intrinsics.append(lenses.mean(1))
        if frame:
            # The camera of a pair's first frame is where the similarity takes its origin.
            axes = torch.cat([turn[:, as_first], rotations[:, as_second]], 1).mean(1)
            u, _, vt = torch.linalg.svd(axes)
            u = torch.cat([u[..., :2], u[..., 2:] * torch.linalg.det(u @ vt)[:, None, None]], -1)
            center = torch.cat([shift[:, as_first], centers[:, as_second]], 1).mean(1)
            c2w.append(rigid(u @ vt, center))
    return torch.stack(c2w, 1), torch.stack(intrinsics, 1)

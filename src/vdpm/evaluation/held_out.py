"""Score a network on scenes of our own that training never draws: their seeds lie in a range of their own."""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor

from vdpm.evaluation.clip_scores import ClipScores, score_clip
from vdpm.model import VDPM
from vdpm.structures import Cameras, Snippet
from vdpm.synthetic import SceneConfig, generate, held_out_seeds


@torch.inference_mode()
def score_held_out(
    model: VDPM,
    config: SceneConfig,
    *,
    clips: int,
    device: torch.device | str = "cpu",
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> list[ClipScores]:
    """Scores of the first ``clips`` held-out scenes of ``config``; three targets each: first, middle and last frame.

    The network runs in its own dtype on ``device``. ``progress(done, clips)`` is called after each batch.
    """
    model = model.to(device).eval()
    last = config.num_frames - 1
    seeds = held_out_seeds(clips)
    scores: list[ClipScores] = []
    for start in range(0, clips, batch):
        chunk = seeds[start : start + batch]
        targets = torch.tensor([[0, last // 2, last]]).expand(len(chunk), -1).contiguous()
        truth = generate(chunk, config, device=device, targets=targets)
        tokens = model.encode(truth.images)
        time_variant = model.time_variant(tokens).points.float()
        decoded = model.decode(tokens, targets.to(device)).points.float()
        cameras = model.cameras(tokens)
        for row in range(len(chunk)):
            one = Cameras(cameras.c2w[row].float(), cameras.intrinsics[row].float(), cameras.size)
            scores.append(score_clip(time_variant[row], decoded[row], one, clip_of_batch(truth, row)))
        if progress is not None:
            progress(len(scores), clips)
    return scores


def clip_of_batch(batch: Snippet, row: int) -> Snippet:
    """One clip of a batch, without the batch axis."""
    picked: dict[str, Any] = {
        f.name: value[row] for f in fields(batch) if isinstance(value := getattr(batch, f.name), Tensor)
    }
    return replace(batch, **picked)

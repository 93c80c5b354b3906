"""Score predictors on the held-out families, beside answers that need no network, snippet by snippet."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from vdpm.evaluation.baselines import ConstantDepth, ZeroMotion, without_motion
from vdpm.evaluation.manifest import FamilyManifest
from vdpm.evaluation.protocol import Prediction, Predictor
from vdpm.evaluation.snippet_scores import (
    ProtocolOptions,
    Scores,
    camera_scores,
    frames_of,
    shape_scores,
    tracking_scores,
    two_view_scores,
)
from vdpm.structures import Snippet
from vdpm.synthetic import SceneConfig, SceneGenerator

NETWORK, ZERO_MOTION, OWN_ZERO_MOTION, PLANE = "network", "zero_motion", "own_zero_motion", "constant_depth"
"""Who answers: the predictor that is scored, the true shape without motion, the predictor's own shape without motion,
and a plane before the true cameras."""


@dataclass(frozen=True)
class SnippetScores:
    """All errors of one snippet: ``by[contender][name]``, the contenders being those above.

    Names are those of snippet_scores; those of two views have their margin before them: ``margin8.p0_t1``.
    """

    family: str
    seed: int
    by: dict[str, Scores]


@torch.inference_mode()
def score_family(
    predictor: Predictor,
    manifest: FamilyManifest,
    *,
    clips: int | None = None,
    config: SceneConfig | None = None,
    device: torch.device | str = "cpu",
    batch: int = 2,
    options: ProtocolOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[SnippetScores]:
    """Scores of the first ``clips`` snippets (all where None), as they are made: ``batch`` at a time on ``device``.

    ``config``: other settings than the manifest's, such as another size; the figures are then not those of the family.
    ``progress(done, clips)`` is called at the start and after each batch.
    """
    options = options or ProtocolOptions()
    config = config or manifest.config
    generator = SceneGenerator(config, device)
    seeds = manifest.seeds(clips)
    frames = torch.arange(config.num_frames)
    if progress is not None:
        progress(0, len(seeds))
    for start in range(0, len(seeds), batch):
        chunk = seeds[start : start + batch]
        truth = generator(chunk, frames.expand(len(chunk), -1).contiguous())
        by = score_batch(predictor, truth, manifest.pairs, options)
        for seed, scores in zip(chunk.tolist(), by):
            yield SnippetScores(manifest.family, seed, scores)
        if progress is not None:
            progress(start + len(chunk), len(seeds))


def score_batch(
    predictor: Predictor, truth: Snippet, pairs: dict[int, tuple[int, int]], options: ProtocolOptions
) -> list[dict[str, Scores]]:
    """Scores of each clip of a batch with truth at the times of all its frames, contender by contender."""
    result: list[dict[str, Scores]] = [{} for _ in truth.images]
    snippet = _answers(predictor, truth, [0])
    for row, scores in enumerate(result):
        clip = truth.clip(row)
        for name, answer in snippet.items():
            one = answer.clip(row)
            scores[name] = tracking_scores(one, clip, options)
            if name in (NETWORK, PLANE):
                scores[name] |= shape_scores(one, clip, options)
            if name == NETWORK:
                scores[name] |= camera_scores(one, clip, options)
    for margin, frames in pairs.items():
        pair = frames_of(truth, frames)
        for name, answer in _answers(predictor, pair, [0, 1]).items():
            for row, scores in enumerate(result):
                errors = two_view_scores(answer.clip(row), pair.clip(row), options)
                scores[name] |= {f"margin{margin}.{key}": value for key, value in errors.items()}
    return result


def _answers(predictor: Predictor, truth: Snippet, sources: list[int]) -> dict[str, Prediction]:
    """What each contender says of the clips, for all times."""
    targets = list(range(truth.num_frames))
    own = predictor.predict(truth.images, targets, sources)
    return {
        NETWORK: own,
        ZERO_MOTION: ZeroMotion(truth).predict(truth.images, targets, sources),
        OWN_ZERO_MOTION: without_motion(own, sources),
        PLANE: ConstantDepth(truth).predict(truth.images, targets, sources),
    }

"""Small files of trained networks: which clips tell how their matrices may be rounded."""

import math

import torch
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.model import VDPM
from vdpm.model.rounding import coarse_integers, second_moments
from vdpm.synthetic import SceneConfig, SceneGenerator, training_seeds

CLIPS = 16
SCENES = SceneConfig(num_frames=6, height=112, width=168)


def compact_integers(
    model: VDPM, step: float, scenes: SceneConfig = SCENES, clips: int = CLIPS
) -> dict[str, tuple[Tensor, Tensor]]:
    """Integers and scales for the matrices of ``model`` (see ``model.rounding``), chosen on ``clips`` of our own
    scenes, always the same.

    Raises UsageError for a step that is no step.
    """
    if not (math.isfinite(step) and 0 < step <= 1):
        raise UsageError(f"a step of {step:g} between integers; it must be above 0 and at most 1")
    generator = SceneGenerator(scenes, torch.device("cpu"))

    def run() -> None:
        for seed in training_seeds(0, clips).tolist():
            target = torch.tensor([[seed % scenes.num_frames]])
            model(generator(torch.tensor([seed])).images, target)

    return coarse_integers(model.state_dict(), second_moments(model, run), step)

"""What is scored: anything that answers a clip with point maps and cameras. The network, and one clip at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.model import VDPM


@dataclass(frozen=True, eq=False)
class Prediction:
    """The answer to one clip, or to a batch of clips. World: the camera of frame 0; any unit of length.

    ``time_variant``: P_i(t_i) of every frame. ``at_targets[k, s]``: P_i(t_j) of the frame i = ``sources[s]`` that was
    asked for, at the time of frame j = ``targets[k]``. ``intrinsics``: in pixels of the images. ``visible``: whether
    these points are seen at that time, from a model that says so itself (None: follows from the maps).
    """

    time_variant: Float[Tensor, "*batch frames height width 3"]
    at_targets: Float[Tensor, "*batch targets sources height width 3"]
    c2w: Float[Tensor, "*batch frames 4 4"]
    intrinsics: Float[Tensor, "*batch frames 3 3"]
    visible: Bool[Tensor, "*batch targets sources height width"] | None = None

    def clip(self, row: int) -> "Prediction":
        """One clip's answer out of a batch's."""
        visible = None if self.visible is None else self.visible[row]
        return Prediction(self.time_variant[row], self.at_targets[row], self.c2w[row], self.intrinsics[row], visible)


@runtime_checkable
class Predictor(Protocol):
    """Images of clips in, point maps and cameras out."""

    def predict(
        self,
        images: Float[Tensor, "*batch frames 3 height width"],
        targets: Sequence[int],
        sources: Sequence[int] | None = None,
    ) -> Prediction:
        """Frames in order of time, RGB in [0, 1]; ``targets`` and ``sources`` (all where None) are frame indices.

        A clip's answer must not depend on the others of its batch. The answer lies on the device of ``images``.
        """
        ...


class NetworkPredictor:
    """A network in one pass over all frames of a clip: two for a pair, ten for a snippet.

    It runs on its own device and in its own dtype; the reference view is frame 0; maps come back as float32.
    """

    def __init__(self, model: VDPM) -> None:
        self.model = model.eval()

    @torch.inference_mode()
    def predict(
        self,
        images: Float[Tensor, "*batch frames 3 height width"],
        targets: Sequence[int],
        sources: Sequence[int] | None = None,
    ) -> Prediction:
        """See Predictor. Raises UsageError for sizes that are no multiple of the patch and frames that do not exist."""
        batch = images.shape[:-4]
        weights = next(self.model.parameters())
        clips = images.reshape(-1, *images.shape[-4:]).to(weights.device, weights.dtype)
        tokens = self.model.encode(clips, reference=0)
        cameras = self.model.cameras(tokens)
        # From the caller's memory, so that the check of the range does not wait for an accelerator.
        wanted = torch.tensor(list(targets), dtype=torch.long)
        answers = (
            self.model.time_variant(tokens).points,
            self.model.decode(tokens, wanted, sources).points,
            cameras.c2w,
            cameras.intrinsics,
        )
        return Prediction(*(a.to(images.device, torch.float32).reshape(*batch, *a.shape[1:]) for a in answers))


class ClipByClip:
    """A predictor of batches from ``predict(images, targets)`` of one clip, which answers for every source."""

    def __init__(self, predict_one: Callable[[Tensor, Sequence[int]], Prediction]) -> None:
        self.predict_one = predict_one

    def predict(
        self,
        images: Float[Tensor, "*batch frames 3 height width"],
        targets: Sequence[int],
        sources: Sequence[int] | None = None,
    ) -> Prediction:
        """See Predictor. Raises UsageError for a batch without a clip."""
        batch = images.shape[:-4]
        clips = images.reshape(-1, *images.shape[-4:])
        if not len(clips):
            raise UsageError("no clip to answer; give at least one")
        chosen = list(range(images.shape[-4])) if sources is None else list(sources)
        answers = [self.predict_one(clip, targets) for clip in clips]
        told = [f.name for f in fields(Prediction) if all(getattr(a, f.name) is not None for a in answers)]
        stacked = {name: torch.stack([getattr(a, name) for a in answers]) for name in told}
        for name in {"at_targets", "visible"} & {*told}:
            stacked[name] = stacked[name][:, :, chosen]
        return Prediction(**{name: value.reshape(*batch, *value.shape[1:]) for name, value in stacked.items()})

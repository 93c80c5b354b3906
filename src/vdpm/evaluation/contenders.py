"""Who answers for a table: a network at its own size, by pairs, any class of the protocol, or the truth itself."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.data.frame import Frame
from vdpm.errors import UsageError
from vdpm.evaluation.baselines import ConstantDepth, ZeroMotion, z_depth
from vdpm.evaluation.benchmark import Table
from vdpm.evaluation.clips import MapTruth
from vdpm.evaluation.pairwise import knows_pairs_alone, network_predictor, row_name
from vdpm.evaluation.protocol import Prediction, Predictor
from vdpm.evaluation.visibility import seen
from vdpm.geometry.image_transform import ImageTransform
from vdpm.long_video.windows import WindowConfig
from vdpm.model import VDPM, Mirrored, mirrored_once
from vdpm.network_choice import choose_device, load_network, long_side
from vdpm.reconstruct import DEFAULT_MAX_FRAMES, MAX_SIZE, reconstruct
from vdpm.structures import Video
from vdpm.video import choose_transform

BASELINES = ("oracle", "zero-motion", "constant-depth")
FILES = "files"
"""In place of a model: predictions that another program has put into the folder."""


@dataclass(frozen=True)
class Fit:
    """How pictures of a data set come to a network. ``size``: long side in pixels (None: what it was made for);
    ``resize``: how its maps come back to the pictures' pixels; ``window``: frames at a time in whole sequences.
    """

    size: int | None = None
    fit: Literal["pad", "stretch"] = "pad"
    resize: Literal["bilinear", "nearest"] = "bilinear"
    window: int | None = None

    def __post_init__(self) -> None:
        if self.size is not None and not 1 <= self.size <= MAX_SIZE:
            raise UsageError(f"--size {self.size} must be from 1 to {MAX_SIZE} pixels")


@dataclass(frozen=True, eq=False)
class SequenceAnswer:
    """z in each frame's own camera, at any size, and the cameras."""

    depth: Float[Tensor, "frames height width"]
    c2w: Float[Tensor, "frames 4 4"]


class Contender(ABC):
    """``name``: its row in tables. ``identity`` tells it from any other. ``exact``: its numbers are kept to the bit."""

    name: str
    identity: str
    exact: bool = False

    @abstractmethod
    def maps(self, truth: MapTruth) -> Prediction:
        """The targets and sources of ``truth`` from its clip's pictures, at their size, with visibility."""

    @abstractmethod
    def sequence(self, frames: Iterator[Frame], name: str) -> SequenceAnswer:
        """Depth and cameras of a whole sequence."""


class Baseline(Contender):
    """An answer made of the truth."""

    exact = True

    def __init__(self, name: str) -> None:
        self.name = self.identity = name

    def maps(self, truth: MapTruth) -> Prediction:
        clip = truth.clip
        if self.name == "oracle":
            return Prediction(clip.points, truth.points, clip.c2w, clip.intrinsics, truth.visible())
        of = ZeroMotion if self.name == "zero-motion" else ConstantDepth
        return _with_visibility(of(clip).predict(clip.images, truth.targets, truth.sources), truth)

    def sequence(self, frames: Iterator[Frame], name: str) -> SequenceAnswer:
        depths, poses = [], []
        for frame in frames:
            known = frame.depth[frame.valid]
            depth = frame.depth.float().masked_fill(~frame.valid, 0)
            if self.name == "constant-depth":
                depth = torch.full_like(depth, float(known.median()) if len(known) else 1.0)
            depths.append(depth)
            poses.append(frame.c2w.double())
        depth = torch.stack(depths)
        if self.name == "constant-depth":
            # One plane for the whole sequence: a plane for each frame would know how the camera comes nearer.
            depth[:] = depth[:, 0, 0].median()
        return SequenceAnswer(depth, torch.stack(poses))


class OfPredictor(Contender):
    """A predictor of the protocol, given pictures at its size; its maps are brought back to the pictures' pixels."""

    def __init__(self, predictor: Predictor, name: str, identity: str, fit: Fit, multiple: int = 1) -> None:
        self.predictor, self.name, self.identity = predictor, name, identity
        self.fit, self.multiple = fit, multiple

    def maps(self, truth: MapTruth) -> Prediction:
        clip = truth.clip
        transform = self._transform(clip.size)
        images = transform.apply(clip.images)
        said = self.predictor.predict(images, truth.targets, truth.sources)
        self._check(said, images, len(truth.targets), len(truth.sources))
        back = Prediction(
            self._restored(transform, said.time_variant),
            self._restored(transform, said.at_targets),
            said.c2w,
            transform.intrinsics_to_source(said.intrinsics),
            None if said.visible is None else transform.restore(said.visible, mode="nearest"),
        )
        return back if back.visible is not None else _with_visibility(back, truth)

    def sequence(self, frames: Iterator[Frame], name: str) -> SequenceAnswer:
        video = self._video(frames, name)
        said = self.predictor.predict(video.images(), [], [])
        self._check(said, video.images(), 0, 0)
        return SequenceAnswer(_content(z_depth(said.time_variant, said.c2w), video.transform), said.c2w)

    def _transform(self, size: tuple[int, int]) -> ImageTransform:
        if self.fit.size is None and not (size[0] % self.multiple or size[1] % self.multiple) and self.keeps(size):
            return ImageTransform.identity(size)
        return choose_transform(size, size=self.wanted_size(), fit=self.fit.fit, multiple=self.multiple)

    def keeps(self, size: tuple[int, int]) -> bool:
        """Whether pictures of ``size`` need no resize; a predictor of which nothing is known takes any."""
        return True

    def wanted_size(self) -> int | None:
        return self.fit.size

    def _check(self, said: Prediction, images: Tensor, targets: int, sources: int) -> None:
        """Raises UsageError for an answer of other shapes than the protocol's."""
        count, _, height, width = images.shape
        maps = (targets, sources, height, width)
        wanted = {
            "time_variant": (count, height, width, 3),
            "at_targets": (*maps, 3),
            "c2w": (count, 4, 4),
            "intrinsics": (count, 3, 3),
        } | ({} if said.visible is None else {"visible": maps})
        for name, shape in wanted.items():
            found = tuple(getattr(said, name).shape)
            # Asked for no maps, it may leave their size open.
            if found != shape and not (name in ("at_targets", "visible") and 0 in found and 0 in shape):
                raise UsageError(f"{self.name}: its {name} is of shape {[*found]}, not {[*shape]}; see Predictor")

    def _restored(self, transform: ImageTransform, maps: Tensor) -> Tensor:
        """[..., H, W, 3] of the network's pixels -> [..., h, w, 3] of the pictures'."""
        return transform.restore(maps.movedim(-1, -3), mode=self.fit.resize).movedim(-3, -1)

    def _video(self, frames: Iterator[Frame], name: str) -> Video:
        pictures: list[Tensor] = []
        transform: ImageTransform | None = None
        for frame in frames:
            size = (frame.image.shape[0], frame.image.shape[1])
            transform = self._transform(size) if transform is None else transform
            pictures.append(transform.apply(frame.image.permute(2, 0, 1)).permute(1, 2, 0))
        assert transform is not None
        count = len(pictures)
        times = torch.arange(count, dtype=torch.float64)
        return Video(torch.stack(pictures), times, torch.arange(count), transform, name)


class OfNetwork(OfPredictor):
    """A network of ours. Sequences longer than a window are taken in windows and aligned, as ``vdpm reconstruct`` does
    (Sec. 4.2); ``pairwise``, and always where the network knows no more: by pairs of frames, aligned globally.

    Raises UsageError for windows of other than two frames by pairs.
    """

    def __init__(self, model: VDPM, name: str, fit: Fit, pairwise: bool = False) -> None:
        self.model, self.pairwise = model, pairwise or knows_pairs_alone(model)
        if self.pairwise and fit.window not in (None, 2):
            raise UsageError(f"--window is {fit.window} and {name} answers by pairs of frames; leave --window out")
        dtype = str(next(model.parameters()).dtype).removeprefix("torch.")
        ways = "pairwise " * self.pairwise + "mirrored " * isinstance(model, Mirrored)
        identity = f"{ways}{model.fingerprint()} {dtype}"
        predictor = network_predictor(model, pairwise)
        super().__init__(predictor, row_name(model, name, pairwise), identity, fit, model.config.patch_size)

    def sequence(self, frames: Iterator[Frame], name: str) -> SequenceAnswer:
        video = self._video(frames, name)
        if self.pairwise and len(video) <= DEFAULT_MAX_FRAMES and self.fit.window is None:
            said = self.predictor.predict(video.images(), [], [])
            return SequenceAnswer(_content(z_depth(said.time_variant, said.c2w), video.transform), said.c2w)
        length = 2 if self.pairwise else self.fit.window
        # What the network sees at once is answered by the network alone.
        windows = WindowConfig(length=length, sight=len(video) > (DEFAULT_MAX_FRAMES if length is None else length))
        # A sequence of a data set is one take; what looks like a cut there is none.
        result = reconstruct(video, model=self.model, targets="none", windows=windows, cuts="ignore")
        depths = []
        for index in range(len(video)):
            points = result.maps.time_variant(index).points
            depths.append(z_depth(points[None], result.cameras.c2w[index][None].float())[0])
        return SequenceAnswer(_content(torch.stack(depths), video.transform), result.cameras.c2w)

    def keeps(self, size: tuple[int, int]) -> bool:
        """No resize where the network would not see fewer pixels: pictures of about its own size."""
        made_for = choose_transform(size, size=self.wanted_size(), fit=self.fit.fit, multiple=self.multiple)
        return size[0] * size[1] <= made_for.output_size[0] * made_for.output_size[1]

    def wanted_size(self) -> int | None:
        return long_side(self.model) if self.fit.size is None else self.fit.size


def refuse_ways_of_asking(model: str, *, pairwise: bool, mirror: bool) -> None:
    """Raises UsageError where it is said how to ask a network, and ``model`` is none."""
    for option, given in (("--mirror", mirror), ("--pairwise", pairwise)):
        if given:
            raise UsageError(f"{option} is a way of asking a network, and --model {model} is none; leave it out")


def make_contender(
    model: str, fit: Fit, device: str = "auto", *, pairwise: bool = False, mirror: bool = False
) -> Contender:
    """``model``: oracle, zero-motion, constant-depth, python:MODULE:CLASS, or a network: preset, folder, file, hub id.
    ``pairwise``: the network is asked about pairs of frames; ``mirror``: about the mirrored clip as well.

    Raises UsageError for a class that does not answer as the protocol says and for ``pairwise`` or ``mirror`` without
    a network, CheckpointError for weights.
    """
    if model in BASELINES or model.startswith("python:"):
        refuse_ways_of_asking(model, pairwise=pairwise, mirror=mirror)
    if model in BASELINES:
        return Baseline(model)
    if model.startswith("python:"):
        return OfPredictor(_of_class(model), model.rpartition(":")[2], model, fit)
    network = load_network(model, choose_device(device), "auto")
    if mirror:
        network = mirrored_once(network)
    return OfNetwork(network, Path(model).name if Path(model).exists() else model, fit, pairwise)


def check_task(model: str, table: Table) -> None:
    """Raises UsageError for baselines that would know the answer without being the oracle."""
    if (model == "zero-motion" and table in ("video-depth", "camera-pose")) or (
        model == "constant-depth" and table == "camera-pose"
    ):
        raise UsageError(f"{model} takes what {table} measures from the truth; choose oracle, or a model")


def _of_class(words: str) -> Predictor:
    parts = words.split(":")
    if len(parts) != 3:
        raise UsageError(f"model {words!r} is not python:MODULE:CLASS, such as python:mymodel:Answers")
    try:
        found = getattr(importlib.import_module(parts[1]), parts[2])()
    except (ImportError, AttributeError, TypeError) as error:
        raise UsageError(f"{words}: cannot be made ({error}); name a module on PYTHONPATH and a class in it") from None
    if not isinstance(found, Predictor):
        raise UsageError(f"{words}: has no predict(images, targets, sources); see vdpm.evaluation.protocol.Predictor")
    return found


def _with_visibility(said: Prediction, truth: MapTruth) -> Prediction:
    """Visibility from the predicted maps: a point behind what the frame of its time sees is hidden."""
    visible = seen(said.at_targets, said.time_variant, None, said.c2w, said.intrinsics, truth.targets, truth.sources)
    return replace(said, visible=visible)


def _content(maps: Float[Tensor, "frames H W"], transform: ImageTransform) -> Float[Tensor, "frames h w"]:
    """The part of the network's pictures that shows the source."""
    rows, columns = (transform.content_mask().any(axis).nonzero()[:, 0] for axis in (1, 0))
    return maps[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

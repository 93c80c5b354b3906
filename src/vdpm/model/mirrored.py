"""A network asked twice, the second time about the mirrored clip: the mean of both answers is nearer to the truth."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from vdpm.errors import UsageError
from vdpm.model.point_map import PointMaps
from vdpm.model.vdpm import VDPM, SceneTokens, VDPMOutput

MIRROR = (-1.0, 1.0, 1.0)
"""x points right: left and right exchanged."""
MIRROR_POSE = (-1.0, 1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0, 1.0)
"""The same of a pose encoding: w2c translation, quaternion xyzw (turns about y and z change sides), fields of view."""


@dataclass(frozen=True, eq=False)
class MirroredTokens(SceneTokens):
    """Tokens of the clip, and of the same clip with left and right exchanged."""

    mirrored: SceneTokens | None = None


class Mirrored(VDPM):
    """``network``, with the mean of its answers to a clip and to its mirror image: twice the time, the same weights.

    It shares the modules of ``network`` and takes its place wherever a clip is answered; it is not for training. Both
    answers have one unit, in which the network was trained, and are averaged as they are: points, confidences, pose
    encodings, descriptors.
    """

    def __init__(self, network: VDPM) -> None:
        nn.Module.__init__(self)  # VDPM's own would draw weights
        self.config = network.config
        self.load_report = network.load_report
        for name, module in network.named_children():
            self.add_module(name, module)
        self.train(network.training)

    def encode(self, images: Float[Tensor, "batch frames 3 height width"], reference: int = 0) -> MirroredTokens:
        """See VDPM.encode."""
        own = super().encode(images, reference)
        mirrored = super().encode(images.flip(-1), reference)
        return MirroredTokens(**{f.name: getattr(own, f.name) for f in fields(own)}, mirrored=mirrored)

    def time_variant(self, tokens: SceneTokens, sources: Sequence[int] | None = None) -> PointMaps:
        """See VDPM.time_variant."""
        return _mean(super().time_variant(tokens, sources), super().time_variant(_other(tokens), sources))

    def decode(
        self,
        tokens: SceneTokens,
        target_time: int | Int[Tensor, "targets"] | Int[Tensor, "batch targets"],
        sources: Sequence[int] | None = None,
    ) -> PointMaps:
        """See VDPM.decode."""
        own = super().decode(tokens, target_time, sources)
        return _mean(own, super().decode(_other(tokens), target_time, sources))

    def pose_encodings(self, tokens: SceneTokens) -> Float[Tensor, "steps batch frames 9"]:
        """See VDPM.pose_encodings; quaternions have unit norm."""
        own, other = _unit(super().pose_encodings(tokens)), _unit(super().pose_encodings(_other(tokens)))
        other = other * other.new_tensor(MIRROR_POSE)
        # q and -q are one rotation.
        sign = torch.where((own[..., 3:7] * other[..., 3:7]).sum(-1, keepdim=True) < 0, -1.0, 1.0)
        other = torch.cat([other[..., :3], other[..., 3:7] * sign, other[..., 7:]], dim=-1)
        return _unit((own + other) / 2)

    def match_descriptors(self, tokens: SceneTokens) -> Float[Tensor, "batch frames rows columns channels"]:
        """See VDPM.match_descriptors."""
        own, other = super().match_descriptors(tokens), super().match_descriptors(_other(tokens))
        return F.normalize(own + other.flip(-2), dim=-1)

    def forward(
        self,
        images: Float[Tensor, "batch frames 3 height width"],
        target_times: Int[Tensor, "batch targets"],
        reference: int = 0,
    ) -> VDPMOutput:
        """Refused: what trains is the network itself."""
        raise UsageError("a mirrored network is not for training; train the network itself")


def mirrored_once(network: VDPM) -> Mirrored:
    """``network`` mirrored, or itself where it is so already."""
    return network if isinstance(network, Mirrored) else Mirrored(network)


def _other(tokens: SceneTokens) -> SceneTokens:
    if not isinstance(tokens, MirroredTokens) or tokens.mirrored is None:
        raise UsageError("these tokens are of one pass; encode the clip with the mirrored network")
    return tokens.mirrored


def _mean(own: PointMaps, mirrored: PointMaps) -> PointMaps:
    points = mirrored.points.flip(-2) * mirrored.points.new_tensor(MIRROR)
    return PointMaps((own.points + points) / 2, (own.confidence + mirrored.confidence.flip(-1)) / 2)


def _unit(encoding: Float[Tensor, "*batch 9"]) -> Float[Tensor, "*batch 9"]:
    turn = F.normalize(encoding[..., 3:7].float(), dim=-1).to(encoding.dtype)
    return torch.cat([encoding[..., :3], turn, encoding[..., 7:]], dim=-1)

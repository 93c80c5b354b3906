"""The network: encode a clip once, decode its scene at as many times as wanted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vdpm.errors import UsageError
from vdpm.model.backbone import CAMERA_TOKEN, TIME_TOKEN, Backbone
from vdpm.model.camera_head import CameraHead
from vdpm.model.checkpoint_file import StoredType
from vdpm.model.config import VDPMConfig
from vdpm.model.conv_head import ConvHead
from vdpm.model.decoder import TimeConditionedDecoder
from vdpm.model.dpt_head import DPTHead
from vdpm.model.layers import Block, ConditionedBlock, init_linear
from vdpm.model.pair_decoder import PairDecoder, at_targets
from vdpm.model.point_map import PointMaps
from vdpm.model.pose_encoding import cameras_from_encoding
from vdpm.model.time_head import TimeConditionedHead
from vdpm.model.weights import (
    DECODER_PREFIX,
    TIME_TOKEN_NAME,
    LoadReport,
    fingerprint,
    fit_weights,
    log,
    read_weights,
    write_folder,
)
from vdpm.structures import Cameras

FRAMES_PER_CHUNK = 8
"""Maps a point head makes at a time where no gradient is wanted: its full-size activations rule the memory."""

CAMERA_BLOCKS_COMPILED = 8
"""Up to as many blocks, all steps together, the camera head is compiled whole: it has hundreds of tiny kernels."""

RECOMPILE_LIMIT = 64
"""Shapes a compiled block may meet (frames in a clip times image sizes) before it would fall back to slow calls."""


@dataclass(frozen=True, eq=False)
class SceneTokens:
    """What the backbone knows of a clip, enough to decode any time. Frames stand in the caller's order.

    ``taps``: what decoder and head read, special tokens included (each tapped pair, or their fusion).
    ``time_tokens``, ``camera_tokens``: of the last pair. ``skips``: the stem's maps at strides 2 and 4, where the head
    reads them. ``match_tokens``: patch tokens for descriptors. ``grid``: patches (rows, columns); ``size``: (h, w).
    """

    taps: tuple[Float[Tensor, "batch frames tokens channels"], ...]
    time_tokens: Float[Tensor, "batch frames last"]
    camera_tokens: Float[Tensor, "batch frames last"]
    grid: tuple[int, int]
    size: tuple[int, int]
    reference: int
    skips: tuple[Tensor, ...] = ()
    match_tokens: Float[Tensor, "batch frames patches last"] | None = None

    @property
    def num_frames(self) -> int:
        return self.time_tokens.shape[1]


class VDPMOutput(NamedTuple):
    """Everything training needs from one call.

    ``time_variant``: P [batch, frames, ...]; ``decoded``: Q [batch, targets, frames, ...].
    """

    time_variant: PointMaps
    decoded: PointMaps
    pose_encodings: Float[Tensor, "steps batch frames 9"]
    descriptors: Float[Tensor, "batch frames rows columns channels"] | None


class _NothingDrawn(TorchFunctionMode):
    """Skips random initialisation, for weights that are loaded next. On the meta device it imports torch's compiler."""

    SKIPPED = (
        nn.init.kaiming_uniform_,
        nn.init.normal_,
        nn.init.trunc_normal_,
        nn.init.uniform_,
        Tensor.normal_,
        Tensor.uniform_,
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in self.SKIPPED:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


class VDPM(nn.Module):
    """V-DPM of any size (Fig. 2): backbone, time-conditioned decoder, one point head for P and Q, camera head.

    ``config.decoder_kind`` puts one of the paper's alternatives in the decoder's place, with a head of its own for Q.
    """

    def __init__(self, config: VDPMConfig) -> None:
        super().__init__()
        self.config = config
        self.load_report: LoadReport | None = None
        self.aggregator = Backbone(config)
        if config.tap_fusion:
            fused = len(config.taps) * config.tap_dim
            self.fusion = nn.Sequential(nn.LayerNorm(fused), nn.Linear(fused, config.decoder_dim))
        self.decoder = build_decoder(config)
        self.point_head: nn.Module = DPTHead(config) if config.head == "dpt" else ConvHead(config)
        self.camera_head = CameraHead(config)
        if config.match_dim:
            self.matcher = nn.Sequential(nn.LayerNorm(config.tap_dim), nn.Linear(config.tap_dim, config.match_dim))
            init_linear(self.matcher)

    @property
    def checkpoint_blocks(self) -> bool:
        """Recompute blocks of backbone and decoder in the backward pass instead of keeping their activations."""
        return self.aggregator.checkpoint_blocks

    @checkpoint_blocks.setter
    def checkpoint_blocks(self, value: bool) -> None:
        self.aggregator.checkpoint_blocks = value
        self.aggregator.patch_embed.checkpoint_blocks = value
        self.decoder.checkpoint_blocks = value

    def compile_blocks(self, **options: Any) -> "VDPM":
        """Compile every block, the convolutional stem and the point head in place; ``options`` go to torch.compile.

        Region by region: the blocks of one kind share their compiled code. Names in the state dict stay.
        """
        dynamo = torch._dynamo.config
        for limit in ("recompile_limit", "cache_size_limit"):
            if hasattr(dynamo, limit):
                setattr(dynamo, limit, max(getattr(dynamo, limit), RECOMPILE_LIMIT))
        regions: list[nn.Module] = [self.point_head]
        if not isinstance(self.decoder, TimeConditionedDecoder):
            regions.append(self.decoder.head)
        if self.config.patch_encoder == "conv":
            regions.append(self.aggregator.patch_embed)
        if self.config.camera_depth * self.config.camera_steps <= CAMERA_BLOCKS_COMPILED:
            regions.append(self.camera_head)
        transformers = (self.aggregator, self.decoder)
        regions += [m for t in transformers for m in t.modules() if isinstance(m, Block | ConditionedBlock)]
        for region in regions:
            # The forward function, not the call around it: hooks (sharding has some) stay outside, and each class has
            # its own small cache of compiled code.
            region.forward = torch.compile(region.forward, **options)
        return self

    def encode(self, images: Float[Tensor, "batch frames 3 height width"], reference: int = 0) -> SceneTokens:
        """Run the backbone once. ``images``: RGB in [0, 1], sides multiples of the patch size.

        ``reference``: the frame whose camera is the world. Raises UsageError for a size or frame that does not fit.
        """
        frames, size = images.shape[1], (images.shape[-2], images.shape[-1])
        patch = self.config.patch_size
        if frames < 1 or images.shape[0] < 1:
            raise UsageError("images hold no frame; give at least one")
        if size[0] % patch or size[1] % patch or min(size) < patch:
            raise UsageError(
                f"images are {size[1]} x {size[0]} pixels, both sides must be multiples of {patch}; resize or pad them"
            )
        if frames != 2 and self.config.decoder_kind == "pairwise":
            raise UsageError(f"network {self.config.name} is pairwise and got {frames} frames; give it two at a time")
        if not 0 <= reference < frames:
            raise UsageError(f"reference frame {reference} is not among the {frames} frames; choose 0 to {frames - 1}")
        features = self.aggregator(images, reference)
        taps = features.taps
        if self.config.tap_fusion:
            taps = (self.fusion(torch.cat(taps, dim=-1)),)
        return SceneTokens(
            taps=taps,
            time_tokens=features.last[:, :, TIME_TOKEN],
            camera_tokens=features.last[:, :, CAMERA_TOKEN],
            grid=(size[0] // patch, size[1] // patch),
            size=size,
            reference=reference,
            skips=features.skips,
            match_tokens=features.match,
        )

    def time_variant(self, tokens: SceneTokens, sources: Sequence[int] | None = None) -> PointMaps:
        """P_i(t_i, pi_0), Eq. (2): maps [batch, frames, h, w] of each frame at its own time.

        ``sources``: the frames wanted, in that order (all where None).
        """
        maps = self._point_maps(tokens, tuple(tap[:, None] for tap in tokens.taps), sources)
        return PointMaps(maps.points[:, 0], maps.confidence[:, 0])

    def decode(
        self,
        tokens: SceneTokens,
        target_time: int | Int[Tensor, "targets"] | Int[Tensor, "batch targets"],
        sources: Sequence[int] | None = None,
    ) -> PointMaps:
        """P_i(t_j, pi_0), Eq. (3): maps [batch, targets, frames, h, w]; a plain int gives no axis of targets.

        ``target_time``: frame indices j, shared by the batch or one list per clip; all are decoded at once.
        ``sources``: the frames whose maps are wanted; the decoder attends to all frames in any case.
        """
        maps = self._decoded_maps(tokens, target_time, sources)
        return PointMaps(maps.points[:, 0], maps.confidence[:, 0]) if isinstance(target_time, int) else maps

    def pose_encodings(self, tokens: SceneTokens) -> Float[Tensor, "steps batch frames 9"]:
        """The camera head's encoding after each refinement step: w2c translation, quaternion xyzw, fields of view."""
        return self.camera_head(tokens.camera_tokens)

    def cameras(self, tokens: SceneTokens) -> Cameras:
        """Cameras of the last refinement step, as predicted, in the world of the reference view; pixels of ``size``."""
        return cameras_from_encoding(self.pose_encodings(tokens)[-1], tokens.size)

    def match_descriptors(self, tokens: SceneTokens) -> Float[Tensor, "batch frames rows columns channels"]:
        """Unit descriptors of patches: those of one surface point in two frames are trained to agree.

        Raises UsageError where the configuration has no ``match_dim``.
        """
        if tokens.match_tokens is None:
            raise UsageError(f"network {self.config.name} has no descriptors; set match_dim above 0 and train it")
        return F.normalize(self.matcher(tokens.match_tokens).float(), dim=-1).unflatten(2, tokens.grid)

    def forward(
        self,
        images: Float[Tensor, "batch frames 3 height width"],
        target_times: Int[Tensor, "batch targets"],
        reference: int = 0,
    ) -> VDPMOutput:
        """P, Q at each clip's own target times, all pose encodings and descriptors: one call, as training wraps it."""
        tokens = self.encode(images, reference)
        if isinstance(self.decoder, TimeConditionedDecoder):
            # P and Q share the head: one pass over both.
            moved = self.decoder(tokens.taps, *self._wanted(tokens, target_times), tokens.grid)
            both = tuple(torch.cat([tap[:, None], other], dim=1) for tap, other in zip(tokens.taps, moved))
            maps = self._point_maps(tokens, both, None)
            time_variant = PointMaps(maps.points[:, 0], maps.confidence[:, 0])
            decoded = PointMaps(maps.points[:, 1:], maps.confidence[:, 1:])
        else:
            time_variant = self.time_variant(tokens)
            decoded = self._decoded_maps(tokens, target_times, None, time_variant)
        return VDPMOutput(
            time_variant=time_variant,
            decoded=decoded,
            pose_encodings=self.pose_encodings(tokens),
            descriptors=self.match_descriptors(tokens) if self.config.match_dim else None,
        )

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        config: VDPMConfig | None = None,
        revision: str | None = None,
    ) -> "VDPM":
        """A network with weights, in evaluation mode.

        ``source``: a preset, a folder, a file (ours, the released ``model.pt``, VGGT-1B) or a hub id. ``config`` is
        needed only for files of other sizes that hold none. ``load_report`` of the network tells what loading did; from
        VGGT the time token and the decoder are drawn by the global random generator, as the released code does.
        Raises CheckpointError, one line that says what differs, for weights that are missing, damaged or do not fit.
        """
        stored = read_weights(source, config, revision)
        assert stored.config is not None
        with torch.device("meta"), _NothingDrawn():
            model = cls(stored.config)
        expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
        tensors, report = fit_weights(stored.tensors, expected, stored.config.name, str(source))
        if report.initialized:
            decoder = build_decoder(stored.config).state_dict(prefix=DECODER_PREFIX)
            tensors |= {name: decoder[name] for name in report.initialized if name in decoder}
            tensors[TIME_TOKEN_NAME] = torch.randn(expected[TIME_TOKEN_NAME])
        log.info("%s", report)
        model.load_state_dict({name: tensor.to(device, dtype) for name, tensor in tensors.items()}, assign=True)
        model.load_report = report
        return model.eval()

    def save_pretrained(self, folder: str | Path, *, dtype: StoredType | None = None) -> None:
        """Write ``config.json`` and ``model.safetensors`` into ``folder``.

        ``dtype``: "float32", "bfloat16", or "int8" (a quarter of the size; weights by rows, off by at most 0.4 % of the
        row's largest); None keeps each tensor's own. Raises OutputError where the folder cannot be written.
        """
        write_folder(folder, self.state_dict(), self.config, dtype)

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that tell these weights from any others."""
        return fingerprint(self.state_dict())

    def _decoded_maps(
        self,
        tokens: SceneTokens,
        target_time: int | Tensor,
        sources: Sequence[int] | None,
        time_variant: PointMaps | None = None,
    ) -> PointMaps:
        """Maps [batch, targets, sources, h, w] at the wanted times. ``time_variant``: the sources' P, if known."""
        time_tokens, index = self._wanted(tokens, target_time)
        if isinstance(self.decoder, TimeConditionedDecoder):
            return self._point_maps(tokens, self.decoder(tokens.taps, time_tokens, index, tokens.grid), sources)
        if isinstance(self.decoder, TimeConditionedHead):
            taps, condition = self.decoder(tokens.taps, time_tokens, index)
            return self._point_maps(tokens, taps, sources, partial(self.decoder.head, condition=condition))
        maps = self._point_maps(tokens, self.decoder(tokens.taps, tokens.grid), sources, self.decoder.head)
        other = PointMaps(maps.points[:, 0], maps.confidence[:, 0])
        own = self.time_variant(tokens, sources) if time_variant is None else time_variant
        both = torch.arange(2, device=index.device)
        return at_targets(own, other, index, both if sources is None else both[list(sources)])

    def _wanted(self, tokens: SceneTokens, target_time: int | Tensor) -> tuple[Tensor, Tensor]:
        """Time tokens [batch, targets, channels] of the wanted times, and their frames [batch, targets]."""
        batch, frames, channels = tokens.time_tokens.shape
        if isinstance(target_time, int):
            if not 0 <= target_time < frames:
                raise UsageError(
                    f"target time {target_time} is not among the {frames} frames; choose 0 to {frames - 1}"
                )
            time_tokens = tokens.time_tokens[:, target_time, None]
            return time_tokens, torch.full((batch, 1), target_time, device=time_tokens.device)
        # A check on an accelerator would wait for it; gather raises there on its own.
        if target_time.device.type == "cpu" and not bool(((target_time >= 0) & (target_time < frames)).all()):
            raise UsageError(f"target times {target_time.tolist()} must lie within 0 to {frames - 1}")
        index = target_time.to(tokens.time_tokens.device).long().expand(batch, -1)
        return tokens.time_tokens.gather(1, index[:, :, None].expand(-1, -1, channels)), index

    def _point_maps(
        self,
        tokens: SceneTokens,
        taps: tuple[Tensor, ...],
        sources: Sequence[int] | None,
        head: Callable[..., PointMaps] | None = None,
    ) -> PointMaps:
        """The point head (or ``head``) over ``taps`` [batch, targets, frames, tokens, channels], a few frames at a
        time.
        """
        head = head or self.point_head
        frames = tokens.num_frames
        skips = tokens.skips
        if sources is not None:
            chosen = list(sources)
            if not chosen or not all(0 <= source < frames for source in chosen):
                raise UsageError(f"sources {chosen} must be some of the frames 0 to {frames - 1}")
            taps, skips = tuple(tap[:, :, chosen] for tap in taps), tuple(skip[:, chosen] for skip in skips)
            frames = len(chosen)
        step = frames
        if not torch.is_grad_enabled():
            step = max(1, FRAMES_PER_CHUNK // (taps[0].shape[0] * taps[0].shape[1]))
        chunks: list[PointMaps] = []
        for start in range(0, frames, step):
            part = slice(start, start + step)
            chunk_taps = tuple(tap[:, :, part] for tap in taps)
            chunk_skips = tuple(skip[:, part] for skip in skips)
            chunks.append(head(chunk_taps, chunk_skips, tokens.grid, tokens.size))
        if len(chunks) == 1:
            return chunks[0]
        return PointMaps(
            torch.cat([chunk.points for chunk in chunks], dim=2),
            torch.cat([chunk.confidence for chunk in chunks], dim=2),
        )


def build_decoder(config: VDPMConfig) -> TimeConditionedDecoder | TimeConditionedHead | PairDecoder:
    """The decoder of ``config.decoder_kind``, with weights drawn anew."""
    match config.decoder_kind:
        case "transformer":
            return TimeConditionedDecoder(config)
        case "head":
            return TimeConditionedHead(config)
        case "pairwise":
            return PairDecoder(config)

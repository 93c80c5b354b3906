"""Sizes of the network: one frozen dataclass for all of them, and the two presets."""

import json
import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_origin

from vdpm.errors import UsageError

SPECIAL_TOKENS_BEFORE_REGISTERS = 2
"""The camera token (index 0) and the time token (index 1) stand before the registers, these before the patches."""

LARGEST_SIZE = 65536
"""No width, depth or count is larger: a damaged configuration must not ask for all memory there is."""


@dataclass(frozen=True, kw_only=True)
class VDPMConfig:
    """Every number the network's shape depends on, validated on construction.

    Backbone: ``pairs`` of frame and global attention blocks of ``dim`` channels in ``heads`` heads over the tokens of
    ``patch_encoder`` ("dinov2": a ViT of ``vit_depth`` blocks made for square images of ``vit_image_size`` pixels;
    "conv": strided convolutions of ``stem_channels`` at strides 2, 4 and 8). ``taps`` are the pairs, counted from 0,
    whose outputs (2 ``dim`` channels) feed decoder and head; with ``tap_fusion`` they are fused into one sequence of
    ``decoder_dim`` channels. ``layer_scale_init`` None leaves LayerScale out. ``init`` "scratch" starts the decoder's
    gates at one and the heads at a plausible scene, for training from nothing; "released" starts as the paper's code.
    ``head_channels``: for "dpt" the widths of its four projections; for "conv" its widths at strides 8, 4, 2 and 1.
    ``mark_target`` adds a learned vector to the decoder's tokens of the target frame, so that a network trained from
    nothing need not find out first which frame is meant.
    ``decoder_kind`` and ``time_conditioning``: the network of the paper or what it compares with (Secs. 3.1 and 7).
    "transformer": the time-conditioned decoder (Fig. 4), modulated by the time token ("adaln"), or with the token
    added to its input ("add"). "head": no decoder but a second point head, modulated by the time token. "pairwise": two
    frames at a time; points at the other frame's time come from unconditioned blocks and a head of their own.
    ``match_dim`` above 0 adds descriptors read from the patch tokens of pair ``match_pair``, a training aid.
    Raises UsageError, naming field and value, for sizes that do not fit together.
    """

    name: str = "custom"
    patch_encoder: Literal["dinov2", "conv"] = "dinov2"
    patch_size: int = 14
    vit_depth: int = 24
    vit_heads: int = 16
    vit_image_size: int = 518
    stem_channels: tuple[int, ...] = ()
    dim: int = 1024
    heads: int = 16
    pairs: int = 24
    registers: int = 4
    mlp_ratio: float = 4.0
    rope_frequency: float = 100.0
    layer_scale_init: float | None = 0.01
    init: Literal["released", "scratch"] = "released"
    taps: tuple[int, ...] = (4, 11, 17, 23)
    tap_fusion: bool = False
    decoder_dim: int = 2048
    decoder_heads: int = 16
    decoder_pairs: int = 4
    decoder_mlp_ratio: float = 4.0
    mark_target: bool = False
    decoder_kind: Literal["transformer", "head", "pairwise"] = "transformer"
    time_conditioning: Literal["adaln", "add"] = "adaln"
    head: Literal["dpt", "conv"] = "dpt"
    head_features: int = 256
    head_channels: tuple[int, ...] = (256, 512, 1024, 1024)
    camera_dim: int = 2048
    camera_heads: int = 16
    camera_depth: int = 4
    camera_steps: int = 4
    camera_mlp_ratio: float = 4.0
    match_dim: int = 0
    match_pair: int = 0

    def __post_init__(self) -> None:
        self._check_ranges()
        self._check_attention()
        self._check_taps()
        self._check_parts()

    @property
    def tap_dim(self) -> int:
        """Channels of a pair's output: the frame block's and the global block's side by side."""
        return 2 * self.dim

    @property
    def special_tokens(self) -> int:
        """Tokens of a frame before its patches: camera, time, registers."""
        return SPECIAL_TOKENS_BEFORE_REGISTERS + self.registers

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def to_json(self) -> str:
        """The configuration as JSON text; ``from_json`` reads it back to an equal object."""
        return json.dumps(self.to_dict(), indent=2) + "\n"

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "VDPMConfig":
        """The configuration from plain values. Raises UsageError for unknown names and values of another kind."""
        kinds = {field.name: field.type for field in fields(cls)}
        unknown = sorted(set(values) - set(kinds))
        if unknown:
            raise UsageError(f"network configuration has unknown entries {', '.join(unknown)}; remove them")
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        for name, value in values.items():
            rule = _broken_kind(kinds[name], value)
            if rule is not None:
                raise UsageError(f"network configuration: {name} is {value!r}, must be {rule}")
        return cls(**values)

    @classmethod
    def from_json(cls, text: str) -> "VDPMConfig":
        """The configuration from JSON text. Raises UsageError where the text is no JSON object of known fields."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise UsageError(f"network configuration is not JSON ({error}); give the config.json of a model") from None
        if not isinstance(values, dict):
            raise UsageError("network configuration is not a JSON object; give the config.json of a model")
        return cls.from_dict(values)

    def _refuse(self, name: str, rule: str) -> None:
        raise UsageError(f"network configuration: {name} is {getattr(self, name)!r}, {rule}")

    def _check_ranges(self) -> None:
        for field in fields(self):
            if field.type is int and getattr(self, field.name) > LARGEST_SIZE:
                self._refuse(field.name, f"must be at most {LARGEST_SIZE}")
        positive = (
            *("patch_size", "dim", "heads", "pairs", "decoder_dim", "decoder_heads", "decoder_pairs"),
            *("camera_dim", "camera_heads", "camera_depth", "camera_steps", "vit_depth", "vit_heads"),
            *("mlp_ratio", "rope_frequency", "decoder_mlp_ratio", "camera_mlp_ratio", "head_features"),
        )
        for name in positive:
            if not getattr(self, name) > 0:
                self._refuse(name, "must be above 0")
        for name in ("registers", "match_dim"):
            if getattr(self, name) < 0:
                self._refuse(name, "must be at least 0")
        if self.layer_scale_init is not None and not self.layer_scale_init > 0:
            self._refuse("layer_scale_init", "must be above 0, or null to leave LayerScale out")

    def _check_attention(self) -> None:
        widths = {"heads": self.dim, "decoder_heads": self.decoder_dim, "camera_heads": self.camera_dim}
        for name, width in widths.items():
            if width % getattr(self, name):
                self._refuse(name, f"must divide its width {width}")
        for name in ("heads", "decoder_heads"):
            if (widths[name] // getattr(self, name)) % 4:
                self._refuse(name, "must leave a multiple of 4 channels a head for the 2-D rotary embedding")

    def _check_taps(self) -> None:
        if not self.taps or list(self.taps) != sorted(set(self.taps)):
            self._refuse("taps", "must name at least one pair, in rising order")
        if self.taps[0] < 0 or self.taps[-1] >= self.pairs:
            self._refuse("taps", f"must lie within the {self.pairs} pairs, counted from 0")
        if not self.tap_fusion and self.decoder_dim != self.tap_dim:
            self._refuse("decoder_dim", f"must be 2 dim = {self.tap_dim} unless tap_fusion is on")
        if self.match_dim and not 0 <= self.match_pair < self.pairs:
            self._refuse("match_pair", f"must lie within the {self.pairs} pairs, counted from 0")

    def _check_parts(self) -> None:
        if self.time_conditioning == "add" and self.decoder_kind != "transformer":
            self._refuse("time_conditioning", f"must be adaln with decoder_kind {self.decoder_kind}")
        if self.mark_target and self.decoder_kind == "pairwise":
            self._refuse("mark_target", "must be off with decoder_kind pairwise, which is given no target")
        if self.patch_encoder == "conv":
            if self.patch_size != 8:
                self._refuse("patch_size", "must be 8 with the conv patch encoder")
            if len(self.stem_channels) != 3 or min(self.stem_channels) <= 0:
                self._refuse("stem_channels", "must give three widths, at strides 2, 4 and 8")
        else:
            if self.dim % self.vit_heads:
                self._refuse("vit_heads", f"must divide dim {self.dim}")
            if self.vit_image_size % self.patch_size or self.vit_image_size <= 0:
                self._refuse("vit_image_size", f"must be a multiple of patch_size {self.patch_size}")
        if len(self.head_channels) != 4 or min(self.head_channels) <= 0:
            self._refuse("head_channels", "must give four widths")
        if self.head == "dpt":
            if self.tap_fusion or len(self.taps) != 4:
                self._refuse("head", "needs four taps that are not fused")
            if self.head_features % 8 or any(width % 4 for width in self.head_channels):
                self._refuse("head_channels", "must be multiples of 4, head_features of 8, for the position embedding")
        elif not self.tap_fusion or self.patch_encoder != "conv":
            self._refuse("head", "needs tap_fusion and the conv patch encoder, whose maps it reads")


def _broken_kind(kind: Any, value: Any) -> str | None:
    """What ``value`` must be instead, or None where it is of the ``kind`` of its field."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if get_origin(kind) is Literal:
        return None if value in get_args(kind) else f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is tuple:
        whole = isinstance(value, tuple) and all(type(entry) is int for entry in value)
        return None if whole else "a list of integers"
    if kind is int:
        return None if type(value) is int else "an integer"
    if kind is float:
        return None if number else "a number"
    if kind == float | None:
        return None if number or value is None else "a number or null"
    return None if isinstance(value, kind) else f"of type {kind.__name__}"


PRESETS: dict[str, VDPMConfig] = {
    "vdpm-1b": VDPMConfig(name="vdpm-1b"),
    "vdpm-small": VDPMConfig(
        name="vdpm-small",
        patch_encoder="conv",
        patch_size=8,
        stem_channels=(48, 96, 144),
        dim=320,
        heads=5,
        pairs=6,
        layer_scale_init=None,
        init="scratch",
        taps=(2, 5),
        tap_fusion=True,
        decoder_dim=256,
        decoder_heads=4,
        decoder_pairs=2,
        decoder_mlp_ratio=2.0,
        mark_target=True,
        head="conv",
        head_channels=(128, 96, 48, 32),
        camera_dim=192,
        camera_heads=3,
        camera_depth=2,
        camera_mlp_ratio=2.0,
        match_dim=64,
        match_pair=3,
    ),
}
"""``vdpm-1b``: the released network, 1,661,508,918 parameters. ``vdpm-small``: ours, about 20 million."""


def preset_config(name: str) -> VDPMConfig:
    """The configuration of a preset. Raises UsageError, listing the presets, for another name."""
    if name not in PRESETS:
        raise UsageError(f"no preset is called {name!r}; choose one of {', '.join(PRESETS)}")
    return PRESETS[name]

"""What a training run is made of: typed, frozen, validated, saved with every checkpoint."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from vdpm.data.mixture import Mixture
from vdpm.errors import UsageError
from vdpm.model import VDPMConfig, preset_config
from vdpm.synthetic import HELD_OUT_START, SceneConfig

SEEDS_PER_STEP = 1 << 12
"""Room for the clips of one step over all ranks."""
STEPS_PER_SEED = 1 << 20
"""Steps before the scenes of the next seed begin."""
SEEDS = HELD_OUT_START // (SEEDS_PER_STEP * STEPS_PER_SEED)
"""Training seeds; the scenes of the last one end where the held-out ones begin."""


Attention = Literal["auto", "flash", "cudnn"]
Reference = Literal["first", "central", "any", "first_or_any"]


@dataclass(frozen=True)
class Bucket:
    """One shape of batch: clips of ``frames`` images of ``height`` x ``width`` pixels, ``batch`` of them on each GPU.

    ``stride``: the frames of a clip lie that many frame steps of the scene apart, one number a clip from this range.
    ``share``: how often it is drawn, relative to the other buckets that are open: those with ``first_step`` <= step
    < ``last_step``. ``compiled``: whether the network runs compiled on this shape, which takes about a minute
    to prepare and then saves half of the time; not worth it for a shape that is rarely drawn.
    """

    frames: int
    height: int
    width: int
    batch: int
    share: float = 1.0
    compiled: bool = True
    first_step: int = 0
    last_step: int | None = None
    stride: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if min(self.frames, self.height, self.width, self.batch) < 1 or not self.share > 0:
            raise UsageError(f"{self} has a number that is not positive")
        if self.last_step is not None and not self.first_step < self.last_step:
            raise UsageError(f"{self} is never open; last_step must lie beyond first_step")
        if not 1 <= self.stride[0] <= self.stride[1]:
            raise UsageError(f"{self}: stride must be (low, high) with 1 <= low <= high")

    def is_open(self, step: float | int) -> bool:
        """Whether batches of this shape are drawn at ``step``."""
        return self.first_step <= step and (self.last_step is None or step < self.last_step)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss (Sec. 3.3 and the supplement of the paper; what is ours is said in ``training.losses``).

    ``moving``: Q once more on moving pixels alone. ``motion``: Q - P against the true motion, moving and still pixels
    counting alike. ``average``: over each example's pixels and then over the examples, so that sparse tracks weigh as
    much as dense maps ("example", the paper's), or over all pixels of the batch ("batch", to compare with).
    """

    alpha: float = 0.2
    time_variant: float = 1.0
    time_invariant: float = 1.0
    moving: float = 1.0
    motion: float = 0.0
    sky: float = 0.0
    camera: float = 5.0
    camera_decay: float = 0.6
    matching: float = 0.2
    matching_temperature: float = 0.07
    average: Literal["example", "batch"] = "example"

    def __post_init__(self) -> None:
        if self.average not in ("example", "batch"):
            raise UsageError(f"loss: average is {self.average!r}; choose example or batch")
        for name, value in vars(self).items():
            if name != "average" and not 0 <= value < math.inf:
                raise UsageError(f"loss: {name} is {value}; it must not be negative")
        if self.matching_temperature == 0 or self.camera_decay == 0:
            raise UsageError("loss: matching_temperature and camera_decay must be above 0")


@dataclass(frozen=True)
class OptimizerConfig:
    """Muon on the matrices of the transformer blocks, AdamW on the rest, or AdamW on everything.

    The learning rate warms up linearly, stays, and falls linearly to ``final_fraction`` of itself over the last
    ``cooldown_steps`` (``schedule="constant"``), or follows a cosine (``schedule="cosine"``). What AdamW moves beside
    Muon has ``beside_muon`` times the rate.
    """

    kind: Literal["muon", "adamw"] = "muon"
    lr: float = 1e-3
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    warmup_steps: int = 500
    cooldown_steps: int = 0
    beside_muon: float = 0.5
    final_fraction: float = 0.01
    schedule: Literal["constant", "cosine"] = "constant"
    clip_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("lr", "beside_muon", "clip_norm"):
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be a number above 0")
        if min(self.warmup_steps, self.cooldown_steps) < 0 or not self.weight_decay >= 0:
            raise UsageError("warmup_steps, cooldown_steps and weight_decay must not be negative")


@dataclass(frozen=True)
class TrainConfig:
    """One run. ``steps`` are optimiser steps; ``targets`` the number of target times decoded a clip and step.

    ``model``: a preset's name, or sizes of its own. ``data``: data sets to draw clips from beside our own scenes.
    ``scene_uses``: how often each batch is shown, each time with other targets, reference and colours, every second
    time mirrored (``training.reuse``). ``sparse_share``: of our own clips in which something moves, this share has
    ground truth on a few tracks of moving objects alone, as data sets of point tracks have. ``reference``: which
    frame's camera is the world: the first, the central one (the paper's), any, or the first in half of the steps and
    any in the others. ``seed`` starts the sequence of training scenes, which never meets the held-out seeds.
    ``freeze_patch_encoder``: the patch encoder stays as it is. ``parts``: nothing is trained but these modules of the
    network, such as "decoder" (all of it where there are none). ``rank``: beside ``parts``, the matrices of the
    backbone's blocks move by a product of this rank, and their vectors freely (``training.low_rank``; 0: ``parts``
    alone do); ``thin``: and those of these modules. ``checkpoint_blocks``: blocks are computed again in the backward
    pass instead of kept, for memory. ``parallel``: on several GPUs each holds the whole network, or a part of every
    tensor ("shard", FSDP2; AdamW only). ``cuda_graphs``: replay forward and backward pass of compiled shapes as one
    recorded graph. ``attention``: which kernels to prefer. ``max_bad_steps``: more steps than that with a non-finite
    gradient, which are skipped and counted, stop the run. ``picture_every``: steps between pictures for TensorBoard.
    """

    name: str
    model: str | VDPMConfig = "vdpm-small"
    scenes: SceneConfig = field(default_factory=SceneConfig)
    data: Mixture = field(default_factory=Mixture)
    buckets: tuple[Bucket, ...] = (Bucket(frames=6, height=96, width=128, batch=32),)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    steps: int = 10_000
    targets: int = 1
    scene_uses: int = 1
    sparse_share: float = 0.0
    reference: Reference = "first_or_any"
    seed: int = 0
    freeze_patch_encoder: bool = False
    parts: tuple[str, ...] = ()
    rank: int = 0
    thin: tuple[str, ...] = ()
    checkpoint_blocks: bool = False
    parallel: Literal["replicate", "shard"] = "replicate"
    cuda_graphs: bool = False
    attention: Attention = "auto"
    ema_decay: float = 0.999
    bfloat16: bool = True
    compile: bool = True
    log_every: int = 20
    picture_every: int = 500
    save_every_seconds: float = 120.0
    max_bad_steps: int = 50

    def __post_init__(self) -> None:
        if not self.buckets:
            raise UsageError("a training run needs at least one bucket (frames, height, width, batch)")
        if not 1 <= self.steps <= STEPS_PER_SEED:
            raise UsageError(f"steps is {self.steps}; it must lie in 1 to {STEPS_PER_SEED}")
        for name in ("targets", "scene_uses", "log_every", "picture_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.reference not in get_args(Reference):
            raise UsageError(f"reference is {self.reference!r}; choose {', '.join(get_args(Reference))}")
        if self.attention not in get_args(Attention):
            raise UsageError(f"attention is {self.attention!r}; choose {', '.join(get_args(Attention))}")
        if self.parallel not in ("replicate", "shard"):
            raise UsageError(f"parallel is {self.parallel!r}; choose replicate or shard")
        if self.parallel == "shard" and (self.optimizer.kind == "muon" or self.cuda_graphs):
            what = (
                "Muon needs whole matrices" if self.optimizer.kind == "muon" else "cuda_graphs needs the whole network"
            )
            raise UsageError(
                f"{what}, which no GPU has with parallel 'shard'; use AdamW without cuda_graphs, or replicate"
            )
        if self.optimizer.cooldown_steps > self.steps:
            raise UsageError(
                f"the learning rate would fall over {self.optimizer.cooldown_steps} steps of a run of {self.steps}; "
                f"give --cooldown-steps of at most {self.steps}"
            )
        if not 0 <= self.sparse_share <= 1:
            raise UsageError(f"sparse_share is {self.sparse_share}; a share lies between 0 and 1")
        if self.rank < 0 or (self.rank and (self.parallel == "shard" or not self.parts)):
            how = "it must not be negative" if self.rank < 0 else "it goes with parts, and not with parallel 'shard'"
            raise UsageError(f"rank is {self.rank}; {how}")
        if self.thin and (not self.rank or set(self.thin) & set(self.parts)):
            raise UsageError(f"thin is {', '.join(self.thin)}; it goes with a rank, and its modules are not in parts")
        network = self.network
        for bucket in self.buckets:
            if bucket.height % network.patch_size or bucket.width % network.patch_size:
                raise UsageError(
                    f"{bucket}: height and width must be multiples of {network.patch_size}, the patch of {network.name}"
                )
            if network.decoder_kind == "pairwise" and bucket.frames != 2:
                raise UsageError(f"{bucket}: network {network.name} is pairwise; give it buckets of 2 frames")
        edges = {0, *(b.first_step for b in self.buckets), *(b.last_step or 0 for b in self.buckets)}
        for step in sorted(e for e in edges if e < self.steps):
            if not any(b.is_open(step) for b in self.buckets):
                raise UsageError(f"no bucket is open at step {step}; give one a later last_step or earlier first_step")
        if not 0 <= self.seed < SEEDS:
            raise UsageError(
                f"seed is {self.seed}; training seeds go from 0 to {SEEDS - 1}, beyond lie the held-out scenes"
            )
        if not 0 <= self.ema_decay < 1:
            raise UsageError(f"ema_decay is {self.ema_decay}; it lies in [0, 1)")

    @property
    def network(self) -> VDPMConfig:
        """The sizes of the network that is trained."""
        return preset_config(self.model) if isinstance(self.model, str) else self.model

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and strings for the checkpoint and the log."""
        return asdict(self)

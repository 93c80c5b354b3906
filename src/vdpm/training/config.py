"""What a training run is made of: typed, frozen, validated, saved with every checkpoint."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from vdpm.errors import UsageError
from vdpm.model import preset_config
from vdpm.synthetic import HELD_OUT_START, SceneConfig

SEEDS_PER_STEP = 1 << 12
"""Room for the clips of one step over all ranks."""
STEPS_PER_SEED = 1 << 20
"""Steps before the scenes of the next seed begin."""
SEEDS = HELD_OUT_START // (SEEDS_PER_STEP * STEPS_PER_SEED)
"""Training seeds; the scenes of the last one end where the held-out ones begin."""


@dataclass(frozen=True)
class Bucket:
    """One shape of batch: clips of ``frames`` images of ``height`` x ``width`` pixels, ``batch`` of them on each GPU.

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

    def __post_init__(self) -> None:
        if min(self.frames, self.height, self.width, self.batch) < 1 or not self.share > 0:
            raise UsageError(f"{self} has a number that is not positive")
        if self.last_step is not None and not self.first_step < self.last_step:
            raise UsageError(f"{self} is never open; last_step must lie beyond first_step")

    def is_open(self, step: float | int) -> bool:
        """Whether batches of this shape are drawn at ``step``."""
        return self.first_step <= step and (self.last_step is None or step < self.last_step)


@dataclass(frozen=True)
class LossConfig:
    """Weights of the loss (Sec. 3.3 and the supplement of the paper; what is ours is said in ``training.losses``).

    ``moving``: Q once more on moving pixels alone. ``motion``: Q - P against the true motion, moving and still pixels
    counting alike.
    """

    alpha: float = 0.2
    time_variant: float = 1.0
    time_invariant: float = 1.0
    moving: float = 1.0
    motion: float = 0.0
    camera: float = 5.0
    camera_decay: float = 0.6
    matching: float = 0.2
    matching_temperature: float = 0.07

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < math.inf:
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

    ``seed`` starts the sequence of training scenes, which never meets the held-out seeds. ``max_bad_steps``: that many
    steps with a non-finite gradient (skipped and counted) stop the run.
    """

    name: str
    model: str = "vdpm-small"
    scenes: SceneConfig = field(default_factory=SceneConfig)
    buckets: tuple[Bucket, ...] = (Bucket(frames=6, height=96, width=128, batch=32),)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    steps: int = 10_000
    targets: int = 1
    seed: int = 0
    ema_decay: float = 0.999
    bfloat16: bool = True
    compile: bool = True
    log_every: int = 20
    save_every_seconds: float = 120.0
    max_bad_steps: int = 50

    def __post_init__(self) -> None:
        if not self.buckets:
            raise UsageError("a training run needs at least one bucket (frames, height, width, batch)")
        if not 1 <= self.steps <= STEPS_PER_SEED:
            raise UsageError(f"steps is {self.steps}; it must lie in 1 to {STEPS_PER_SEED}")
        if self.targets < 1 or self.log_every < 1:
            raise UsageError(f"targets ({self.targets}) and log_every ({self.log_every}) must be at least 1")
        if self.optimizer.cooldown_steps > self.steps:
            raise UsageError(
                f"the learning rate would fall over {self.optimizer.cooldown_steps} steps of a run of {self.steps}; "
                f"give --cooldown-steps of at most {self.steps}"
            )
        patch = preset_config(self.model).patch_size
        for bucket in self.buckets:
            if bucket.height % patch or bucket.width % patch:
                raise UsageError(f"{bucket}: height and width must be multiples of {patch}, the patch of {self.model}")
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

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and strings for the checkpoint and the log."""
        return asdict(self)

"""Named runs, as typed Python. No logic: a recipe is a TrainConfig."""

from dataclasses import replace

from vdpm.comparison_recipes import COMPARED
from vdpm.synthetic import SceneConfig
from vdpm.training.config import Bucket, LossConfig, OptimizerConfig, TrainConfig

# Small frames first, for most of the steps; then frames of the size that is used, with the learning rate falling.
_SWITCH, _END = 2800, 4300

SMALL = TrainConfig(
    name="small",
    model="vdpm-small",
    scenes=SceneConfig(colour_samples=1),
    buckets=(
        Bucket(frames=6, height=96, width=128, batch=64, share=8.0, last_step=_SWITCH),
        Bucket(frames=6, height=128, width=96, batch=64, share=1.0, compiled=False, last_step=_SWITCH),
        Bucket(frames=12, height=96, width=128, batch=32, share=1.0, compiled=False, last_step=_SWITCH),
        Bucket(frames=6, height=128, width=224, batch=27, share=8.0, first_step=_SWITCH),
        Bucket(frames=6, height=224, width=128, batch=20, share=1.0, compiled=False, first_step=_SWITCH),
        Bucket(frames=14, height=128, width=224, batch=8, share=1.0, compiled=False, first_step=_SWITCH),
    ),
    loss=LossConfig(matching=0.3),
    optimizer=OptimizerConfig(lr=2e-3, warmup_steps=200, cooldown_steps=_END - _SWITCH),
    steps=_END,
    targets=1,
    ema_decay=0.998,
)

# On from trained weights: all sizes at once, larger batches, frames up to four steps apart; half of the time at a
# falling rate.
SMALL_FURTHER = replace(
    SMALL,
    name="small-further",
    scenes=replace(SMALL.scenes, frame_stride=(1, 4)),
    buckets=(
        Bucket(frames=10, height=112, width=168, batch=48, share=5.0),
        Bucket(frames=6, height=128, width=224, batch=54, share=4.0),
        Bucket(frames=6, height=224, width=128, batch=40, share=1.0, compiled=False),
        Bucket(frames=2, height=112, width=168, batch=160, share=1.0, compiled=False),
        Bucket(frames=16, height=96, width=128, batch=40, share=1.0, compiled=False),
    ),
    loss=LossConfig(matching=0.3, motion=1.0, sky=0.2),
    optimizer=OptimizerConfig(lr=1.5e-3, warmup_steps=150, cooldown_steps=3000),
    steps=6000,
    ema_decay=0.999,
)

# The same in slices (--init of the last one's onward/): the rate stays up and the average lasts from slice to slice;
# --cooldown-share for the last one. Cameras, learnt by now, had two thirds of the backbone's gradient; motion, which is
# not, a thirtieth (docs/training.md).
SMALL_SLICES = replace(
    SMALL_FURTHER,
    name="small-slices",
    loss=replace(SMALL_FURTHER.loss, motion=4.0, camera=1.5),
    optimizer=OptimizerConfig(lr=8e-4, warmup_steps=100),
    ema_decay=0.9995,
)

# What decodes, alone: nothing is computed backwards in the backbone, two target times a clip cost less than two clips,
# and an update has room for all that is learnt. More shapes than before, for the camera head: it tells focal lengths
# only at those it has seen.
SMALL_DECODER = replace(
    SMALL_SLICES,
    name="small-decoder",
    buckets=(
        Bucket(frames=10, height=112, width=168, batch=48, share=5.0),
        Bucket(frames=6, height=128, width=224, batch=54, share=4.0),
        Bucket(frames=6, height=224, width=128, batch=40, share=0.7, compiled=False),
        Bucket(frames=2, height=112, width=168, batch=160, share=0.6, compiled=False),
        Bucket(frames=14, height=96, width=128, batch=40, share=0.6, compiled=False),
        Bucket(frames=6, height=144, width=192, batch=48, share=0.7, compiled=False),
        Bucket(frames=6, height=192, width=144, batch=48, share=0.4, compiled=False),
        Bucket(frames=8, height=136, width=136, batch=48, share=0.4, compiled=False),
    ),
    optimizer=OptimizerConfig(lr=8e-4, warmup_steps=100, cooldown_steps=3600),
    targets=2,
    parts=("decoder", "point_head", "fusion", "camera_head"),
    ema_decay=0.999,
)

# The backbone in few numbers as well: its matrices move by products of rank 40, an eighth of what they could.
SMALL_LOW_RANK = replace(
    SMALL_DECODER,
    name="small-low-rank",
    optimizer=replace(SMALL_DECODER.optimizer, cooldown_steps=3300),
    targets=1,
    parts=("decoder", "point_head", "fusion", "camera_head", "matcher"),
    rank=40,
)

# All but the point head in few numbers, for an update of two thirds of a mebibyte.
SMALL_THIN = replace(
    SMALL_LOW_RANK,
    name="small-thin",
    parts=("point_head", "matcher"),
    rank=16,
    thin=("decoder", "fusion", "camera_head"),
)

# Five minutes or so on one large GPU: whether a change of the recipe is worth a whole run.
SMALL_SHORT = replace(
    SMALL,
    name="small-short",
    buckets=(
        Bucket(frames=6, height=96, width=128, batch=64, share=9.0),
        Bucket(frames=12, height=96, width=128, batch=32, share=1.0, compiled=False),
    ),
    optimizer=OptimizerConfig(lr=2e-3, warmup_steps=100, cooldown_steps=300),
    steps=800,
    ema_decay=0.99,
)


def _paper(frames: int, batch: int) -> Bucket:
    return Bucket(frames=frames, height=294, width=518, batch=batch)


# Sec. 3.3 and supplement, Sec. 6, of the paper, as far as it tells, on our scenes: from VGGT-1B's weights (--init),
# 60 epochs of 32,500 examples in batches of 32 (16 GPUs). Warm-up, decay and the last rate follow the released code.
PAPER = TrainConfig(
    name="paper",
    model="vdpm-1b",
    scenes=SceneConfig(colour_samples=1),
    buckets=(_paper(5, 4), _paper(9, 2), _paper(13, 1), _paper(19, 1)),
    loss=LossConfig(moving=0.0, matching=0.0),
    optimizer=OptimizerConfig(
        kind="adamw",
        lr=1.5e-4,
        weight_decay=0.05,
        betas=(0.9, 0.95),
        warmup_steps=3000,
        schedule="cosine",
        final_fraction=1e-6 / 1.5e-4,
        clip_norm=1.0,
    ),
    steps=60_000,
    targets=1,
    reference="central",
    freeze_patch_encoder=True,
    parallel="shard",
    save_every_seconds=1200.0,
)

# The same in a few hours on a few GPUs: short clips mostly, a schedule of its own.
PAPER_SHORT = replace(
    PAPER,
    name="paper-short",
    buckets=(_paper(5, 4), replace(_paper(9, 2), share=0.5)),
    optimizer=replace(PAPER.optimizer, lr=5e-5, warmup_steps=200),
    steps=4000,
)

# A few minutes on two CPU cores: shows that everything runs and that the loss falls, nothing more.
SMOKE = TrainConfig(
    name="smoke",
    model="vdpm-small",
    scenes=SceneConfig(),
    buckets=(Bucket(frames=3, height=48, width=64, batch=2),),
    optimizer=OptimizerConfig(warmup_steps=10),
    steps=100,
    bfloat16=False,
    compile=False,
    log_every=10,
)

_FURTHER = (SMALL_FURTHER, SMALL_SLICES, SMALL_DECODER, SMALL_LOW_RANK, SMALL_THIN)
_ALL = (SMALL, *_FURTHER, SMALL_SHORT, PAPER, PAPER_SHORT, SMOKE, *COMPARED)
RECIPES: dict[str, TrainConfig] = {recipe.name: recipe for recipe in _ALL}

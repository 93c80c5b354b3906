"""The paper's comparisons at a size that takes minutes on one GPU (docs/comparisons.md). No logic: typed recipes.

All are of the sizes of ``vdpm-small``, start from its weights but those of its decoder, and see the same scenes, the
same number of frames a step, the same optimiser. They differ in what their names say.
"""

from dataclasses import dataclass, replace

from vdpm.model import preset_config
from vdpm.synthetic import SceneConfig
from vdpm.training.config import Bucket, LossConfig, OptimizerConfig, TrainConfig

HEIGHT, WIDTH = 80, 120
"""Pixels; the shape of the held-out families' frames."""

# 480 frames a step, whatever their number a clip. Held-out snippets have ten frames two steps of the scene apart, so
# pairs lie up to 18 steps apart; longer clips reach over about as much with the strides they are tested at.
_PAIRS = Bucket(frames=2, height=HEIGHT, width=WIDTH, batch=240, stride=(1, 18))
_FIVE = Bucket(frames=5, height=HEIGHT, width=WIDTH, batch=96, stride=(1, 4))
_NINE = Bucket(frames=9, height=HEIGHT, width=WIDTH, batch=53, stride=(1, 2))
_THIRTEEN = Bucket(frames=13, height=HEIGHT, width=WIDTH, batch=37, stride=(1, 2))

NETWORK = replace(preset_config("vdpm-small"), name="compare")

# Speeds of the held-out families: with these strides, those of other recipes would leave the room.
_SCENES = SceneConfig(colour_samples=1, baseline=(0.04, 0.4), travel=(0.3, 4.0))
_OPTIMIZER = OptimizerConfig(lr=8e-4, warmup_steps=50, cooldown_steps=500)

BASE = TrainConfig(
    name="compare-base",
    model=NETWORK,
    scenes=_SCENES,
    buckets=(_FIVE,),
    loss=LossConfig(matching=0.3, motion=1.0),
    optimizer=_OPTIMIZER,
    steps=1000,
    ema_decay=0.99,
)

PAIRWISE = replace(
    BASE,
    name="compare-pairwise",
    model=replace(NETWORK, name="compare-pairwise", decoder_kind="pairwise", mark_target=False),
    buckets=(_PAIRS,),
    targets=2,
)
MIXED = replace(BASE, name="compare-mixed", buckets=(_FIVE, _NINE, _THIRTEEN))
DEPTH_1 = replace(BASE, name="compare-depth-1", model=replace(NETWORK, name="compare-depth-1", decoder_pairs=1))
ADD = replace(BASE, name="compare-add", model=replace(NETWORK, name="compare-add", time_conditioning="add"))
HEAD = replace(BASE, name="compare-head", model=replace(NETWORK, name="compare-head", decoder_kind="head"))

# Dense truth on static clips, a few tracks on clips with motion, and the paper's own terms of the loss alone: ours on
# moving pixels would give the tracks weight in either average.
SPARSE_EXAMPLE = replace(
    BASE,
    name="compare-sparse-example",
    scenes=replace(_SCENES, static_share=0.5),
    loss=LossConfig(moving=0.0, matching=0.3),
    sparse_share=1.0,
)
SPARSE_BATCH = replace(SPARSE_EXAMPLE, name="compare-sparse-batch", loss=replace(SPARSE_EXAMPLE.loss, average="batch"))

COMPARED = (BASE, PAIRWISE, MIXED, DEPTH_1, ADD, HEAD, SPARSE_EXAMPLE, SPARSE_BATCH)
"""The runs that are compared, all of them beginning with the same backbone and heads."""


@dataclass(frozen=True)
class Comparison:
    """``recipes`` side by side. ``paper``: what the paper says of it."""

    title: str
    paper: str
    recipes: tuple[TrainConfig, ...]


COMPARISONS = (
    Comparison(
        "Pairs or video",
        "one pass over the video halves the error of pairs and more; pairs get worse over ten frames (Tables 1, 2)",
        (PAIRWISE, BASE, MIXED),
    ),
    Comparison(
        "Time-conditioned decoder",
        "each costs accuracy: half the depth, the time token added, a conditioned head instead (supplement, Sec. 7)",
        (BASE, DEPTH_1, ADD, HEAD),
    ),
    Comparison(
        "Lengths of snippets",
        "random lengths help with longer and more complex motion (supplement, Sec. 6)",
        (BASE, MIXED),
    ),
    Comparison(
        "Average of the loss, dense static clips beside sparse tracks",
        "the mean over examples of each example's mean is better on motion (supplement, Sec. 6)",
        (SPARSE_EXAMPLE, SPARSE_BATCH),
    ),
)
"""What is put side by side."""

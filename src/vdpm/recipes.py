"""Named runs, as typed Python. No logic: a recipe is a TrainConfig."""

from vdpm.synthetic import SceneConfig
from vdpm.training.config import Bucket, LossConfig, OptimizerConfig, TrainConfig

SMALL = TrainConfig(
    name="small",
    model="vdpm-small",
    scenes=SceneConfig(),
    buckets=(
        Bucket(frames=6, height=96, width=128, batch=64, share=3),
        Bucket(frames=4, height=128, width=96, batch=96, share=1),
        Bucket(frames=10, height=96, width=128, batch=40, share=1),
        Bucket(frames=6, height=128, width=224, batch=28, share=1),
    ),
    loss=LossConfig(),
    optimizer=OptimizerConfig(),
    steps=20_000,
    targets=2,
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

RECIPES: dict[str, TrainConfig] = {recipe.name: recipe for recipe in (SMALL, SMOKE)}

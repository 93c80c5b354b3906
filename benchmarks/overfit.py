"""One batch learnt by heart: the whole loss, driven to end-point errors of P and Q below 0.01, on a CPU in minutes.

    python benchmarks/overfit.py

A network that cannot do this has a fault in its geometry or its loss. Errors are mean distances from the truth, lengths
in units of the clip's mean distance, of the network as it stands, without any rescaling. Exits with 1 where the errors
stay above ``--below``.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch

from vdpm.model import VDPM, VDPMConfig, preset_config
from vdpm.synthetic import SceneConfig
from vdpm.training.config import Bucket, LossConfig, OptimizerConfig, TrainConfig
from vdpm.training.distributed import Ranks
from vdpm.training.trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0, help="of weights and scene")
    parser.add_argument("--below", type=float, default=0.01)
    arguments = parser.parse_args()
    config = TrainConfig(
        name="overfit",
        model=small_network(),
        scenes=SceneConfig(colour_samples=1, static_share=0.0, open_weight=0.0, street_weight=0.0),
        buckets=(Bucket(frames=2, height=16, width=24, batch=1),),
        # Little reward for low confidence: the error itself is what is driven down, alike for all pixels.
        loss=LossConfig(alpha=0.01, moving=0.0, matching=0.0, camera=0.5),
        optimizer=OptimizerConfig(
            lr=arguments.lr, weight_decay=0.0, warmup_steps=20, schedule="cosine", final_fraction=0.002
        ),
        steps=arguments.steps,
        seed=arguments.seed,
        bfloat16=False,
        compile=False,
    )
    torch.manual_seed(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(VDPM(config.network), config, Path(folder), Ranks(0, 1, torch.device("cpu")))
        bucket, snippet = trainer.supply.batch(0, 0.0)
        began = time.perf_counter()
        for step in range(arguments.steps):
            trainer.step, trainer.position = step, float(step)
            losses = trainer._forward_backward(bucket, snippet)
            trainer._update()
            if step % 100 == 0 or step == arguments.steps - 1:
                figures = {name: round(value.item(), 4) for name, value in losses.items()}
                print(f"step {step + 1}, {time.perf_counter() - began:.0f} s: {figures}", flush=True)
    reached = max(figures["epe_p"], figures["epe_q"])
    print(f"EPE of P {figures['epe_p']}, of Q {figures['epe_q']}, of moving pixels of Q {figures['epe_moving']}")
    sys.exit(reached >= arguments.below)


def small_network() -> VDPMConfig:
    """``vdpm-small``'s kind of network with 0.4 million parameters."""
    return replace(
        preset_config("vdpm-small"),
        name="overfit",
        stem_channels=(32, 48, 64),
        dim=64,
        heads=2,
        pairs=2,
        taps=(0, 1),
        decoder_dim=64,
        decoder_heads=2,
        decoder_pairs=1,
        head_channels=(96, 64, 64, 48),
        camera_dim=32,
        camera_heads=2,
        camera_depth=1,
        match_dim=0,
    )


if __name__ == "__main__":
    main()

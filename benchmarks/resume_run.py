"""A run cut at random steps and resumed must be the run that was never cut: losses to the bit, on a CPU.

    python benchmarks/resume_run.py --steps 200 --cuts 10 -o /tmp/resume

Trains a small network twice on small scenes, once in one go and once in pieces, each piece with a network of other
random weights that the saved state replaces. Exits with 1 where any loss or weight differs.
"""

import argparse
import json
import random
import sys
from dataclasses import replace
from pathlib import Path

import torch

from vdpm.model import VDPM, VDPMConfig, preset_config
from vdpm.synthetic import SceneConfig
from vdpm.training.checkpoint import load_state
from vdpm.training.config import Bucket, OptimizerConfig, TrainConfig
from vdpm.training.distributed import Ranks
from vdpm.training.trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--cuts", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the places where it is cut")
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    config = TrainConfig(
        name="resume",
        model=small_network(),
        scenes=SceneConfig(colour_samples=1),
        buckets=(Bucket(frames=2, height=16, width=24, batch=2), Bucket(frames=3, height=16, width=16, batch=1)),
        optimizer=OptimizerConfig(lr=2e-3, warmup_steps=10, schedule="cosine"),
        steps=arguments.steps,
        bfloat16=False,
        compile=False,
        log_every=1,
    )
    cuts = sorted(random.Random(arguments.seed).sample(range(1, arguments.steps), arguments.cuts))
    whole, pieces = arguments.output / "whole", arguments.output / "pieces"
    run(config, whole, arguments.steps, resume=False)
    for number, end in enumerate([*cuts, arguments.steps]):
        run(config, pieces, end, resume=number > 0)
    differing = [step for step, a, b in zip(range(1, arguments.steps + 1), losses(whole), losses(pieces)) if a != b]
    one, other = load_state(whole / "state.pt"), load_state(pieces / "state.pt")
    weights = [name for name, value in one.weights.items() if not torch.equal(value, other.weights[name])]
    print(
        f"cut after steps {cuts}: {len(losses(pieces))} losses, {len(differing)} differ; {len(weights)} weights differ"
    )
    sys.exit(bool(differing or weights or len(losses(pieces)) != arguments.steps))


def run(config: TrainConfig, output: Path, end: int, *, resume: bool) -> None:
    """Steps up to ``end`` of the schedule of ``config``."""
    torch.manual_seed(end if resume else 0)
    trainer = Trainer(VDPM(config.network), config, output, Ranks(0, 1, torch.device("cpu")), resume=resume)
    update = trainer._update

    def stopping() -> torch.Tensor:
        if trainer.step + 1 == end:
            trainer.stop_signal = 0
        return update()

    trainer._update = stopping  # type: ignore[method-assign]
    trainer._run()


def losses(output: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (output / "log.jsonl").read_text().splitlines()]


def small_network() -> VDPMConfig:
    """``vdpm-small`` with a tenth of its width."""
    return replace(
        preset_config("vdpm-small"),
        name="resume",
        stem_channels=(8, 8, 16),
        dim=32,
        heads=2,
        pairs=2,
        taps=(0, 1),
        decoder_dim=32,
        decoder_heads=2,
        decoder_pairs=1,
        head_channels=(16, 16, 8, 8),
        camera_dim=32,
        camera_heads=2,
        camera_depth=1,
        match_dim=8,
        match_pair=1,
    )


if __name__ == "__main__":
    main()

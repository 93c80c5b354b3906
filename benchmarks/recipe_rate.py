"""Clips a second of whole training steps, scenes made and all, as a recipe's own log tells them.

    python benchmarks/recipe_rate.py --recipe small --frames 8 --size 128x96 --batch 64
    torchrun --nproc-per-node 4 benchmarks/recipe_rate.py --recipe small --frames 8 --size 128x96 --batch 64
    python benchmarks/recipe_rate.py --recipe smoke --device cpu --steps 6 --log-every 2

Without --frames and --size the recipe's own shapes are mixed as they are in training. One JSON line: the rates between
lines of the log but the first, in which all is compiled, and the most memory that was in use on the first GPU.
"""

import argparse
import json
import os
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from vdpm.recipes import RECIPES
from vdpm.training.config import Bucket
from vdpm.training.run import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="small", choices=sorted(RECIPES))
    parser.add_argument("--frames", type=int, help="of every clip, with --size")
    parser.add_argument("--size", help="WIDTHxHEIGHT in pixels of every clip, multiples of the patch")
    parser.add_argument("--batch", type=int, default=64, help="clips on each GPU, with --size")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--log-every", type=int, default=20, help="steps that one rate is of")
    parser.add_argument("--device", choices=("cuda", "cpu"))
    parser.add_argument("--attention", choices=("auto", "flash", "cudnn"), default="auto")
    parser.add_argument("--cuda-graphs", action="store_true")
    arguments = parser.parse_args()
    if (arguments.frames is None) != (arguments.size is None):
        parser.error("--frames and --size say one shape together; give both or none")
    if arguments.steps < 2 * arguments.log_every:
        parser.error("--steps must be at least twice --log-every: the first line of the log counts for nothing")

    config = replace(RECIPES[arguments.recipe], log_every=arguments.log_every)
    if arguments.size is not None:
        width, height = (int(side) for side in arguments.size.split("x"))
        shape = Bucket(frames=arguments.frames, height=height, width=width, batch=arguments.batch)
        config = replace(config, buckets=(shape,))
    with tempfile.TemporaryDirectory() as folder:
        train(
            config,
            Path(folder),
            steps=arguments.steps,
            cooldown_share=0.0,
            device=arguments.device,
            attention=arguments.attention,
            cuda_graphs=arguments.cuda_graphs,
        )
        if os.environ.get("RANK", "0") != "0":
            return  # torchrun: the first writes for all.
        log = [json.loads(line) for line in (Path(folder) / "log.jsonl").read_text().splitlines()]
    rates = [entry["clips_per_second"] for entry in log[1:]]
    cuda = arguments.device != "cpu" and torch.cuda.is_available()
    figures = {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "ranks": int(os.environ.get("WORLD_SIZE", "1")),
        "recipe": arguments.recipe,
        "shape": arguments.size and f"{arguments.batch} x {arguments.frames} x {arguments.size}",
        "median": statistics.median(rates),
        "least": min(rates),
        "most": max(rates),
        "memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1) if cuda else None,
        "loss": log[-1]["loss"],
        "bad_steps": log[-1]["bad_steps"],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

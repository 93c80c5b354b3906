"""What a batch costs when it is made, and when it is shown again (``scene_uses``): seconds, operations, bytes, memory.

    python benchmarks/supply_cost.py --recipe small-further --uses 2 --batch 2 --size 48x32 --device cpu
    python benchmarks/supply_cost.py --recipe small-further --uses 2 --device cuda

One JSON line for each shape. Operations are those that are no views, counted without a compiler (on a CPU) with each
function that is compiled on a GPU as one; bytes are what they read and write, for a pixel of a clip. Of a row of 16
batches, which are sampled together, all are counted, with their share of the sampling.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes, _get_current_dispatch_mode_stack
from torch.utils._pytree import tree_leaves

from vdpm.recipes import RECIPES
from vdpm.synthetic.generator import _render_fused
from vdpm.training.config import Bucket, TrainConfig
from vdpm.training.distributed import Ranks
from vdpm.training.reuse import GAP, kept_bytes, turn_of
from vdpm.training.supply import STEPS_AHEAD, SceneSupply

FREE = ("detach", "empty", "_unsafe_view", "lift_fresh")


class Traffic(TorchDispatchMode):
    """Operations that are no views, and the bytes of their arguments and results."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view and func.overloadpacket.__name__ not in FREE:
            self.add((args, kwargs, result))
        return result

    def add(self, touched: object) -> None:
        self.operations += 1
        self.bytes += sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(touched) if _is_tensor(leaf))


def as_one(function: Callable[..., Any], **_: Any) -> Callable[..., Any]:
    """In place of ``torch.compile``: what is compiled together counts as one operation, of whoever counts then."""

    def call(*args: Any, **kwargs: Any) -> Any:
        counting = [mode for mode in _get_current_dispatch_mode_stack() if isinstance(mode, Traffic)]
        with _disable_current_modes():
            result = function(*args, **kwargs)
        for mode in counting:
            mode.add((args, kwargs, result))
        return result

    return call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="small-further", choices=sorted(RECIPES))
    parser.add_argument("--uses", type=int, default=2)
    parser.add_argument("--batch", type=int, help="clips, if not the recipe's")
    parser.add_argument("--size", help="WIDTHxHEIGHT in pixels, if not the recipe's")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    on_gpu = arguments.device == "cuda"
    recipe = replace(RECIPES[arguments.recipe], scene_uses=arguments.uses, steps=100_000, compile=on_gpu)
    for bucket in recipe.buckets:
        width, height = map(int, arguments.size.split("x")) if arguments.size else (bucket.width, bucket.height)
        bucket = replace(bucket, batch=arguments.batch or bucket.batch, width=width, height=height)
        config = replace(recipe, buckets=(bucket,))
        figures = on_device(config, bucket) if on_gpu else counted(config, bucket)
        shape = {"frames": bucket.frames, "size": f"{bucket.width}x{bucket.height}", "batch": bucket.batch}
        print(json.dumps(shape | figures), flush=True)


def on_device(config: TrainConfig, bucket: Bucket) -> dict[str, float]:
    """Mean seconds of a new batch and of a repeated one on a GPU, sampling included; MiB kept for a batch."""
    supply = SceneSupply(config, Ranks(0, 1, torch.device("cuda")))
    times: dict[bool, list[float]] = {True: [], False: []}
    for step in range(6 * GAP * config.scene_uses):
        torch.cuda.synchronize()
        start = time.perf_counter()
        supply.batch(step, float(step))
        torch.cuda.synchronize()
        # The first cycles compile.
        if step >= 2 * GAP * config.scene_uses:
            times[supply.is_new(step)].append(time.perf_counter() - start)
    new, again = (sum(found) / max(1, len(found)) for found in (times[True], times[False]))
    return {"new_seconds": round(new, 5), "again_seconds": round(again, 5), "kept_mib": kept(supply)}


def counted(config: TrainConfig, bucket: Bucket) -> dict[str, float]:
    """Operations, and bytes a pixel, of a new batch and of a repeated one, as a GPU would have them."""
    supply = SceneSupply(config, Ranks(0, 1, torch.device("cpu")))
    traffic = {True: Traffic(), False: Traffic()}
    number = {True: 0, False: 0}
    for generator in supply.generators.values():
        generator._render, generator.compile = _render_fused, True
    for step in range(STEPS_AHEAD // GAP * GAP * config.scene_uses):
        new = turn_of(step, config.scene_uses).use == 0
        with patch("torch.compile", as_one), traffic[new]:
            supply.batch(step, float(step))
        number[new] += 1
    pixels = bucket.batch * bucket.frames * bucket.height * bucket.width
    figures: dict[str, float] = {}
    for name, new in (("new", True), ("again", False)):
        figures[f"{name}_operations"] = round(traffic[new].operations / max(1, number[new]))
        figures[f"{name}_bytes"] = round(traffic[new].bytes / max(1, number[new]) / pixels)
    return figures


def kept(supply: SceneSupply) -> float:
    """MiB of one batch of the shape, until it has been shown for the last time."""
    made = supply._made(0, 0.0)
    return round(sum(kept_bytes(part) for part in (made.own, made.read) if part is not None) / 2**20, 1)


def _is_tensor(leaf: object) -> bool:
    return isinstance(leaf, Tensor)


if __name__ == "__main__":
    main()

"""What a training step costs: seconds, peak memory, and the share of the device's matrix rate that it reaches.

Model FLOPs are counted once, on tensors without memory: forward and backward pass, without anything computed twice.
They are divided by the time of a step (optimiser included) and by the rate of one large matrix product on the same
device in the same type. Random images and ground truth: no scenes are made.

    python benchmarks/train_step.py --preset vdpm-1b --frames 5 9 13 19 --compile
    torchrun --nproc-per-node 4 benchmarks/train_step.py --preset vdpm-1b --frames 19 --compile --parallel shard
    python benchmarks/train_step.py --preset vdpm-small --size 128x96 --frames 8 --batch 64 --compile --cuda-graphs
    python benchmarks/train_step.py --preset vdpm-small --size 64x48 --frames 2 --batch 1 --device cpu --operations

One JSON line for each number of frames. ``mfu``: model FLOP utilisation of one GPU. ``clips_per_second``: all GPUs.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from vdpm.model import VDPM, VDPMConfig, preset_config
from vdpm.structures import Snippet
from vdpm.training.acceleration import attention_kernels
from vdpm.training.config import Bucket, OptimizerConfig, TrainConfig
from vdpm.training.distributed import Ranks, join_ranks, leave_ranks
from vdpm.training.trainer import Trainer

GIB = 2**30
PAPER_BATCH = {5: 4, 9: 2}
"""Clips on each GPU by their length (supplement, Sec. 6); one for longer ones."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="vdpm-1b")
    parser.add_argument("--frames", type=int, nargs="+", default=[5, 9, 13, 19])
    parser.add_argument("--size", default="518x294", help="WIDTHxHEIGHT in pixels, multiples of the patch")
    parser.add_argument("--batch", type=int, help="clips on each GPU; otherwise the paper's: 4, 2, 1, 1")
    parser.add_argument("--steps", type=int, default=6, help="timed steps; the median counts")
    parser.add_argument("--device", choices=("cuda", "cpu"))
    parser.add_argument("--checkpoint-activations", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--cuda-graphs", action="store_true")
    parser.add_argument("--parallel", choices=("replicate", "shard"), default="replicate")
    parser.add_argument("--attention", choices=("auto", "flash", "cudnn"), default="auto")
    parser.add_argument("--optimizer", choices=("adamw", "muon"), help="otherwise Muon for vdpm-small alone")
    parser.add_argument("--train-patch-encoder", action="store_true", help="otherwise the ViT is frozen")
    parser.add_argument("--operations", action="store_true", help="count operations that are no views, by part")
    arguments = parser.parse_args()

    ranks = join_ranks(arguments.device)
    kind = arguments.optimizer or ("muon" if arguments.preset == "vdpm-small" else "adamw")
    width, height = map(int, arguments.size.split("x"))
    network = preset_config(arguments.preset)
    buckets = tuple(
        Bucket(frames=count, height=height, width=width, batch=arguments.batch or PAPER_BATCH.get(count, 1))
        for count in arguments.frames
    )
    config = TrainConfig(
        name="benchmark",
        model=arguments.preset,
        buckets=buckets,
        optimizer=OptimizerConfig(kind="muon" if kind == "muon" else "adamw", lr=1e-5),
        freeze_patch_encoder=network.patch_encoder == "dinov2" and not arguments.train_patch_encoder,
        checkpoint_blocks=arguments.checkpoint_activations,
        parallel=arguments.parallel,
        compile=arguments.compile,
        cuda_graphs=arguments.cuda_graphs,
        attention=arguments.attention,
        bfloat16=ranks.device.type == "cuda",
    )
    rate = matrix_rate(ranks.device)
    torch.manual_seed(0)
    with torch.device(ranks.device):
        model = VDPM(network)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model, config, Path(folder), ranks)
        trainer.model.train()
        for bucket in buckets:
            flop = model_flop(network, bucket, config.freeze_patch_encoder)
            result = measure(trainer, bucket, ranks, arguments.steps)
            speed = flop / result["seconds"]
            figures = result | {
                "tflop_per_step": round(flop / 1e12, 3),
                "tflop_per_second": round(speed / 1e12, 2),
                "matrix_tflop_per_second": round(rate / 1e12, 2),
                "mfu": round(speed / rate, 4),
            }
            if arguments.operations:
                figures |= operations(trainer, bucket, ranks)
            if ranks.is_main:
                shape = {"frames": bucket.frames, "batch": bucket.batch, "size": arguments.size, "gpus": ranks.world}
                print(json.dumps(shape | figures), flush=True)
    leave_ranks()


def measure(trainer: Trainer, bucket: Bucket, ranks: Ranks, steps: int) -> dict[str, float]:
    """Seconds of the first step (which compiles) and of a later one, and peak memory in GiB."""
    snippet = random_snippet(bucket, ranks)
    if ranks.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    times = []
    with attention_kernels(trainer.config.attention):
        # Three untimed: the second and third may still compile or make room.
        for _ in range(steps + 3):
            start = wait(ranks)
            trainer._forward_backward(bucket, snippet)
            trainer._update()
            times.append(wait(ranks) - start)
        start = time.perf_counter()
        trainer._forward_backward(bucket, snippet)
        trainer._update()
        issued = time.perf_counter() - start
        wait(ranks)
    seconds = sorted(times[3:])[len(times[3:]) // 2]
    figures = {
        "seconds": round(seconds, 5),
        "first_step_seconds": round(times[0], 1),
        "processor_seconds": round(issued, 5),
        "clips_per_second": round(bucket.batch * ranks.world / seconds, 2),
        "skipped_steps": int(trainer.update.bad_steps),
    }
    if ranks.device.type == "cuda":
        figures["peak_gib"] = round(torch.cuda.max_memory_allocated() / GIB, 2)
    return figures


def random_snippet(bucket: Bucket, ranks: Ranks) -> Snippet:
    """A batch in unit scale of noise at depths around 1, seen by cameras that stand still."""
    frames, height, width, batch = bucket.frames, bucket.height, bucket.width, bucket.batch
    generator = torch.Generator(ranks.device).manual_seed(ranks.rank)

    def noise(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, device=ranks.device)

    yes = torch.ones(batch, frames, height, width, dtype=torch.bool, device=ranks.device)
    points = noise(batch, frames, height, width, 3) + torch.tensor([-0.5, -0.5, 0.5], device=ranks.device)
    intrinsics = torch.tensor([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]], device=ranks.device)
    return Snippet(
        images=noise(batch, frames, 3, height, width),
        timestamps=torch.arange(frames, device=ranks.device).float().expand(batch, -1),
        c2w=torch.eye(4, device=ranks.device).repeat(batch, frames, 1, 1),
        intrinsics=intrinsics.float().repeat(batch, frames, 1, 1),
        points=points,
        targets=torch.full((batch, 1), frames - 1, device=ranks.device),
        target_points=(points + 0.1 * noise(*points.shape))[:, None],
        valid=yes,
        dynamic=yes,
        target_valid=yes[:, None],
    )


def matrix_rate(device: torch.device) -> float:
    """FLOP/s of one large matrix product: bfloat16 on a GPU, float32 on a CPU."""
    size, repeats = (8192, 30) if device.type == "cuda" else (1024, 3)
    a = torch.randn(size, size, device=device, dtype=torch.bfloat16 if device.type == "cuda" else torch.float32)
    for _ in range(3):
        a @ a
    alone = Ranks(0, 1, device)
    start = wait(alone)
    for _ in range(repeats):
        a @ a
    return 2 * size**3 * repeats / (wait(alone) - start)


def model_flop(config: VDPMConfig, bucket: Bucket, frozen_encoder: bool) -> float:
    """FLOPs of forward and backward pass of a batch: P, Q at one time, cameras; attention counted as its products."""
    with torch.device("meta"):
        model = VDPM(config)
    if frozen_encoder:
        model.aggregator.patch_embed.requires_grad_(False)
    images = (bucket.batch, bucket.frames, 3, bucket.height, bucket.width)
    with FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH):
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                without_memory = nn.Parameter(torch.empty(parameter.shape), requires_grad=parameter.requires_grad)
                setattr(module, name, without_memory)
        with FlopCounterMode(display=False) as counter:
            tokens = model.encode(torch.zeros(images))
            own, moved = model.time_variant(tokens), model.decode(tokens, 0)
            maps = [value for maps in (own, moved) for value in maps]
            outputs = [*maps, model.pose_encodings(tokens)]
            if config.match_dim:
                outputs.append(model.match_descriptors(tokens))
            torch.stack([output.sum() for output in outputs]).sum().backward()
    return float(counter.get_total_flops())


class Operations(TorchDispatchMode):
    """Counts operations that make or change tensors; views cost no kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if not func.is_view and func.overloadpacket.__name__ not in ("detach", "empty", "_unsafe_view", "lift_fresh"):
            self.counts[func.overloadpacket.__name__] += 1
        return result


def operations(trainer: Trainer, bucket: Bucket, ranks: Ranks) -> dict[str, int]:
    """Operations of one step as written (what is compiled becomes fewer), by part."""
    snippet = random_snippet(bucket, ranks)
    with Operations() as network:
        output = trainer._output(snippet)
    with Operations() as losses:
        parts = trainer.objective(output, snippet, trainer.config.loss, trainer.model.config.patch_size)
    with Operations() as backward:
        parts["loss"].backward()
    with Operations() as update:
        trainer._update()
    found = {"network": network, "losses": losses, "backward": backward, "update": update}
    return {f"operations_{name}": sum(mode.counts.values()) for name, mode in found.items()}


def wait(ranks: Ranks) -> float:
    if ranks.device.type == "cuda":
        torch.cuda.synchronize()
    if ranks.world > 1:
        dist.barrier()
    return time.perf_counter()


if __name__ == "__main__":
    main()

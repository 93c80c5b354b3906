"""Time and peak memory of the full-size network, ``vdpm-1b``.

On a CPU: builds it, loads a state dict of the released 1,478 names strictly and runs a few frames:

    python benchmarks/full_network.py --frames 3

On a GPU: every target time of a clip, maps moved to the CPU as they are made:

    python benchmarks/full_network.py --frames 50 --device cuda --dtype bfloat16 --targets all

Weights are random (times and memory do not depend on them) unless ``--checkpoint`` gives a released ``model.pt``.
"""

import argparse
import resource
import time
from pathlib import Path

import torch

from vdpm.model import VDPM, PointMaps, preset_config
from vdpm.model.weights import fit_weights

GIB = 2**30
RANDOM_DEVIATION = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--size", default="518x294", help="WIDTHxHEIGHT in pixels, multiples of 14")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--targets", default="1", help="how many target times, or all")
    parser.add_argument("--checkpoint", type=Path, help="released or converted weights instead of random ones")
    parser.add_argument("--limit", type=float, help="GiB of GPU memory that the process may take; more is an error")
    parser.add_argument("--compile", action="store_true", help="torch.compile block by block")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    targets = arguments.frames if arguments.targets == "all" else int(arguments.targets)
    device, dtype = torch.device(arguments.device), getattr(torch, arguments.dtype)

    if arguments.limit and device.type == "cuda":
        whole = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(arguments.limit * GIB / whole)

    start = time.perf_counter()
    model = VDPM.from_pretrained(arguments.checkpoint) if arguments.checkpoint else random_network(device, dtype)
    model = model.to(device, dtype).eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{len(model.state_dict())} tensors, {parameters:,} parameters, ready after {seconds(start, device):.1f} s")

    images = torch.rand(1, arguments.frames, 3, height, width, device=device)
    if arguments.compile:
        model.compile_blocks(dynamic=False)
        run(model, images, targets)
    if device.type == "cuda":
        run(model, images, 1)
        torch.cuda.reset_peak_memory_stats()
    run(model, images, targets)
    if device.type == "cuda":
        print(f"peak GPU memory allocated: {torch.cuda.max_memory_allocated() / GIB:.2f} GiB")
        print(f"peak GPU memory reserved: {torch.cuda.max_memory_reserved() / GIB:.2f} GiB")
    print(f"peak resident memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB:.2f} GiB")


def random_network(device: torch.device, dtype: torch.dtype) -> VDPM:
    """``vdpm-1b`` with random weights, loaded strictly by name and shape."""
    config = preset_config("vdpm-1b")
    with torch.device("meta"):
        model = VDPM(config)
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    random = {
        name: torch.empty(shape, device=device, dtype=dtype).normal_(std=RANDOM_DEVIATION)
        for name, shape in expected.items()
    }
    state, _ = fit_weights(random, expected, config.name, "random weights")
    model.load_state_dict(state, strict=True, assign=True)
    return model


@torch.inference_mode()
def run(model: VDPM, images: torch.Tensor, targets: int) -> None:
    """Encode once, then P, cameras and Q at the first ``targets`` times; prints the time of each part."""
    device = images.device
    start = time.perf_counter()
    tokens = model.encode(images)
    encoded = seconds(start, device)
    start = time.perf_counter()
    to_cpu(model.time_variant(tokens))
    model.cameras(tokens)
    own_times = seconds(start, device)
    start = time.perf_counter()
    for target in range(targets):
        maps = to_cpu(model.decode(tokens, target))
        assert bool(maps.points.isfinite().all())
    decoded = seconds(start, device)
    frames, height, width = images.shape[1], images.shape[-2], images.shape[-1]
    print(
        f"{frames} frames of {width} x {height}, {targets} targets: backbone {encoded:.2f} s, "
        f"P and cameras {own_times:.2f} s, Q {decoded:.2f} s ({decoded / targets:.3f} s a target)"
    )


def to_cpu(maps: PointMaps) -> PointMaps:
    return PointMaps(maps.points.cpu(), maps.confidence.cpu())


def seconds(start: float, device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()

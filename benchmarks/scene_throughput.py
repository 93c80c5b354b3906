"""Clips a second that the scene generator makes.

python benchmarks/scene_throughput.py --batch 256 --frames 6 --height 96 --width 128 --targets 2 --device cuda --compile
"""

import argparse
import time

import torch

from vdpm.synthetic import SceneConfig, SceneGenerator, training_seeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--height", type=int, default=96)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--targets", type=int, default=2)
    parser.add_argument("--samples", type=int, default=3, help="colour samples a pixel: 1, 3 or 5")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument(
        "--sizes", choices=("fixed", "open"), default="fixed", help="compiled for this shape, or for all"
    )
    args = parser.parse_args()

    config = SceneConfig(num_frames=args.frames, height=args.height, width=args.width, colour_samples=args.samples)
    generator = SceneGenerator(config, args.device, compile=args.compile, sizes=args.sizes)
    targets = torch.arange(args.targets, device=args.device).expand(args.batch, -1) % args.frames

    def make(round_number: int) -> None:
        generator(training_seeds(round_number * args.batch, args.batch), targets)
        if generator.device.type == "cuda":
            torch.cuda.synchronize()

    start = time.perf_counter()
    make(0)
    print(f"first batch (with compiling): {time.perf_counter() - start:.1f} s")
    make(1)
    start = time.perf_counter()
    for i in range(args.repeats):
        make(2 + i)
    seconds = (time.perf_counter() - start) / args.repeats
    pixels = args.batch * args.frames * args.height * args.width
    print(f"{seconds * 1e3:.1f} ms a batch, {args.batch / seconds:.0f} clips/s, {pixels / seconds / 1e6:.1f} Mpixel/s")
    if generator.device.type == "cuda":
        print(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB on {torch.cuda.get_device_name()}")


if __name__ == "__main__":
    main()

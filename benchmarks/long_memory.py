"""Memory of clips of several windows, predicted and used: python benchmarks/long_memory.py [--model vdpm-small]

Each setting runs in a process of its own, with two windows of noise images: frames a window, height, width, targets.
Peak is the process's largest resident set; also printed is what was on disk per 100 frames.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vdpm.structures import Video

SETTINGS = [
    (8, 96, 128, "auto"),
    (8, 128, 224, "auto"),
    (16, 96, 128, "auto"),
    (16, 128, 224, "auto"),
    (16, 128, 224, "none"),
    (12, 128, 224, "all"),
    (24, 96, 128, "none"),
    (24, 128, 224, "auto"),
    (6, 192, 336, "auto"),
    (10, 160, 288, "auto"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="vdpm-small")
    parser.add_argument("--one", nargs=4, help="run this setting here")
    parser.add_argument("--frames", type=int, help="one long clip in usual windows instead, with the time it takes")
    parser.add_argument("--size", default="112x80", help="of that clip")
    options = parser.parse_args()
    if options.frames:
        long(options.model, options.frames, *map(int, options.size.split("x")))
        return
    if options.one:
        length, height, width = map(int, options.one[:3])
        run(options.model, length, height, width, options.one[3])
        return
    print("window        size  targets   predicted     peak  peak / predicted  MB/100 frames")
    for setting in SETTINGS:
        words = [sys.executable, __file__, "--model", options.model, "--one", *map(str, setting)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        predicted, peak, disk = map(float, done.stdout.split()[-3:])
        length, height, width, targets = setting
        print(
            f"{length:>7}{f'{width} x {height}':>12}{targets:>9}{predicted:>9.0f} MB{peak:>6.0f} MB"
            f"{peak / predicted:>18.2f}{disk:>15.0f}",
            flush=True,
        )


def run(model: str, length: int, height: int, width: int, targets: str) -> None:
    """Prints predicted and used memory in MB, and MB on disk for 100 frames."""
    import torch

    from vdpm.geometry.image_transform import ImageTransform
    from vdpm.long_video.windows import WindowConfig
    from vdpm.provenance import peak_process_memory
    from vdpm.reconstruct import make_plan
    from vdpm.structures import Video

    count = 2 * length - 3
    noise = torch.randint(0, 255, (count, height, width, 3), generator=torch.Generator().manual_seed(0)).byte()
    video = Video(noise, torch.arange(count) / 10, torch.arange(count), ImageTransform.identity((height, width)))
    config = WindowConfig(length, overlap=3, strided=False, loops="none")
    plan = make_plan(video, model=model, windows=config, targets=targets)
    predicted = plan.forecast().memory
    with tempfile.TemporaryDirectory() as folder:
        plan.run(Path(folder) / "out")
        disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    print(predicted / 1e6, (peak_process_memory() or 0) / 1e6, disk / 1e6 / count * 100)


def sliding(count: int, width: int, height: int) -> "Video":
    """A camera slides along a picture, which networks make little of: solvers take all the rounds there are."""
    import torch

    from vdpm.geometry.image_transform import ImageTransform
    from vdpm.structures import Video

    wide = torch.rand(1, 3, 12, 4 + count // 6, generator=torch.Generator().manual_seed(0))
    wide = torch.nn.functional.interpolate(wide, (height, 2 * count + width), mode="bilinear")[0].permute(1, 2, 0)
    frames = torch.stack([(255 * wide[:, 2 * k : 2 * k + width]).byte() for k in range(count)])
    return Video(frames, torch.arange(count) / 10, torch.arange(count), ImageTransform.identity((height, width)))


def long(model: str, count: int, width: int, height: int) -> None:
    """``sliding``: predicted and used memory, beside what the process holds before it begins."""
    import time

    from vdpm.provenance import peak_process_memory
    from vdpm.reconstruct import make_plan

    plan = make_plan(sliding(count, width, height), model=model, cuts="ignore")
    predicted, begin = plan.forecast().memory, time.monotonic()
    print(
        f"{count} frames of {width} x {height}: {len(plan.windows)} windows planned, {predicted / 1e6:.0f} MB predicted"
    )
    with tempfile.TemporaryDirectory() as folder:
        result = plan.run(Path(folder) / "out")
        disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    peak = (peak_process_memory() or 0) / 1e6
    print(f"peak {peak:.0f} MB, {peak * 1e6 / predicted:.2f} of that; disk {disk / 1e6:.0f} MB")
    print(f"{time.monotonic() - begin:.0f} s: {result.provenance['seconds']}; {result.provenance['windows']}")


if __name__ == "__main__":
    main()

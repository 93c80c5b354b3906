"""Time and memory of the alignment alone, by length: python benchmarks/long_size.py [--frames 300,1000,3000]

Windows as ``vdpm reconstruct`` plans them, made of truth with noise (a walk round a room, a lap in 300 frames), one in
twenty wrong as a whole, and eight loops between one lap and the next. Each length is made, and then aligned, in a
process of its own. Printed: windows, their frames, unknowns of the last system and the levels it is solved in, seconds
of the start (pairs and spanning tree) and of the solver, memory of the points that are seen and what the
alignment took beside them at its peak, ATE in metres. Linux.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

SIZE = (14, 26)
LAP = 300
HEADS = (
    "frames",
    "windows",
    "entries",
    "unknowns",
    "levels",
    "start, s",
    "solver, s",
    "points, MB",
    "align, MB",
    "ATE, m",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", default="300,1000,3000")
    parser.add_argument("--step", nargs=3, metavar=("STEP", "FRAMES", "FILE"), help="make or align one length here")
    options = parser.parse_args()
    if options.step:
        step, frames, file = options.step
        {"make": make, "align": measured}[step](int(frames), Path(file))
        return
    print("".join(f"{head:>12}" for head in HEADS))
    for frames in options.frames.split(","):
        with tempfile.TemporaryDirectory() as folder:
            for step in ("make", "align"):
                words = [sys.executable, __file__, "--step", step, frames, str(Path(folder) / "seen.pt")]
                one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}
                done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, env=one_thread)
        print("".join(f"{cell:>12}" for cell in (frames, *done.stdout.split())), flush=True)


def make(frames: int, file: Path) -> None:
    """Writes what the alignment is to look at, and the true cameras."""
    import torch

    from vdpm.long_video.observations import observe
    from vdpm.long_video.trial import disturbed_windows, walk_through_room
    from vdpm.long_video.windows import WindowConfig, plan_windows

    walk = walk_through_room(frames, SIZE, laps=frames / LAP)
    loops = [(20 + 30 * k, min(20 + 30 * k + LAP, frames - 20)) for k in range(8) if 20 + 30 * k + 40 < frames - 20]
    windows = plan_windows(frames, WindowConfig(), loops=loops)
    generator = torch.Generator().manual_seed(0)
    maps, _, _ = disturbed_windows(walk, windows, generator, noise=0.02, bend=0.01, outlier_points=0.05, outliers=0.05)
    seen = observe(maps, torch.ones(SIZE, dtype=torch.bool), frames)
    torch.save((vars(seen), walk.cameras.c2w), file)


def measured(frames: int, file: Path) -> None:
    """Prints one row but for its first number."""
    import torch

    from vdpm.evaluation.trajectory import trajectory_errors
    from vdpm.long_video.alignment import align
    from vdpm.long_video.observations import Observations
    from vdpm.long_video.state import AdjustmentConfig
    from vdpm.long_video.system import System

    fields, true = torch.load(file, weights_only=True)
    seen = Observations(**fields)
    align(replace(seen.entries([0, 1]), num_windows=2))  # libraries are loaded
    points = sum(value.nbytes for value in fields.values() if isinstance(value, torch.Tensor))
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before, begin = memory("VmRSS"), time.perf_counter()
    found = align(seen)
    seconds, used = time.perf_counter() - begin, memory("VmHWM") - before
    order = System(seen, AdjustmentConfig(), torch.zeros(frames, dtype=torch.bool)).blocks.order
    ate = trajectory_errors(found.cameras.c2w, true).ate
    numbers = f"{seen.num_windows} {len(seen.frame)} {7 * seen.num_windows + 1} {len(order.levels)}"
    print(f"{numbers} {seconds - found.seconds:.1f} {found.seconds:.1f} {points / 1e6:.0f} {used / 1e6:.0f} {ate:.3f}")


def memory(name: str) -> float:
    """Bytes, of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * float(next(line for line in lines if line.startswith(name)).split()[1])


if __name__ == "__main__":
    main()

"""Seconds, peak memory and size of ``vdpm reconstruct`` on a clip: python benchmarks/reconstruct_cost.py [clip.mp4]

Without a clip one is made: 17 frames of 854 x 480, a textured picture that drifts. Each run is a process of its own,
from starting Python to the last file written, pictures included.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import numpy as np

FRAMES, HEIGHT, WIDTH = 17, 480, 854


def write_clip(path: Path) -> None:
    """Smooth noise that drifts, with a square that moves the other way: cost does not depend on what is seen."""
    generator = np.random.default_rng(0)
    coarse = generator.uniform(0, 255, (24, 48, 3))
    picture = np.kron(coarse, np.ones((32, 32, 1))).astype(np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(FRAMES):
            image = picture[8 * index : 8 * index + HEIGHT, 20 * index : 20 * index + WIDTH].copy()
            image[200:300, 700 - 30 * index : 800 - 30 * index] = (220, 60, 40)
            for packet in stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def measure(clip: Path, targets: str, folder: Path, extra: list[str]) -> tuple[float, float, float]:
    """Seconds, peak resident memory in GiB, result in MB (preview and clouds included)."""
    output = folder / f"targets_{targets}"
    command = [sys.executable, "-m", "vdpm", "reconstruct", str(clip), "-o", str(output), "--targets", targets, *extra]
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    errors = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{errors}")
    peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    return seconds, peak / 2**30, size / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", nargs="?", type=Path)
    parser.add_argument("--model", default="vdpm-small")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    extra = ["--model", arguments.model, "--device", arguments.device]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    with tempfile.TemporaryDirectory() as folder:
        clip = arguments.clip or Path(folder) / "clip.mp4"
        if arguments.clip is None:
            write_clip(clip)
        print(f"{clip.name}, {arguments.model} on {arguments.device}, {cores} cores\n")
        print("| --targets | seconds | peak memory, GiB | result, MB |")
        print("| --- | --- | --- | --- |")
        for targets in ("all", "none"):
            seconds, memory, size = measure(clip, targets, Path(folder), extra)
            print(f"| {targets} | {seconds:.1f} | {memory:.2f} | {size:.1f} |", flush=True)


if __name__ == "__main__":
    main()

"""Seconds of one core to read maps of a long result: python benchmarks/long_reading.py [--frames 80] [--size 518x294]

A walk through a room with a ball that swings, in windows of 16 frames with 6 shared, one time a window as by default,
with 1 % smooth error in each window. Maps are read from a result folder that is loaded anew for each kind: at
their own times, at a time that a window shows them at, and at times that points travel to. Printed for each: seconds a
map (median, and most), error of points over their distance from the camera, for the room and for the ball, and MB that
the reader keeps.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from vdpm.archive import ReconstructionWriter, WindowEntry, WindowStore, load
from vdpm.geometry.image_transform import ImageTransform
from vdpm.long_video.trial import Walk, walk_through_room
from vdpm.long_video.windows import Window, WindowConfig, plan_windows, with_times
from vdpm.provenance import peak_process_memory
from vdpm.structures import Cameras, PointMap, Reconstruction


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=80)
    parser.add_argument("--size", default="518x294")
    parser.add_argument("--bend", type=float, default=0.01)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    width, height = map(int, options.size.split("x"))
    walk = walk_through_room(options.frames, (height, width), laps=options.frames / 375, focal=0.6, aside=-2.0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result"
        write(walk, path, options.bend)
        times = load(path).maps.targets
        last, middle = times[-1], times[len(times) // 2]
        sources = range(0, options.frames, 7)
        kinds = {
            "own time": [(None, source) for source in sources],
            "beside it in a window": [(nearest(times, source), source) for source in sources],
            "one time, frame after frame": [(middle, source) for source in range(options.frames // 3)],
            "one frame, time after time": [(time, 3) for time in times],
            "any time of any frame": [(times[(5 * k) % len(times)], (11 * k) % options.frames) for k in range(24)],
            "first frame at the last time": [(last, 0)],
        }
        print(f"{options.frames} frames of {width} x {height}, {len(times)} windows, {options.threads} threads")
        print(f"{'maps':<32}{'median, s':>10}{'most, s':>10}{'room':>10}{'ball':>10}{'MB held':>10}")
        for name, wanted in kinds.items():
            print(f"{name:<32}" + "".join(f"{value:>10}" for value in measured(load(path), walk, wanted)), flush=True)
        print(f"peak of the process {(peak_process_memory() or 0) / 1e6:.0f} MB, the truth's own tensors with it")


def measured(result: Reconstruction, walk: Walk, wanted: list[tuple[int | None, int]]) -> list[str]:
    seconds, room, ball = [], [], []
    for target, source in wanted:
        begin = time.process_time()
        found = result.maps.time_variant(source) if target is None else result.maps.at(target, source)
        seconds.append(time.process_time() - begin)
        off = (found.points - walk.at(source if target is None else target, source)).norm(dim=-1)
        share = off / (walk.points[source] - walk.cameras.centers[source]).norm(dim=-1)
        room.append(share[~walk.on_ball[source]].mean())
        if walk.on_ball[source].any():
            ball.append(share[walk.on_ball[source]].mean())
    errors = [f"{float(torch.stack(values).mean()):.4f}" if values else "" for values in (room, ball)]
    return [f"{statistics.median(seconds):.3f}", f"{max(seconds):.3f}", *errors, held(result)]


def held(result: Reconstruction) -> str:
    """What the reader keeps, where it tells."""
    told = getattr(getattr(result.maps.read, "__self__", None), "held_bytes", None)
    return "" if told is None else f"{told / 1e6:.0f}"


def nearest(times: tuple[int, ...], source: int) -> int:
    return min(times, key=lambda time: abs(time - source))


def write(walk: Walk, path: Path, bend: float) -> None:
    """The result folder of a walk."""
    count, size = len(walk.cameras), walk.cameras.size
    windows = with_times(plan_windows(count, WindowConfig(strided=False)), "auto")
    store = WindowStore(path, {}, size)
    generator = torch.Generator().manual_seed(0)
    entries = []
    for number, window in enumerate(windows):
        wrong = bend * torch.randn(4, 3, generator=generator)
        store.write(
            number,
            frames=window.frames,
            moved=window.moved,
            shown=window.frames,
            cameras=Cameras(walk.cameras.c2w[list(window.frames)], walk.cameras.intrinsics[list(window.frames)], size),
            time_variant=(bent(walk, frame, frame, wrong) for frame in window.frames),
            targets=((time, moved(walk, window, time, wrong)) for time in window.targets),
            seconds=lambda: 0.0,
        )
        eye = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
        words = (number, window.frames, window.targets, window.moved, 1.0, eye, (0.0, 0.0, 0.0), 1.0)
        entries.append(WindowEntry(*words))
    with ReconstructionWriter(
        path,
        frames=torch.zeros(count, *size, 3, dtype=torch.uint8),
        timestamps=torch.arange(count) / 10,
        frame_indices=torch.arange(count),
        transform=ImageTransform.identity(size),
        sources=range(count),
        targets=sorted({time for window in windows for time in window.targets}),
        windows=entries,
    ) as writer:
        writer.write_cameras(walk.cameras)
        writer.take_windows(store.windows)
        writer.finish()
    store.tidy(path, range(len(windows)))


def moved(walk: Walk, window: Window, time: int, wrong: torch.Tensor) -> Iterator[PointMap]:
    return (bent(walk, time, frame, wrong) for frame in window.moved)


def bent(walk: Walk, target: int, source: int, wrong: torch.Tensor) -> PointMap:
    """The true map, pushed by a quadratic in its position over 5 m."""
    points = walk.at(target, source).float()
    x, y, z = (points / 5).unbind(-1)
    push = torch.stack((x * x, x * z, z * z, y * z), -1) @ wrong
    return PointMap(points + 5 * push.clamp(-1, 1), torch.full(points.shape[:2], 5.0))


if __name__ == "__main__":
    main()

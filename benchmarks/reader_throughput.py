"""Snippets a minute through each reader of a data set, beside what decoding the same files alone allows.

    python benchmarks/reader_throughput.py
    python benchmarks/reader_throughput.py --formats kubric movi --seconds 5
    python benchmarks/reader_throughput.py --processes 2

Writes our own scenes, 512 x 384, in each data set's own format (with the writers of the tests), then reads clips of
five frames from them. Times are of the processor, one thread a process, so that other work on the machine matters
little; the last column is by the clock on the wall. ``--processes``: so many read at once, and figures are of all of
them together. ``whole``: the clip as it is, with points at one other time. ``training``: drawn for a batch of 168 x
224, as vdpm train --data does. ``decoding``: the same files' PNG, JPEG, TIFF and zlib streams unpacked by the same
libraries, raw arrays read (and protobuf's packed numbers), and nothing else done. ``--formats waymo-large``: Waymo's
with pictures of 1536 x 1152 through a lens that bends, nearer to the data set's own.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import torch
from PIL import Image

sys.path.append(str(Path(__file__).parents[1] / "tests" / "data"))

from native.blended_mvs import write_blended_mvs
from native.kubric import Scene, domed, kubric_scene, write_kubric_folder, write_movi
from native.pointodyssey import write_pointodyssey
from native.rgbd import write_seven_scenes, write_tum
from native.scannetpp import write_scannetpp
from native.sintel import write_sintel
from native.waymo import driving_clip, write_waymo

from vdpm.data import write_snippet
from vdpm.data.clips import ClipSource
from vdpm.data.mixture import DataSource
from vdpm.data.png import decode_png, png_form
from vdpm.data.readers import kubric, open_dataset, snippet_folders, waymo
from vdpm.data.readers.protobuf import Message
from vdpm.data.readers.tfrecord import parse_example, read_record, record_offsets
from vdpm.structures import Snippet

FRAMES = 5
SIZE = (384, 512)
TRAINING = (168, 224)
LENS = (0.03, -0.3, 0.001, 0.0003, 0.0)
KEPT = (kubric._example, snippet_folders._held, waymo._record, waymo._boxes, waymo._sweep)
"""What readers keep of files they have read: the next clip is usually of another one."""


def write_all(root: Path, formats: list[str]) -> dict[str, tuple[str, Path]]:
    """The data set's name and its folder, for each format."""
    truth = driving_clip(SIZE, FRAMES)
    scene: Scene | None = None
    written = {}
    for name in formats:
        folder = root / name
        if name in ("kubric", "movi"):
            scene = scene or kubric_scene(domed(truth))
        if name == "kubric":
            write_kubric_folder(folder / "0001", scene)
        elif name == "movi":
            write_movi(folder / "movi_f.tfrecord", [scene])
        elif name == "pointodyssey":
            write_pointodyssey(folder / "ani", near(truth), compressed=False, step=8)
        elif name == "waymo":
            write_waymo(folder / "segment.tfrecord", truth, every=9, grid=(64, 2650), quality=90)
        elif name == "waymo-large":
            write_waymo(folder / "segment.tfrecord", magnified(truth), LENS, every=31, grid=(64, 2650), quality=90)
        elif name == "snippets":
            write_snippet(folder / "clip", truth)
        elif name == "7scenes":
            write_seven_scenes(folder / "room", near(truth))
        elif name == "tum":
            write_tum(folder / "rgbd_dataset_freiburg3_walking_xyz", near(truth))
        elif name == "bonn":
            write_tum(folder / "rgbd_bonn_balloon2", near(truth))
        elif name == "sintel":
            write_sintel(folder, truth)
        elif name == "scannetpp":
            write_scannetpp(folder / "data" / "room", near(truth), "OPENCV", (0.05, -0.02, 0.001, 0.001))
        else:
            write_blended_mvs(folder / "place", truth)
        written[name] = ({"movi": "kubric", "waymo-large": "waymo"}.get(name, name), folder)
    return written


def magnified(truth: Snippet) -> Snippet:
    """The clip in pictures three times as wide and high, every pixel nine times, with some noise for the JPEG."""

    def larger(values: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return values.repeat_interleave(3, dim=height).repeat_interleave(3, dim=width)

    images = larger(truth.images, -2, -1)
    k = truth.intrinsics.clone()
    k[:, :2] *= 3
    maps = ("valid", "dynamic", "instances", "target_valid", "visible", "sky")
    values = {n: larger(value, -2, -1) for n in maps if (value := getattr(truth, n)) is not None}
    values |= {name: larger(getattr(truth, name), -3, -2) for name in ("points", "target_points")}
    noise = 0.03 * torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    return replace(truth, images=(images + noise).clamp(0, 1), intrinsics=k, **values)


def near(truth: Snippet) -> Snippet:
    """Within the 13 metres that 16 bit hold in some formats."""
    factor = 10 / float(truth.points[truth.valid].norm(dim=-1).max())
    c2w = truth.c2w.clone()
    c2w[:, :3, 3] *= factor
    return replace(truth, points=truth.points * factor, target_points=truth.target_points * factor, c2w=c2w)


def decode(folder: Path) -> None:
    """Unpacks every file of a clip, once, and does nothing with it."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and ".tfrecord" in path.name:
            for offset in record_offsets(path):
                decode_record(path, read_record(path, offset))
        elif path.suffix.lower() in (".png", ".jpg", ".tiff"):
            decode_picture(path.read_bytes())
        elif path.suffix in (".npy", ".pfm", ".dpt"):
            path.read_bytes()


def decode_record(path: Path, data: bytes) -> None:
    if "movi" in path.name:
        for value in parse_example(path, data).values():
            for content in value if isinstance(value, list) else ():
                decode_picture(content)
        return
    frame = Message(data)
    for image in frame.messages(4):
        if len(image.content(2)):
            decode_picture(bytes(image.content(2)))
    for laser in frame.messages(5):
        for number in (2, 3, 4):
            if len(laser.message(2).content(number)):
                matrix = zlib.decompress(laser.message(2).content(number))
                if number == 3:
                    Message(matrix).integers(1)


def decode_picture(content: bytes) -> None:
    if png_form(content) is not None:
        decode_png(content)
        return
    with Image.open(BytesIO(content)) as image:
        image.load()


def a_minute(work: Callable[[], object], seconds: float) -> tuple[float, float]:
    """How often ``work`` is done in a minute of one core, tried for that many of its seconds, and of the clock."""
    work()
    done, start, clock = 0, time.process_time(), time.perf_counter()
    while time.process_time() - start < seconds or done < 3:
        for kept in KEPT:
            kept.cache_clear()
        work()
        done += 1
    return 60 * done / (time.process_time() - start), 60 * done / (time.perf_counter() - clock)


def measure(dataset: str, root: Path, kind: str, seconds: float, ready: Barrier | None = None) -> tuple[float, float]:
    """The rates of one process; ``ready`` lets several begin together."""
    torch.set_num_threads(1)
    (film,) = open_dataset(dataset, root)
    source = ClipSource(DataSource(dataset, str(root), 1.0, (1, 1)))
    keys = iter(range(10**6))
    work: dict[str, Callable[[], object]] = {
        "whole": lambda: film.snippet(range(FRAMES), [FRAMES - 1], 0, None, "targets"),
        "training": lambda: source.draw([next(keys)], FRAMES, TRAINING, [FRAMES - 1], 0),
        "decoding": lambda: decode(root),
    }
    work[kind]()
    if ready is not None:
        ready.wait()
    return a_minute(work[kind], seconds)


def _measured(results: Queue, *given: Any) -> None:
    results.put(measure(*given))


def together(processes: int, dataset: str, root: Path, kind: str, seconds: float) -> tuple[float, float]:
    """The sum of the rates of several processes that work at the same time."""
    if processes == 1:
        return measure(dataset, root, kind, seconds)
    context = multiprocessing.get_context("spawn")
    results, ready = context.Queue(), context.Barrier(processes)
    given = (results, dataset, root, kind, seconds, ready)
    workers = [context.Process(target=_measured, args=given) for _ in range(processes)]
    for worker in workers:
        worker.start()
    rates = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    return sum(rate[0] for rate in rates), sum(rate[1] for rate in rates)


def main() -> None:
    known = ["kubric", "movi", "pointodyssey", "waymo", "scannetpp", "blendedmvs", "snippets", "7scenes"]
    known += ["tum", "bonn", "sintel"]
    large = ["waymo-large"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--formats", nargs="+", choices=known + large, default=known)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one core, for each figure")
    parser.add_argument("--processes", type=int, default=1, help="that read at the same time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        written = write_all(Path(folder), arguments.formats)
        print("| format | whole | training | decoding | whole / decoding | training / decoding | whole by the clock |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        for name, (dataset, root) in written.items():
            kinds = ("whole", "training", "decoding")
            found = [together(arguments.processes, dataset, root, kind, arguments.seconds) for kind in kinds]
            rates = [rate for rate, _ in found]
            cells = [f"{rate:,.0f}" for rate in rates] + [f"{rate / rates[2]:.2f}" for rate in rates[:2]]
            print(f"| {name} | {' | '.join(cells)} | {found[0][1]:,.0f} |", flush=True)


if __name__ == "__main__":
    main()

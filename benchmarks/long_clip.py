"""Long clips of our own scenes through a network, against their truth, and what each part of the method is worth.

    python benchmarks/long_clip.py --out DIR [--frames 300] [--seeds 3,4,5] [--device cuda] [--minutes 25]
        [--pixels free]

A camera orbits while things move. Windows of 16 frames in one world are compared with single windows of 20 frames, each
brought to the truth by itself, and with windows chained naively. Every window goes through the network once and is kept
in DIR, so that all variants, and a second run, use it again. Errors are given over the whole clip, and over
stretches of 20 frames, each brought to the truth by itself as the single windows are. DIR/results.json is written after
each scene; when the minutes are over, what is there is kept, and the same command goes on from it.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from long_tracks import TrackErrors
from long_truth import SINGLE, Errors, Found, Truth, errors_of, long_truth

from vdpm.archive import StoredWindow, WindowStore
from vdpm.geometry.alignment import Similarity
from vdpm.long_reconstruct import identity_of, kept_windows, reconstruct_window, window_maps
from vdpm.long_video.alignment import Alignment, Method, align, sharpen
from vdpm.long_video.joining import REPAIRS, join_windows
from vdpm.long_video.likeness import find_loops, thumbnails
from vdpm.long_video.observations import Observations, observe
from vdpm.long_video.windows import Loops, Window, WindowConfig, plan_windows, with_times
from vdpm.model import VDPM
from vdpm.network_choice import choose_device, load_network
from vdpm.provenance import timed
from vdpm.windowed_maps import AlignedWindow, WindowedMaps

SINGLES = "single windows of 20"
CHAIN = "chain"
WHOLE = "+ pictures (the default)"


class OutOfTime(Exception):
    """The minutes are over."""


@dataclass
class Clock:
    """Stops before a window that would not be done in time."""

    end: float
    longest: float = 0.0

    def check(self) -> None:
        if time.monotonic() + 1.5 * self.longest > self.end:
            raise OutOfTime


class Bank:
    """Windows of one clip, through the network when first asked for, then from disk."""

    def __init__(self, folder: Path, network: VDPM, truth: Truth, clock: Clock, square: bool = True) -> None:
        self.network, self.video, self.clock = network, truth.video, clock
        self.ratio = truth.video.transform.square_ratio if square else None
        self.store = WindowStore(folder, identity_of(network, truth.video), truth.video.size, overwrite=True)
        self._index = self.store.folder / "windows" / "numbers.json"
        self._numbers: dict[str, int] = json.loads(self._index.read_text()) if self._index.exists() else {}

    def get(self, window: Window) -> StoredWindow:
        key = json.dumps([window.frames, window.targets, window.moved])
        number = self._numbers.setdefault(key, len(self._numbers))
        if not self.store.finished(number, window.frames, window.targets, window.moved):
            self.clock.check()
            begin = time.monotonic()
            reconstruct_window(self.network, self.video, window, self.store, number)
            self._index.write_text(json.dumps(self._numbers))
            self.clock.longest = max(self.clock.longest, time.monotonic() - begin)
        return self.store.read(number)


@dataclass(frozen=True)
class Variant:
    """What of the method is used."""

    method: Method = "adjust"
    repairs: bool = False
    strided: bool = False
    loops: Loops = "none"
    sight: bool = False


VARIANTS = {
    CHAIN: Variant("chain"),
    "tree": Variant("tree"),
    "tree + optimisation": Variant(),
    "+ repairs": Variant(repairs=True),
    "+ strided windows": Variant(repairs=True, strided=True),
    "+ loops by likeness": Variant(repairs=True, strided=True, loops="likeness"),
    WHOLE: Variant(repairs=True, strided=True, loops="likeness", sight=True),
    "the same with loops by geometry": Variant(repairs=True, strided=True, loops="both", sight=True),
}


@dataclass
class Row:
    """Errors over the whole clip and over its stretches; seconds of the network for these windows and of the rest."""

    whole: Errors | None
    stretches: Errors
    windows: int
    network_seconds: float
    align_seconds: float = 0.0
    doubtful: list[int] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--seeds", default="3,4,5", help="of the held-out scenes")
    parser.add_argument("--size", default="168x112", help="width x height, divisible by the network's patches")
    parser.add_argument("--pixels", choices=("square", "free"), default="square")
    parser.add_argument("--model", default="vdpm-small")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--threads", type=int, help="of the CPU")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    width, height = map(int, options.size.split("x"))
    clock = Clock(time.monotonic() + 60 * options.minutes)
    device = choose_device(options.device)
    network = load_network(options.model, device, "auto")
    results: dict[str, dict[str, Row]] = {}
    complete = True
    for seed in map(int, options.seeds.split(",")):
        rows = results.setdefault(str(seed), {})
        try:
            clock.check()
            truth = long_truth(options.frames, seed, (height, width), str(device), options.out)
            folder = options.out / f"{options.frames}_{seed}_{options.size}_{network.fingerprint()[:12]}"
            one_scene(Bank(folder, network, truth, clock, options.pixels == "square"), truth, rows)
        except OutOfTime:
            complete = False
        told = {
            "frames": options.frames,
            "size": options.size,
            "pixels": options.pixels,
            "model": options.model,
            "fingerprint": network.fingerprint(),
            "device": str(device),
            "complete": complete,
            "scenes": {name: {key: asdict(row) for key, row in scene.items()} for name, scene in results.items()},
        }
        (options.out / "results.json").write_text(json.dumps(told, indent=1))
        report(f"scene {seed}", [rows])
        if not complete:
            break
    whole = [rows for rows in results.values() if len(rows) == len(VARIANTS) + 1]
    if len(whole) > 1:
        report(f"mean of {len(whole)} scenes", whole)
    print("complete" if complete else "stopped when the minutes were over; the same command goes on")


def one_scene(bank: Bank, truth: Truth, rows: dict[str, Row]) -> None:
    """Adds a row for each variant."""
    count = len(truth.video)
    runs = with_times(plan_windows(count, WindowConfig(strided=False)), truth.times, truth.starts)
    for name, variant in VARIANTS.items():
        rows[name] = joined(bank, truth, runs, variant)
    singles, seconds = [], 0.0
    for start in truth.starts:
        frames = tuple(range(start, start + SINGLE))
        times = tuple(time for time in truth.times if time in frames)
        stored = bank.get(Window(frames, "run", times, (start,)))
        seconds += stored.seconds
        singles.append(errors_of(Found(start, stored.cameras.c2w, stored.read), truth, start, start + SINGLE))
    rows[SINGLES] = Row(None, Errors.mean(singles), len(singles), seconds)


def joined(bank: Bank, truth: Truth, runs: list[Window], variant: Variant) -> Row:
    """Windows brought into one world, as ``reconstruct`` does it with the parts that ``variant`` names."""
    video, count = truth.video, len(truth.video)
    config = WindowConfig(strided=variant.strided, loops=variant.loops)
    by_likeness = config.finds_loops("likeness")
    loops = find_loops(thumbnails(video.frames), gap=2 * config.frames) if by_likeness else []
    seconds: dict[str, float] = {}

    def aligned(stored: list[StoredWindow], start: Alignment | None) -> tuple[Observations, Alignment]:
        device = next(bank.network.parameters()).device
        with timed(seconds, "align"):
            seen = observe(window_maps(stored, bank.ratio), video.transform.content_mask(), count)
            there = seen.to(device) if device.type == "cuda" else seen
            return seen, align(there, method=variant.method, start=start).cpu()

    joined = join_windows(
        [*runs, *plan_windows(count, config, loops=loops)[len(runs) :]],
        count,
        config,
        lambda windows, first, doing: [bank.get(window) for window in windows],
        aligned,
        timed=lambda repairs: with_times(repairs, truth.times),
        repairs=REPAIRS if variant.repairs else 0,
    )
    windows, stored, found = joined.windows, joined.made, joined.found
    if variant.sight:
        with timed(seconds, "align"):
            found = sharpen(joined.seen, found, video.frames, content=video.transform.content_mask()) or found
    maps = world(windows, stored, found)
    result = Found(0, found.cameras.c2w, maps.read)
    stretches = [errors_of(result, truth, start, start + SINGLE) for start in truth.starts]
    network = sum(window.seconds for window in stored)
    doubtful, whole = found.doubtful_windows(), errors_of(result, truth, 0, count)
    return Row(whole, Errors.mean(stretches), len(windows), network, seconds["align"], doubtful)


def world(windows: Sequence[Window], stored: Sequence[StoredWindow], found: Alignment) -> WindowedMaps:
    """The maps of a result, as ``vdpm.load`` would read them."""
    placed = []
    for number in kept_windows(windows, found):
        one = stored[number]
        similarity = Similarity(*(part[number].float() for part in found.windows))
        weight = min(1.0, max(0.0, float(found.window_weight[number])))
        placed.append(AlignedWindow(one.frames, one.targets, one.moved, similarity, weight, one.read))
    return WindowedMaps(placed, found.cameras)


def report(title: str, scenes: list[dict[str, Row]]) -> None:
    """A table; the mean where there are several scenes."""
    print(f"\n{title:<42}{'whole clip':^40}{'stretches of 20':^40}{'seconds':^20}")
    heads = "".join(f"{name:>10}" for name in ("ATE", "AbsRel", "EPE", "in sight") * 2)
    print(f"{'':<42}{heads}{'network':>10}{'align':>10}")
    for name in (SINGLES, *VARIANTS):
        of = [rows[name] for rows in scenes if name in rows]
        if not of:
            continue
        whole = [row.whole for row in of if row.whole is not None]
        cells = [*values(Errors.mean(whole))] if whole else [""] * 4
        cells += values(Errors.mean([row.stretches for row in of]))
        seconds = [sum(row.network_seconds for row in of) / len(of), sum(row.align_seconds for row in of) / len(of)]
        cells += [f"{value:.1f}" for value in seconds]
        print(f"{name:<42}" + "".join(f"{cell:>10}" for cell in cells))
    if all({SINGLES, CHAIN, WHOLE} <= {*rows} for rows in scenes):
        singles = Errors.mean([rows[SINGLES].stretches for rows in scenes])
        whole = Errors.mean([rows[WHOLE].whole for rows in scenes if rows[WHOLE].whole])
        stretches = Errors.mean([rows[WHOLE].stretches for rows in scenes])
        chain = Errors.mean([rows[CHAIN].whole for rows in scenes if rows[CHAIN].whole])
        for words, errors in (("whole clip", whole), ("stretches", stretches)):
            ratios = [f"{a / b:.2f}" for a, b in zip(figures(errors), figures(singles))]
            print(
                f"over single windows, {words}: ATE {ratios[0]}, AbsRel {ratios[1]}, EPE {ratios[2]}, "
                f"of tracks in sight {ratios[3]}"
            )
            tell_tracks(words, errors.tracks)
        tell_tracks(SINGLES, singles.tracks)
        print(f"drift of the chain over ours: {chain.ate / whole.ate:.2f}")


def tell_tracks(title: str, tracks: TrackErrors) -> None:
    """All figures of the tracks in a line."""
    told = (f"{name.replace('_', ' ')} {value:.4f}" for name, value in asdict(tracks).items())
    print(f"tracks, {title}: " + ", ".join(told))


def figures(errors: Errors) -> tuple[float, ...]:
    return errors.ate, errors.abs_rel, errors.epe, errors.tracks.in_sight


def values(errors: Errors) -> list[str]:
    return [f"{value:.4f}" for value in figures(errors)]


if __name__ == "__main__":
    main()

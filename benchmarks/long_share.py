"""What bringing windows into one world takes beside the network: python benchmarks/long_share.py [--out DIR]

Clips of held-out scenes of our own, and one of a camera that slides along a picture (``--plane``), go through the
network window by window, then windows are read, aligned, and the pictures followed, as ``vdpm reconstruct`` does it.
Seconds are of the processor, one thread. With ``--out`` windows and the seconds of the network are kept, and the same
command measures the rest again.
"""

import argparse
import json
import tempfile
import time
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
from long_memory import sliding
from long_truth import long_truth

from vdpm.archive import StoredWindow, WindowStore
from vdpm.long_reconstruct import identity_of, reconstruct_window, window_maps
from vdpm.long_video.alignment import Alignment, align, sharpen
from vdpm.long_video.joining import join_windows
from vdpm.long_video.likeness import find_loops, thumbnails
from vdpm.long_video.observations import Observations, observe
from vdpm.long_video.windows import Window, WindowConfig, plan_windows, with_times
from vdpm.model import VDPM
from vdpm.network_choice import load_network
from vdpm.structures import Video

PARTS = ("network", "loops", "reading", "aligning", "pictures")


class Clip:
    """One clip; ``seconds`` of its parts, those of the network of each window as it was made."""

    def __init__(self, network: VDPM, video: Video, folder: Path) -> None:
        self.network, self.video = network, video
        self.store = WindowStore(folder, identity_of(network, video), video.size, overwrite=True)
        self.file = self.store.folder / "seconds.json"
        self.made: dict[str, float] = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.seconds = dict.fromkeys(PARTS, 0.0)

    def run(self) -> None:
        """All windows into one world."""
        config, count = WindowConfig(), len(self.video)
        begin = time.process_time()
        loops = find_loops(thumbnails(self.video.frames), gap=2 * config.frames)
        self.took("loops", begin)
        windows = with_times(plan_windows(count, config, loops=loops), "auto")
        joined = join_windows(
            windows, count, config, self.reconstructed, self.aligned, timed=partial(with_times, wanted="auto")
        )
        begin, content = time.process_time(), self.video.transform.content_mask()
        sharpen(joined.seen, joined.found, self.video.frames, content=content)
        self.took("pictures", begin)

    def reconstructed(self, windows: list[Window], first: int, doing: str) -> list[StoredWindow]:
        stored = []
        for number, window in enumerate(windows, first):
            if not self.store.finished(number, window.frames, window.targets, window.moved):
                begin = time.process_time()
                reconstruct_window(self.network, self.video, window, self.store, number)
                self.made[str(number)] = time.process_time() - begin
                self.file.write_text(json.dumps(self.made))
            self.seconds["network"] += self.made[str(number)]
            stored.append(self.store.read(number))
        return stored

    def aligned(self, stored: list[StoredWindow], start: Alignment | None) -> tuple[Observations, Alignment]:
        begin = time.process_time()
        seen = observe(window_maps(stored), self.video.transform.content_mask(), len(self.video))
        begin = self.took("reading", begin)
        found = align(seen, start=start)
        self.took("aligning", begin)
        return seen, found

    def took(self, part: str, begin: float) -> float:
        now = time.process_time()
        self.seconds[part] += now - begin
        return now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="where windows are kept")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--size", default="112x80", help="width x height")
    parser.add_argument("--seeds", default="5,6", help="of the held-out scenes")
    parser.add_argument("--plane", action="store_true", help="the camera that slides along a picture as well")
    parser.add_argument("--model", default="vdpm-small")
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = load_network(options.model, torch.device("cpu"), "auto")
    width, height = map(int, options.size.split("x"))
    print(f"{'scene':<8}" + "".join(f"{part:>10}" for part in PARTS) + f"{'share':>10}")
    with tempfile.TemporaryDirectory() if options.out is None else nullcontext(options.out) as folder:
        for name in [*filter(None, options.seeds.split(",")), *["plane"] * options.plane]:
            if name == "plane":
                video = sliding(options.frames, width, height)
            else:
                video = long_truth(options.frames, int(name), (height, width), "cpu", Path(folder)).video
            at = Path(folder) / f"{options.frames}_{name}_{options.size}_{network.fingerprint()[:12]}"
            clip = Clip(network, video, at)
            clip.run()
            rest = sum(clip.seconds.values()) - clip.seconds["network"]
            cells = "".join(f"{clip.seconds[part]:>10.2f}" for part in PARTS)
            print(f"{name:<8}{cells}{rest / clip.seconds['network']:>10.3f}", flush=True)


if __name__ == "__main__":
    main()

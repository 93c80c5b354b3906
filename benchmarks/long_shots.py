"""Clips joined end to end through the whole of it: python benchmarks/long_shots.py FOLDER [--size 168x96] [--out DIR]

All videos of a folder, joined in the order of their names, with every frame of each. Printed: where cuts were found and
where they are; what came of each shot, taken apart as ``vdpm reconstruct`` does; then of all of it as one clip
(``--cuts ignore``), which goes through windows across the cuts and must end all the same. Exits with 1 where a cut
is missed or found where none is.
"""

import argparse
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import torch

import vdpm
from vdpm.geometry.image_transform import ImageTransform
from vdpm.long_video.likeness import find_shots, thumbnails
from vdpm.long_video.windows import WindowConfig
from vdpm.network_choice import choose_device, load_network
from vdpm.structures import Reconstruction, Video


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", default="168x96", help="width x height of the network's images")
    parser.add_argument("--window", type=int, default=8, help="frames; short, so that shots take several windows")
    parser.add_argument("--model", default="vdpm-small")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    names, frames, borders = [], [], [0]
    for path in sorted(options.folder.glob("*.mp4")):
        clip = vdpm.read_video(path, max_frames=None, size=width)
        fit = ImageTransform.stretch(clip.size, (height, width))
        frames += [fit.apply(frame.permute(2, 0, 1)).permute(1, 2, 0) for frame in clip.frames]
        names.append(path.stem)
        borders.append(len(frames))
    if not frames:
        parser.error(f"{options.folder}: holds no .mp4 file; name a folder of clips")
    count = len(frames)
    joined = Video(
        torch.stack(frames),
        torch.arange(count).double() / 10,
        torch.arange(count),
        ImageTransform.identity((height, width)),
        name="+".join(names),
    )
    shots = find_shots(thumbnails(joined.frames))
    true = list(pairwise(borders))
    print(
        f"{count} frames of {options.size}; cuts are at {borders[1:-1]}, found at {[first for first, _ in shots][1:]}"
    )
    network = load_network(options.model, choose_device(options.device), "auto")
    config = WindowConfig(length=options.window)
    with tempfile.TemporaryDirectory() as temporary:
        out = options.out or Path(temporary)
        begin = time.monotonic()
        scenes = vdpm.reconstruct_scenes(joined, model=network, windows=config, output=out / "joined", overwrite=True)
        for (first, stop), scene in zip(shots, scenes):
            told(f"frames {first}-{stop - 1}", scene)
        print(f"{len(scenes)} scenes in {time.monotonic() - begin:.0f} s")
        begin = time.monotonic()
        whole = vdpm.reconstruct(
            joined, model=network, windows=config, output=out / "as_one", overwrite=True, cuts="ignore"
        )
        told("all as one", whole)
        print(f"in {time.monotonic() - begin:.0f} s")
    sys.exit(shots != true)


def told(name: str, result: Reconstruction) -> None:
    """One line of a result, all of whose own maps and some of whose others are read."""
    maps = [result.maps.time_variant(source) for source in result.maps.sources]
    maps += [result.maps.at(target, result.maps.sources[0]) for target in result.maps.targets]
    finite = all(bool(one.points.isfinite().all()) for one in maps)
    windows = result.provenance.get("windows", {})
    words = f"{windows.get('run', 1)} runs, {windows.get('strided', 0)} strided, {windows.get('loop', 0)} loops"
    doubtful = len(windows.get("doubtful windows", ()))
    print(f"{name:<18}{len(result):4d} frames  {words}, {doubtful} doubtful; maps finite: {finite}", flush=True)


if __name__ == "__main__":
    main()

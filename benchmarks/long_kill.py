"""A run killed at random moments and started again: python benchmarks/long_kill.py [--times 20]

A small clip in windows, in a process of its own, which gets SIGKILL at a moment drawn from the whole of its run, then
is started again with the same command. Nothing that was finished may be made again, at most one window (that underway)
twice, nothing may be left behind, and the result must be, map by map, that of a run that was let alone. Exits with 1
where that does not hold.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FRAMES, SIZE = 30, (48, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--model", default="vdpm-small")
    parser.add_argument("--child", nargs=2, type=Path, metavar=("OUT", "LOG"), help="run the clip here")
    options = parser.parse_args()
    if options.child:
        child(options.model, *options.child)
        return
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(killed(options.model, options.times, random.Random(options.seed), Path(folder)))


def killed(model: str, times: int, moments: random.Random, folder: Path) -> int:
    """How many of the runs did not come out as they must."""
    whole = folder / "whole"
    begin = Run(model, whole, folder / "whole.log")
    begin.process.wait()
    duration = time.monotonic() - begin.ready
    windows = [line for line in (folder / "whole.log").read_text().split("\n") if line.startswith("end")]
    print(f"{FRAMES} frames, {len(windows)} windows, {duration:.1f} s when let alone")
    print(f"{'killed after, s':>16}{'finished':>10}{'made again':>12}{'underway':>10}  result")
    wrong = 0
    for number in range(times):
        out, log = folder / f"run{number}", folder / f"run{number}.log"
        moment = moments.uniform(0, duration)
        run = Run(model, out, log)
        time.sleep(max(0.0, moment - (time.monotonic() - run.ready)))
        run.process.send_signal(signal.SIGKILL)
        run.process.wait()
        before = log.read_text().split("\n") if log.exists() else []
        complete = out.is_dir() and '"complete"' in (out / "reconstruction.json").read_text()
        if not complete:
            Run(model, out, log).process.wait()
        lines = log.read_text().split("\n")
        finished = {line.split()[1] for line in before if line.startswith("end")}
        begun = [line.split()[1] for line in lines if line.startswith("begin")]
        again = sum(begun.count(window) > 1 for window in finished)
        underway = sum(begun.count(window) - 1 for window in {*begun})
        left = sorted(path.name for path in folder.glob(f".run{number}.*"))
        same = same_result(whole, out)
        good = again == 0 and underway <= 1 and same and not (left and not complete)
        wrong += not good
        word = ("same" if same else "DIFFERS") + (f", left {left}" if left else "") + ("" if good else "  WRONG")
        print(f"{moment:16.2f}{len(finished):10d}{again:12d}{underway:10d}  {word}", flush=True)
    print(f"{times} kills, {wrong} wrong")
    return int(wrong > 0)


class Run:
    """A child; ``ready``: when it had loaded everything and began."""

    def __init__(self, model: str, out: Path, log: Path) -> None:
        words = [sys.executable, __file__, "--model", model, "--child", str(out), str(log)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if line.strip() != "ready":
            raise SystemExit(f"the clip could not be run: {line}")
        self.ready = time.monotonic()


def child(model: str, out: Path, log: Path) -> None:
    import torch

    import vdpm.long_reconstruct as module
    from vdpm.geometry.image_transform import ImageTransform
    from vdpm.long_video.windows import Window, WindowConfig
    from vdpm.reconstruct import make_plan
    from vdpm.structures import Video

    torch.set_num_threads(1)
    made = module.reconstruct_window

    def noted(network, video, window: Window, store, number: int, *rest) -> None:
        with log.open("a") as file:
            file.write(f"begin {number}\n")
        made(network, video, window, store, number, *rest)
        with log.open("a") as file:
            file.write(f"end {number}\n")

    module.reconstruct_window = noted
    wide = torch.rand(1, 3, 12, 60, generator=torch.Generator().manual_seed(0))
    wide = torch.nn.functional.interpolate(wide, (SIZE[0], 320), mode="bicubic").clamp(0, 1)[0].permute(1, 2, 0)
    frames = torch.stack([(255 * wide[:, 6 * k : 6 * k + SIZE[1]]).byte() for k in range(FRAMES)])
    video = Video(frames, torch.arange(FRAMES) / 10, torch.arange(FRAMES), ImageTransform.identity(SIZE))
    config = WindowConfig(length=6, overlap=3)
    plan = make_plan(video, model=model, windows=config, device="cpu", cuts="ignore")
    print("ready", flush=True)
    plan.run(out)


def same_result(one: Path, other: Path) -> bool:
    """Whether all maps and cameras are the same to the bit."""
    names = [{path.relative_to(root) for path in root.rglob("*") if path.is_file()} for root in (one, other)]
    same_files = all((one / n).read_bytes() == (other / n).read_bytes() for n in names[0] if n.name[-5:] != ".json")
    return (
        names[0] == names[1]
        and same_files
        and (one / "cameras.json").read_text() == (other / "cameras.json").read_text()
    )


if __name__ == "__main__":
    main()

"""The paper's comparisons, trained, scored and tabled unattended: python benchmarks/comparisons.py -o runs/comparisons

Every variant goes on from the weights of ``--backbone``, but for its decoder, for ``--steps`` (equal number of frames
seen) or ``--minutes-per-run`` (equal GPU time), one process a GPU or ``--at-once`` of them, and is scored on the
held-out families by the same protocol. What is finished is skipped when called again; ``--stop-after`` begins no run
that would not be finished by then. docs/comparisons.md says more.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from comparison_run import BY_NAME, one_run
from comparison_tables import report

from vdpm.evaluation.manifest import load_manifest
from vdpm.synthetic.families import FAMILIES


@dataclass(frozen=True)
class Run:
    """One variant with one seed, in a folder of its own, where ``scores.json`` appears when all is done."""

    variant: str
    seed: int
    folder: Path

    @property
    def result(self) -> Path:
        return self.folder / "scores.json"


class Launcher:
    """Runs processes, ``--at-once`` a GPU, and takes them along when it is stopped itself."""

    def __init__(self, arguments: argparse.Namespace, gpus: Sequence[str]) -> None:
        self.arguments = arguments
        self.places = [(gpu, index) for index in range(arguments.at_once) for gpu in gpus]
        self.running: dict[tuple[str, int], tuple[Run, subprocess.Popen[bytes], float]] = {}
        self.failed: list[Run] = []
        self.longest = 60.0 * (arguments.minutes_per_run or 0.0)
        self.began = time.monotonic()

    def __enter__(self) -> "Launcher":
        return self

    def __exit__(self, *_: object) -> None:
        for _, process, _ in self.running.values():
            process.terminate()

    def go(self, runs: Sequence[Run]) -> list[Run]:
        """Run what is not finished; returns what was not begun for want of time."""
        for made in finished(runs):
            self.longest = max(self.longest, made["training_seconds"] + made["scoring_seconds"])
        waiting = [run for run in runs if not run.result.exists()]
        print(f"{len(runs) - len(waiting)} of {len(runs)} runs are finished", flush=True)
        while self.running or (waiting and self._time_for_another()):
            free = [place for place in self.places if place not in self.running]
            if free and waiting and self._time_for_another():
                self._start(waiting.pop(0), free[0])
            else:
                time.sleep(0.2)
                self._collect()
        return waiting

    def _time_for_another(self) -> bool:
        limit = self.arguments.stop_after
        return limit is None or time.monotonic() - self.began + self.longest < 60 * limit

    def _start(self, run: Run, place: tuple[str, int]) -> None:
        arguments, gpu = self.arguments, place[0]
        if not (run.folder / "trained.json").exists():
            shutil.rmtree(run.folder, ignore_errors=True)
            run.folder.mkdir(parents=True)
        command = [sys.executable, __file__, "--run", run.variant, "--seed", str(run.seed), "-o", str(run.folder)]
        command += ["--families", *arguments.families, "--clips", str(arguments.clips), "--graph", arguments.graph]
        command += ["--backbone", arguments.backbone]
        for option in ("steps", "minutes_per_run"):
            value = getattr(arguments, option)
            command += [] if value is None else [f"--{option.replace('_', '-')}", str(value)]
        command += ["--tiny"] * arguments.tiny + ["--cuda-graphs"] * arguments.cuda_graphs
        command += ["--device", arguments.device] if arguments.device else []
        environment = dict(os.environ)
        # Shapes that one run has compiled need not be compiled again by the others.
        environment.setdefault("TORCHINDUCTOR_CACHE_DIR", str((arguments.output / "compiled").resolve()))
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // len(self.places))))
        if gpu != "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = gpu
        with (run.folder / "output.txt").open("wb") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        self.running[place] = (run, process, time.monotonic())
        print(f"{run.variant}, seed {run.seed}: begun on {gpu}", flush=True)

    def _collect(self) -> None:
        for place, (run, process, began) in list(self.running.items()):
            if process.poll() is None:
                continue
            del self.running[place]
            seconds = time.monotonic() - began
            if run.result.exists():
                self.longest = max(self.longest, seconds)
                print(f"{run.variant}, seed {run.seed}: done in {seconds / 60:.1f} min", flush=True)
            else:
                self.failed.append(run)
                print(f"{run.variant}, seed {run.seed}: FAILED, see {run.folder / 'output.txt'}", flush=True)


def finished(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What the runs that are done have written."""
    return [json.loads(run.result.read_text()) for run in runs if run.result.exists()]


def check_settings(arguments: argparse.Namespace) -> None:
    """Runs of one folder must have been made alike: exits where its ``settings.json`` says otherwise."""
    alike = (
        "minutes_per_run",
        "steps",
        "backbone",
        "families",
        "clips",
        "graph",
        "tiny",
        "cuda_graphs",
        "at_once",
    )
    settings = {name: getattr(arguments, name) for name in alike}
    path = arguments.output / "settings.json"
    if path.exists():
        before = json.loads(path.read_text())
        differing = [name for name in alike if before.get(name) != settings[name]]
        if differing:
            was = ", ".join(f"--{name.replace('_', '-')} {before.get(name)}" for name in differing)
            sys.exit(f"{arguments.output} holds runs made with {was}; give the same or another folder")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=1) + "\n")


def visible_gpus(device: str | None) -> list[str]:
    """Names for CUDA_VISIBLE_DEVICES; "cpu" alone where there is no GPU or none is wanted."""
    if device == "cpu" or not torch.cuda.is_available():
        return ["cpu"]
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(index) for index in range(torch.cuda.device_count())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--variants", nargs="+", choices=list(BY_NAME), default=list(BY_NAME))
    parser.add_argument("--seeds", nargs="+", type=int, default=[10, 11], help="vdpm-small was trained with 0, 1 and 3")
    parser.add_argument("--backbone", default="vdpm-small", help="whose weights all begin with, or none")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="of each run; otherwise the recipe's")
    length.add_argument("--minutes-per-run", type=float, help="instead of steps, from the first line of its log")
    parser.add_argument("--at-once", type=int, default=1, help="runs that share a GPU: one compiles as another trains")
    parser.add_argument("--stop-after", type=float, help="minutes; no run is begun that would end later")
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    parser.add_argument("--clips", type=int, default=40, help="of each family")
    parser.add_argument(
        "--graph", choices=("star", "complete"), default="star", help="pairs of a clip that are aligned"
    )
    parser.add_argument("--device", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="dry run with tiny networks and frames")
    parser.add_argument("--cuda-graphs", action="store_true", help="record the steps of compiled shapes")
    inner = parser.add_argument_group("for the processes it starts itself")
    inner.add_argument("--run", choices=list(BY_NAME))
    inner.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    if arguments.at_once < 1:
        parser.error("--at-once must be at least 1")
    if arguments.run is not None:
        one_run(arguments)
        return

    def stop(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, stop)
    for family in arguments.families:
        load_manifest(family)  # a damaged one should not be found after hours of training
    check_settings(arguments)
    gpus = visible_gpus(arguments.device)
    output = arguments.output
    runs = [Run(v, seed, output / f"{v}-{seed}") for seed in arguments.seeds for v in arguments.variants]
    with Launcher(arguments, gpus) as launcher:
        left = launcher.go(runs)
    text = report(finished(runs), arguments.families)
    (output / "report.md").write_text(text)
    print(text)
    if left:
        print(f"{len(left)} runs were not begun for want of time; the same command goes on")
    if launcher.failed:
        sys.exit(1)


if __name__ == "__main__":
    main()

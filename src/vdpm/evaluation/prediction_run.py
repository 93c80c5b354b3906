"""PREDICT: a model's answers to the clips of one table, a file each in a folder that later steps read.

    DIR/plan.json               which clips, of which data, answered by whom and how
    DIR/predictions/NAME.npz    what it said of one clip (``answers``)

A run that is killed goes on at the first clip without a file. A folder holds one run: another model, other clips or
another size are refused, not mixed in.
"""

import hashlib
import json
import re
import shutil
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool
from torch import Tensor

from vdpm.archive.folder import disk_errors, write_whole
from vdpm.archive.manifest import JsonFields
from vdpm.data.quarantine import Quarantine
from vdpm.errors import InputError, OutputError, UsageError
from vdpm.evaluation.answers import Precision, save_depth, save_maps, save_path
from vdpm.evaluation.benchmark import TABLES, Benchmark, Drawn, Sample, Table
from vdpm.evaluation.clips import Clips, MapTruth
from vdpm.evaluation.contenders import Contender, Fit
from vdpm.progress import Report, silent

PLAN_FILE, PREDICTIONS = "plan.json", "predictions"
_FORMAT, _VERSION = "vdpm.evaluation", 1


@dataclass(frozen=True)
class AnswerOptions:
    """What decides what is in the files. ``pixels``: at most so many pixels of each frame, drawn anew for each clip by
    its name (None: all that have truth). ``precision``: "auto" keeps networks' points in float16, which puts them off
    by at most 0.05 % of themselves, and baselines' in float32, to the bit.
    """

    fit: Fit = field(default_factory=Fit)
    pixels: int | None = None
    precision: Literal["auto", "float16", "float32"] = "auto"

    def __post_init__(self) -> None:
        if self.pixels is not None and self.pixels < 1:
            raise UsageError(f"pixels is {self.pixels}; give at least 1")


@dataclass(frozen=True)
class RunPlan:
    """Everything about a run but its numbers. ``model``: its row in tables; ``identity`` tells it from any other."""

    benchmark: Benchmark
    samples: tuple[Sample, ...]
    left_out: dict[str, str]
    model: str
    identity: str
    metric: bool
    options: AnswerOptions = field(default_factory=AnswerOptions)
    notes: tuple[str, ...] = ()

    @property
    def table(self) -> Table:
        return self.benchmark.table

    def digest(self) -> str:
        """Of the clips, as ``Drawn.digest``."""
        return Drawn(self.samples, {}).digest()

    def to_json(self) -> dict[str, Any]:
        return {
            "format": _FORMAT,
            "format_version": _VERSION,
            "table": self.table,
            "dataset": self.benchmark.dataset,
            "model": self.model,
            "identity": self.identity,
            "metric": self.metric,
            "clips": len(self.samples),
            "digest": self.digest(),
            "benchmark": self.benchmark.to_json(),
            "options": asdict(self.options),
            "left_out": self.left_out,
            "notes": list(self.notes),
            "samples": [sample.to_json() for sample in self.samples],
        }


def make_plan(
    clips: Clips,
    benchmark: Benchmark,
    model: str,
    identity: str,
    options: AnswerOptions | None = None,
    count: int | None = None,
) -> RunPlan:
    """The run of ``benchmark`` on ``clips``; with ``count`` of so many clips of each group, evenly from all.

    Raises UsageError where there are no clips, or a ``count`` below 1.
    """
    drawn = clips.drawn(benchmark)
    samples = drawn.samples
    if count is not None:
        if count < 1:
            raise UsageError(f"{count} clips; give at least 1")
        groups = dict.fromkeys(sample.group for sample in samples)
        chosen = {s for g in groups for s in _spread([s for s in samples if s.group == g], count)}
        samples = tuple(sample for sample in samples if sample in chosen)
    notes = clips.notes
    if len(samples) < len(drawn.samples):
        notes = (*notes, f"{len(samples)} of {len(drawn.samples)} clips")
    return RunPlan(benchmark, samples, drawn.left_out, model, identity, clips.metric, options or AnswerOptions(), notes)


def keep_plan(plan: RunPlan, folder: Path) -> None:
    """Writes the plan, or checks that the folder's is the same. Raises OutputError where another run lies there."""
    path = folder / PLAN_FILE
    content = plan.to_json()
    if path.is_file():
        there = read_plan(folder)
        for key in ("table", "dataset", "identity", "digest", "options"):
            if there[key] != json.loads(json.dumps(content[key])):
                raise OutputError(
                    f"{folder}: holds a run whose {key} is {str(there[key])[:60]}, not {str(content[key])[:60]}; "
                    "choose another folder, or remove it"
                )
        # Clips of the same names and frames may still show other pictures.
        for key in ("pairing", "undistort"):
            told, wanted = dict(there["benchmark"]).get(key, False), content["benchmark"][key]
            if told != wanted:
                raise OutputError(
                    f"{folder}: holds a run whose {key} is {str(told)[:60]}, not {wanted}; choose another folder, "
                    "or remove it"
                )
        return
    with disk_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / PREDICTIONS).is_dir():
            raise OutputError(f"{folder}: holds other files and no {PLAN_FILE}; choose a new folder")
        write_whole(path, [(json.dumps(content, indent=1) + "\n").encode()])


def read_plan(folder: Path) -> dict[str, Any]:
    """What ``plan.json`` says. Raises InputError, one line, where there is none or it is damaged."""
    path = folder / PLAN_FILE
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: no such plan; run vdpm evaluate TABLE ... -o {folder} first") from None
    content = JsonFields.parse(text, path)
    if content.data.get("format") != _FORMAT or content.integer("format_version", 1, 10**6) > _VERSION:
        raise InputError(f"{path}: is no plan of format {_FORMAT} {_VERSION}; upgrade vdpm or choose another folder")
    if content.text("table") not in TABLES:
        raise InputError(f"{path}: names no table; remove the folder and run again")
    for key in ("dataset", "identity", "digest", "model"):
        content.text(key)
    content.table("options")
    content.table("benchmark")
    return content.data


def load_plan(folder: Path) -> RunPlan:
    """The plan that lies in ``folder``. Raises InputError, one line, where there is none or it is damaged."""
    content, path = read_plan(folder), folder / PLAN_FILE
    try:
        rules = {name: _as_tuple(value) for name, value in content["benchmark"].items()}
        answers = dict(content["options"])
        plan = RunPlan(
            benchmark=Benchmark(**rules),
            samples=tuple(_sample(said) for said in content["samples"]),
            left_out={str(name): str(reason) for name, reason in content["left_out"].items()},
            model=content["model"],
            identity=content["identity"],
            metric=content["metric"] is True,
            options=AnswerOptions(fit=Fit(**answers.pop("fit")), **answers),
            notes=tuple(map(str, content["notes"])),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: is damaged ({str(error)[:80]}); remove the folder and run again") from None
    if plan.digest() != content["digest"] or plan.table != content["table"]:
        raise InputError(f"{path}: its clips are not those of its digest; remove the folder and run again")
    return plan


def answer_file(folder: Path, sample: Sample) -> Path:
    """Where the answer to ``sample`` lies."""
    return folder / PREDICTIONS / f"{sample.name}.npz"


def missing(plan: RunPlan, folder: Path) -> list[Sample]:
    """The clips that have no answer yet."""
    return [sample for sample in plan.samples if not answer_file(folder, sample).is_file()]


def predict(
    contender: Contender | None,
    clips: Clips,
    plan: RunPlan,
    folder: Path,
    max_disk: float = 20.0,
    report: Report = silent,
    quarantine: Quarantine | None = None,
) -> int:
    """Answers every clip that has no file yet; returns how many it answered. ``contender`` None: answers are files.

    ``max_disk``: GB that all answers may take; what they will take is told from the first. Clips whose data cannot be
    read go to the ``quarantine``, and have no file. Raises InputError where answers are not finite, data are damaged
    (TooManyCorrupt with a quarantine), or files that another program should have made are missing; OutputError where
    there is no room.
    """
    todo = missing(plan, folder)
    quarantine = quarantine or Quarantine(max_share=0.0, expected=len(plan.samples))
    if contender is None:
        todo = [sample for sample in todo if quarantine.attempt(partial(readable, clips, sample))]
        if todo:
            raise InputError(
                f"{folder / PREDICTIONS}: {len(todo)} of {len(plan.samples)} answers are missing, first "
                f"{todo[0].name}.npz; {PLAN_FILE} lists the clips, docs/evaluation.md what a file holds"
            )
        return 0
    done, made = len(plan.samples) - len(todo), 0
    report("predicting", done, len(plan.samples))
    for number, sample in enumerate(todo, 1):
        answered = quarantine.attempt(partial(_answer, contender, clips, plan, sample, answer_file(folder, sample)))
        made += answered is not None
        if answered is not None and made == 1:
            _check_room(answered, len(todo), max_disk)
        report("predicting", done + number, len(plan.samples))
    return made


def readable(clips: Clips, sample: Sample) -> bool:
    """True; raises CorruptFile where a frame of the clip cannot be read."""
    return all(frame is not None for frame in clips.frames(sample))


def asked(table: Table, sample: Sample) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Targets and sources of a pair (all four maps) or a snippet (the pixels of its first frame at all times)."""
    everything = tuple(range(len(sample.frames)))
    return everything, everything if table == "two-view" else (0,)


def kept_pixels(
    truth: MapTruth, sample: Sample, pixels: int | None
) -> tuple[Bool[Tensor, "targets sources height width"], Bool[Tensor, "sources height width"]]:
    """Which points are kept: those with truth, at most ``pixels`` of each source, the same at all times."""
    own = truth.clip.valid[list(truth.sources)]
    keep = truth.known & own
    if pixels is None:
        return keep, own
    seed = int.from_bytes(hashlib.sha256(sample.name.encode()).digest()[:7], "big")
    generator = torch.Generator().manual_seed(seed)
    # Pixels that have truth at other times first: of sparse tracks none is lost to pixels that have depth alone.
    others = torch.tensor([[t != s for s in truth.sources] for t in truth.targets])[:, :, None, None]
    tracked = (keep & others).any(0) if bool(others.any()) else own
    chosen = torch.zeros_like(own)
    for column in range(len(own)):
        rank = torch.rand(own[column].numel(), generator=generator)
        rank = rank + tracked[column].flatten() + 2.0 * own[column].flatten()
        chosen[column].view(-1)[rank.argsort(descending=True)[:pixels]] = True
    return keep & chosen, own & chosen


def _sample(said: dict[str, Any]) -> Sample:
    """Raises ValueError for a name that leaves the folder."""
    sample = Sample(said["name"], said["sequence"], tuple(said["frames"]), said["group"])
    if not re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", sample.name):
        raise ValueError(f"a clip is called {sample.name[:40]!r}")
    if not sample.frames or not all(type(frame) is int for frame in sample.frames):
        raise ValueError(f"{sample.name}: no frames")
    return sample


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _answer(contender: Contender, clips: Clips, plan: RunPlan, sample: Sample, path: Path) -> Path:
    """Asks for one clip and writes the answer as ``path``, which it gives back."""
    wanted = plan.options.precision
    exact = contender.exact if wanted == "auto" else wanted == "float32"
    precision: Precision = "float32" if exact else "float16"
    if plan.table in ("two-view", "tracking"):
        targets, sources = asked(plan.table, sample)
        truth = clips.map_truth(sample, targets, sources)
        keep, own = kept_pixels(truth, sample, plan.options.pixels)
        with torch.inference_mode():
            said = contender.maps(truth)
        save_maps(path, said, sources, keep, own, precision)
        return path
    # Not in inference mode: windows of long sequences are aligned with gradients.
    whole = contender.sequence(clips.frames(sample), sample.name)
    if plan.table == "video-depth":
        save_depth(path, whole.depth, precision)
    else:
        save_path(path, whole.c2w)
    return path


def _check_room(first: Path, count: int, max_disk: float) -> None:
    each = first.stat().st_size
    free = shutil.disk_usage(first.parent).free
    if each * count > max_disk * 1e9 or each * (count - 1) > free:
        raise OutputError(
            f"{first.parent}: {count} answers of {each / 1e6:.1f} MB each are more than "
            f"{min(max_disk, free / 1e9):.1f} GB; allow more with --max-disk, or keep fewer --pixels or --clips"
        )


def _spread(samples: list[Sample], count: int) -> list[Sample]:
    """``count`` of the samples, evenly from first to last."""
    count = min(count, len(samples))
    return [samples[k * len(samples) // count] for k in range(count)]

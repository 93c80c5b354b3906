"""``scores.json``: what a run was, every clip's numbers, and their means with intervals."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vdpm.archive.folder import disk_errors, write_whole
from vdpm.archive.manifest import JsonFields
from vdpm.errors import InputError
from vdpm.evaluation.benchmark import TABLES
from vdpm.evaluation.bootstrap import RESAMPLES, Interval, bootstrap
from vdpm.evaluation.prediction_run import RunPlan
from vdpm.evaluation.table_scores import SampleScores, TableOptions

SCORES_FILE = "scores.json"
_FORMAT, _VERSION = "vdpm.table", 1
_MAX_BYTES = 1 << 28

PROTOCOL = {
    "two-view": "a model run on two frames alone; prediction and truth each divided by their mean distance from the "
    "first camera over the valid pixels of all four maps, no other alignment; mean distance in each map",
    "tracking": "P_0(t_0), ..., P_0(t_9): as two-view, over ten maps; mean over maps. world_*: WorldTrack's shares of "
    "points within 0.1, 0.3, 0.5 and 1 and mean distance, after the ratio of medians or a Sim(3); dynamic: points "
    "whose way is longer than 0.01, aligned by themselves. tapvid3d_*: points in the camera of each time, median "
    "scale, within 1, 2, 4, 8 and 16 pixels of a picture of shorter side 256",
    "video-depth": "z in each frame's own camera, brought bicubically to the truth's size; truth below depth_cap; each "
    "alignment fitted over the whole sequence (_per_frame: each frame); aligned depth beyond clip becomes clip",
    "camera-pose": "Umeyama on camera centres; ATE: rmse of centres; RPE: rmse over delta frames, every start",
}


@dataclass(frozen=True)
class TableResult:
    """One run's numbers. ``digest``: of its clips. ``means``: [group][error]; ``samples``: as in the file, undefined
    errors None; "weight": how much a clip counts in means; "corrupt": why its data cannot be read (None: they can).
    ``rules``: the choices, besides the clips, that rows must share to be compared.
    """

    table: str
    title: str
    model: str
    digest: str
    metric: bool
    means: dict[str, dict[str, Interval]]
    samples: tuple[dict[str, Any], ...]
    left_out: dict[str, str]
    notes: tuple[str, ...]
    rules: dict[str, Any]


def write_scores(plan: RunPlan, scored: Sequence[SampleScores], options: TableOptions, folder: Path) -> TableResult:
    """Writes ``scores.json`` and gives what it says. Raises OutputError where it cannot be written."""
    means: dict[str, dict[str, Interval]] = {}
    for group in dict.fromkeys(one.sample.group for one in scored):
        members = [one for one in scored if one.sample.group == group]
        weights = [one.weight for one in members] if any(one.weight != 1 for one in members) else None
        names = dict.fromkeys(name for one in members for name in one.scores)
        means[group] = {
            name: bootstrap([one.scores.get(name, math.nan) for one in members], weights=weights) for name in names
        }
    samples = [
        one.sample.to_json() | {"weight": one.weight, "corrupt": one.corrupt, "scores": _plain(one.scores)}
        for one in scored
    ]
    content = {
        "format": _FORMAT,
        "format_version": _VERSION,
        **{key: value for key, value in plan.to_json().items() if key not in ("format", "format_version", "samples")},
        "title": plan.benchmark.title,
        "protocol": PROTOCOL[plan.table],
        "scoring": asdict(options),
        "interval": {"level": 0.95, "method": "percentile bootstrap over clips", "resamples": RESAMPLES, "seed": 0},
        "means": {g: {n: _plain(i._asdict()) for n, i in by.items()} for g, by in means.items()},
        "samples": samples,
    }
    path = folder / SCORES_FILE
    with disk_errors(path):
        write_whole(path, [json.dumps(content, indent=1).encode()])
    return read_scores(folder)


def read_scores(folder: Path) -> TableResult:
    """The numbers in ``folder``. Raises InputError, one line, where there are none or the file is damaged."""
    path = folder / SCORES_FILE
    try:
        with path.open("rb") as stream:
            text = stream.read(_MAX_BYTES).decode()
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{path}: no such scores; run vdpm evaluate TABLE ... -o {folder} first") from None
    fields = JsonFields.parse(text, path)
    if fields.data.get("format") != _FORMAT or fields.integer("format_version", 1, 10**6) > _VERSION:
        raise InputError(f"{path}: is no table of format {_FORMAT} {_VERSION}; upgrade vdpm or score again")
    if fields.text("table") not in TABLES:
        raise InputError(f"{path}: names no table; score again")
    try:
        means = {
            str(group): {str(name): _interval(found) for name, found in by.items()}
            for group, by in fields.table("means").items()
        }
        samples = tuple(
            {
                "name": str(s["name"]),
                "group": str(s["group"]),
                "weight": float(s["weight"]),
                "corrupt": None if s.get("corrupt") is None else str(s["corrupt"]),
                "scores": dict(s["scores"]),
            }
            for s in fields.data["samples"]
        )
        left_out = {str(name): str(reason) for name, reason in fields.table("left_out").items()}
        rules = _rules(fields)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: is damaged ({error!r}); score again") from None
    return TableResult(
        table=fields.text("table"),
        title=fields.text("title"),
        model=fields.text("model"),
        digest=fields.text("digest"),
        metric=bool(fields.data.get("metric")),
        means=means,
        samples=samples,
        left_out=left_out,
        notes=fields.texts("notes"),
        rules=rules,
    )


def _rules(fields: JsonFields) -> dict[str, Any]:
    """What the file says of how clips were read and scored. Which alignments of depth there are changes no row."""
    scoring = dict(fields.table("scoring"))
    benchmark = {"undistort": False} | fields.table("benchmark")
    rules = {name: benchmark[name] for name in ("pairing", "undistort", "depth_cap", "clip")}
    rules |= {"pixels": fields.table("options")["pixels"]} | dict(scoring.pop("protocol")) | scoring
    return {name: value for name, value in rules.items() if name not in ("alignments", "per_frame")}


def _interval(found: dict[str, Any]) -> Interval:
    mean, low, high = (math.nan if found[k] is None else float(found[k]) for k in ("mean", "low", "high"))
    return Interval(mean, low, high, int(found["snippets"]))


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """NaN, which JSON has not, as None."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}

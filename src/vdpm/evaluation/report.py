"""Scores to text: a table for the terminal and the docs, a JSON file for later."""

import importlib.metadata
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vdpm.archive.folder import disk_errors, write_whole
from vdpm.evaluation.bootstrap import RESAMPLES, Interval, bootstrap
from vdpm.evaluation.held_out import NETWORK, OWN_ZERO_MOTION, PLANE, ZERO_MOTION, SnippetScores
from vdpm.evaluation.manifest import FamilyManifest
from vdpm.evaluation.snippet_scores import ProtocolOptions
from vdpm.synthetic import SceneConfig

PROTOCOL = {
    "tracking": "P_0(t_0), ..., P_0(t_9) of a snippet: mean distance from the truth in each map, mean over maps",
    "two_view": "a network run on two frames alone: P_0(t_0), P_0(t_1), P_1(t_0), P_1(t_1), margin in frames of video",
    "scale": "prediction and truth each divided by their mean distance from the camera of frame 0, over the valid "
    "pixels of all maps scored together (epe_per_map: of each map); no other alignment",
    "moving": "pixels and times whose true point has moved further than the share 'moving' of the mean distance",
    "depth": "z in each frame's own camera, one scale a snippet: ratio of medians, and least squares (_lsq)",
    "camera": "relative to frame 0: rotation (median over frames), translation (mean), direction of the baseline where "
    "it is over 2 % of the mean distance (median), focal length (mean)",
    "path": "ATE and RPE (one frame) after Sim(3) Umeyama on camera centres; straight paths and still cameras left out",
    "mean": "over snippets, those where an error is undefined left out",
}
"""What is common to all scores, said in every file of them."""

_COLUMNS = (
    (NETWORK, "network"),
    (ZERO_MOTION, "true shape, no motion"),
    (OWN_ZERO_MOTION, "own shape, no motion"),
    (PLANE, "plane, true cameras"),
)
_TRACKING = (
    ("tracking EPE", "epe"),
    ("tracking EPE, moving pixels", "epe_moving"),
    ("tracking EPE, each map scaled alone", "epe_per_map"),
)
_PAIR = (
    ("P_0(t_0)", "p0_t0"),
    ("P_0(t_1)", "p0_t1"),
    ("P_1(t_0)", "p1_t0"),
    ("P_1(t_1)", "p1_t1"),
    ("moving pixels", "moving"),
)
_SHAPE = (
    ("EPE of P, all frames", "p_epe"),
    ("depth AbsRel, scaled by medians", "abs_rel"),
    ("depth AbsRel, by least squares", "abs_rel_lsq"),
    ("depth within 1.25, by medians", "delta_125"),
    ("depth within 1.25, by least squares", "delta_125_lsq"),
    ("camera rotation, degrees", "rotation"),
    ("camera position / mean distance", "translation"),
    ("baseline direction, degrees", "direction"),
    ("focal length, relative", "focal"),
    ("ATE / mean distance", "ate"),
    ("RPE, translation / mean distance", "rpe_translation"),
    ("RPE, rotation in degrees", "rpe_rotation"),
)


@dataclass(frozen=True)
class FamilyResult:
    """The scores of one family as they come, and what they are made on: ``wanted`` snippets of ``config``.

    ``notes``: why they are not comparable with those of others, if they are not.
    """

    manifest: FamilyManifest
    config: SceneConfig
    wanted: int
    notes: tuple[str, ...] = ()
    scores: list[SnippetScores] = field(default_factory=list)

    def intervals(self) -> dict[str, dict[str, Interval]]:
        """Mean and 95 % interval of each error: [contender][name]."""
        found: dict[str, dict[str, Interval]] = {}
        for contender, _ in _COLUMNS:
            names = dict.fromkeys(name for s in self.scores for name in s.by.get(contender, {}))
            found[contender] = {name: bootstrap([s.by[contender][name] for s in self.scores]) for name in names}
        return found


def family_table(result: FamilyResult) -> str:
    """One family's errors: means over snippets, the network's with a 95 % interval, baselines beside it.

    "on 150" after a mean: how many of the snippets it is over, where not over all.
    """
    manifest, config, found = result.manifest, result.config, result.intervals()
    done = len(result.scores)
    of = f"{done}" if done == result.wanted else f"{done} (of {result.wanted}: interrupted)"
    lines = [
        f"{manifest.family}: {of} snippets of {config.num_frames} frames of {config.width} x {config.height}, "
        f"{manifest.stride} frames of video apart",
        *(f"note: {note}" for note in result.notes),
        "",
        "| error | " + " | ".join(label for _, label in _COLUMNS) + " |",
        "| --- |" + " --- |" * len(_COLUMNS),
    ]
    rows = list(_TRACKING)
    for margin in manifest.pairs:
        rows += [(f"two views {margin} apart, {label}", f"margin{margin}.{name}") for label, name in _PAIR]
    for label, name in (*rows, *_SHAPE):
        cells = [_cell(found[contender].get(name), contender == NETWORK, done) for contender, _ in _COLUMNS]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_scores(
    results: Sequence[FamilyResult],
    path: Path,
    model: str,
    fingerprint: str,
    device: str,
    options: ProtocolOptions,
) -> None:
    """Write every snippet's scores, their means and what was scored as JSON, whole or not at all.

    Raises OutputError where the file cannot be written.
    """
    content = {
        "format": "vdpm.scores",
        "format_version": 1,
        "package_version": _package_version(),
        "model": model,
        "fingerprint": fingerprint,
        "device": device,
        "protocol": PROTOCOL,
        "options": asdict(options),
        "interval": {"level": 0.95, "method": "percentile bootstrap over snippets", "resamples": RESAMPLES, "seed": 0},
        "families": {result.manifest.family: _family_content(result) for result in results},
    }
    with disk_errors(path):
        write_whole(path, [json.dumps(_without_nan(content), indent=1).encode()])


def _family_content(result: FamilyResult) -> dict[str, Any]:
    manifest = result.manifest
    return {
        "manifest": manifest.digest(),
        "comparable": not result.notes,
        "notes": list(result.notes),
        "complete": len(result.scores) == result.wanted,
        "clips": len(result.scores),
        "frames": result.config.num_frames,
        "size": [result.config.height, result.config.width],
        "stride": manifest.stride,
        "pairs": {str(margin): list(pair) for margin, pair in manifest.pairs.items()},
        "config": asdict(result.config),
        "means": {
            contender: {name: interval._asdict() for name, interval in found.items()}
            for contender, found in result.intervals().items()
        },
        "snippets": [{"seed": s.seed, **s.by} for s in result.scores],
    }


def _cell(interval: Interval | None, with_range: bool, snippets: int) -> str:
    if interval is None:
        return ""
    if math.isnan(interval.mean):
        return "n/a"
    if not with_range:
        return f"{interval.mean:.3f}"
    known = "" if interval.snippets == snippets else f" on {interval.snippets}"
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]{known}"


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _package_version() -> str:
    try:
        return importlib.metadata.version("vdpm")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"

"""Scores to text: a table for the terminal and the docs, a JSON file for later."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from vdpm.errors import OutputError
from vdpm.evaluation.clip_scores import ClipScores
from vdpm.synthetic import SceneConfig

_ROWS: tuple[tuple[str, str, str | None], ...] = (
    ("EPE of P", "epe_p", "constant_depth_p"),
    ("EPE of Q, other times, all pixels", "epe_q", "zero_motion_q"),
    ("EPE of Q, moving pixels", "epe_q_moving", "zero_motion_moving"),
    ("  with the network's own P and no motion", "own_zero_motion_moving", None),
    ("motion alone (scene flow), moving pixels", "flow_moving", "zero_motion_moving"),
    ("depth AbsRel (median-scaled)", "depth_abs_rel", None),
    ("depth within 1.25", "depth_delta_125", None),
    ("camera rotation, degrees", "rotation", None),
    ("camera position / mean distance", "translation", None),
    ("baseline direction, degrees", "direction", None),
    ("focal length, relative", "focal", None),
)


def held_out_table(scores: Sequence[ClipScores]) -> str:
    """Means over clips (points in units of a clip's mean distance), beside the baseline where there is one.

    Baselines: the best plane before the true cameras for P, the true shape without motion for Q.
    """
    means = ClipScores.mean(list(scores))
    lines = ["| error | network | baseline |", "| --- | --- | --- |"]
    for label, name, baseline in _ROWS:
        beside = "" if baseline is None else _number(means[baseline])
        lines.append(f"| {label} | {_number(means[name])} | {beside} |")
    return "\n".join([f"{len(scores)} clips", "", *lines])


def write_scores(
    scores: Sequence[ClipScores], path: Path, *, model: str, fingerprint: str, config: SceneConfig
) -> None:
    """Write every clip's scores, their means and what was scored as JSON, beside and then renamed."""
    content = {
        "model": model,
        "fingerprint": fingerprint,
        "scenes": asdict(config),
        "means": ClipScores.mean(list(scores)),
        "clips": [asdict(s) for s in scores],
    }
    beside = path.with_name(f".{path.name}.writing")
    try:
        beside.write_text(json.dumps(_without_nan(content), indent=1))
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from None


def _number(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.3f}"


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {k: _without_nan(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and math.isnan(value) else value

"""A check as files: report.json for programs, report.md and pictures for people."""

import json
import math
import os
import re
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from vdpm.data.checks.dataset import DatasetCheck
from vdpm.data.checks.found import SequenceCheck, View
from vdpm.errors import OutputError

FULL_ERROR = 0.05
"""Relative error of depth that is drawn in full colour."""
MAX_SIDE = 320
"""Pixels of one picture's longer side."""


def check_report_folder(folder: Path) -> None:
    """Call before the check, which may take hours. Raises OutputError where no report may be written to ``folder``."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: exists and is not an empty folder; choose another")
    parent = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: cannot be made, {parent} is not a folder to write to; choose another")


def write_report(check: DatasetCheck, folder: Path) -> Path:
    """Writes report.json, report.md and pictures/ into ``folder``, which may exist if it holds nothing else.

    Raises OutputError where it holds something, or cannot be written.
    """
    check_report_folder(folder)
    try:
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
        pictures: dict[str, list[tuple[str, str]]] = {}
        for number, sequence in enumerate(check.sequences):
            stem = f"{number:03d}_{re.sub(r'[^A-Za-z0-9_-]+', '-', sequence.name)[:60]}"
            for place, view in enumerate(sequence.views):
                name = f"pictures/{stem}_{place}.png"
                Image.fromarray(draw(view)).save(folder / name)
                pictures.setdefault(sequence.name, []).append((view.title, name))
        (folder / "report.json").write_text(json.dumps(to_json(check), indent=1, allow_nan=False))
        (folder / "report.md").write_text(to_markdown(check, pictures))
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error}); choose another folder") from None
    return folder / "report.md"


def to_json(check: DatasetCheck) -> dict:
    """Plain data; measures that are not numbers are null."""
    sequences = [
        {
            "name": one.name,
            "num_frames": one.num_frames,
            "measures": {key: value if math.isfinite(value) else None for key, value in one.measures.items()},
            "findings": one.findings,
        }
        for one in check.sequences
    ]
    corrupt = {str(path): reason for path, reason in check.corrupt.items()}
    return {"dataset": check.dataset, "root": str(check.root), "sequences": sequences, "corrupt": corrupt}


def to_markdown(check: DatasetCheck, pictures: dict[str, list[tuple[str, str]]]) -> str:
    """A page: what was found first, then a table of measures, then pictures."""
    lines = [f"# {check.dataset}: {check.root}", ""]
    lines.append(
        f"{len(check.sequences)} sequences, {len(check.findings)} findings, {len(check.corrupt)} corrupt files."
    )
    lines += ["", *(f"- **{name}**: {finding}" for name, finding in check.findings)]
    lines += [f"- corrupt: {reason}" for reason in check.corrupt.values()]
    lines += ["", "| sequence | frames | depth | overlap | off pixel | own time | floating | findings |"]
    lines.append("| --- " * 8 + "|")
    lines += [_row(one) for one in check.sequences]
    lines += [
        "",
        "depth: median relative difference of depth carried from frame to frame. overlap: share of pixels seen in "
        "both. off pixel: how far points project from their pixels. own time: median relative distance of tracked "
        "points from depth. floating: share of moved points nearer than what the target frame sees.",
    ]
    for name, views in pictures.items():
        lines += ["", f"## {name}", ""]
        for title, file in views:
            lines += [f"{title}: both frames, then relative error (red in front, blue behind, grey unknown)", ""]
            lines += [f"![{title}]({file})", ""]
    return "\n".join(lines) + "\n"


def draw(view: View) -> UInt8[np.ndarray, "height width 3"]:
    """First frame, second frame, and where the first one's points disagree with the second's depth."""
    step = max(1, -(-max(view.first.depth.shape) // MAX_SIDE))
    error = _colours(view.carried.error)
    error[~view.carried.seen.numpy()] = 96
    panels = [view.first.image.numpy(), view.second.image.numpy(), error]
    return np.concatenate([panel[::step, ::step] for panel in panels], axis=1)


def _colours(error: Float[Tensor, "height width"]) -> np.ndarray:
    """White where there is no error, red where points are in front, blue where they are behind."""
    strength = (error / FULL_ERROR).clamp(-1, 1).numpy()
    fade = 255 * (1 - np.abs(strength))
    red, blue = np.where(strength < 0, 255, fade), np.where(strength > 0, 255, fade)
    return np.stack((red, fade, blue), axis=-1).astype(np.uint8)


def _row(one: SequenceCheck) -> str:
    shown = [f"{one.measures.get('depth_disagreement', math.nan):.2%}", f"{one.measures.get('overlap', math.nan):.0%}"]
    shown.append(f"{one.measures.get('off_pixel', math.nan):.3f}")
    shown += [
        f"{one.measures[key]:.2%}" if key in one.measures else "-" for key in ("own_time_error", "floating_points")
    ]
    return f"| {one.name} | {one.num_frames} | {' | '.join(shown)} | {len(one.findings)} |".replace("nan%", "-")

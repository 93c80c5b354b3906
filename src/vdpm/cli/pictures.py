"""Preview and point clouds of a result, written into its folder and noted there."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vdpm.errors import UsageError
from vdpm.progress import Report, silent

if TYPE_CHECKING:
    from vdpm.structures import Reconstruction

PREVIEW_FILE = "preview.png"


def choose_clouds(wanted: str | list[int], targets: Sequence[int], reference: int) -> list[int]:
    """Times to write a cloud for; 'auto': the reference frame's, or the first. Raises UsageError for one not kept."""
    if wanted == "none" or not targets:
        if isinstance(wanted, list):
            raise UsageError(f"--ply {wanted[0]}: no time is kept with --targets none; ask for --targets {wanted[0]}")
        return []
    if wanted == "all":
        return list(targets)
    if wanted == "auto":
        return [reference if reference in targets else targets[0]]
    frames = [frame for frame in wanted if isinstance(frame, int)]
    for frame in frames:
        if frame not in targets:
            raise UsageError(f"--ply {frame} is not among the targets; add it to --targets, or use --ply all")
    return frames


def write_pictures(
    reconstruction: "Reconstruction", folder: Path, clouds: Sequence[int], *, preview: bool, report: Report = silent
) -> list[Path]:
    """Write ``preview.png`` and ``points_t00004.ply`` for each of ``clouds``; returns the files."""
    from vdpm.archive import record_derived
    from vdpm.export.ply import write_ply
    from vdpm.export.preview import write_preview

    stage = "drawing and exporting"
    total = len(clouds) + preview
    files: list[Path] = []
    names = [f"points_t{target:05d}.ply" for target in clouds] + [PREVIEW_FILE] * preview
    # Noted first: a run that ends between the two leaves no file that overwriting would not remove.
    record_derived(folder, names)
    for target, name in zip(clouds, names):
        report(stage, len(files), total)
        write_ply(reconstruction, target, folder / name)
        files.append(folder / name)
    if preview:
        report(stage, len(files), total)
        write_preview(reconstruction, folder / PREVIEW_FILE)
        files.append(folder / PREVIEW_FILE)
    if total:
        report(stage, total, total)
    return files

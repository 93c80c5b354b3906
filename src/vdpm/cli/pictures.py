"""Preview and point clouds of a result, written into its folder and noted there."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vdpm.errors import UsageError
from vdpm.progress import Report, silent

if TYPE_CHECKING:
    from vdpm.structures import Reconstruction

PREVIEW_FILE = "preview.png"


def choose_clouds(wanted: str | list[int], targets: Sequence[int], reference: int) -> list[int | None]:
    """Times to write a cloud for; None stands for each frame at its own time. Raises UsageError for a time not kept.

    'auto' is the reference frame's time, or the first kept, or the frames' own where none is kept.
    """
    if wanted == "none":
        return []
    if wanted == "auto":
        return [reference if reference in targets else targets[0] if targets else None]
    if wanted == "all":
        return [*targets] or [None]
    frames = [frame for frame in wanted if isinstance(frame, int)]
    for frame in frames:
        if frame not in targets:
            raise UsageError(f"--ply {frame} is not among the targets; add it to --targets, or use --ply all")
    return [*frames]


def write_pictures(
    reconstruction: "Reconstruction",
    folder: Path,
    clouds: Sequence[int | None],
    *,
    preview: bool,
    report: Report = silent,
) -> list[Path]:
    """Write ``preview.png`` and ``points_t00004.ply`` for each of ``clouds``; returns the files."""
    from vdpm.archive import record_derived
    from vdpm.export.ply import write_ply
    from vdpm.export.preview import write_preview

    stage = "drawing and exporting"
    names = [PREVIEW_FILE] * preview + [_cloud_file(target) for target in clouds]
    # Noted first: a run that ends between the two leaves no file that overwriting would not remove.
    record_derived(folder, names)
    if preview:
        report(stage, 0, len(names))
        write_preview(reconstruction, folder / PREVIEW_FILE)
    for done, target in enumerate(clouds, start=int(preview)):
        report(stage, done, len(names))
        write_ply(reconstruction, target, folder / _cloud_file(target))
    if names:
        report(stage, len(names), len(names))
    return [folder / name for name in names]


def _cloud_file(target: int | None) -> str:
    return "points_own_times.ply" if target is None else f"points_t{target:05d}.ply"

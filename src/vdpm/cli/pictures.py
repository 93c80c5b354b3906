"""Preview and point clouds of a result, written into its folder and noted there."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vdpm.errors import UsageError
from vdpm.progress import Report, silent

if TYPE_CHECKING:
    from vdpm.structures import Reconstruction, Video

PREVIEW_FILE = "preview.png"
PREVIEW_BYTES, PREVIEW_FRAME_BYTES = 600e3, 180e3
"""Of the preview, and for each frame that it shows. What is in the pictures decides: of seven clips, 14 previews of 6
frames took 0.77 to 1.14 of this, and 7 of 3 frames at no other times 0.93 to 1.29."""
PREVIEW_SECONDS, PREVIEW_SIDE = 0.25, 3.5e-3
"""On one thread, for each frame that the preview shows and for each pixel of its side (were it square)."""
ONE_TIME = 0.7
"""Share of both that is left where no other times are shown."""
MAP_PIXEL = 1e-7
"""Seconds to read a pixel of a map, for a cloud or the summary."""


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


def pictures_cost(
    video: "Video", sources: Sequence[int], targets: Sequence[int], clouds: Sequence[int | None], *, preview: bool
) -> tuple[float, float]:
    """Bytes and seconds of what ``write_pictures`` will write, with the seconds of the summary, of a result that keeps
    ``sources`` and ``targets``. Clouds may take less: which pixels are sky and edges of depth is not known before.
    """
    from vdpm.export.ply import DROP_PERCENT, MAX_POINTS, ROW
    from vdpm.export.preview import MAX_COLUMNS

    height, width = video.size
    shown, drawn = min(len(sources), MAX_COLUMNS), preview * (1.0 if targets else ONE_TIME)
    stride = math.ceil(math.sqrt(max(1.0, len(sources) * height * width / MAX_POINTS)))
    content = int(video.transform.content_mask()[::stride, ::stride].sum())
    points = (1 - DROP_PERCENT / 100) * len(sources) * content * len(clouds)
    # Of a cloud those of its time, and P twice: for sky and for edges.
    maps = len(sources) * (3 * len(clouds) + 1 + len(targets))
    seconds = drawn * shown * (PREVIEW_SECONDS + PREVIEW_SIDE * math.sqrt(height * width))
    size = drawn * (PREVIEW_BYTES + PREVIEW_FRAME_BYTES * shown) + points * ROW.itemsize
    return size, seconds + maps * height * width * MAP_PIXEL


def _cloud_file(target: int | None) -> str:
    return "points_own_times.ply" if target is None else f"points_t{target:05d}.ply"

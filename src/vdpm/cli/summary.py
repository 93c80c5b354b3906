"""What was done, in a table, and what to type next."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vdpm.errors import OutputError

if TYPE_CHECKING:
    from vdpm.clip_reconstruct import Plan
    from vdpm.long_reconstruct import LongPlan
    from vdpm.structures import Reconstruction


def print_table(title: str, rows: Sequence[tuple[str, ...]]) -> None:
    """Columns on standard output, plain where that is no terminal."""
    console = Console()
    plain = not console.is_terminal
    # Lines wrapped at 80 columns would not be found again in a file or pipe.
    console = Console(width=1000) if plain else console
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True, style="dim")
    for _ in rows[0][1:]:
        table.add_column(overflow="fold")
    for row in rows:
        table.add_row(row[0], *(escape(value) for value in row[1:]))
    with console.capture() as drawn:
        console.print(f"[bold]{escape(title)}[/bold]", highlight=False)
        console.print(table)
    text = drawn.get()
    print("\n".join(line.rstrip() for line in text.splitlines()) if plain else text, end="\n" if plain else "")


def print_plans(
    plans: Sequence["Plan | LongPlan"],
    outputs: Sequence[Path],
    clouds: Sequence[Sequence[int | None]],
    *,
    preview: bool,
    trial: bool,
) -> None:
    """Windows, memory, disk and time of each plan, before it runs. ``clouds``: of each, as in ``write_pictures``.
    ``trial``: try a few frames to tell the time.
    """
    from vdpm.cli.pictures import pictures_cost
    from vdpm.long_reconstruct import LongPlan
    from vdpm.reconstruct import cut_off

    for plan, output, times in zip(plans, outputs, clouds):
        left: list[tuple[str, str]] = []
        if isinstance(plan, LongPlan):
            there, said = _left(plan, output)
            left = [("", said)] * bool(said)
            forecast = plan.forecast(trial=trial, there=there)
        else:
            forecast = plan.forecast(trial=trial)
        occupied = cut_off(output)
        files = pictures_cost(plan.video, plan.sources, plan.targets, times, preview=preview)
        rows = [
            ("frames", f"{len(plan.video)}, {plan.video.size[1]} x {plan.video.size[0]} pixels"),
            *(("windows" if number == 0 else "", line) for number, line in enumerate(plan.lines())),
            *left,
            ("will take", forecast.with_files(*files).line()),
            ("result", f"{output}, which {occupied}" if occupied else str(output)),
        ]
        print_table(f"{plan.video.name}: plan", rows)


def _left(plan: "LongPlan", output: Path) -> tuple[tuple[int, ...], str]:
    """Windows that an interrupted run left, and a line about them."""
    try:
        there = plan.finished(output)
    except OutputError as error:
        return (), str(error)
    if there is None:
        return (), ""
    made, count = len(there), len(plan.windows)
    return there, f"{made} of these {count} are there from an interrupted run, {count - made} are to be made"


def print_summary(reconstruction: "Reconstruction", folder: Path, files: Sequence[Path]) -> None:
    """The summary of ``vdpm reconstruct``."""
    made_by = reconstruction.provenance
    rows = [
        ("frames", _frames(reconstruction)),
        *(("" if number else "reading", note) for number, note in enumerate(made_by.get("reading", ()))),
        ("model", model_line(made_by)),
        ("time", ", ".join(f"{step} {seconds:.1f} s" for step, seconds in made_by["seconds"].items())),
        ("memory", _memory(made_by)),
        ("cameras", _cameras(reconstruction)),
        ("confidence", _confidence(reconstruction)),
        ("moving", _moving(reconstruction)),
        ("result", f"{folder} ({size_of(folder)})"),
        *(("", str(file)) for file in files),
    ]
    print_table(f"{reconstruction.name}: done", rows)
    print()
    name = shlex.quote(str(folder))
    print(f"Next: vdpm page {name} writes a page to look around in; vdpm view {name} shows it live; vdpm info {name}")
    loaded = f"import vdpm; result = vdpm.load({str(folder)!r}); print(result.maps.time_variant(0).points.shape)"
    print(f'  or: python -c "{loaded}"')


def _frames(reconstruction: "Reconstruction") -> str:
    height, width = reconstruction.size
    first, last = float(reconstruction.timestamps[0]), float(reconstruction.timestamps[-1])
    padded = 100 * (1 - float(reconstruction.content.float().mean()))
    note = f", {padded:.0f} % of each padding" if padded >= 0.5 else ""
    return f"{len(reconstruction)} from {first:.2f} s to {last:.2f} s, {width} x {height} pixels{note}"


def model_line(made_by: dict[str, Any]) -> str:
    """Network and device of a result, from its provenance."""
    mirrored = ", mean with the mirrored clip" if made_by.get("mirrored") else ""
    return f"{made_by['model']} ({made_by['fingerprint']}) on {made_by['device']}, {made_by['dtype']}{mirrored}"


def _memory(made_by: dict[str, object]) -> str:
    parts = [f"{made_by['memory_mb']} MB at most"] if "memory_mb" in made_by else []
    if "device_memory_mb" in made_by:
        parts.append(f"{made_by['device_memory_mb']} MB on the device")
    return ", ".join(parts) or "not told by this system"


def _cameras(reconstruction: "Reconstruction") -> str:
    from vdpm.geometry.pinhole import fov_from_intrinsics

    centers = reconstruction.cameras.centers
    path = float((centers[1:] - centers[:-1]).norm(dim=-1).sum())
    rotation = reconstruction.cameras.c2w[..., :3, :3]
    turn = (rotation[0].T @ rotation[-1]).diagonal().sum()
    degrees = float(((turn - 1) / 2).clamp(-1, 1).arccos().rad2deg())
    _, horizontal = fov_from_intrinsics(reconstruction.cameras.intrinsics, reconstruction.size)
    fov = float(horizontal.median().rad2deg())
    by = f", {said}" if (said := reconstruction.provenance.get("cameras")) else ""
    return f"path {path:.3f} units, first to last turned by {degrees:.1f} deg, field of view {fov:.0f} deg{by}"


def _confidence(reconstruction: "Reconstruction") -> str:
    content = reconstruction.content
    values = [reconstruction.maps.time_variant(source).confidence[content] for source in reconstruction.maps.sources]
    return f"{float(sum(v.mean() for v in values)) / len(values):.2f} on average (1 is the least)"


def _moving(reconstruction: "Reconstruction") -> str:
    from vdpm.motion import motion_mask

    maps = reconstruction.maps
    known = [source for source in maps.sources if {*maps.together(source)} - {source}]
    if not known:
        return "not known: no time other than a frame's own is kept"
    content = reconstruction.content
    shares = [float(motion_mask(reconstruction, source)[content].float().mean()) for source in known]
    return f"{100 * sum(shares) / len(shares):.1f} % of pixels move in the world"


def size_of(path: Path) -> str:
    """Of a file, or of all files of a folder."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    count = sum(file.stat().st_size for file in files)
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"

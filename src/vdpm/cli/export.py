"""``vdpm export``: a saved result in the formats of other programs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vdpm.cli.arguments import beside, parse_frames
from vdpm.cli.summary import print_table, size_of
from vdpm.errors import UsageError
from vdpm.progress import terminal_progress


@dataclass(frozen=True)
class Export:
    """Write a saved result in another program's format, without running the network again."""

    folder: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="DIR")]]
    """A folder written by vdpm reconstruct."""

    to: Annotated[str, tyro.conf.arg(metavar="FORMAT")]
    """Format to write: ply (clouds, a file for each time), glb (animated points, camera), usd (points, velocities,
    camera, tracks), colmap (still points, cameras, images, masks; gsplat), exr (depth, position), depth-png (16 bit),
    npz (all of it, NumPy), rrd (Rerun), tapvid3d (tracks), tum (trajectory), nuke (camera, .chan), blender (script),
    cameras (JSON). docs/exports.md says how to open each."""

    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="OUT")] = None
    """File or folder to write; without it, DIR_FORMAT beside DIR."""

    min_confidence: Annotated[float | None, tyro.conf.arg(metavar="C")] = None
    """Leave out points less sure than this; 1 is the least that occurs."""

    drop_percent: Annotated[float | None, tyro.conf.arg(metavar="PERCENT")] = None
    """Leave out this share of each frame's pixels, the least sure ones; 10 where not given."""

    drop_sky: bool = False
    """Leave out what the network takes for sky: pixels that are very far and in doubt."""

    drop_edges: bool = False
    """Leave out pixels on edges of depth, most of which hang in the air between two things."""

    stride: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Take every Nth pixel in x and y; where not given, the smallest N that keeps to --max-points."""

    max_points: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """At most so many points at a time; where not given 100,000 (glb, usd), 50,000 (colmap), 200,000 (rrd),
    4,000,000 (ply), and fewer over more than 50 times (25 of rrd)."""

    start: Annotated[float | None, tyro.conf.arg(metavar="SECONDS")] = None
    """Begin at this time of the video, in seconds."""

    end: Annotated[float | None, tyro.conf.arg(metavar="SECONDS")] = None
    """Stop at this time of the video, in seconds; a frame at this very time is included."""

    frames: Annotated[str | None, tyro.conf.arg(metavar="0,4,9")] = None
    """Times, cameras and images of these frames of the result alone. Points of all frames are shown at these times."""

    sources: Annotated[str | None, tyro.conf.arg(metavar="0,4,9")] = None
    """Only the pixels of these frames become points (ply, glb, usd, colmap, rrd)."""

    axes: Literal["opencv", "opengl", "y-up", "blender"] | None = None
    """Axes of the world: opencv (y down, z forward), opengl or y-up (y up, z backward), blender (z up, y forward).
    Where not given, the format's usual ones."""

    scale: Annotated[float | None, tyro.conf.arg(metavar="FACTOR")] = None
    """Multiply all lengths by this, for instance by metres over the result's unit."""

    tracks: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """At most so many tracks (usd, rrd, tapvid3d); 1000 where not given."""

    track_source: Annotated[int | None, tyro.conf.arg(metavar="FRAME")] = None
    """The frame whose pixels the tracks start from; the reference where not given."""

    first_frame: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Number of the video's first frame in a program that counts frames (usd, nuke, blender, cameras); 1 where not
    given."""

    overwrite: bool = False
    """Replace what an earlier export left at OUT."""

    def run(self) -> None:
        from vdpm.archive import load
        from vdpm.export.extras import require
        from vdpm.export.formats import check_options, check_place, choose_axes, export, find_format
        from vdpm.export.options import ExportOptions

        given = {name: value for name, value in vars(self).items() if value is not None and value is not False}
        given = {name: value for name, value in given.items() if name not in ("folder", "to", "output", "overwrite")}
        check_options(self.to, frozenset(given))
        for name in {"frames", "sources"} & set(given):
            given[name] = tuple(parse_frames(given[name], f"--{name}", words=()))
        options = ExportOptions(**given)
        choose_axes(self.to, options.axes)
        reconstruction = load(self.folder)
        form = find_format(self.to)
        output = self.output
        if output is None:
            output = beside(self.folder, f"_{self.to}{form.suffixes[0] if form.suffixes else ''}")
        elif output.resolve() == self.folder.resolve():
            raise UsageError(f"{output}: is the result itself; choose another place")
        check_place(self.to, output, self.overwrite)
        if form.extra is not None:
            require(*form.extra)
        with terminal_progress() as report:
            done = export(reconstruction, self.to, output, options, overwrite=self.overwrite, report=report)

        rows = [("" if number else "holds", line) for number, line in enumerate(done.lines)]
        rows.append(("axes", str(done.said["world_axes"])))
        rows.append(("unit", str(done.said["length_unit"])))
        if reconstruction.provenance.get("state") == "partial":
            rows.append(("state", "the result is partial: times that were not finished are missing"))
        rows.append(("written", f"{done.path} ({size_of(done.path)})"))
        print_table(f"{reconstruction.name} as {self.to}: done", rows)

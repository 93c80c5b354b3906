"""``vdpm page``: a result as one HTML file that opens anywhere."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vdpm.cli.arguments import beside, check_file
from vdpm.cli.summary import print_table, size_of
from vdpm.progress import terminal_progress


@dataclass(frozen=True)
class Page:
    """Write a result as one HTML file: the points at every time, trails, cameras and frames, and controls to look at
    them. It opens by double click, without a network, in any browser with WebGL 2.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """A folder written by vdpm reconstruct."""

    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE.html")] = None
    """The page; without it, DIR.html beside DIR. One that exists is kept unless --overwrite is given."""

    points: Annotated[int, tyro.conf.arg(metavar="N")] = 200_000
    """At most so many points, spread evenly over the pixels of all frames. The file grows with it."""

    frames: Annotated[int, tyro.conf.arg(metavar="N")] = 48
    """At most so many frames and times, spread evenly over the result; 64 at most."""

    min_confidence: Annotated[float, tyro.conf.arg(metavar="C")] = 1.0
    """Leave out points that are less sure. 1 is the least that occurs."""

    hide: Annotated[float, tyro.conf.arg(metavar="PERCENT")] = 20.0
    """Share of the least sure points that is hidden when the page opens; a slider shows them."""

    overwrite: bool = False
    """Replace a file that exists."""

    def run(self) -> None:
        from vdpm.archive import load
        from vdpm.viewer.page import write_page

        output = beside(self.folder, ".html") if self.output is None else self.output
        check_file(output, self.overwrite, (".html", ".htm"))
        with terminal_progress() as report:
            made = write_page(
                load(self.folder),
                output,
                max_points=self.points,
                max_frames=self.frames,
                min_confidence=self.min_confidence,
                hide_percent=self.hide,
                report=report,
            )
        print_table(
            f"{output}: {size_of(output)}",
            [
                ("points", f"{made.still:,} still, {made.moving:,} moving at {made.times} times"),
                ("confidence", f"opens with points below {made.least_shown:.2f} hidden"),
                *([("left out", f"{made.left_out:,} points far outside of the scene")] if made.left_out else []),
            ],
        )
        print()
        print(f"Open {output} in a browser; it needs nothing beside itself.")

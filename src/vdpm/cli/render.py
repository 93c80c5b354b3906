"""``vdpm render``: a film of a result, drawn without a display."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vdpm.cli.arguments import beside, check_file
from vdpm.cli.summary import print_table, size_of
from vdpm.progress import terminal_progress


@dataclass(frozen=True)
class Render:
    """Write a film of a result (.mp4, .webm), or a sheet of twelve pictures of it (.png); no display is needed.

    While the camera moves, the clip plays once, with straight motion between the times that the result keeps.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """A folder written by vdpm reconstruct."""

    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None
    """The film (.mp4 is H.264, .webm VP9) or sheet (.png); without it, DIR.mp4 beside DIR. One that exists is kept
    unless --overwrite is given."""

    show: Literal["points", "depth", "motion"] = "points"
    """Points from any camera, or the frames' depth, or their motion to the next time, as the video's camera sees it."""

    camera: Annotated[str | None, tyro.conf.arg(metavar="turntable|swing|input|FILE.json")] = None
    """Once around the scene (turntable, where nothing is given), to both sides of the reference camera (swing), through
    the video's own cameras (input), or along a path from a file (docs/viewer.md)."""

    seconds: Annotated[float | None, tyro.conf.arg(metavar="SECONDS")] = None
    """Length of the film; without it that of the clip, at least 4 and at most 20."""

    fps: Annotated[float, tyro.conf.arg(metavar="FPS")] = 24.0
    """Pictures a second."""

    size: Annotated[int, tyro.conf.arg(metavar="PIXELS")] = 1280
    """Long side of the picture."""

    at: Annotated[int | None, tyro.conf.arg(metavar="FRAME")] = None
    """Hold the time of this frame instead of playing the clip."""

    beside: bool = False
    """Put the video's frame to the left of the picture."""

    background: Literal["dark", "white"] = "dark"
    """Behind the points."""

    points: Annotated[int, tyro.conf.arg(metavar="N")] = 1_000_000
    """At most so many points, spread evenly over the pixels of all frames."""

    min_confidence: Annotated[float, tyro.conf.arg(metavar="C")] = 1.0
    """Leave out points that are less sure. 1 is the least that occurs."""

    hide: Annotated[float, tyro.conf.arg(metavar="PERCENT")] = 20.0
    """Leave out this share of the points, the least sure ones."""

    overwrite: bool = False
    """Replace a file that exists."""

    def run(self) -> None:
        from vdpm.archive import load
        from vdpm.viewer.film import CODECS
        from vdpm.viewer.render import SHEET, FilmOptions, render

        options = FilmOptions(
            show=self.show,
            camera=self.camera,
            seconds=self.seconds,
            fps=self.fps,
            size=self.size,
            at=self.at,
            beside=self.beside,
            dark=self.background == "dark",
            max_points=self.points,
            min_confidence=self.min_confidence,
            hide_percent=self.hide,
        )
        output = beside(self.folder, ".mp4") if self.output is None else self.output
        check_file(output, self.overwrite, (*CODECS, SHEET))
        with terminal_progress() as report:
            count = render(load(self.folder), output, options, report=report)
        print_table(f"{output}: {size_of(output)}", [("pictures", str(count)), ("shows", self.show)])

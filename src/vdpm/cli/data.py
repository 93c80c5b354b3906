"""``vdpm data check``: whether the ground truth of a data set holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vdpm.errors import VDPMError


@dataclass(frozen=True)
class Data:
    """Hold a data set's ground truth against itself: depth carried from frame to frame, directions of poses, axes, half
    pixels, motion against what the target frame sees, times, missing and doubled frames. Exit code 1 if it finds any.
    """

    action: tyro.conf.Positional[Literal["check"]]
    """check is all there is."""

    root: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="DIR")]]
    """Folder of the data set."""

    dataset: Annotated[str, tyro.conf.arg(metavar="NAME")] = "snippets"
    """snippets (our own folders), 7scenes, blendedmvs, bonn, kubric, pointodyssey, scannetpp, sintel, tum or waymo."""

    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="DIR")] = None
    """Folder for a report with pictures."""

    sequences: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Check this many sequences, the first; all where not given."""

    frames: Annotated[int, tyro.conf.arg(metavar="N")] = 32
    """Frames read of each sequence, from its middle."""

    pairs: Annotated[int, tyro.conf.arg(metavar="N")] = 4
    """Pairs of frames whose depth and motion are compared."""

    gap: Annotated[int, tyro.conf.arg(metavar="N")] = 5
    """Frames from one of a pair to the other."""

    undistort: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Rid pictures and depth of bonn and tum of the lens's distortion first."""

    max_corrupt: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 0.05
    """Give up above this share of corrupt files."""

    def run(self) -> None:
        from vdpm.data.checks import check_dataset, check_report_folder, write_report
        from vdpm.progress import terminal_progress

        if self.output is not None:
            check_report_folder(self.output)  # rather now than after the check
        with terminal_progress() as report:
            check = check_dataset(
                self.dataset,
                self.root,
                sequences=self.sequences,
                pairs=self.pairs,
                gap=self.gap,
                frames=self.frames,
                max_corrupt=self.max_corrupt,
                undistort=self.undistort,
                progress=report,
            )
        for name, finding in check.findings:
            print(f"{name}: {finding}")
        for reason in check.corrupt.values():
            print(f"corrupt: {reason}")
        for one in check.sequences[:20]:
            measures = ", ".join(f"{key} {value:.4g}" for key, value in one.measures.items())
            print(f"{one.name}: {one.num_frames} frames, {measures}")
        if self.output is not None:
            print(f"{write_report(check, self.output)}: the report, with pictures")
        wrong = len(check.findings) + len(check.corrupt)
        found = "1 finding" if wrong == 1 else f"{wrong} findings"
        print(f"{self.root}: {len(check.sequences)} sequences of {self.dataset}, {found}")
        if wrong:
            raise VDPMError(f"{self.root}: {found}; see above, mend the data or leave these sequences out")

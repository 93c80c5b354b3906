"""``vdpm info``: what a result folder holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Info:
    """Tell what a result folder holds: frames, times kept, cameras, conventions, and what made it."""

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """A folder written by vdpm reconstruct."""

    def run(self) -> None:
        from vdpm.archive import describe

        print("\n".join(describe(self.folder).lines()))

"""Readers of data sets, one file each; all give sequences from which the same snippets are cut."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from vdpm.data.quarantine import Quarantine
from vdpm.data.readers.blended_mvs import open_blended_mvs
from vdpm.data.readers.bonn import open_bonn
from vdpm.data.readers.kubric import open_kubric
from vdpm.data.readers.pointodyssey import open_pointodyssey
from vdpm.data.readers.scannetpp import open_scannetpp
from vdpm.data.readers.seven_scenes import open_seven_scenes
from vdpm.data.readers.sintel import open_sintel
from vdpm.data.readers.snippet_folders import open_snippets
from vdpm.data.readers.tum import open_tum
from vdpm.data.readers.waymo import open_waymo
from vdpm.data.sequence import DataSequence
from vdpm.errors import UsageError

READERS: dict[str, Callable[[Path, Quarantine | None], list[DataSequence]]] = {
    "7scenes": open_seven_scenes,
    "blendedmvs": open_blended_mvs,
    "bonn": open_bonn,
    "kubric": open_kubric,
    "pointodyssey": open_pointodyssey,
    "scannetpp": open_scannetpp,
    "sintel": open_sintel,
    "snippets": open_snippets,
    "tum": open_tum,
    "waymo": open_waymo,
}
"""By the name that ``--dataset`` takes."""
_UNDISTORTED = {"bonn": partial(open_bonn, undistort=True), "tum": partial(open_tum, undistort=True)}
"""Those that are read as they were taken unless told otherwise."""


def open_dataset(
    name: str, root: Path | str, quarantine: Quarantine | None = None, undistort: bool = False
) -> list[DataSequence]:
    """The sequences of the data set ``name`` under ``root``; corrupt ones go to the ``quarantine``, if there is one.

    ``undistort``: rid pictures and depth of the lens's distortion, which the readers of bonn and tum leave as it is.
    Raises UsageError for an unknown name, or for one of which that cannot be asked; InputError where there are none.
    """
    if name not in READERS:
        raise UsageError(f"data set {name!r} is unknown; choose from {', '.join(READERS)}")
    if undistort and name not in _UNDISTORTED:
        raise UsageError(f"--undistort is for {' and '.join(_UNDISTORTED)}; {name} has no distortion left in it")
    return (_UNDISTORTED if undistort else READERS)[name](Path(root), quarantine)


__all__ = ["READERS", "open_dataset"]

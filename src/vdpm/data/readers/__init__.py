"""Readers of data sets, one file each; all give sequences from which the same snippets are cut."""

from collections.abc import Callable
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


def open_dataset(name: str, root: Path | str, quarantine: Quarantine | None = None) -> list[DataSequence]:
    """The sequences of the data set ``name`` under ``root``; corrupt ones go to the ``quarantine``, if there is one.

    Raises UsageError for an unknown name, InputError where there are none.
    """
    if name not in READERS:
        raise UsageError(f"data set {name!r} is unknown; choose from {', '.join(READERS)}")
    return READERS[name](Path(root), quarantine)


__all__ = ["READERS", "open_dataset"]

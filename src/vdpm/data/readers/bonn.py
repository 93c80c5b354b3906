"""Bonn's dynamic RGB-D sequences: TUM's layout with a camera of their own.

    rgbd_bonn_<name>/{rgb.txt,depth.txt,groundtruth.txt,rgb/,depth/}

Depth is what evaluations take from it. Of poses beware: ``groundtruth.txt`` is read as camera-to-world, but the body
that was tracked is not exactly the camera (the authors' own scripts correct it by a rough calibration, which is no
rigid motion), so that ``vdpm data check`` may find that depth does not carry over between frames far apart.
"""

from functools import partial
from pathlib import Path

from vdpm.data.quarantine import Quarantine, open_each
from vdpm.data.readers.tum import MAX_GAP, RGBDCamera, RGBDSequence, rgbd_folders
from vdpm.data.sequence import DataSequence

CALIBRATION = (542.822841, 542.576870, 315.593520, 237.756098, 0.039903, -0.099343, -0.000730, -0.000144, 0.0)
"""Of the colour camera, from the data set's page, as TUM's ``Calibration``."""


def open_bonn(
    root: Path, quarantine: Quarantine | None = None, max_gap: float = MAX_GAP, undistort: bool = False
) -> list[DataSequence]:
    """The sequences under ``root``, or the one that it is. Raises InputError where there are none."""
    camera = RGBDCamera(CALIBRATION, undistort)
    return open_each([partial(RGBDSequence, folder, camera, max_gap) for folder in rgbd_folders(root)], quarantine)

"""Data sets on disk in their own formats, made of one small clip by the writers that the readers are tested with."""

import sys
from pathlib import Path

import pytest

from fixtures.outcome import Outcome, Run
from vdpm.cli import main

sys.path.append(str(Path(__file__).parents[1] / "data"))

SMALL = {
    "two-view": ("--margins", 2, 4),
    "tracking": ("--frames", 5, "--stride", 1),
    "video-depth": (),
    "camera-pose": (),
}
"""Options that fit data sets of five frames."""


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with kubric, sintel, bonn, tum, 7scenes, pointodyssey and waymo in it."""
    from native.kubric import closed_scene, write_kubric_folder
    from native.pointodyssey import write_pointodyssey
    from native.rgbd import write_seven_scenes, write_tum
    from native.scenes import clip, still_clip
    from native.sintel import write_sintel
    from native.waymo import driving_clip, write_waymo

    root = tmp_path_factory.mktemp("data sets")
    for number in range(2):
        write_kubric_folder(root / "kubric" / f"{number:04d}", closed_scene())
    write_sintel(root / "sintel", clip())
    write_tum(root / "bonn" / "rgbd_bonn_balloon2", clip())
    write_tum(root / "tum" / "rgbd_dataset_freiburg3_walking_xyz", clip())
    write_seven_scenes(root / "7scenes" / "chess" / "seq-01", still_clip())
    write_pointodyssey(root / "pointodyssey" / "test" / "walk", clip())
    write_waymo(root / "waymo" / "segment-1_with_camera_labels.tfrecord", driving_clip())
    return root


@pytest.fixture
def evaluate(capsys: pytest.CaptureFixture[str], data_root: Path) -> Run:
    """``evaluate(table, dataset, ...)`` on the small data sets."""

    def call(table: str, dataset: str, *words: object) -> Outcome:
        capsys.readouterr()
        where = ("--data", data_root / dataset, "--dataset", dataset, *SMALL[table])
        code = main(["evaluate", table, *map(str, (*where, *words))])
        return Outcome(code, *capsys.readouterr())

    return call

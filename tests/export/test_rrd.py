"""A Rerun recording read back by Rerun; runs where rerun-sdk (170 MB) is installed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.sided_scene import SIZE
from fixtures.sides import check_picture, check_world
from vdpm.export.axes import Axes, turn_points
from vdpm.export.formats import export
from vdpm.export.options import ExportOptions
from vdpm.motion import fuse, project_to
from vdpm.structures import Reconstruction

pytest.importorskip("rerun", reason="rerun-sdk is not installed: pip install 'vdpm[rerun]'")


def rows(path: Path, entity: str, component: str) -> list[tuple[int | None, np.ndarray]]:
    """Frame number (None: at all times) and values of a component, in order of time."""
    from rerun.chunk import RrdReader

    found: list[tuple[int | None, np.ndarray]] = []
    for chunk in RrdReader(str(path)).stream():
        if str(chunk.entity_path) != entity:
            continue
        table: Any = chunk.to_record_batch()
        names = [name for name in table.schema.names if name.endswith(component)]
        if not names:
            continue
        frames = table["frame"].to_pylist() if "frame" in table.schema.names else [None] * table.num_rows
        for frame, value in zip(frames, table[names[0]].to_pylist()):
            if value is not None:
                found.append((frame, np.array(value)))
    return sorted(found, key=lambda row: -1 if row[0] is None else row[0])


@pytest.mark.parametrize("axes", ["opencv", "y-up", "blender"])
def test_points_and_cameras_at_every_time(scene: Reconstruction, tmp_path: Path, axes: Axes) -> None:
    path = tmp_path / "a.rrd"
    export(scene, "rrd", path, ExportOptions(axes=axes, scale=2.0, drop_percent=0.0, stride=1))
    positions = rows(path, "/world/points", "Points3D:positions")
    places = rows(path, "/world/camera", "Transform3D:translation")
    turns = rows(path, "/world/camera", "Transform3D:mat3x3")
    lenses = rows(path, "/world/camera", "Pinhole:image_from_camera")
    assert [frame for frame, _ in positions] == [frame for frame, _ in places] == [0, 1, 2]
    for time, (_, points) in enumerate(positions):
        truth = fuse(scene, time)
        assert np.allclose(points, turn_points(truth.points.numpy(), axes, 2.0), atol=1e-5)
        # Rerun stores matrices column by column.
        rotation, k = turns[time][1].reshape(3, 3).T, lenses[time][1].reshape(3, 3).T
        seen = (points - places[time][1].reshape(3)) @ rotation
        image = seen @ k.T
        pixels = image[:, :2] / image[:, 2:]
        assert np.allclose(pixels, project_to(scene, truth.points, time)[0].numpy(), atol=1e-3)
        if time == 0:
            mine = truth.source.numpy() == 0
            check_world(points / 2, truth.colors.numpy(), axes)
            check_picture(pixels[mine], seen[mine, 2], truth.colors.numpy()[mine], SIZE)
    ((frame, coordinates),) = rows(path, "/world", "ViewCoordinates:xyz")
    # Codes of rerun.components.ViewDir: up 1, down 2, right 3, left 4, forward 5, back 6.
    codes = {"opencv": [3, 2, 5], "y-up": [3, 1, 6], "blender": [3, 5, 1]}
    assert frame is None
    assert coordinates.ravel().tolist() == codes[axes]
    assert rows(path, "/world/tracks", "LineStrips3D:strips")

"""PLY files are read back by a parser that shares nothing with the writer."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures.moving_sphere import make_moving_sphere
from fixtures.sky import with_sky
from vdpm.errors import OutputError, UsageError
from vdpm.export.ply import write_ply, write_points
from vdpm.motion import fuse


def parse_ply(data: bytes) -> tuple[list[str], dict[str, list[float]]]:
    """Comments, and the columns of the vertices, by the header alone."""
    header, _, body = data.partition(b"end_header\n")
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = next(int(line.split()[2]) for line in lines if line.startswith("element vertex"))
    properties = [line.split()[1:] for line in lines if line.startswith("property")]
    row = struct.Struct("<" + "".join({"float": "f", "uchar": "B"}[kind] for kind, _ in properties))
    assert len(body) == count * row.size
    rows = list(row.iter_unpack(body))
    columns = {name: [values[k] for values in rows] for k, (_, name) in enumerate(properties)}
    return [line.removeprefix("comment ") for line in lines if line.startswith("comment")], columns


def test_points_colours_and_confidence_come_back(tmp_path: Path) -> None:
    points = torch.tensor([[1.5, -2.0, 3.25], [0.1, 0.2, 0.3]])
    colors = torch.tensor([[255, 0, 7], [1, 2, 3]], dtype=torch.uint8)
    write_points(tmp_path / "a.ply", points, colors, torch.tensor([1.0, 42.5]), ("two\nlines",))
    comments, columns = parse_ply((tmp_path / "a.ply").read_bytes())
    assert comments == ["two lines"]
    assert list(columns) == ["x", "y", "z", "red", "green", "blue", "confidence"]
    assert columns["x"] == [1.5, np.float32(0.1)]
    assert columns["y"] == [-2.0, np.float32(0.2)]
    assert columns["z"] == [3.25, np.float32(0.3)]
    assert (columns["red"], columns["green"], columns["blue"]) == ([255, 1], [0, 2], [7, 3])
    assert columns["confidence"] == [1.0, 42.5]


def test_no_points_make_a_valid_file(tmp_path: Path) -> None:
    write_points(tmp_path / "a.ply", torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.uint8), torch.zeros(0))
    _, columns = parse_ply((tmp_path / "a.ply").read_bytes())
    assert columns["x"] == []


@pytest.mark.parametrize("target", [2, None])
def test_a_result_becomes_the_fused_cloud(tmp_path: Path, target: int | None) -> None:
    result = make_moving_sphere(num_frames=3, size=(16, 24)).reconstruction
    count = write_ply(result, target, tmp_path / "a.ply", drop_percent=0.0, drop_sky=False, drop_edges=False)
    comments, columns = parse_ply((tmp_path / "a.ply").read_bytes())
    cloud = fuse(result, target)
    assert count == len(columns["x"]) == len(cloud.points)
    assert torch.allclose(torch.tensor([columns["x"], columns["y"], columns["z"]]).T, cloud.points)
    assert torch.equal(torch.tensor([columns["red"], columns["green"], columns["blue"]]).T, cloud.colors.long())
    text = "\n".join(comments)
    for words in ("x right, y down, z forward", "camera of the reference view", "arbitrary"):
        assert words in text


@pytest.mark.parametrize("target", [2, None])
def test_sky_and_edges_of_depth_are_left_out(tmp_path: Path, target: int | None) -> None:
    result = with_sky(make_moving_sphere(num_frames=3, size=(16, 24)).reconstruction)
    whole = fuse(result, target)
    clean = fuse(result, target, drop_sky=True, drop_edges=True)
    assert write_ply(result, target, tmp_path / "a.ply", drop_percent=0.0) == len(clean) < len(whole) - 3 * 4 * 24
    comments, _ = parse_ply((tmp_path / "a.ply").read_bytes())
    assert "left out: the least sure 0 % of each frame, sky, edges of depth" in comments


def test_a_time_that_is_not_kept(tmp_path: Path) -> None:
    result = make_moving_sphere(num_frames=3, size=(16, 24), targets=(0,)).reconstruction
    with pytest.raises(UsageError, match="target 2"):
        write_ply(result, 2, tmp_path / "a.ply")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write_points(tmp_path / "no" / "a.ply", torch.zeros(1, 3), torch.zeros(1, 3, dtype=torch.uint8), torch.ones(1))

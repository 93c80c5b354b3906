"""A snippet comes back as it was written; folders that are no snippet give one line."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from vdpm.data import read_snippet, write_snippet
from vdpm.errors import InputError, OutputError, UsageError
from vdpm.structures import Snippet
from vdpm.synthetic import SceneConfig, generate, held_out_seeds


@pytest.fixture(scope="module")
def snippet() -> Snippet:
    config = SceneConfig(num_frames=3, height=12, width=16, colour_samples=1)
    return generate(held_out_seeds(1, start=9), config, targets=torch.tensor([[2, 0]]), visible=True).clip(0)


@pytest.fixture
def folder(tmp_path: Path, snippet: Snippet) -> Path:
    return write_snippet(tmp_path / "clip", snippet, {"seed": 9})


def assert_same(read: Snippet, written: Snippet) -> None:
    for name, value in vars(written).items():
        if name == "images":
            assert torch.equal(read.images, (value * 255).round() / 255)
        elif isinstance(value, Tensor):
            assert torch.equal(getattr(read, name), value), name
            assert getattr(read, name).dtype == value.dtype, name
        else:
            assert getattr(read, name) == value, name


def test_written_and_read_back(folder: Path, snippet: Snippet) -> None:
    assert_same(read_snippet(folder), snippet)
    said = json.loads((folder / "snippet.json").read_text())
    assert said["source"] == {"seed": 9}
    assert said["conventions"]["c2w"] == "4 x 4, camera to world"
    assert np.load(folder / "target_points.npy", mmap_mode="r").shape == (2, 3, 12, 16, 3)
    assert [path.name for path in folder.parent.iterdir()] == ["clip"]


def test_optional_arrays_and_unknown_points(tmp_path: Path, snippet: Snippet) -> None:
    valid = snippet.valid.clone()
    valid[0, 0, 0] = False
    points, moved = snippet.points.clone(), snippet.target_points.clone()
    points[0, 0, 0], moved[:, 0, 0, 0] = float("nan"), float("inf")
    holes = replace(snippet, valid=valid, points=points, target_points=moved, instances=None, visible=None)
    read = read_snippet(write_snippet(tmp_path / "holes", holes))
    assert read.instances is None
    assert read.visible is None
    assert read.points[0, 0, 0].isnan().all()
    assert torch.equal(read.points[valid], points[valid])
    target_valid = valid.expand(2, -1, -1, -1).clone()
    target_valid[1, 2] = False
    sparse = replace(holes, target_valid=target_valid)
    read = read_snippet(write_snippet(tmp_path / "sparse", sparse))
    assert read.target_valid is not None
    assert torch.equal(read.target_valid, target_valid)


def test_without_targets(tmp_path: Path, snippet: Snippet) -> None:
    bare = replace(snippet, targets=snippet.targets[:0], target_points=snippet.target_points[:0], visible=None)
    assert_same(read_snippet(write_snippet(tmp_path / "bare", bare)), bare)


def test_what_may_not_be_written(tmp_path: Path, folder: Path, snippet: Snippet) -> None:
    with pytest.raises(OutputError, match="exists"):
        write_snippet(folder, snippet)
    batch = generate([3, 4], SceneConfig(num_frames=2, height=8, width=8, colour_samples=1))
    with pytest.raises(UsageError, match="a batch"):
        write_snippet(tmp_path / "batch", batch)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_snippet(tmp_path / "file" / "clip", snippet)
    with pytest.raises(TypeError):
        write_snippet(tmp_path / "odd", snippet, {"x": object()})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip", "file"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "x"}, "not a snippet"),
        ({"format_version": 2}, "upgrade"),
        ({"num_frames": 4}, "damaged|holds 3"),
        ({"num_frames": 10**9}, "'num_frames' is not"),
        ({"size": [16, 12]}, "damaged"),
        ({"size": [16384, 16384]}, "too large"),
        ({"targets": [2, 9]}, "'targets' is not"),
        ({"targets": [2]}, "damaged"),
        ({"timestamps": [0, 1]}, "'timestamps' holds 2"),
        ({"reference": 3}, "'reference' is not"),
        ({"arrays": ["c2w"]}, "'arrays' names"),
        ({"arrays": ["../../etc/passwd"]}, "'arrays' names"),
    ],
)
def test_false_words_give_one_line(folder: Path, change: dict, message: str) -> None:
    path = folder / "snippet.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message) as raised:
        read_snippet(folder)
    assert len(str(raised.value).splitlines()) == 1


def test_damaged_files_give_one_line(folder: Path, snippet: Snippet, tmp_path: Path) -> None:
    def expect(message: str) -> None:
        with pytest.raises(InputError, match=message) as raised:
            read_snippet(folder)
        assert len(str(raised.value).splitlines()) == 1

    points = (folder / "points.npy").read_bytes()
    for content, message in (
        (points[:-40], "damaged"),
        (b"not numpy", "not an array"),
        (b"", "empty"),
        (points[:20], "damaged"),
    ):
        (folder / "points.npy").write_bytes(content)
        expect(message)
    np.save(folder / "points.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    expect("not an array")
    np.save(folder / "points.npy", snippet.points.double().numpy())
    expect("<f8")
    np.savez(folder / "points.npz", a=1)
    os.replace(folder / "points.npz", folder / "points.npy")
    expect("an archive")
    bad = snippet.points.clone()
    bad[snippet.valid] = float("nan")
    np.save(folder / "points.npy", bad.numpy())
    expect("not finite")
    (folder / "points.npy").unlink()
    expect("no such file")
    os.mkfifo(folder / "points.npy")
    expect("pipe")
    (folder / "points.npy").unlink()
    (tmp_path / "elsewhere.npy").write_bytes(points)
    (folder / "points.npy").symlink_to(tmp_path / "elsewhere.npy")
    expect("a link")
    (folder / "points.npy").unlink()
    (folder / "points.npy").write_bytes(points)

    np.save(folder / "c2w.npy", 2 * snippet.c2w.numpy())
    expect("not a rigid motion")
    np.save(folder / "c2w.npy", snippet.c2w.numpy())
    np.save(folder / "intrinsics.npy", -snippet.intrinsics.numpy())
    expect("focal")
    np.save(folder / "intrinsics.npy", snippet.intrinsics.numpy())
    valid = (folder / "valid.npy").read_bytes()
    (folder / "valid.npy").write_bytes(valid[:-1] + b"\x07")
    expect("neither true nor false")
    (folder / "valid.npy").write_bytes(valid)
    (folder / "frames" / "00001.png").write_bytes(b"\x89PNG")
    expect("damaged image")
    (folder / "snippet.json").write_bytes(b"\xff{")
    expect("not valid JSON")


def test_what_is_no_snippet(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_snippet(tmp_path / "nothing")
    with pytest.raises(InputError, match="not a snippet"):
        read_snippet(tmp_path)

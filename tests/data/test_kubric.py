"""Kubric's reader, from folders and from TFRecord files, against the truth behind the files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from native.kubric import Scene, closed_scene, kubric_scene, write_kubric_folder, write_movi
from native.scenes import assert_is, assert_moved, clip

from vdpm.data.quarantine import CorruptFile, Quarantine
from vdpm.data.readers import open_dataset
from vdpm.data.readers.tfrecord import masked_crc, parse_example
from vdpm.structures import Snippet


@pytest.fixture(scope="module")
def scene() -> Scene:
    return closed_scene()


def assert_dynamic(snippet: Snippet, truth: Snippet) -> None:
    travel = (truth.target_points - truth.points).norm(dim=-1).amax(0)
    limit = 0.01 * float(truth.points[truth.valid].norm(dim=-1).mean())
    surely = truth.valid & ((travel - limit).abs() > 0.1 * limit)
    assert torch.equal(snippet.dynamic[surely], (travel > limit)[surely])
    assert 0.05 < snippet.dynamic.float().mean() < 0.95


def test_folders_are_the_truth(tmp_path: Path) -> None:
    """With sky, which Kubric says to be 1e10 away."""
    scene = kubric_scene(clip())
    write_kubric_folder(tmp_path / "0001", scene)
    (read,) = open_dataset("kubric", tmp_path)
    for frames, reference in (([0, 1, 2, 3, 4], 0), ([3, 0], 1)):
        snippet = read.snippet(frames, reference=reference)
        assert_is(snippet, clip(), frames)
        assert_moved(snippet, clip(), frames, clip().valid[frames].expand(len(frames), -1, -1, -1))
        assert torch.equal(snippet.instances, torch.from_numpy(scene.instances[frames]).long())
        assert torch.equal(snippet.sky, ~clip().valid[frames])
        assert snippet.timestamps.tolist() == pytest.approx([frame / 12 for frame in frames])
    assert_dynamic(read.snippet([0, 1, 2, 3, 4]), clip())


def test_records_are_the_truth(tmp_path: Path, scene: Scene) -> None:
    quantum = write_movi(tmp_path / "movi_f-validation.tfrecord-00000-of-00001", [scene, scene])
    scenes = open_dataset("kubric", tmp_path)
    assert [one.name[-2:] for one in scenes] == [":0", ":1"]
    frames = [1, 4, 0]
    snippet = scenes[1].snippet(frames, targets=[0, 2], reference=1)
    assert_is(snippet, scene.truth, frames, quantum)
    assert_moved(snippet, scene.truth, frames, torch.ones_like(snippet.target_valid), quantum)
    assert_dynamic(scenes[0].snippet([0, 1, 2, 3, 4]), scene.truth)


def test_pixels_whose_coordinates_belie_their_depth_are_unknown(tmp_path: Path, scene: Scene) -> None:
    shown = scene.instances[0] > 0
    row, column = (int(part[0]) for part in shown.nonzero())
    distance = scene.distance.copy()
    distance[0, row, column] *= 1.03
    write_kubric_folder(tmp_path / "0001", replace(scene, distance=distance))
    snippet = open_dataset("kubric", tmp_path)[0].snippet([0, 1])
    assert snippet.target_valid is not None
    assert snippet.valid.all()
    unknown = ~snippet.target_valid[1, 0]
    assert unknown.nonzero().tolist() == [[row, column]]


def test_a_scene_without_objects_stands_still(tmp_path: Path, scene: Scene) -> None:
    empty = replace(scene, boxes=scene.boxes[:0], instances=np.zeros_like(scene.instances))
    write_kubric_folder(tmp_path / "0001", empty)
    snippet = open_dataset("kubric", tmp_path)[0].snippet([0, 2], targets=[0])
    assert torch.equal(snippet.target_points[0], snippet.points)
    assert snippet.target_valid is not None
    assert snippet.target_valid.all()
    assert not snippet.dynamic.any()


def test_damaged_scenes_are_put_aside(tmp_path: Path, scene: Scene) -> None:
    for number in range(3):
        write_kubric_folder(tmp_path / f"{number:04d}", scene)
    broken = tmp_path / "0001" / "metadata.json"
    said = json.loads(broken.read_text())
    said["camera"]["positions"] = said["camera"]["positions"][:-1]
    broken.write_text(json.dumps(said))
    quarantine = Quarantine()
    assert [one.name for one in open_dataset("kubric", tmp_path, quarantine)] == ["0000", "0002"]
    assert list(quarantine.files) == [broken]
    assert "different numbers of frames" in quarantine.files[broken]
    coordinates = tmp_path / "0002" / "object_coordinates_00001.png"
    coordinates.write_bytes(coordinates.read_bytes()[:60])
    with pytest.raises(CorruptFile, match="damaged picture"):
        open_dataset("kubric", tmp_path, quarantine)[1].snippet([0, 1])


def test_damaged_records_are_named(tmp_path: Path, scene: Scene) -> None:
    path = tmp_path / "movi.tfrecord"
    write_movi(path, [scene])
    whole = path.read_bytes()

    def complaint(content: bytes) -> str:
        path.write_bytes(content)
        with pytest.raises(CorruptFile) as raised:
            open_dataset("kubric", tmp_path)[0].frame(0)
        assert raised.value.path == path
        return str(raised.value)

    assert "ends within" in complaint(whole[:-1])
    assert "checksum" in complaint(b"\1" + whole[1:])
    assert "checksum" in complaint(whole + b"\0" * 8)
    assert "no Example" in complaint(whole[:12] + b"\xff" * (len(whole) - 16) + whole[-4:])
    assert "has no 'depth'" in complaint(whole.replace(b"\x05depth", b"\x05dopth"))


def test_checksum_and_numbers_by_the_book() -> None:
    """CRC-32C of '123456789' is E3069283 (RFC 3720); -1 takes ten bytes."""
    crc = 0xE3069283
    assert masked_crc(b"123456789") == ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    packed = b"\x0a\x0b" + b"\xff" * 9 + b"\x01" + b"\x05"
    entry = b"\x0a\x01n\x12" + bytes([len(packed) + 2]) + b"\x1a" + bytes([len(packed)]) + packed
    message = b"\x0a" + bytes([len(entry)]) + entry
    message = b"\x0a" + bytes([len(message)]) + message
    assert parse_example(Path("x"), message)["n"].tolist() == [-1, 5]  # type: ignore[union-attr]

"""A result folder from a stranger: every damage is refused in one line, nothing is unpickled, no name is followed."""

import json
import os
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures.moving_sphere import make_moving_sphere
from vdpm.archive import describe, is_result, load, save
from vdpm.errors import InputError


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "out"
    save(make_moving_sphere(num_frames=2, size=(16, 24)).reconstruction, folder)
    return folder


@pytest.fixture
def result(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "out"))


def edit(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def refused(action: Callable[[], Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as caught:
        action()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


def read_all(folder: Path) -> None:
    maps = load(folder).maps
    for target in (None, *maps.targets):
        for source in maps.sources:
            maps.read(target, source)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format", "other", "not a vdpm result"),
        ("format_version", 3, "written in format 3 by vdpm '0.1.0', this one reads up to 2; upgrade"),
        ("format_version", "1", "'format_version' is not"),
        ("num_frames", 10**9, "'num_frames' is not a whole number"),
        ("num_frames", 3, "'timestamps' holds 2 entries"),
        ("num_frames", True, "'num_frames'"),
        ("size", [10**6, 24], "'size' is not"),
        ("size", [16, 25], "'size' is"),
        ("size", [16], "'size' holds 1"),
        ("timestamps", [0.0, None], "'timestamps'"),
        ("frame_indices", [0, -1], "'frame_indices'"),
        ("transform", {"scale": 1}, "'transform' is damaged"),
        ("reference", 2, "'reference'"),
        ("sources", [0, 0], "each at most once"),
        ("sources", [], "'sources' is empty"),
        ("targets", [5], "'targets'"),
        ("targets_wanted", [0], "'targets' holds frames that"),
        ("targets", [0], "'files' does not name"),
        ("state", "perhaps\x1b[2J", "'state' is"),
        ("package_version", 3, "'package_version' is not text"),
        ("provenance", [], "'provenance' is not an object"),
    ],
)
def test_manifest_fields(result: Path, key: str, value: Any, words: str) -> None:
    edit(result / "reconstruction.json", lambda content: content.update({key: value}))
    refused(lambda: load(result), words)
    refused(lambda: describe(result), words)
    assert not is_result(result)


@pytest.mark.parametrize(
    "name", ["../x.png", "/etc/passwd", "frames/../../x.png", "frames//a", "a\\b", "", "a\0b", "."]
)
def test_names_cannot_leave_the_folder(result: Path, name: str) -> None:
    def derive(content: dict[str, Any]) -> None:
        content["files"]["derived"] = [name]

    edit(result / "reconstruction.json", derive)
    refused(lambda: load(result), "leaves the result folder")


@pytest.mark.parametrize("field", ["frames", "time_variant", "time_invariant", "cameras"])
def test_names_of_maps_and_frames_are_not_free(result: Path, field: str) -> None:
    def redirect(content: dict[str, Any]) -> None:
        old = content["files"][field]
        new = {"frames": ["../x.png", "../y.png"], "time_invariant": {"0": "../x.npy", "1": "../y.npy"}}
        content["files"][field] = new.get(field, "../x")
        assert old != content["files"][field]

    edit(result / "reconstruction.json", redirect)
    refused(lambda: load(result), "'files' does not name the files of this format")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ("[" * 100_000, "not valid JSON"),
        ('{"format": NaN}', "NaN is not a number"),
        ('{"format": 1e999}', "out of range"),
        ('{"format": ' + "9" * 5000 + "}", "not valid JSON"),
        ("{}", "not a vdpm result"),
        ('{"format": "vdpm.reconstruction"}', "'format_version' is missing"),
        (" " * (16 * 2**20 + 1), "larger than"),
    ],
)
def test_manifest_text(result: Path, text: str, words: str) -> None:
    (result / "reconstruction.json").write_text(text)
    refused(lambda: load(result), words)


def test_binary_manifest(result: Path) -> None:
    (result / "reconstruction.json").write_bytes(b"\xff\xfe\x00")
    refused(lambda: load(result), "not text")


def matrix(side: int, value: float | None = None) -> list[list[float | None]]:
    return [[value if value is not None else float(row == column) for column in range(side)] for row in range(side)]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("c2w", None, "'c2w' is not"),
        ("c2w", [matrix(4)], "'c2w' holds 1 entries"),
        ("c2w", [matrix(3), matrix(4)], "2 matrices of 4 x 4"),
        ("c2w", [matrix(4, 1e39), matrix(4)], "2 matrices of 4 x 4"),
        ("c2w", [matrix(4), matrix(4, 1.0)], "c2w of frame 1 is not a rigid motion"),
        ("c2w", [matrix(4), [*matrix(4)[:3], [0.0, 0.0, 0.0, 1.005]]], "c2w of frame 1 is not a rigid motion"),
        ("intrinsics", [matrix(3), matrix(3, 0.0)], "intrinsics of frame 1"),
    ],
)
def test_cameras(result: Path, key: str, value: Any, words: str) -> None:
    edit(result / "cameras.json", lambda content: content.update({key: value}))
    refused(lambda: load(result), words)
    refused(lambda: describe(result), words)


def test_nan_in_cameras(result: Path) -> None:
    text = (result / "cameras.json").read_text()
    (result / "cameras.json").write_text(text.replace("1.0", "NaN", 1))
    refused(lambda: load(result), "NaN is not a number")


@pytest.mark.parametrize("name", ["maps/q_00001.npy", "maps/p.npy"])
def test_map_files_of_another_kind(result: Path, name: str) -> None:
    good = np.load(result / name)
    path = result / name

    def replaced(array: Any, words: str, **options: Any) -> None:
        np.save(path, array, **options)
        refused(lambda: load(result), words)

    replaced(good.astype(np.float32), "not a map file")
    replaced(good.astype(">f2"), "not a map file")
    replaced(good[:1], "not a map file")
    replaced(np.asfortranarray(good), "not a map file")
    replaced(np.array([{"a": 1}], dtype=object), "not a map file", allow_pickle=True)
    np.save(path, good)
    whole = path.read_bytes()
    for content, words in (
        (whole[:-1], "instead of"),
        (whole + b"\0", "instead of"),
        (whole[:100], "damaged"),
        (b"", "not a map file"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 70_000, "not a map file"),
        (whole.replace(b"(2, 16, 24, 4)", b"(9999999999, )"), "not a map file"),
    ):
        path.write_bytes(content)
        refused(lambda: load(result), words)


def test_pickles_are_never_opened(result: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "sprung"),))

    for name in ("maps/p.npy", "frames/00000.png", "cameras.json", "reconstruction.json"):
        content = (result / name).read_bytes()
        (result / name).write_bytes(pickle.dumps(Trap()))
        with pytest.raises(InputError):
            read_all(result)
        (result / name).write_bytes(content)
    assert not (tmp_path / "sprung").exists()
    read_all(result)


@pytest.mark.parametrize(("channel", "value"), [(1, np.nan), (2, np.inf), (3, 0.5)])
def test_values_that_are_no_points(result: Path, channel: int, value: float) -> None:
    maps = np.load(result / "maps/q_00001.npy")
    maps[1, 3, 4, channel] = value
    np.save(result / "maps/q_00001.npy", maps)
    back = load(result)
    assert back.maps.time_invariant(1, 0).points.isfinite().all()
    refused(lambda: back.maps.time_invariant(1, 1), "no points or a confidence below 1")


def test_map_cut_after_loading(result: Path) -> None:
    back = load(result)
    os.truncate(result / "maps/q_00001.npy", 500)
    refused(lambda: back.maps.time_invariant(1, 0), "damaged")


@pytest.mark.parametrize(
    "name", ["reconstruction.json", "cameras.json", "frames/00001.png", "maps/p.npy", "maps/q_00000.npy"]
)
def test_missing_linked_and_special_files(result: Path, tmp_path: Path, name: str) -> None:
    path = result / name
    content = path.read_bytes()
    path.unlink()
    refused(lambda: load(result), "missing")
    (tmp_path / "elsewhere").write_bytes(content)
    path.symlink_to(tmp_path / "elsewhere")
    refused(lambda: load(result), "a link")
    path.unlink()
    os.mkfifo(path)
    refused(lambda: load(result), "not a plain file")
    path.unlink()
    path.mkdir()
    refused(lambda: load(result), "not a plain file")


def test_linked_folder_of_maps(result: Path, tmp_path: Path) -> None:
    (result / "maps").rename(tmp_path / "elsewhere")
    (result / "maps").symlink_to(tmp_path / "elsewhere")
    refused(lambda: load(result), "a link")


def png(width: int, height: int, color: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (png(24, 17, 2, bytes(73 * 17)), "RGB image of 24 x 17"),
        (png(24, 16, 0, bytes(25 * 16)), "L image of 24 x 16"),
        (png(24, 16, 2, bytes(i * i % 251 for i in range(73 * 16)))[:400], "damaged image"),
        (png(60_000, 60_000, 2, b""), "damaged image|RGB image of 60000"),
        (b"GIF89a" + bytes(50), "damaged image"),
        (b"", "damaged image"),
    ],
    ids=["larger", "grey", "cut", "bomb", "gif", "empty"],
)
def test_frames(result: Path, content: bytes, words: str) -> None:
    (result / "frames/00001.png").write_bytes(content)
    refused(lambda: load(result), words)


def test_folders_that_are_no_results(tmp_path: Path) -> None:
    refused(lambda: load(tmp_path / "absent"), "no such folder")
    refused(lambda: load(tmp_path), "reconstruction.json is missing")
    (tmp_path / "file").write_text("")
    refused(lambda: describe(tmp_path / "file"), "not a folder")


def test_forged_text_does_not_drive_the_terminal(result: Path) -> None:
    def forge(content: dict[str, Any]) -> None:
        content["name"] = "clip\x1b[2J\nstate  complete"
        content["provenance"] = {"model\x1b]0;x\x07": "x" * 4000}

    edit(result / "reconstruction.json", forge)
    lines = describe(result).lines()
    assert all(line.isprintable() and len(line) < 300 for line in lines)

"""Disks that fill up, and removals that are killed, while a result is written: what was there stays readable."""

import dataclasses
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.moving_sphere import MovingSphere, make_moving_sphere
from test_archive import writer_of
from vdpm.archive import folder as archive_folder
from vdpm.archive import load, save
from vdpm.errors import OutputError


@pytest.fixture(scope="module")
def scene() -> MovingSphere:
    return make_moving_sphere(num_frames=3, size=(24, 32))


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """The disk takes ``count`` more files, then fails half way through the next with ``number``."""
    whole = archive_folder.write_whole

    def arm(count: int, number: int = errno.ENOSPC) -> None:
        left = [count]

        def failing(path: Path, content: Any) -> None:
            def cut() -> Iterator[bytes]:
                for part in content:
                    yield part[: len(part) // 2]
                    raise OSError(number, os.strerror(number), str(path))

            left[0] -= 1
            whole(path, cut() if left[0] < 0 else content)

        monkeypatch.setattr("vdpm.archive.writer.write_whole", failing)

    return arm


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "No space left on device"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "Permission denied"),
        (errno.EROFS, "Read-only"),
    ],
)
def test_full_disk_is_one_line_and_keeps_what_was_finished(
    scene: MovingSphere, tmp_path: Path, full_disk: Callable[..., None], number: int, words: str
) -> None:
    # 3 frames, cameras, P, manifest, target 0, manifest; then the disk is full.
    full_disk(8, number)
    with pytest.raises(OutputError, match=words) as caught:
        save(scene.reconstruction, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert str(tmp_path / "out") in str(caught.value)
    back = load(tmp_path / "out")
    assert (back.maps.targets, back.provenance["state"]) == ((0,), "partial")
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("count", [0, 2, 3, 4, 5])
def test_disk_full_before_the_result_is_readable_leaves_nothing(
    scene: MovingSphere, tmp_path: Path, full_disk: Callable[..., None], count: int
) -> None:
    full_disk(count)
    with pytest.raises(OutputError, match="No space left"):
        save(scene.reconstruction, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_disk_full_while_overwriting_keeps_the_old_result(
    scene: MovingSphere, tmp_path: Path, full_disk: Callable[..., None]
) -> None:
    save(dataclasses.replace(scene.reconstruction, name="old"), tmp_path / "out")
    full_disk(9)
    with pytest.raises(OutputError, match="No space left"):
        save(scene.reconstruction, tmp_path / "out", overwrite=True)
    assert (load(tmp_path / "out").name, load(tmp_path / "out").maps.targets) == ("old", (0, 1, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_too_little_room_is_said_before_work_is_spent(
    scene: MovingSphere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("vdpm.archive.writer.shutil.disk_usage", lambda path: usage)
    with pytest.raises(OutputError, match="the disk has 0 MB free"):
        writer_of(scene.reconstruction, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_removal_of_the_old_result_that_was_killed_is_taken_up_again(scene: MovingSphere, tmp_path: Path) -> None:
    out, previous = tmp_path / "out", tmp_path / ".out.previous"
    save(scene.reconstruction, out)
    shutil.copytree(out, previous)
    (previous / "frames/00000.png").unlink()
    (previous / "maps/mine.txt").write_text("mine")
    save(scene.reconstruction, out, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (out / "maps/mine.txt").read_text() == "mine"
    previous.mkdir()
    save(scene.reconstruction, out, overwrite=True)
    previous.mkdir()
    (previous / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="move them elsewhere"):
        save(scene.reconstruction, out, overwrite=True)
    assert (previous / "mine.txt").read_text() == "mine"
    assert load(out).maps.targets == (0, 1, 2)


@pytest.mark.parametrize("left", range(0, 9))
def test_a_kill_at_any_point_of_the_removal_leaves_no_obstacle(
    scene: MovingSphere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: int
) -> None:
    """The new result is in place from the swap on, and the next overwrite finishes what was cut off."""
    out = tmp_path / "out"
    save(dataclasses.replace(scene.reconstruction, name="old"), out)
    unlink, calls = Path.unlink, [left]

    def dying(path: Path, missing_ok: bool = False) -> None:
        calls[0] -= ".out.previous" in str(path)
        if calls[0] < 0:
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", dying)
        with pytest.raises(KeyboardInterrupt):
            save(dataclasses.replace(scene.reconstruction, name="new"), out, overwrite=True)
    assert load(out).name == "new"
    save(dataclasses.replace(scene.reconstruction, name="newer"), out, overwrite=True)
    assert load(out).name == "newer"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]

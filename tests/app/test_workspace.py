"""Folders of jobs: gone at the end, gone later when the app could not, and never another's."""

import os
from pathlib import Path

import pytest

from vdpm.app.workspace import LOCK, PREFIX, Workspace
from vdpm.errors import OutputError


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_all_goes_at_the_end(temporary: Path) -> None:
    with Workspace() as place:
        folder = place.new_folder()
        (folder / "video").write_bytes(b"x")
        assert folder.parent.parent == temporary
    assert list(temporary.iterdir()) == []


def test_what_a_killed_app_left_goes_with_the_next(temporary: Path) -> None:
    left = temporary / f"{PREFIX}left"
    left.mkdir()
    (left / LOCK).touch()
    (left / "video").write_bytes(b"x")
    with Workspace() as living:
        with Workspace() as other:
            assert not left.exists()
            assert living.base.exists(), "one that is in use stays"
            assert other.base != living.base
        assert living.base.exists()


def test_what_is_no_apps_stays(temporary: Path) -> None:
    for name in ("no_lock", "file", "link"):
        path = temporary / f"{PREFIX}{name}"
        if name == "file":
            path.write_text("mine")
        elif name == "no_lock":
            path.mkdir()
        else:
            target = temporary / "mine"
            target.mkdir()
            (target / LOCK).touch()
            path.symlink_to(target)
    with Workspace():
        pass
    left = {path.name for path in temporary.iterdir()}
    assert left == {"mine", *(f"{PREFIX}{name}" for name in ("no_lock", "file", "link"))}


def test_a_folder_that_is_kept(temporary: Path) -> None:
    with Workspace(temporary / "a" / "keep") as place:
        folder = place.new_folder()
        removed = place.new_folder()
        place.remove(removed)
    assert list((temporary / "a" / "keep").iterdir()) == [folder]


def test_places_that_cannot_hold_anything(temporary: Path) -> None:
    (temporary / "file").write_text("")
    with pytest.raises(OutputError, match="file"), Workspace(temporary / "file"):
        pass
    if os.getuid():
        (temporary / "closed").mkdir(mode=0o500)
        with pytest.raises(OutputError, match="not writable"), Workspace(temporary / "closed"):
            pass

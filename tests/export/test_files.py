"""A file is there whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from vdpm.errors import OutputError
from vdpm.export.files import replace_file


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    place = tmp_path / "file"
    with replace_file(place) as stream:
        stream.write(b"new")
        assert not place.exists()
    assert place.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def _write_half(place: Path, error: BaseException) -> None:
    with replace_file(place) as stream:
        stream.write(b"half")
        raise error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("x")])
def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    place = tmp_path / "file"
    place.write_bytes(b"old")
    with pytest.raises(type(error)):
        _write_half(place, error)
    assert place.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no space left") as told, replace_file(tmp_path / "file"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "\n" not in str(told.value)
    assert not list(tmp_path.iterdir())

"""JSON files that a user names: what is none is told at once, in one line."""

import os
import re
from pathlib import Path

import pytest

from vdpm.errors import InputError
from vdpm.json_file import MAX_BYTES, read_json


def test_what_is_json_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"ö": [1, 2.5]}', encoding="utf-8")
    assert read_json(tmp_path / "a.json", "") == {"ö": [1, 2.5]}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not valid JSON; see the page"),
        (b"\xff\xfe\x00", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b" " * (MAX_BYTES + 1), "larger than 16 MB; see the page"),
    ],
)
def test_what_is_none(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=re.escape(f"a.json: {said}")):
        read_json(tmp_path / "a.json", "see the page")


def test_places_without_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe: is no plain file"):
        read_json(tmp_path / "pipe", "see the page")
    with pytest.raises(InputError, match=r"cannot be read \(no such file or directory\)"):
        read_json(tmp_path / "no.json", "see the page")
    with pytest.raises(InputError, match=str(tmp_path)):
        read_json(tmp_path, "see the page")

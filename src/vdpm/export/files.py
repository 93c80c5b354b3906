"""Files that are there whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from vdpm.errors import OutputError


@contextmanager
def replace_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file beside ``path`` for writing; it takes ``path``'s place when the block ends well, and goes otherwise.

    Raises OutputError where it cannot be written (no such folder, no permission, disk full).
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with beside.open("wb") as stream:
            yield stream
        beside.replace(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"cannot write {path}: {reason}; choose another place or make room") from error
    finally:
        with suppress(OSError):
            beside.unlink()


@contextmanager
def replace_path(path: str | Path) -> Iterator[Path]:
    """A name beside ``path``, of its suffix, for a program that writes by name; renamed as in ``replace_file``."""
    path = Path(path)
    beside = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    with _told(path):
        try:
            _check_parent(path)
            yield beside
            beside.replace(path)
        finally:
            with suppress(OSError):
                beside.unlink()


@contextmanager
def replace_folder(path: str | Path) -> Iterator[Path]:
    """An empty folder beside ``path`` that takes its place when the block ends well, and goes otherwise.

    A folder that is there is removed with all that is in it: the caller has made sure that it may be.
    """
    path = Path(path)
    beside, old = (path.with_name(f".{path.name}.{os.getpid()}.{kind}") for kind in ("partial", "old"))
    with _told(path):
        try:
            _check_parent(path)
            beside.mkdir()
            yield beside
            if path.exists():
                path.rename(old)
            try:
                beside.rename(path)
            except BaseException:
                if old.exists():
                    old.rename(path)
                raise
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


def _check_parent(path: Path) -> None:
    """Libraries that write by name have errors of their own; the usual ones are found here."""
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: {path.parent} is no folder; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: permission denied; choose another place")


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise OutputError(f"cannot write {path}: {reason}; choose another place or make room") from error

"""Files that are there whole or not at all."""

import os
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

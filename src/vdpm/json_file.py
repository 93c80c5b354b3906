"""Small JSON files that a user names: read without waiting on a pipe, and told in one line where they are none."""

import json
import os
import stat
from pathlib import Path
from typing import Any

from vdpm.errors import InputError

MAX_BYTES = 16 * 2**20
"""Cameras of some twenty thousand frames."""


def read_json(path: Path, shown: str) -> Any:
    """What ``path`` holds. ``shown``: how the error ends, where such a file is explained. Raises InputError for what is
    no plain file, cannot be read, is too large or no JSON.
    """
    try:
        # Opened first, so that what is looked at is what is read; without waiting for who writes to a pipe.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise InputError(f"{path}: is no plain file; {shown}")
            with open(number, "rb", closefd=False) as stream:
                content = stream.read(MAX_BYTES + 1)
        finally:
            os.close(number)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({(error.strerror or str(error)).lower()})") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES // 10**6} MB; {shown}")
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise InputError(f"{path}: not valid JSON; {shown}") from None

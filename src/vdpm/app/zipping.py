"""A folder as a zip archive that is made while it is sent: nothing of it lies on the disk or in memory."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

PART = 2**20


class _Parts:
    """What ``zipfile`` writes to: a stream that cannot seek, emptied as it fills."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def write(self, part: bytes) -> int:
        self.parts.append(bytes(part))
        return len(part)

    def flush(self) -> None:
        pass

    def take(self) -> bytes:
        taken = b"".join(self.parts)
        self.parts.clear()
        return taken


def zip_parts(folder: Path, top: str) -> Iterator[bytes]:
    """The archive of all files under ``folder``, below ``top`` in it, in parts of about a mebibyte.

    Stored as they are: maps in float16 and pictures hardly shrink. Links are left out.
    """
    stream = _Parts()
    # It has what zipfile calls of a stream that cannot seek.
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            entry = zipfile.ZipInfo.from_file(path, f"{top}/{path.relative_to(folder).as_posix()}")
            with path.open("rb") as source, archive.open(entry, "w") as target:
                while part := source.read(PART):
                    target.write(part)
                    yield stream.take()
    yield stream.take()

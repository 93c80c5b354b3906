"""Arguments that several verbs read the same way."""

import os
from pathlib import Path

from vdpm.errors import OutputError, UsageError


def parse_frames(text: str, option: str, words: tuple[str, ...] = ("all", "none")) -> str | list[int]:
    """One of ``words``, or frame numbers: '0,4,9', '0-8', '0-4,9'. Raises UsageError, naming ``option``, for
    anything else.
    """
    text = text.strip()
    if text in words:
        return text
    frames: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()) or max(len(first), len(last)) > 9:
            named = f"{', '.join(words)}, or " if words else ""
            raise UsageError(f"{option} {text!r} is not {named}frame numbers such as 0,4,9 or 0-8")
        a, b = int(first), int(last) if dash else int(first)
        if b < a:
            raise UsageError(f"{option} {text!r}: the range {part.strip()} runs backwards; write {b}-{a}")
        if b - a > 100_000:
            raise UsageError(f"{option} {text!r}: the range {part.strip()} is longer than any video; give fewer frames")
        frames.extend(range(a, b + 1))
    return sorted(set(frames))


def beside(folder: Path, ending: str) -> Path:
    """Where something made of a result goes when no place is named: beside its folder, under its name."""
    place = folder.resolve()
    return place.with_name(f"{place.name}{ending}")


def check_file(path: Path, overwrite: bool, suffixes: tuple[str, ...] = ()) -> None:
    """Call before work that takes long. Raises OutputError where a file asked for at ``path`` may not go, and
    UsageError for a name without one of ``suffixes`` where there are any.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        raise UsageError(f"{path}: the name must end with {' or '.join(suffixes)}")
    if path.is_dir():
        raise OutputError(f"{path}: is a folder; name a file")
    if path.exists() and not overwrite:
        raise OutputError(f"{path}: exists; choose another or pass --overwrite")
    if not path.parent.is_dir():
        raise OutputError(f"{path}: there is no folder {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: {path.parent} is not writable; choose another place")

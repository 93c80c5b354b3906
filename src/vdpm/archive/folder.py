"""What may be written where: checks before, whole files, and removal of a result that leaves other files alone."""

import errno
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vdpm.archive.manifest import MANIFEST_FILE
from vdpm.archive.reader import is_result
from vdpm.errors import OutputError

OWN_FILE = re.compile(
    r"(reconstruction\.json|cameras\.json|frames/\d{5,6}\.png|maps/(p|q_\d{5,6})\.npy"
    r"|windows/\d{5}/(window\.json|(p|rest|q_\d{5,6})\.npy))(\.tmp)?"
)


def check_output(folder: Path | str, overwrite: bool = False) -> Path:
    """Where a result asked for at ``folder`` would go, links resolved; call it before work that takes long.

    Raises OutputError when something is there that may not be replaced: a file, a folder that is no vdpm result, or a
    result without ``overwrite``; also when the folder cannot be made.
    """
    try:
        path = Path(folder).resolve()
        here = Path.cwd()
    except (OSError, RuntimeError) as error:
        raise OutputError(f"{folder}: cannot be used as output ({error})") from None
    if path == here or path in here.parents:
        raise OutputError(f"{folder}: is the folder you are in, or holds it; name a new folder for the result")
    with disk_errors(path):
        if path.exists():
            if not path.is_dir():
                raise OutputError(f"{folder}: exists and is no folder; choose another")
            if any(path.iterdir()):
                if not is_result(path):
                    raise OutputError(f"{folder}: exists and is not a vdpm result, so it is left alone; choose another")
                if not overwrite:
                    raise OutputError(f"{folder}: exists; choose another or pass --overwrite")
        parent = next(ancestor for ancestor in path.parents if ancestor.exists())
        if not parent.is_dir():
            raise OutputError(f"{folder}: cannot be made, {parent} is a file; choose another")
        if not os.access(parent, os.W_OK | os.X_OK):
            raise OutputError(f"{folder}: cannot be made, {parent} is not writable; choose another")
    return path


def write_whole(path: Path, content: Iterable[bytes]) -> None:
    """Puts ``content`` at ``path`` in one step: whole, or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb") as file:
            for part in content:
                file.write(part)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_own(folder: Path) -> bool:
    """Removes what the writer makes from ``folder``, then emptied folders. True when all went.

    Files of other names are the user's and stay. A link in the place of ``folder`` is not followed.
    """
    if folder.is_symlink():
        return False
    for path, name in _files(folder):
        if OWN_FILE.fullmatch(name):
            path.unlink()
    return _remove_empty(folder)


def retire(old: Path, new: Path, derived: tuple[str, ...]) -> bool:
    """Removes the result in ``old``, with its ``derived`` files, and moves the user's files in it to ``new``.

    A file whose name is taken in ``new`` stays. True when all went. The manifest goes last: as long as it is there,
    what is left can be told from a folder of the user's and a killed removal be taken up again.
    """
    for path, name in _files(old):
        if name == MANIFEST_FILE:
            continue
        if OWN_FILE.fullmatch(name) or name in derived:
            path.unlink()
        elif not os.path.lexists(new / name):
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            os.rename(path, new / name)
    (old / MANIFEST_FILE).unlink(missing_ok=True)
    return _remove_empty(old)


def _files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Everything under ``folder`` but folders, with its relative name; folders are removed once they are empty."""
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            _remove_empty(path)
        else:
            yield path, path.relative_to(folder).as_posix()


def _remove_empty(folder: Path) -> bool:
    """Whether ``folder`` is gone; it goes when nothing is in it."""
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()
    return not folder.exists()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turns what the system says of ``path`` into one line for the user."""
    remedies = {
        errno.ENOSPC: "free some space, keep fewer --targets or choose another disk",
        errno.EDQUOT: "free some of your quota, keep fewer --targets or choose another disk",
    }
    try:
        yield
    except OSError as error:
        remedy = remedies.get(error.errno or 0, "choose another folder")
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); {remedy}") from None

"""One run at a time writes to a place: a lock beside it, which the system takes back from a process that is killed.

.NAME.lock    beside the result ``NAME`` while a run writes there; holds the number of its process
"""

import errno
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from vdpm.archive.folder import disk_errors
from vdpm.errors import OutputError

_WITHOUT_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems say that know no locks. There nothing keeps two runs apart."""

_holders: dict[Path, int] = {}


@contextmanager
def hold(folder: Path | str) -> Iterator[None]:
    """Keeps other runs from writing a result at ``folder``. A thread that holds a place may hold it again.

    Raises OutputError where another run has it. Folders above it that were made for the lock and that nothing was
    written to are removed again.
    """
    path = Path(folder).resolve()
    if _holders.get(path) == threading.get_ident():
        yield
        return
    lock = path.with_name(f".{path.name}.lock")
    made = [parent for parent in path.parents if not parent.exists()]
    try:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            stream = _taken(lock, path)
        with stream:
            _holders[path] = threading.get_ident()
            try:
                yield
            finally:
                del _holders[path]
                # While it is still locked: another run that has just opened it sees that it is gone.
                with suppress(OSError):
                    lock.unlink()
    finally:
        with suppress(OSError):
            for parent in made:
                parent.rmdir()


def _taken(lock: Path, path: Path) -> TextIO:
    """The open file ``lock``, locked. Raises OutputError where another run has it."""
    while True:
        stream = lock.open("a+")
        try:
            with _where_locks_are():
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not lock.exists() or not os.path.samestat(os.fstat(stream.fileno()), lock.stat()):
                stream.close()  # that of a run that has just ended
                continue
            stream.truncate(0)
            stream.write(f"{os.getpid()}\n")
            stream.flush()
            return stream
        except BlockingIOError:
            stream.seek(0)
            process = stream.read(20).strip()
            stream.close()
            who = f" (process {process})" if process.isdecimal() else ""
            raise OutputError(f"{path}: another run{who} writes there; wait for it or choose another folder") from None
        except BaseException:
            stream.close()
            raise


@contextmanager
def _where_locks_are() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _WITHOUT_LOCKS:
            raise

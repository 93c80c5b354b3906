"""Where the files of jobs lie: a temporary folder that goes at the end, or one of the user's that stays.

No name in it comes from a request.
"""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from vdpm.errors import OutputError

PREFIX = "vdpm-app-"
LOCK = "lock"


class Workspace:
    """A context: folders for jobs while it lasts. ``keep``: the user's folder, where what is finished stays.

    The temporary folder is locked while the app lives. A later app removes those that no lock holds: an app that was
    killed could not. Raises OutputError where nothing can be written.
    """

    def __init__(self, keep: Path | None = None) -> None:
        self.keep = keep
        self.base = Path()
        self._lock: IO[bytes] | None = None

    def __enter__(self) -> "Workspace":
        try:
            if self.keep is not None:
                self.keep.mkdir(parents=True, exist_ok=True)
                self.base = self.keep.resolve()
                if not os.access(self.base, os.W_OK | os.X_OK):
                    raise OutputError(f"{self.keep}: is not writable; choose another folder to keep results in")
                return self
            _sweep(Path(tempfile.gettempdir()))
            self.base = Path(tempfile.mkdtemp(prefix=PREFIX)).resolve()
            # Locked before it has its name, so that no other app takes it for one that is left over.
            self._lock = (self.base / f"{LOCK}.new").open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(self.base / f"{LOCK}.new", self.base / LOCK)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"{self.keep or tempfile.gettempdir()}: cannot hold the app's files ({reason})") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.keep is None:
            shutil.rmtree(self.base, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def new_folder(self) -> Path:
        """An empty folder for one job, which only this user may read. Raises OutputError where it cannot be made."""
        try:
            return Path(tempfile.mkdtemp(prefix=time.strftime("%Y-%m-%d_%H%M%S_"), dir=self.base))
        except OSError as error:
            raise OutputError(
                f"no folder can be made for the video ({(error.strerror or str(error)).lower()})"
            ) from None

    def free_bytes(self) -> int:
        """Left on the disk."""
        return shutil.disk_usage(self.base).free

    def remove(self, folder: Path) -> None:
        """Removes a folder that ``new_folder`` made, with all that is in it."""
        assert folder.parent == self.base
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Removes what apps of this user left that did not get to it themselves."""
    for folder in parent.glob(f"{PREFIX}*"):
        try:
            about = folder.lstat()
            if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid():
                continue
            with (folder / LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue

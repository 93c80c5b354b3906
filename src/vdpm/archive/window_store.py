"""The windows of a long clip on disk while they are made: what is finished stays, whatever happens.

    .NAME.windows/plan.json                 what the run is of: frames, network, sizes; another run's is not taken up
    .NAME.windows/windows/00003/p.npy       maps as in a result folder, in the window's own world
    .NAME.windows/windows/00003/rest.npy    those of frames that the result will not keep; the alignment needs them
    .NAME.windows/windows/00003/window.json frames and cameras; written last, so that it marks the window as finished

The folder lies beside the result ``NAME`` to be, which takes ``windows`` over in one step when all are aligned.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vdpm.archive.folder import disk_errors, write_whole
from vdpm.archive.manifest import JsonFields, map_header, window_folder
from vdpm.archive.reader import map_reader
from vdpm.archive.writer import encode_map
from vdpm.errors import InputError, OutputError
from vdpm.structures import Cameras, PointMap

PLAN_FILE = "plan.json"
WINDOW_FILE = "window.json"
REST_FILE = "rest.npy"


@dataclass(frozen=True, eq=False)
class StoredWindow:
    """A finished window; ``read(target, source)`` as in ``AlignedWindow``, in its own world. ``shown``: frames whose
    maps at their own times the result will keep, of ``frames``. ``seconds``: it took.
    """

    frames: tuple[int, ...]
    targets: tuple[int, ...]
    moved: tuple[int, ...]
    shown: tuple[int, ...]
    cameras: Cameras
    seconds: float
    read: Callable[[int | None, int], PointMap] = field(repr=False)


def store_folder(result: Path) -> Path:
    """Where the windows of the result that is to be at ``result`` are kept until it is there."""
    return result.with_name(f".{result.name}.windows")


class WindowStore:
    """Windows of the result that is to be at ``result``. ``identity``: plain data that says what they are of.

    Windows left there by a run of the same are taken up. Raises OutputError for those of another, unless ``overwrite``
    drops them.
    """

    def __init__(
        self, result: Path | str, identity: dict[str, Any], size: tuple[int, int], *, overwrite: bool = False
    ) -> None:
        result = Path(result).resolve()
        self.folder = store_folder(result)
        self.size = size
        self._identity = json.loads(json.dumps(identity))
        half_done = result.with_name(f".{result.name}.partial") / "windows"
        with disk_errors(self.folder):
            if (self.folder / PLAN_FILE).exists():
                if self._plan() != self._identity:
                    if not overwrite:
                        raise OutputError(
                            f"{self.folder}: an interrupted run of other frames or another network left windows there; "
                            "go on with its options, pass --overwrite, or choose another output"
                        )
                    self._remove()
                elif half_done.is_dir() and not (self.folder / "windows").exists():
                    # Cut off between taking the windows over and naming them in the result.
                    os.rename(half_done, self.folder / "windows")
            elif self.folder.exists() and any(self.folder.iterdir()):
                raise OutputError(f"{self.folder}: holds other files; remove it or choose another output")
            (self.folder / "windows").mkdir(parents=True, exist_ok=True)
            write_whole(self.folder / PLAN_FILE, [json.dumps(self._identity, indent=1).encode()])

    @property
    def windows(self) -> Path:
        """The folder of all windows."""
        return self.folder / "windows"

    def finished(
        self,
        number: int,
        frames: tuple[int, ...],
        targets: tuple[int, ...],
        moved: tuple[int, ...],
        shown: tuple[int, ...] | None = None,
    ) -> bool:
        """Whether window ``number`` is whole and of these frames, times, moved and shown frames (all unless told)."""
        if not (self.folder / window_folder(number) / WINDOW_FILE).exists():
            return False
        try:
            stored = self.read(number)
        except InputError:
            return False
        kept = frames if shown is None else shown
        return (stored.frames, stored.targets, stored.moved, stored.shown) == (frames, targets, moved, kept)

    def write(
        self,
        number: int,
        *,
        frames: tuple[int, ...],
        moved: tuple[int, ...],
        shown: tuple[int, ...],
        cameras: Cameras,
        time_variant: Iterable[PointMap],
        targets: Iterable[tuple[int, Iterable[PointMap]]],
        seconds: Callable[[], float],
    ) -> None:
        """Writes a window; ``targets`` gives each time with its maps of ``moved``, and may make them as it goes."""
        folder = self.folder / window_folder(number)
        with disk_errors(folder):
            if folder.exists():
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
            self._write_shapes(folder, dict(zip(frames, time_variant)), shown)
            times = []
            for target, maps in targets:
                self._write_maps(folder / f"q_{target:05d}.npy", maps, len(moved))
                times.append(target)
            content = {
                "frames": frames,
                "targets": times,
                "moved": moved,
                "shown": shown,
                "c2w": cameras.c2w.double().tolist(),
                "intrinsics": cameras.intrinsics.double().tolist(),
                "seconds": round(seconds(), 3),
            }
            write_whole(folder / WINDOW_FILE, [json.dumps(content, indent=1, allow_nan=False).encode()])

    def read(self, number: int) -> StoredWindow:
        """A finished window, lazily. Raises InputError when it is damaged."""
        folder = self.folder / window_folder(number)
        path = folder / WINDOW_FILE
        fields = JsonFields.parse(path.read_text(), path)
        frames, targets, moved, shown = (fields.frames(name, 10**6) for name in ("frames", "targets", "moved", "shown"))
        c2w, intrinsics = fields.matrices("c2w", len(frames), 4), fields.matrices("intrinsics", len(frames), 3)
        files = {target: f"q_{target:05d}.npy" for target in targets}
        rest = tuple(frame for frame in frames if frame not in shown)
        read_shown = map_reader(folder, "p.npy", files, shown, moved, self.size)
        read_rest = map_reader(folder, REST_FILE, {}, rest, (), self.size) if rest else read_shown

        def read(target: int | None, source: int) -> PointMap:
            return read_rest(None, source) if target is None and source in rest else read_shown(target, source)

        return StoredWindow(
            frames=frames,
            targets=targets,
            moved=moved,
            shown=shown,
            cameras=Cameras(torch.tensor(c2w), torch.tensor(intrinsics), self.size),
            seconds=fields.number("seconds"),
            read=read,
        )

    def tidy(self, result: Path, numbers: Iterable[int]) -> None:
        """After the result at ``result`` took the windows over: drops those that it does not name, and the plan."""
        kept = {Path(window_folder(number)).name for number in numbers}
        with disk_errors(self.folder):
            for folder in sorted((result / "windows").iterdir()):
                for name in (WINDOW_FILE, REST_FILE):
                    (folder / name).unlink(missing_ok=True)
                if folder.name not in kept:
                    shutil.rmtree(folder)
            self._remove()

    def _remove(self) -> None:
        shutil.rmtree(self.folder / "windows", ignore_errors=True)
        (self.folder / PLAN_FILE).unlink(missing_ok=True)
        self.folder.rmdir()

    def _plan(self) -> Any:
        try:
            return json.loads((self.folder / PLAN_FILE).read_text())
        except ValueError:
            return None

    def _write_shapes(self, folder: Path, maps: dict[int, PointMap], shown: tuple[int, ...]) -> None:
        rest = [frame for frame in maps if frame not in shown]
        self._write_maps(folder / "p.npy", (maps[frame] for frame in shown), len(shown))
        if rest:
            self._write_maps(folder / REST_FILE, (maps[frame] for frame in rest), len(rest))

    def _write_maps(self, path: Path, maps: Iterable[PointMap], count: int) -> None:
        def content() -> Iterator[bytes]:
            yield map_header(count, self.size)
            for points, confidence in maps:
                yield encode_map(points, confidence, self.size)

        write_whole(path, content())

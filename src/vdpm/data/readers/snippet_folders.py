"""Snippet folders, our own layout (docs/data.md), as a data set: a clip each, in a folder or in the folders of one."""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from vdpm.data.frame import Frame, MovedPoints, blanked, depths
from vdpm.data.quarantine import CorruptFile, Quarantine, open_each
from vdpm.data.readers.files import list_folders
from vdpm.data.sequence import DataSequence
from vdpm.data.snippet_folder import SNIPPET_FILE, SnippetFolder
from vdpm.errors import InputError
from vdpm.geometry.rigid import invert_rigid

_Part = TypeVar("_Part")


class SnippetFolderSequence(DataSequence):
    """One snippet folder. Points at other times are known at the targets that it holds."""

    tracked = True
    metric = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        super().__init__(folder.name, (times := _held(folder).timestamps.double()) - times[0])

    def frame(self, index: int) -> Frame:
        held = _held(self._folder)
        c2w, valid = self._array("c2w", index).double(), self._array("valid", index)
        points = blanked(self._array("points", index), valid)
        return Frame(
            image=_read(self._folder, lambda: held.picture(index)),
            depth=depths(invert_rigid(c2w).float(), points),
            valid=valid,
            c2w=c2w,
            intrinsics=self._array("intrinsics", index).double(),
            instances=self._array("instances", index) if "instances" in held.names else None,
            sky=self._array("sky", index) if "sky" in held.names else None,
            measured=points,
        )

    def moved(self, index: int, frame: Frame, targets: Sequence[int]) -> list[MovedPoints | None]:
        return [self._at(index, frame, target) for target in targets]

    def _at(self, index: int, frame: Frame, target: int) -> MovedPoints | None:
        held = _held(self._folder)
        if target in held.targets:
            row = held.targets.index(target)
            points = self._array("target_points", row, index)
            known = self._array(*(("target_valid", row) if "target_valid" in held.names else ("valid",)), index)
        elif target == index:
            assert frame.measured is not None
            points, known = frame.measured.reshape(-1, 3), frame.valid.flatten()
            return MovedPoints(torch.arange(len(known)), points, known, dense=True)
        else:
            return None
        points, known = points.reshape(-1, 3), known.flatten()
        if frame.origin is not None:
            taken = frame.origin.pixels.flatten()
            points, known = points[taken], known[taken]
        return MovedPoints(torch.arange(len(known)), blanked(points, known), known, dense=True)

    def _array(self, name: str, *part: int) -> Tensor:
        return _read(self._folder, lambda: _held(self._folder).array(name, part))


def open_snippets(root: Path, quarantine: Quarantine | None = None) -> list[DataSequence]:
    """The snippet folders in ``root``, or the one that it is. Raises InputError where there are none."""
    folders = [root] if (root / SNIPPET_FILE).is_file() else list_folders(root, "give a folder of snippets")
    folders = [folder for folder in folders if (folder / SNIPPET_FILE).is_file()]
    if not folders:
        raise InputError(f"{root}: neither it nor a folder in it holds {SNIPPET_FILE}; give a folder of snippets")
    return open_each([partial(SnippetFolderSequence, folder) for folder in folders], quarantine)


@lru_cache(maxsize=8)
def _held(folder: Path) -> SnippetFolder:
    """Kept for the last folders read: every frame is asked for by itself."""
    return _read(folder, lambda: SnippetFolder(folder))


def _read(folder: Path, part: Callable[[], _Part]) -> _Part:
    try:
        return part()
    except InputError as error:
        if isinstance(error, CorruptFile):
            raise
        raise CorruptFile(folder, str(error).removeprefix(f"{folder}: ").removeprefix(f"{folder}/")) from None

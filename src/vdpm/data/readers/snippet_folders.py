"""Snippet folders, our own layout (docs/data.md), as a data set: a clip each, in a folder or in the folders of one."""

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import torch

from vdpm.data.frame import Frame, MovedPoints, placed
from vdpm.data.quarantine import CorruptFile, Quarantine, open_each
from vdpm.data.readers.files import list_folders
from vdpm.data.sequence import DataSequence
from vdpm.data.snippet_folder import SNIPPET_FILE, read_snippet
from vdpm.errors import InputError
from vdpm.geometry.rigid import invert_rigid
from vdpm.structures import Snippet


class SnippetFolderSequence(DataSequence):
    """One snippet folder. Points at other times are known at the targets that it holds."""

    tracked = True
    metric = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        super().__init__(folder.name, (times := _read(folder).timestamps.double()) - times[0])

    def frame(self, index: int) -> Frame:
        clip = _read(self._folder)
        c2w = clip.c2w[index].double()
        points = clip.points[index].masked_fill(~clip.valid[index][..., None], 0)
        return Frame(
            image=(clip.images[index] * 255).round().byte().permute(1, 2, 0),
            depth=placed(invert_rigid(c2w).float(), points)[..., 2],
            valid=clip.valid[index],
            c2w=c2w,
            intrinsics=clip.intrinsics[index].double(),
            instances=None if clip.instances is None else clip.instances[index],
            sky=None if clip.sky is None else clip.sky[index],
            measured=points,
        )

    def moved(self, index: int, frame: Frame, targets: Sequence[int]) -> list[MovedPoints | None]:
        return [self._at(index, frame, target) for target in targets]

    def _at(self, index: int, frame: Frame, target: int) -> MovedPoints | None:
        clip = _read(self._folder)
        rows = (clip.targets == target).nonzero()
        if len(rows):
            row = int(rows[0])
            points, known = clip.target_points[row, index], clip.valid[index]
            known = known if clip.target_valid is None else clip.target_valid[row, index]
        elif target == index:
            points, known = clip.points[index], clip.valid[index]
        else:
            return None
        points, known = points.reshape(-1, 3), known.flatten()
        if frame.origin is not None:
            taken = frame.origin.pixels.flatten()
            points, known = points[taken], known[taken]
        return MovedPoints(torch.arange(len(known)), points.masked_fill(~known[:, None], 0).double(), known)


def open_snippets(root: Path, quarantine: Quarantine | None = None) -> list[DataSequence]:
    """The snippet folders in ``root``, or the one that it is. Raises InputError where there are none."""
    folders = [root] if (root / SNIPPET_FILE).is_file() else list_folders(root, "give a folder of snippets")
    folders = [folder for folder in folders if (folder / SNIPPET_FILE).is_file()]
    if not folders:
        raise InputError(f"{root}: neither it nor a folder in it holds {SNIPPET_FILE}; give a folder of snippets")
    return open_each([partial(SnippetFolderSequence, folder) for folder in folders], quarantine)


@lru_cache(maxsize=2)
def _read(folder: Path) -> Snippet:
    """Kept for the last folders read: every frame is asked for by itself."""
    try:
        return read_snippet(folder)
    except InputError as error:
        raise CorruptFile(folder, str(error).removeprefix(f"{folder}: ")) from None

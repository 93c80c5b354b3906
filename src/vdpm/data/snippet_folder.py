"""A snippet on disk: PNG frames, plain .npy arrays, and a JSON file that says what they mean. See docs/data.md.

    snippet.json           format, conventions, frames, size, reference, timestamps, targets, names of the arrays
    frames/00000.png       RGB, 8 bit, one a frame
    c2w.npy                float32 [frames, 4, 4], camera -> world; the world is the camera of the reference frame
    intrinsics.npy         float32 [frames, 3, 3], pixels, centres at +0.5
    points.npy             float32 [frames, height, width, 3], P_i(t_i) in the world
    target_points.npy      float32 [targets, frames, height, width, 3], P_i(t_j) in the world
    valid.npy              bool [frames, height, width], where points are known; what lies elsewhere means nothing
    dynamic.npy            bool [frames, height, width], where the point moves in the world during the clip
    target_valid.npy       bool [targets, frames, height, width]; absent: as valid
    visible.npy            bool [targets, frames, height, width], whether the point is seen in the target; may be absent
    instances.npy          int32 [frames, height, width], number of the object seen, 0 the background; may be absent
    sky.npy                bool [frames, height, width], pixels known to show nothing at any distance; may be absent

A folder may come from anywhere: nothing is unpickled, no link is followed, sizes are checked before memory is taken.
"""

import importlib.metadata
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from vdpm.archive.folder import disk_errors
from vdpm.archive.manifest import JsonFields
from vdpm.data.png import decode_png, png_form
from vdpm.errors import InputError, OutputError, UsageError
from vdpm.geometry.rigid import is_rigid
from vdpm.image_files import check_regular
from vdpm.structures import Snippet

FORMAT, FORMAT_VERSION = "vdpm.snippet", 1
SNIPPET_FILE = "snippet.json"
MAX_JSON_BYTES = 16 * 2**20
MAX_FRAME_BYTES = 2**29
MAX_FRAMES, MAX_SIDE = 10_000, 16_384
MAX_VALUES = 2**30
"""Numbers in one array: 4 GiB."""

CONVENTIONS = {
    "axes": "OpenCV: x right, y down, z forward",
    "world": "the camera of frame 'reference'",
    "unit": "that of the data the snippet was made from; translations of c2w are in the same",
    "c2w": "4 x 4, camera to world",
    "intrinsics": "3 x 3, pixels, pixel centres at +0.5",
    "points": "[frame, y, x]: the point that pixel (x, y) of the frame sees, at the frame's own time",
    "target_points": "[k, frame, y, x]: the same point at the time of frame targets[k]",
    "timestamps": "seconds",
}


@dataclass(frozen=True)
class _Array:
    """One array of a folder: its type on disk and in memory, and its shape from (targets, frames, height, width)."""

    stored: str
    read: torch.dtype
    shape: Callable[[int, int, int, int], tuple[int, ...]]
    optional: bool = False


_ARRAYS = {
    "c2w": _Array("<f4", torch.float32, lambda t, f, h, w: (f, 4, 4)),
    "intrinsics": _Array("<f4", torch.float32, lambda t, f, h, w: (f, 3, 3)),
    "points": _Array("<f4", torch.float32, lambda t, f, h, w: (f, h, w, 3)),
    "target_points": _Array("<f4", torch.float32, lambda t, f, h, w: (t, f, h, w, 3)),
    "valid": _Array("|b1", torch.bool, lambda t, f, h, w: (f, h, w)),
    "dynamic": _Array("|b1", torch.bool, lambda t, f, h, w: (f, h, w)),
    "target_valid": _Array("|b1", torch.bool, lambda t, f, h, w: (t, f, h, w), optional=True),
    "visible": _Array("|b1", torch.bool, lambda t, f, h, w: (t, f, h, w), optional=True),
    "instances": _Array("<i4", torch.int64, lambda t, f, h, w: (f, h, w), optional=True),
    "sky": _Array("|b1", torch.bool, lambda t, f, h, w: (f, h, w), optional=True),
}


def write_snippet(folder: Path | str, snippet: Snippet, source: Mapping[str, Any] | None = None) -> Path:
    """Writes one clip (no batch axis) as the folder ``folder``: beside it first, then renamed, so whole or not at all.

    Images are rounded to 8 bit, everything else comes back as it was. ``source``: plain data to store with it, such as
    what made it. Raises UsageError for a batch, OutputError where the folder exists or cannot be written.
    """
    folder = Path(folder)
    if snippet.images.dim() != 4:
        raise UsageError(f"images of shape {[*snippet.images.shape]} are a batch; write its clips one by one")
    if folder.exists() or folder.is_symlink():
        raise OutputError(f"{folder}: exists; choose another or remove it")
    beside = folder.with_name(f".{folder.name}.writing")
    with disk_errors(folder):
        if beside.exists():
            shutil.rmtree(beside)
        folder.parent.mkdir(parents=True, exist_ok=True)
        (beside / "frames").mkdir(parents=True)
        try:
            arrays = _write_arrays(beside, snippet.to("cpu"))
            content = {
                "format": FORMAT,
                "format_version": FORMAT_VERSION,
                "package_version": _package_version(),
                "conventions": CONVENTIONS,
                "num_frames": snippet.num_frames,
                "size": list(snippet.size),
                "reference": snippet.reference,
                "timestamps": snippet.timestamps.tolist(),
                "targets": snippet.targets.tolist(),
                "arrays": arrays,
                "source": dict(source or {}),
            }
            (beside / SNIPPET_FILE).write_text(json.dumps(content, indent=1, allow_nan=False))
            beside.rename(folder)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
    return folder


def read_snippet(folder: Path | str) -> Snippet:
    """The clip in ``folder``. Raises InputError, one line, for a folder that is no snippet or is damaged."""
    held = SnippetFolder(Path(folder))
    arrays = {name: held.array(name) for name in held.names}
    return Snippet(
        images=torch.stack([held.picture(frame) for frame in range(held.num_frames)]).permute(0, 3, 1, 2).float() / 255,
        timestamps=held.timestamps,
        targets=torch.tensor(held.targets, dtype=torch.long),
        reference=held.reference,
        **arrays,
    )


class SnippetFolder:
    """A snippet on disk, of which parts are read when asked for. Raises InputError, one line, where it is damaged."""

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder; give one that vdpm scenes --snippets wrote")
        path = folder / SNIPPET_FILE
        if not path.exists():
            raise InputError(f"{folder}: not a snippet ({SNIPPET_FILE} is missing)")
        _check_plain(path)
        with path.open("rb") as stream:
            content = stream.read(MAX_JSON_BYTES + 1)
        if len(content) > MAX_JSON_BYTES:
            raise InputError(f"{path}: larger than {MAX_JSON_BYTES} bytes, which no snippet's is")
        said = JsonFields.parse(content.decode(errors="replace"), path)
        if said.data.get("format") != FORMAT:
            raise InputError(f"{path}: not a snippet (its format is not {FORMAT!r})")
        version = said.integer("format_version", 1, 10**6)
        if version > FORMAT_VERSION:
            raise InputError(
                f"{path}: written in format {version}, this vdpm reads up to {FORMAT_VERSION}; upgrade vdpm"
            )
        frames = said.integer("num_frames", 1, MAX_FRAMES)
        height, width = said.integers("size", 1, MAX_SIDE, length=2)
        targets = said.frames("targets", frames)
        if 3 * max(1, len(targets)) * frames * height * width > MAX_VALUES:
            raise InputError(f"{path}: {len(targets)} targets of {frames} frames of {width} x {height} are too large")
        names = said.texts("arrays")
        needed = {name for name, array in _ARRAYS.items() if not array.optional}
        if len(set(names)) != len(names) or not needed <= set(names) <= set(_ARRAYS):
            raise InputError(f"{path}: 'arrays' names {', '.join(names)[:200]}, not those of a snippet")
        self.folder, self.names, self.targets = folder, names, targets
        self.num_frames, self.size = frames, (height, width)
        self.reference = said.integer("reference", 0, frames - 1)
        self.timestamps = torch.tensor(said.numbers("timestamps", length=frames))
        shape = (len(targets), frames, height, width)
        self._mapped = {name: _mapped(folder / f"{name}.npy", _ARRAYS[name], shape) for name in names}
        _check_cameras(self.array("c2w"), self.array("intrinsics"), folder)

    def array(self, name: str, part: tuple[int, ...] = ()) -> Tensor:
        """The array ``name``, or what lies at the place ``part`` of its first axes. Valid points in it are finite."""
        path = self.folder / f"{name}.npy"
        # Copied: what comes back must not change with the file.
        values = np.array(self._mapped[name][part])
        if _ARRAYS[name].stored == "|b1" and values.view(np.uint8).max(initial=0) > 1:
            raise InputError(f"{path}: holds values that are neither true nor false; damaged")
        found = torch.from_numpy(values).to(_ARRAYS[name].read)
        # Where the sum is finite, all are: far faster than to pick out the valid ones.
        if name in ("points", "target_points") and not bool(found.sum().isfinite()):
            per_target = name == "target_points" and "target_valid" in self.names
            mask = self.array("target_valid", part) if per_target else self.array("valid", part[name != "points" :])
            if not bool(found[mask.expand(found.shape[:-1])].isfinite().all()):
                raise InputError(f"{path}: a valid pixel's point is not finite; damaged")
        return found

    def picture(self, frame: int) -> UInt8[Tensor, "height width 3"]:
        return _read_frame(self.folder / _frame_file(frame), *self.size)


def _write_arrays(folder: Path, snippet: Snippet) -> list[str]:
    """Writes frames and arrays; returns the names of the arrays."""
    pictures = (snippet.images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    for index, picture in enumerate(pictures.numpy()):
        Image.fromarray(picture).save(folder / _frame_file(index))
    names = []
    for name, array in _ARRAYS.items():
        value = getattr(snippet, name, None)
        if value is None:
            continue
        np.save(folder / f"{name}.npy", value.numpy().astype(array.stored), allow_pickle=False)
        names.append(name)
    return names


def _mapped(path: Path, array: _Array, sizes: tuple[int, int, int, int]) -> np.ndarray:
    """An array whose type and shape are as the folder says, left on disk. Raises InputError otherwise."""
    _check_plain(path)
    try:
        # Mapped: type and shape are known before memory is taken.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise InputError(f"{path}: not an array, or damaged ({' '.join(str(error).split())[:120]})") from None
    expected = array.shape(*sizes)
    if not isinstance(mapped, np.ndarray) or mapped.dtype.str != array.stored or mapped.shape != expected:
        found = f"{mapped.dtype.str} {[*mapped.shape]}" if isinstance(mapped, np.ndarray) else "an archive"
        raise InputError(f"{path}: is {found}, not {array.stored} {[*expected]}; damaged")
    return mapped


def _read_frame(path: Path, height: int, width: int) -> UInt8[Tensor, "height width 3"]:
    _check_plain(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FRAME_BYTES + 1)
        if len(content) > MAX_FRAME_BYTES:
            raise InputError(f"{path}: larger than {MAX_FRAME_BYTES} bytes, which no frame is")
        if png_form(content) == (width, height, 3, 8):
            return torch.from_numpy(np.ascontiguousarray(decode_png(content)))
        with Image.open(BytesIO(content), formats=["PNG"]) as image:
            if image.size != (width, height) or image.mode != "RGB":
                found = f"{image.mode} of {image.size[0]} x {image.size[1]}"
                raise InputError(f"{path}: {found}, not RGB of {width} x {height}; damaged")
            return torch.from_numpy(np.array(image))
    except InputError:
        raise
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: damaged image ({' '.join(str(error).split())[:120]})") from None


def _check_cameras(c2w: Tensor, intrinsics: Tensor, folder: Path) -> None:
    """Raises InputError for cameras that are none."""
    rigid = is_rigid(c2w) & (c2w[:, 3] == torch.tensor([0.0, 0.0, 0.0, 1.0])).all(1)
    if not bool(rigid.all()):
        raise InputError(f"{folder / 'c2w.npy'}: frame {int((~rigid).nonzero()[0])} is not a rigid motion; damaged")
    usable = (intrinsics[:, 0, 0] > 0) & (intrinsics[:, 1, 1] > 0)
    if not bool((usable & intrinsics.isfinite().all((1, 2))).all()):
        raise InputError(f"{folder / 'intrinsics.npy'}: a frame has no positive focal length; damaged")


def _check_plain(path: Path) -> None:
    if path.is_symlink():
        raise InputError(f"{path}: a link; a snippet holds plain files only")
    check_regular(path)


def _frame_file(frame: int) -> str:
    return f"frames/{frame:05d}.png"


def _package_version() -> str:
    try:
        return importlib.metadata.version("vdpm")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"

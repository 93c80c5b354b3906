"""Reading a result folder: the manifest, cameras and frames at once, maps one at a time when asked for.

A folder may come from anywhere. Nothing is unpickled, no name out of a file is followed, no link either, and every size
is checked against the manifest before memory is taken for it.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vdpm.archive.manifest import (
    CAMERAS_FILE,
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    TIME_VARIANT_FILE,
    JsonFields,
    Manifest,
    WindowEntry,
    frame_file,
    map_header,
    parse_manifest,
    target_file,
)
from vdpm.errors import InputError, VDPMError
from vdpm.geometry.alignment import Similarity
from vdpm.geometry.rigid import is_rigid
from vdpm.structures import Cameras, DynamicPointMaps, PointMap, Reconstruction
from vdpm.windowed_maps import AlignedWindow, WindowedMaps

MAP_DTYPE = np.dtype("<f2")
BYTES_PER_CAMERA = 2048
"""Bound on the JSON of one camera: 25 numbers of at most 25 characters, with room for indentation."""


def load(folder: Path | str) -> Reconstruction:
    """The reconstruction in ``folder``. Frames and cameras are read now, maps one at a time when asked for.

    A result that was interrupted loads with the targets that were finished; ``provenance["state"]`` is "partial" then.
    Map files are opened for each map and closed again. Raises InputError for a folder that is no result or is damaged;
    damage inside a map is found when that map is read, and so is another result that has taken the folder's place.
    """
    folder = Path(folder)
    opened = _stamp(folder)
    manifest = read_manifest(folder)
    cameras = _read_cameras(folder, manifest)
    frames = torch.stack([_read_frame(folder, frame, manifest.size) for frame in range(manifest.num_frames)])
    read: Callable[[int | None, int], PointMap]
    together: Callable[[int], tuple[int, ...]] | None = None
    if manifest.windows:
        aligned = WindowedMaps([_aligned_window(folder, entry, manifest) for entry in manifest.windows], cameras)
        read = aligned.read

        def together(source: int) -> tuple[int, ...]:
            return tuple(target for target in aligned.together(source) if target in manifest.targets)

    else:
        time_invariant = {target: target_file(target) for target in manifest.targets}
        read = map_reader(folder, TIME_VARIANT_FILE, time_invariant, manifest.sources, manifest.sources, manifest.size)

    def read_same(target: int | None, source: int) -> PointMap:
        try:
            found: PointMap | InputError = read(target, source)
        except InputError as error:
            found = error
        # Asked afterwards, for it may have happened meanwhile.
        if _stamp(folder) not in (opened, None):
            raise InputError(f"{folder}: another result took its place after it was opened; open it again")
        if isinstance(found, InputError):
            raise found
        return found

    return Reconstruction(
        frames=frames,
        timestamps=torch.tensor(manifest.timestamps, dtype=torch.float64),
        frame_indices=torch.tensor(manifest.frame_indices, dtype=torch.int64),
        cameras=cameras,
        maps=DynamicPointMaps(
            num_frames=manifest.num_frames,
            size=manifest.size,
            targets=manifest.targets,
            sources=manifest.sources,
            read=read_same,
            seen_together=together,
        ),
        transform=manifest.transform,
        reference=manifest.reference,
        name=manifest.name,
        provenance={**manifest.provenance, "state": manifest.state},
    )


def _stamp(folder: Path) -> tuple[int, int] | None:
    """Of the result in ``folder``, which writes its cameras once; None where it is gone."""
    try:
        status = (folder / CAMERAS_FILE).stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def map_reader(
    folder: Path,
    time_variant: str,
    time_invariant: dict[int, str],
    sources: tuple[int, ...],
    moved: tuple[int, ...],
    size: tuple[int, int],
) -> Callable[[int | None, int], PointMap]:
    """``read(target, source)`` for map files in ``folder``: P of ``sources``, and for each target Q of ``moved``.

    Checks now that every file is there and has the right length. Raises InputError.
    """
    rows = {source: row for row, source in enumerate(sources)}
    moved_rows = {source: row for row, source in enumerate(moved)}
    for name, count in ((time_variant, len(sources)), *((name, len(moved)) for name in time_invariant.values())):
        with _open_maps(folder, name, count, size):
            pass

    def read(target: int | None, source: int) -> PointMap:
        if target is None:
            return _read_map(folder, time_variant, rows[source], len(sources), size)
        return _read_map(folder, time_invariant[target], moved_rows[source], len(moved), size)

    return read


def _aligned_window(folder: Path, entry: WindowEntry, manifest: Manifest) -> AlignedWindow:
    shown = entry.shown
    if shown is None:
        shown = tuple(frame for frame in entry.frames if frame in manifest.sources)
    elif missing := {*entry.frames} & {*manifest.sources} - {*shown}:
        raise InputError(f"{folder}: window {entry.number} does not show the sources {sorted(missing)}")
    time_variant, *others = entry.files()
    similarity = Similarity(*(torch.tensor(part) for part in (entry.scale, entry.rotation, entry.translation)))
    return AlignedWindow(
        frames=entry.frames,
        targets=entry.targets,
        moved=entry.moved,
        similarity=similarity,
        weight=entry.weight,
        read=map_reader(folder, time_variant, dict(zip(entry.targets, others)), shown, entry.moved, manifest.size),
        kept=shown,
    )


@dataclass(frozen=True)
class ResultSummary:
    """What a result folder holds. ``duration``: seconds; ``camera_path``: its length in the result's unit."""

    folder: Path
    name: str
    state: str
    num_frames: int
    size: tuple[int, int]
    duration: float
    frame_indices: tuple[int, ...]
    reference: int
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    targets_missing: tuple[int, ...]
    megabytes: float
    camera_path: float
    package_version: str
    provenance: dict[str, Any]
    conventions: dict[str, str]

    def lines(self) -> list[str]:
        """The summary as lines of text, for a terminal."""
        height, width = self.size
        state = self.state
        if self.targets_missing:
            state += (
                f": interrupted before {len(self.targets_missing)} of its targets ({_frames(self.targets_missing)})"
            )
        rows = {
            "result": str(self.folder),
            "video": self.name,
            "state": state,
            "frames": f"{self.num_frames} over {self.duration:.2f} s, {width} x {height} pixels",
            "in the source": f"frames {_frames(self.frame_indices)}",
            "reference": f"frame {self.reference}",
            "sources": _frames(self.sources),
            "targets": _frames(self.targets),
            "on disk": f"{self.megabytes:.1f} MB",
            "camera path": f"{self.camera_path:.3f} of the result's unit",
            "vdpm": self.package_version,
        }
        rows |= {key: _one_line(value) for key, value in self.provenance.items()}
        rows |= {f"convention {key}": _one_line(value) for key, value in self.conventions.items()}
        printable = {_printable(key, 40): _printable(value, 200) for key, value in rows.items()}
        pad = max(map(len, printable))
        return [f"{key:<{pad}}  {value}" for key, value in printable.items()]


def describe(folder: Path | str) -> ResultSummary:
    """What the result in ``folder`` holds, for ``vdpm info``; no map is read. Raises InputError as ``load`` does."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    centers = _read_cameras(folder, manifest).centers
    size = sum(_checked(folder, name).st_size for name in manifest.own_files() - set(manifest.derived))
    # Preview and clouds may have been taken away; the result is whole without them.
    drawn = [folder / name for name in manifest.derived]
    size += sum(path.lstat().st_size for path in drawn if path.is_file() and not path.is_symlink())
    return ResultSummary(
        folder=folder,
        name=manifest.name,
        state=manifest.state,
        num_frames=manifest.num_frames,
        size=manifest.size,
        duration=max(manifest.timestamps) - min(manifest.timestamps),
        frame_indices=manifest.frame_indices,
        reference=manifest.reference,
        sources=manifest.sources,
        targets=manifest.targets,
        targets_missing=tuple(target for target in manifest.targets_wanted if target not in manifest.targets),
        megabytes=size / 1e6,
        camera_path=float((centers[1:] - centers[:-1]).norm(dim=-1).sum()),
        package_version=manifest.package_version,
        provenance=manifest.provenance,
        conventions=manifest.conventions,
    )


def is_result(folder: Path | str) -> bool:
    """Whether ``folder`` holds a result, complete or partial, that this version can read."""
    try:
        read_manifest(Path(folder))
    except VDPMError:
        return False
    return True


def read_manifest(folder: Path) -> Manifest:
    """The checked manifest of ``folder``. Raises InputError."""
    if not folder.is_dir():
        if folder.with_name(f".{folder.name}.previous").is_dir():
            raise InputError(
                f"{folder}: an overwrite was cut off; its old result is in .{folder.name}.previous beside it"
            )
        problem = "not a folder" if folder.exists() else "no such folder"
        raise InputError(f"{folder}: {problem}; give the folder of a vdpm result")
    if not (folder / MANIFEST_FILE).exists():
        raise InputError(f"{folder}: not a vdpm result ({MANIFEST_FILE} is missing)")
    return parse_manifest(_read_text(folder, MANIFEST_FILE, MAX_MANIFEST_BYTES), folder / MANIFEST_FILE)


def _read_cameras(folder: Path, manifest: Manifest) -> Cameras:
    path = folder / CAMERAS_FILE
    text = _read_text(folder, CAMERAS_FILE, 4096 + BYTES_PER_CAMERA * manifest.num_frames)
    fields = JsonFields.parse(text, path)
    c2w = torch.tensor(fields.matrices("c2w", manifest.num_frames, 4))
    intrinsics = torch.tensor(fields.matrices("intrinsics", manifest.num_frames, 3))
    # 1e-2 leaves room for rotations out of a bfloat16 network, and none for a matrix that is no rotation.
    rigid = is_rigid(c2w, tolerance=1e-2) & (c2w[:, 3] == torch.tensor([0.0, 0.0, 0.0, 1.0])).all(dim=1)
    if not bool(rigid.all()):
        raise InputError(f"{path}: c2w of frame {int((~rigid).nonzero()[0])} is not a rigid motion")
    usable = (intrinsics[:, 0, 0] > 0) & (intrinsics[:, 1, 1] > 0)
    if not bool(usable.all()):
        raise InputError(f"{path}: intrinsics of frame {int((~usable).nonzero()[0])} have no positive focal length")
    return Cameras(c2w=c2w, intrinsics=intrinsics, size=manifest.size)


def _read_frame(folder: Path, frame: int, size: tuple[int, int]) -> Tensor:
    """[height, width, 3] uint8."""
    name = frame_file(frame)
    path = folder / name
    with _open(folder, name) as file:
        try:
            with Image.open(file, formats=["PNG"]) as image:
                width, height = image.size
                if (height, width) != size or image.mode != "RGB":
                    expected = f"RGB of {size[1]} x {size[0]}"
                    raise InputError(f"{path}: {image.mode} image of {width} x {height}, not {expected}; damaged")
                return torch.from_numpy(np.array(image))
        except InputError:
            raise
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise InputError(f"{path}: damaged image ({error})") from None


def _read_map(folder: Path, name: str, row: int, maps: int, size: tuple[int, int]) -> PointMap:
    height, width = size
    count = _map_bytes(size)
    with _open_maps(folder, name, maps, size) as file:
        file.seek(row * count, os.SEEK_CUR)
        content = file.read(count)
    if len(content) != count:
        raise InputError(f"{folder / name}: the file ends early")
    values = np.frombuffer(content, MAP_DTYPE).astype(np.float32).reshape(height, width, 4)
    if not np.isfinite(values).all() or values[..., 3].min() < 1:
        raise InputError(f"{folder / name}: map {row} holds values that are no points or a confidence below 1; damaged")
    points, confidence = np.ascontiguousarray(values[..., :3]), np.ascontiguousarray(values[..., 3])
    return PointMap(points=torch.from_numpy(points), confidence=torch.from_numpy(confidence))


def _open_maps(folder: Path, name: str, count: int, size: tuple[int, int]) -> BinaryIO:
    """The maps in ``name``, opened at their first value. Raises InputError unless dtype, shape and length are right."""
    path = folder / name
    expected = map_header(count, size)
    file = _open(folder, name)
    try:
        # Compared, not parsed: only the padding of the head differs between versions of NumPy.
        start = file.read(10)
        head = file.read(min(int.from_bytes(start[8:], "little"), 1024))
        if start[:8] != expected[:8] or head.split() != expected[10:].split():
            raise InputError(f"{path}: not a map file of {count} sources of {size}; damaged")
        length = file.tell() + count * _map_bytes(size)
        found = os.fstat(file.fileno()).st_size
        if found != length:
            raise InputError(f"{path}: {found} bytes instead of {length}; the file is damaged")
    except BaseException:
        file.close()
        raise
    return file


def _map_bytes(size: tuple[int, int]) -> int:
    return size[0] * size[1] * 4 * MAP_DTYPE.itemsize


def _read_text(folder: Path, name: str, limit: int) -> str:
    with _open(folder, name) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise InputError(f"{folder / name}: larger than {limit} bytes, which no vdpm result is")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise InputError(f"{folder / name}: not text") from None


def _checked(folder: Path, name: str) -> os.stat_result:
    """Raises InputError unless ``name`` is a plain file inside ``folder``, reached without a link."""
    path = folder / name
    for parent in (path, *path.parents[: name.count("/")]):
        if parent.is_symlink():
            raise InputError(f"{parent}: a link; a result folder holds plain files only")
    try:
        status = path.stat()
    except FileNotFoundError:
        raise InputError(f"{path}: missing from the result") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: not a plain file")
    return status


def _open(folder: Path, name: str) -> BinaryIO:
    _checked(folder, name)
    try:
        return open(folder / name, "rb")
    except OSError as error:
        raise InputError(f"{folder / name}: cannot be read ({error.strerror})") from None


def _frames(frames: tuple[int, ...]) -> str:
    """'0-16', '0-4, 9', or the first and last few of an irregular list."""
    runs: list[list[int]] = []
    for frame in frames:
        if runs and frame == runs[-1][1] + 1:
            runs[-1][1] = frame
        else:
            runs.append([frame, frame])
    parts = [f"{first}" if first == last else f"{first}-{last}" for first, last in runs]
    if len(parts) > 12:
        parts = [*parts[:9], "...", *parts[-2:]]
    return ", ".join(parts) or "none"


def _one_line(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_one_line(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return "; ".join(map(_one_line, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _printable(text: str, limit: int) -> str:
    """Without control characters (a forged name must not drive the terminal), cut at ``limit``."""
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= limit else text[: limit - 3] + "..."

"""The format of a result folder, and the manifest that says what the folder holds.

    reconstruction.json    this manifest: what, when, how, and which files hold it
    cameras.json           c2w (4 x 4, camera to world) and intrinsics (3 x 3, pixels) of every frame
    frames/00000.png       the network's images, RGB, 8 bit, one a frame
    maps/p.npy             P: [sources, height, width, 4] float16, P_i(t_i, pi_0) as x, y, z, confidence
    maps/q_00004.npy       Q of target 4: [sources, height, width, 4] float16, P_i(t_4, pi_0) likewise

A clip of several windows (format 2) has in place of ``maps`` a folder for each window, and in the manifest's
``windows`` which frames each holds and the similarity that takes its points to the common world:

    windows/00003/p.npy        [shown, height, width, 4], in the window's own world: sources, and frames that are moved
    windows/00003/q_00012.npy  [moved, height, width, 4], likewise

Sources lie in the order of the manifest's ``sources``. Map files are plain ``.npy``, so that
``numpy.load(path, mmap_mode="r")[k]`` reads one map without the rest.

float16 keeps 11 significant bits: a coordinate is off by at most 2^-11 (0.049 %) of itself, 0.0005 at a distance of 1.
Magnitudes above 65504, the largest float16, are stored as 65504: confidences may be that large, points in the network's
unit are not. Points are always finite.
"""

import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vdpm.errors import InputError, UsageError
from vdpm.geometry.image_transform import ImageTransform
from vdpm.structures import CONVENTIONS

FORMAT = "vdpm.reconstruction"
FORMAT_VERSION = 2
MANIFEST_FILE = "reconstruction.json"
CAMERAS_FILE = "cameras.json"
TIME_VARIANT_FILE = "maps/p.npy"

MAX_MANIFEST_BYTES = 16 * 2**20
MAX_FRAMES = 100_000
MAX_SIDE = 16_384
MAX_FRAME_PIXELS = 2**29
"""Pixels of all frames together, 1.5 GiB of RGB: a few forged PNG files must not fill the memory."""


def frame_file(frame: int) -> str:
    return f"frames/{frame:05d}.png"


def target_file(target: int) -> str:
    return f"maps/q_{target:05d}.npy"


def window_folder(number: int) -> str:
    return f"windows/{number:05d}"


def map_header(sources: int, size: tuple[int, int]) -> bytes:
    """The head of a map file, version 1.0 of NumPy's format: [sources, height, width, 4] little-endian float16."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f2", "fortran_order": False, "shape": (sources, *size, 4)})
    return head.getvalue()


@dataclass(frozen=True)
class WindowEntry:
    """A window of a long clip, as in ``windowed_maps.AlignedWindow``. ``number`` names its folder; its points x go to
    the common world by scale * rotation @ x + translation. ``shown``: frames whose maps at their own times are kept;
    results of before it was told (None) keep those of the sources.
    """

    number: int
    frames: tuple[int, ...]
    targets: tuple[int, ...]
    moved: tuple[int, ...]
    scale: float
    rotation: tuple[tuple[float, ...], ...]
    translation: tuple[float, ...]
    weight: float
    shown: tuple[int, ...] | None = None

    def files(self) -> list[str]:
        """Its map files, P first."""
        folder = window_folder(self.number)
        return [f"{folder}/p.npy", *(f"{folder}/q_{target:05d}.npy" for target in self.targets)]

    @classmethod
    def parse(cls, fields: "JsonFields", num_frames: int) -> "WindowEntry":
        """Raises InputError that names the field at fault."""
        entry = cls(
            number=fields.integer("number", 0, 99_999),
            frames=fields.frames("frames", num_frames),
            targets=fields.frames("targets", num_frames),
            moved=fields.frames("moved", num_frames),
            scale=fields.number("scale"),
            rotation=tuple(tuple(row) for row in fields.matrices("rotation", 1, 3)[0]),
            translation=fields.numbers("translation", 3),
            weight=fields.number("weight"),
            shown=None if fields.data.get("shown") is None else fields.frames("shown", num_frames),
        )
        if not entry.frames or {*entry.moved, *entry.targets, *(entry.shown or ())} - {*entry.frames}:
            raise InputError(
                f"{fields.path}: window {entry.number} shows or moves frames, or to frames, that it does not hold"
            )
        if not entry.scale > 0 or not 0 <= entry.weight <= 1 or not _is_rotation(entry.rotation):
            raise InputError(f"{fields.path}: window {entry.number} is not placed by a similarity, or has no weight")
        return entry


@dataclass(frozen=True)
class Manifest:
    """What ``reconstruction.json`` says, checked.

    ``targets`` are those on disk, ``targets_wanted`` those asked for; they differ while the result is partial.
    ``derived`` names further files that were made from the result and go when it is overwritten (preview, clouds).
    """

    name: str
    size: tuple[int, int]
    timestamps: tuple[float, ...]
    frame_indices: tuple[int, ...]
    transform: ImageTransform
    reference: int
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    targets_wanted: tuple[int, ...]
    state: str
    package_version: str
    derived: tuple[str, ...] = ()
    windows: tuple[WindowEntry, ...] = ()
    provenance: dict[str, Any] = field(default_factory=dict)
    conventions: dict[str, str] = field(default_factory=lambda: dict(CONVENTIONS))

    @property
    def num_frames(self) -> int:
        return len(self.timestamps)

    def files(self) -> dict[str, Any]:
        """Which files hold what. The names follow from the numbers of frames and targets."""
        shared = {
            "cameras": CAMERAS_FILE,
            "frames": [frame_file(frame) for frame in range(self.num_frames)],
            "derived": list(self.derived),
        }
        if self.windows:
            return {**shared, "windows": {str(entry.number): entry.files() for entry in self.windows}}
        time_invariant = {str(target): target_file(target) for target in self.targets}
        return {**shared, "time_variant": TIME_VARIANT_FILE, "time_invariant": time_invariant}

    def own_files(self) -> set[str]:
        """Every file that belongs to the result, relative to its folder."""
        files = self.files()
        maps = [name for entry in self.windows for name in entry.files()]
        if not self.windows:
            maps = [files["time_variant"], *files["time_invariant"].values()]
        return {MANIFEST_FILE, files["cameras"], *files["frames"], *maps, *self.derived}

    def dumps(self) -> str:
        """The text of ``reconstruction.json``. Raises UsageError for provenance that JSON cannot hold."""
        content: dict[str, Any] = {
            "format": FORMAT,
            "format_version": 2 if self.windows else 1,
            "package_version": self.package_version,
            "state": self.state,
            "name": self.name,
            "conventions": self.conventions,
            "num_frames": self.num_frames,
            "size": list(self.size),
            "reference": self.reference,
            "timestamps": list(self.timestamps),
            "frame_indices": list(self.frame_indices),
            "transform": self.transform.to_json(),
            "sources": list(self.sources),
            "targets": list(self.targets),
            "targets_wanted": list(self.targets_wanted),
            "files": self.files(),
            "provenance": self.provenance,
        }
        if self.windows:
            content["windows"] = [{**vars(entry), "rotation": [entry.rotation]} for entry in self.windows]
        try:
            return json.dumps(content, indent=1, allow_nan=False, default=_plain)
        except (TypeError, ValueError) as error:
            raise UsageError(f"provenance cannot be written as JSON ({error}); use numbers, text, lists") from None


def parse_manifest(text: str, path: Path) -> Manifest:
    """Checks the text of a manifest read from ``path``. Raises InputError that names the field at fault."""
    fields = JsonFields.parse(text, path)
    if fields.data.get("format") != FORMAT:
        raise InputError(f"{path}: not a vdpm result (its format is not {FORMAT!r})")
    version = fields.integer("format_version", 1, 10**6)
    if version > FORMAT_VERSION:
        made_by = fields.text("package_version")
        raise InputError(
            f"{path}: written in format {version} by vdpm {made_by[:20]!r}, this one reads up to {FORMAT_VERSION}; "
            "upgrade vdpm"
        )
    count = fields.integer("num_frames", 1, MAX_FRAMES)
    height, width = fields.integers("size", 1, MAX_SIDE, length=2)
    if count * height * width > MAX_FRAME_PIXELS:
        raise InputError(f"{path}: {count} frames of {width} x {height} exceed {MAX_FRAME_PIXELS} pixels")
    try:
        transform = ImageTransform.from_json(fields.table("transform"))
    except UsageError as error:
        raise InputError(f"{path}: 'transform' is damaged: {error}") from None
    if transform.output_size != (height, width):
        raise InputError(f"{path}: 'transform' makes images of {transform.output_size}, 'size' is {(height, width)}")
    files = JsonFields(fields.table("files"), path)
    entries = fields.tables("windows") if version > 1 else []
    manifest = Manifest(
        name=fields.text("name"),
        size=(height, width),
        timestamps=fields.numbers("timestamps", length=count),
        frame_indices=fields.integers("frame_indices", 0, 2**53, length=count),
        transform=transform,
        reference=fields.integer("reference", 0, count - 1),
        sources=fields.frames("sources", count),
        targets=fields.frames("targets", count),
        targets_wanted=fields.frames("targets_wanted", count),
        state=fields.text("state"),
        package_version=fields.text("package_version"),
        derived=tuple(check_derived_name(name, path) for name in files.texts("derived")),
        windows=tuple(WindowEntry.parse(entry, count) for entry in entries),
        provenance=fields.table("provenance"),
        conventions={key: str(value) for key, value in fields.table("conventions").items()},
    )
    if manifest.state not in ("partial", "complete"):
        raise InputError(f"{path}: 'state' is {manifest.state[:20]!r}, not 'partial' or 'complete'")
    if not manifest.sources:
        raise InputError(f"{path}: 'sources' is empty")
    shown = {frame for entry in manifest.windows for frame in entry.frames}
    if manifest.windows and not {*manifest.sources} <= shown:
        raise InputError(f"{path}: 'windows' does not hold all of 'sources'")
    if set(manifest.targets) - set(manifest.targets_wanted):
        raise InputError(f"{path}: 'targets' holds frames that 'targets_wanted' lacks")
    if files.data != manifest.files():
        # Names are never free to choose, so no manifest can point outside of its folder.
        raise InputError(f"{path}: 'files' does not name the files of this format; was the manifest edited?")
    return manifest


@dataclass(frozen=True)
class JsonFields:
    """A JSON object whose fields are taken with their type checked. Every failure is an InputError naming the field."""

    data: dict[str, Any]
    path: Path

    @classmethod
    def parse(cls, text: str, path: Path) -> "JsonFields":
        try:
            data = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite_float)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: not valid JSON ({error}); the file is damaged") from None
        if not isinstance(data, dict):
            raise InputError(f"{path}: not a JSON object")
        return cls(data, path)

    def text(self, key: str) -> str:
        return self._take(key, "text", lambda value: isinstance(value, str) and len(value) <= 4096)

    def table(self, key: str) -> dict[str, Any]:
        return self._take(key, "an object", lambda value: isinstance(value, dict))

    def integer(self, key: str, low: int, high: int) -> int:
        expected = f"a whole number from {low} to {high}"
        return self._take(key, expected, lambda value: _is_integer(value, low, high))

    def tables(self, key: str) -> list["JsonFields"]:
        values = self._list(key, "objects", lambda value: isinstance(value, dict))
        return [JsonFields(value, self.path) for value in values]

    def number(self, key: str) -> float:
        return float(self._take(key, "a number", _is_number))

    def integers(self, key: str, low: int, high: int, length: int) -> tuple[int, ...]:
        expected = f"{length} whole numbers from {low} to {high}"
        values = self._list(key, expected, lambda value: _is_integer(value, low, high))
        self._check_length(key, values, length, expected)
        return tuple(values)

    def numbers(self, key: str, length: int) -> tuple[float, ...]:
        expected = f"{length} numbers"
        values = self._list(key, expected, _is_number)
        self._check_length(key, values, length, expected)
        return tuple(float(value) for value in values)

    def frames(self, key: str, count: int) -> tuple[int, ...]:
        """Indices of frames, each at most once."""
        expected = f"frames from 0 to {count - 1}, each at most once"
        values = self._list(key, expected, lambda value: _is_integer(value, 0, count - 1))
        if len(set(values)) != len(values):
            raise InputError(f"{self.path}: {key!r} is not a list of {expected}")
        return tuple(values)

    def texts(self, key: str) -> tuple[str, ...]:
        return tuple(self._list(key, "text", lambda value: isinstance(value, str) and len(value) <= 4096))

    def matrices(self, key: str, count: int, side: int) -> list[list[list[float]]]:
        """``count`` matrices of ``side`` x ``side`` finite numbers."""
        expected = f"{count} matrices of {side} x {side} numbers"

        def is_row(row: Any) -> bool:
            return isinstance(row, list) and len(row) == side and all(_is_number(value) for value in row)

        def is_matrix(matrix: Any) -> bool:
            return isinstance(matrix, list) and len(matrix) == side and all(is_row(row) for row in matrix)

        values = self._list(key, expected, is_matrix)
        self._check_length(key, values, count, expected)
        return values

    def _take(self, key: str, expected: str, accept: Callable[[Any], bool]) -> Any:
        if key not in self.data:
            raise InputError(f"{self.path}: {key!r} is missing")
        if not accept(self.data[key]):
            raise InputError(f"{self.path}: {key!r} is not {expected}")
        return self.data[key]

    def _list(self, key: str, expected: str, accept: Callable[[Any], bool]) -> list[Any]:
        return self._take(
            key, f"a list of {expected}", lambda value: isinstance(value, list) and all(accept(item) for item in value)
        )

    def _check_length(self, key: str, values: list[Any], length: int, expected: str) -> None:
        if len(values) != length:
            raise InputError(f"{self.path}: {key!r} holds {len(values)} entries, not {expected}")


def check_derived_name(name: str, path: Path) -> str:
    """A plain relative name inside the result folder. Raises InputError for one that leaves it."""
    parts = name.split("/")
    if not name or "\\" in name or "\0" in name or any(part in ("", ".", "..") for part in parts):
        raise InputError(f"{path}: file name {name[:80]!r} leaves the result folder")
    return name


def _is_rotation(rows: tuple[tuple[float, ...], ...]) -> bool:
    """Orthogonal to 1e-3, and no reflection."""
    a, b, c = rows
    cross = (a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])
    unit = all(abs(sum(x * x for x in row) - 1) < 1e-3 for row in rows)
    right_handed = all(abs(x - y) < 1e-3 for x, y in zip(cross, c))
    return unit and abs(sum(x * y for x, y in zip(a, b))) < 1e-3 and right_handed


def _is_integer(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: Any) -> bool:
    """Finite, and within float32 after rounding."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 3e38


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not a number")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is out of range")
    return value


def _plain(value: Any) -> Any:
    """Paths, devices and dtypes as text, tuples of numpy and torch numbers as numbers."""
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return value.item()
    if isinstance(value, Path) or (type(value).__module__.split(".")[0] == "torch" and not hasattr(value, "shape")):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not plain data")

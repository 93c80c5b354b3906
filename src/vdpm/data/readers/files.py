"""Files of data sets, which may come from anywhere: sizes are bounded before memory is taken, nothing is unpickled.

Whatever is wrong with a file is one CorruptFile that names it.
"""

import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from PIL import Image
from torch import Tensor

from vdpm.data.png import decode_png, png_form
from vdpm.data.quarantine import CorruptFile
from vdpm.errors import InputError
from vdpm.geometry.rigid import is_rigid

MAX_SIDE = 16_384
MAX_PIXELS = 2**26
"""Pixels of one picture: 64 million."""
MAX_TEXT_BYTES = 64 * 2**20
MAX_PICTURE_BYTES = 2**29
MAX_ARRAY_BYTES = 2**33
"""One array of an archive: 8 GiB, which the tracks of the longest known sequences stay below."""


def list_folders(root: Path, remedy: str) -> list[Path]:
    """The folders in ``root``, by name. Raises InputError, with the ``remedy``, where there is no such folder."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; {remedy}")
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def read_bytes(path: Path, limit: int) -> bytes:
    """The whole of a plain file of at most ``limit`` bytes."""
    if not path.is_file():
        raise CorruptFile(path, "is missing, or not a plain file")
    try:
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
    except OSError as error:
        raise CorruptFile(path, f"cannot be read ({error.strerror})") from None
    if len(content) > limit:
        raise CorruptFile(path, f"is larger than {limit} bytes")
    return content


def read_rgb(path: Path, content: bytes | None = None, spare: int = 1) -> UInt8[Tensor, "height width 3"]:
    """A picture as RGB; alpha is dropped. ``content``: its bytes, where they come from within ``path``. ``spare``: the
    sides of a JPEG that are multiples of it are divided by it, which is faster to read (1, 2, 4 or 8).
    """
    data = read_bytes(path, MAX_PICTURE_BYTES) if content is None else content
    form = png_form(data)
    if form is not None and form[3] == 8:
        return torch.from_numpy(np.ascontiguousarray(_decoded(path, data)))
    with _picture(path, data, spare) as image:
        # convert copies what is RGB already.
        return torch.from_numpy(np.array(image if image.mode == "RGB" else image.convert("RGB")))


def read_gray(path: Path, content: bytes | None = None) -> Float[Tensor, "height width"]:
    """The whole numbers, 8 or 16 bit, or the floats of a picture of one channel, as they are, in float32."""
    with _picture(path, content) as image:
        if image.mode not in ("L", "P", "I", "F", "I;16", "I;16L", "I;16B"):
            raise CorruptFile(path, f"is a {image.mode} picture, not one channel of 8 or 16 bit")
        return torch.from_numpy(np.asarray(image).astype(np.float32))


def read_rgb16(path: Path, content: bytes | None = None) -> UInt16[np.ndarray, "height width 3"]:
    """The three channels of a 16 bit PNG, 0 to 65535. (Pillow would drop the lower half of each.)"""
    data = read_bytes(path, MAX_PICTURE_BYTES) if content is None else content
    form = png_form(data)
    if form is None or form[2:] != (3, 16):
        raise CorruptFile(path, "is not a PNG of three channels of 16 bit")
    return _decoded(path, data)


def read_numbers(path: Path, content: bytes | None = None) -> list[list[float]]:
    """The rows of finite numbers of a text file; lines that start with # are comments."""
    rows = []
    for number, words in enumerate(read_words(path, content), 1):
        try:
            row = [float(word) for word in words]
        except ValueError:
            raise CorruptFile(path, f"row {number} is not numbers") from None
        if not all(np.isfinite(row)):
            raise CorruptFile(path, f"row {number} holds a number that is not finite")
        rows.append(row)
    return rows


def read_words(path: Path, content: bytes | None = None) -> list[list[str]]:
    """The words of every line of a text file that is neither empty nor a comment (#)."""
    data = read_bytes(path, MAX_TEXT_BYTES) if content is None else content
    lines = (line.split() for line in data.decode("utf-8", errors="replace").splitlines())
    return [words for words in lines if words and not words[0].startswith("#")]


def check_same_size(path: Path, depth: Tensor, picture: Tensor) -> None:
    """Raises CorruptFile where the depth in ``path`` is of another size than its picture."""
    if depth.shape != picture.shape[:2]:
        raise CorruptFile(path, f"is {[*depth.shape]} high and wide, its picture {[*picture.shape[:2]]}")


def as_rigid(path: Path, matrix: np.ndarray) -> Float[Tensor, "4 4"]:
    """A 3 x 4 or 4 x 4 matrix from ``path`` as a rigid motion in float64. Refuses what is none."""
    full = np.eye(4)
    full[: matrix.shape[0]] = matrix
    motion = torch.from_numpy(full)
    # The last row is 0 0 0 1 in every file; what is near that is another kind of matrix.
    if not bool(is_rigid(motion)) or np.abs(full[3] - [0, 0, 0, 1]).max() > 1e-6:
        raise CorruptFile(path, "its camera is no rigid motion, or mirrors the world")
    return motion


def as_intrinsics(path: Path, matrix: np.ndarray, *, centre: float) -> Float[Tensor, "3 3"]:
    """A 3 x 3 matrix from ``path`` in float64, for pixel centres at +0.5.

    ``centre``: where the data set has the centre of the first pixel, 0.0 (as OpenCV's calibration) or 0.5.
    """
    k = np.array(matrix, dtype=np.float64)
    if not np.isfinite(k).all() or k[0, 0] <= 0 or k[1, 1] <= 0 or np.abs(k[2] - [0, 0, 1]).max() > 1e-6:
        raise CorruptFile(path, "its intrinsics are not those of a pinhole camera")
    k[:2, 2] += 0.5 - centre
    return torch.from_numpy(k)


class Archive:
    """The arrays of a ``.npz`` file, fetched one by one."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise CorruptFile(path, "is missing, or not a plain file")
        try:
            with zipfile.ZipFile(path) as archive:
                self.names = {info.filename.removesuffix(".npy") for info in archive.infolist()}
        except (OSError, zipfile.BadZipFile, ValueError) as error:
            raise CorruptFile(path, f"not a .npz archive ({error})") from None

    def array(self, name: str, shape: tuple[int | None, ...], mapped: bool = False) -> np.ndarray:
        """The array ``name``, of numbers or truth values, whose shape is ``shape`` (None: any length).

        ``mapped``: left on disk where it is not compressed, so that only the rows that are asked for are read.
        """
        if name not in self.names:
            raise CorruptFile(self.path, f"holds no array {name!r}")
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as stream:
                found, fortran, kind = _header(stream)
                if kind.hasobject:
                    raise CorruptFile(
                        self.path,
                        f"array {name!r} is pickled, which may run code; save it again as numbers: "
                        "np.savez(new, **{k: v for k, v in np.load(old, allow_pickle=True).items()})",
                    )
                if kind.kind not in "biuf" or len(found) != len(shape):
                    raise CorruptFile(
                        self.path, f"array {name!r} is {kind} {list(found)}, not numbers of {list(shape)}"
                    )
                if any(want is not None and want != have for want, have in zip(shape, found)):
                    raise CorruptFile(self.path, f"array {name!r} is of shape {list(found)}, not {list(shape)}")
                count = int(np.prod(found, dtype=object))
                start = self._start_of(archive, name) if mapped and not fortran else None
                if (
                    start is not None
                    and stream.tell() + count * kind.itemsize <= archive.getinfo(f"{name}.npy").file_size
                ):
                    return np.memmap(self.path, kind, "r", start + stream.tell(), found)
                if count * kind.itemsize > MAX_ARRAY_BYTES:
                    raise CorruptFile(self.path, f"array {name!r} is larger than {MAX_ARRAY_BYTES} bytes")
                data = stream.read(count * kind.itemsize)
            if len(data) != count * kind.itemsize:
                raise CorruptFile(self.path, f"array {name!r} ends early")
            return np.frombuffer(data, dtype=kind).reshape(found, order="F" if fortran else "C")
        except CorruptFile:
            raise
        except (OSError, zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
            raise CorruptFile(self.path, f"array {name!r} cannot be read ({error})") from None

    def _start_of(self, archive: zipfile.ZipFile, name: str) -> int | None:
        """Where in the file an array that is not compressed begins, its header included."""
        info = archive.getinfo(f"{name}.npy")
        if info.compress_type != zipfile.ZIP_STORED:
            return None
        with self.path.open("rb") as stream:
            stream.seek(info.header_offset + 26)
            lengths = stream.read(4)
        return info.header_offset + 30 + int.from_bytes(lengths[:2], "little") + int.from_bytes(lengths[2:], "little")


def _header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, kind = read(stream)
    return shape, fortran, kind


@contextmanager
def _picture(path: Path, content: bytes | None = None, spare: int = 1) -> Iterator[Image.Image]:
    if content is None and not path.is_file():
        raise CorruptFile(path, "is missing, or not a plain file")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(path if content is None else BytesIO(content)) as image:
                _check_size(path, *image.size)
                width, height = image.size
                if spare > 1 and not (width % spare or height % spare):
                    image.draft("RGB", (width // spare, height // spare))
                image.load()
                yield image
        except CorruptFile:
            raise
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
            raise CorruptFile(path, f"a damaged picture ({error})") from None


def _decoded(path: Path, data: bytes) -> np.ndarray:
    form = png_form(data)
    assert form is not None
    _check_size(path, *form[:2])
    try:
        return decode_png(data)
    except ValueError as error:
        raise CorruptFile(path, f"a damaged picture ({error})") from None


def _check_size(path: Path, width: int, height: int) -> None:
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= MAX_PIXELS):
        raise CorruptFile(path, f"a picture of {width} x {height} is too large, or empty")

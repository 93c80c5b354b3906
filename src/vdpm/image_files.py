"""Folders and lists of images as frames, through Pillow."""

import glob
import os
import re
import stat
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from vdpm.archive.manifest import MANIFEST_FILE
from vdpm.errors import InputError
from vdpm.video_file import MAX_PIXELS, over_white

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2", ".avif"})

_ORIENTATION = 0x0112
_SIDEWAYS = (5, 6, 7, 8)
_APPLE_SUFFIXES = frozenset({".heic", ".heif"})

_DARK = 4096
"""Where no value of 16 bit comes up to this, they hold 12 bit or fewer: at most a sixteenth of white."""

_ANIMATED = frozenset({"PNG", "WEBP", "AVIF", "TIFF"})
"""Formats whose further pictures are times or pages of equal standing. The second one in a phone's JPEG is not."""


class ImageFiles:
    """Images of one size as the frames of a video, ``rate`` a second, since images carry no times.

    Turned as their EXIF says; alpha over white; 16 bit to 8 by dropping the lower half. Raises InputError for images
    that cannot be read, are too large, hold several pictures, or differ in size.
    """

    def __init__(self, paths: Sequence[Path], name: str, rate: float) -> None:
        self.paths = paths
        self.name = name
        self.times = [index / rate for index in range(len(paths))]
        self.pixel_aspect = 1.0
        self.notes: list[str] = []
        self._brightest: int | None = None
        sizes = [_upright_size(path) for path in paths]
        self.size = sizes[0]
        for path, size in zip(paths, sizes):
            if size != self.size:
                upright = " upright" if size == self.size[::-1] else ""
                raise InputError(
                    f"{path}: is {size[1]} x {size[0]}{upright}, but {paths[0].name} is {self.size[1]} x "
                    f"{self.size[0]}; give images of one size"
                )
        if len(paths) > 1:
            self.notes.append(f"images carry no times: taken as {rate:g} a second")

    def frames(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Pictures [height, width, 3] of the images ``indices``."""
        for index in indices:
            picture, brightest = _read(self.paths[index])
            if brightest is not None:
                self._brightest = max(brightest, self._brightest or 0)
            if picture.shape[:2] != self.size:
                # Only a PNG can say so: the survey reads headers alone.
                raise InputError(f"{self.paths[index]}: its EXIF turn comes after the picture; save it again upright")
            yield picture

    def closing_notes(self) -> list[str]:
        """Whether what was read is all but black because 10 or 12 bit stand in 16."""
        if self._brightest is None or self._brightest >= _DARK:
            return []
        return [f"its 16 bit images are dark: no value is above {self._brightest} of 65535; scale them up first"]


def images_of_folder(folder: Path) -> list[Path]:
    """The images directly in a folder, in natural order (2 before 10).

    Raises InputError when there is none, when they are several pictures of each frame, such as colour and depth, and
    for the folder of a result, whose one image is its preview.
    """
    try:
        entries = list(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: the folder cannot be read ({error.strerror}); check its permissions") from None
    if folder / MANIFEST_FILE in entries:
        raise InputError(f"{folder}: is a result of vdpm already; vdpm view, page, render and export show it")
    images = _sorted_images(entries)
    if not images:
        apple = any(entry.suffix.lower() in _APPLE_SUFFIXES for entry in entries)
        found = "holds HEIC pictures, which are not read; save them as jpg" if apple else "a folder without images"
        raise InputError(f"{folder}: {found}; give a video file or a folder of jpg or png images")
    _check_one_kind(images, str(folder))
    return images


def check_no_address(path: Path) -> None:
    """Raises InputError for an address of the web, which a path holds with one slash less."""
    if re.match(r"[a-z][a-z0-9+]+:/", str(path)) and not path.exists():
        raise InputError(f"{path}: addresses are not fetched; download the video and give the file")


def is_pattern(path: Path) -> bool:
    """Whether ``path`` is a pattern of file names (* or ?), and no file of that very name is there."""
    return any(sign in str(path) for sign in "*?") and not path.exists()


def images_of_pattern(pattern: Path) -> list[Path]:
    """The images that a pattern matches, in natural order. Raises InputError as ``images_of_folder`` does."""
    images = _sorted_images([Path(name) for name in glob.glob(str(pattern))])
    if not images:
        raise InputError(f"{pattern}: matches no jpg or png images; check the pattern")
    _check_one_kind(images, str(pattern))
    return images


def _sorted_images(paths: Sequence[Path]) -> list[Path]:
    images = [path for path in paths if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")]
    return sorted(images, key=_natural)


def _check_one_kind(images: Sequence[Path], where: str) -> None:
    """Raises InputError when two or more numbers occur under two namings: frame-1.color.jpg and frame-1.depth.png."""
    numbers: dict[str, set[tuple[int, ...]]] = defaultdict(set)
    for image in images:
        numbers[re.sub(r"\d+", "*", image.name)].add(tuple(int(number) for number in re.findall(r"\d+", image.name)))
    for one, other in combinations(numbers, 2):
        if len(numbers[one] & numbers[other]) >= 2:
            raise InputError(
                f"{where}: holds {one} and {other}, two pictures of each frame; "
                f"give one kind, as '{images[0].parent / one}'"
            )


def is_folder(path: Path) -> bool:
    """Whether ``path`` is a folder. Raises InputError where there is nothing, or nothing that may be looked at."""
    return stat.S_ISDIR(_status(path).st_mode)


def check_regular(path: Path) -> None:
    """Raises InputError unless ``path`` is a plain file that may be read and is not empty, and for a HEIC picture, of
    which a reader of videos sees one tile. Never blocks.
    """
    status = _status(path)
    if stat.S_ISDIR(status.st_mode):
        raise InputError(f"{path}: is a folder inside a list of images; give the folder alone, or its files")
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{path}: is a pipe, socket or device, not a file; save the video to a file first")
    if path.suffix.lower() in _APPLE_SUFFIXES:
        raise InputError(f"{path}: HEIC pictures are not read; save it as jpg or png")
    if status.st_size == 0:
        raise InputError(f"{path}: is empty (0 bytes); copy or record it again")
    try:
        path.open("rb").close()
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}); check its permissions") from None


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file or folder; check the path") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{str(path)[:200]!r}: cannot be looked up ({reason}); check the path") from None


def _natural(path: Path) -> list[tuple[int, int | str]]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in parts if part]


def _open(path: Path) -> Image.Image:
    check_regular(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            image = Image.open(path)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            pixels = re.search(r"\d+", str(error))
            found = f"{int(pixels[0]) / 1e6:.0f} million pixels" if pixels else "its number of pixels"
            raise InputError(_too_large(path, found)) from None
        except UnidentifiedImageError:
            raise InputError(
                f"{path}: no image that can be read; copy it again, leave it out or give jpg or png"
            ) from None
        except (OSError, ValueError, SyntaxError, Warning) as error:
            raise InputError(f"{path}: a damaged image ({_one_line(error)}); copy it again or leave it out") from None
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise InputError(_too_large(path, f"{image.width} x {image.height}"))
    if image.format in _ANIMATED and (count := getattr(image, "n_frames", 1)) > 1:
        image.close()
        raise InputError(f"{path}: holds {count} pictures; save it as a video (mp4, gif) or each picture as a file")
    return image


def _upright_size(path: Path) -> tuple[int, int]:
    with _open(path) as image:
        # Not image.getexif(): that of a PNG decodes the whole picture.
        sideways = Image.Image.getexif(image).get(_ORIENTATION) in _SIDEWAYS
        return (image.width, image.height) if sideways else (image.height, image.width)


def _read(path: Path) -> tuple[np.ndarray, int | None]:
    """The picture [height, width, 3], and the largest value of one of 16 bit."""
    with _open(path) as image:
        try:
            return _rgb(ImageOps.exif_transpose(image), path)
        except (OSError, ValueError, SyntaxError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{path}: a damaged image ({_one_line(error)}); copy it again or leave it out") from None


def _rgb(image: Image.Image, path: Path) -> tuple[np.ndarray, int | None]:
    if image.mode.startswith("I;16") or image.mode == "I":
        # convert("RGB") would clip at 255 instead of scaling.
        values = np.asarray(image)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise InputError(f"{path}: holds whole numbers beyond 16 bit; convert it to an 8 or 16 bit image")
        return np.repeat((values >> 8).astype(np.uint8)[..., None], 3, axis=-1), int(values.max())
    if image.mode == "F":
        raise InputError(f"{path}: holds floating point numbers; convert it to an 8 or 16 bit image")
    if image.has_transparency_data:
        return over_white(np.asarray(image.convert("RGBA"))), None
    return np.array(image.convert("RGB")), None


def _too_large(path: Path, found: str) -> str:
    limit = f"{MAX_PIXELS / 1e6:.0f} million pixels"
    return f"{path}: its picture of {found} is above the limit of {limit}; make it smaller first"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__

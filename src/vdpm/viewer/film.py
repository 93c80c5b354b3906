"""Pictures to a film that browsers play, or to a sheet of small pictures. A file is there whole or not at all."""

import math
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.stream import VideoStream
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from vdpm.errors import OutputError, UsageError
from vdpm.export.files import replace_file, replace_path
from vdpm.progress import Report

CODECS = {
    ".mp4": (("libx264", {"crf": "17", "preset": "medium"}), ("libopenh264", {"b": "8000000"})),
    ".webm": (("libvpx-vp9", {"crf": "28", "b": "0", "row-mt": "1", "cpu-used": "4"}), ("libvpx", {"b": "6000000"})),
}
"""What each container is filled with, best first. PyAV's wheels bring x264 and libvpx."""
SHEET_GAP = 6
INK = {True: (228, 228, 226), False: (34, 34, 38)}


class Picture(NamedTuple):
    """One picture of a film. ``seconds``: of the clip that it shows."""

    pixels: UInt8[np.ndarray, "height width 3"]
    seconds: float


def write_film(path: Path, pictures: Iterable[Picture], rate: float) -> int:
    """Encode pictures of one size at ``rate`` a second; returns their number.

    Sides that are odd lose a row or column: the codecs halve the colour's resolution. Raises UsageError for a suffix
    that is not in ``CODECS``, OutputError where the file cannot be written.
    """
    name, options = _codec(path.suffix.lower())
    count = 0
    with replace_path(path) as beside:
        try:
            fast = {"movflags": "+faststart"} if path.suffix.lower() == ".mp4" else {}
            with av.open(str(beside), "w", options=fast) as container:
                stream: VideoStream | None = None
                for picture in pictures:
                    height, width = (side // 2 * 2 for side in picture.pixels.shape[:2])
                    if stream is None:
                        stream = _add_stream(container, name, options, rate, (height, width))
                    pixels = np.ascontiguousarray(picture.pixels[:height, :width])
                    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
                    frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
                    container.mux(stream.encode(frame))
                    count += 1
                if stream is None:
                    raise UsageError("the film has no picture; give a longer --seconds")
                container.mux(stream.encode())
        except FFmpegError as error:
            reason = (error.strerror or str(error)).lower()
            raise OutputError(f"cannot write {path}: {reason}; choose another place or make room") from error
    return count


def _add_stream(
    container: OutputContainer, name: str, options: dict[str, str], rate: float, size: tuple[int, int]
) -> VideoStream:
    stream = container.add_stream(name, rate=Fraction(rate).limit_denominator(1001), options=options)
    assert isinstance(stream, VideoStream)
    stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
    # BT.709 in all four; without these a player guesses the colours from the picture's height.
    context = stream.codec_context
    context.colorspace, context.color_primaries, context.color_trc, context.color_range = 1, 1, 1, 1
    return stream


def _codec(suffix: str) -> tuple[str, dict[str, str]]:
    if suffix not in CODECS:
        raise UsageError(f"films end with {' or '.join(CODECS)}, not {suffix or 'nothing'}")
    for name, options in CODECS[suffix]:
        try:
            av.Codec(name, "w")
        except (ValueError, FFmpegError):
            continue
        return name, dict(options)
    names = " nor ".join(name for name, _ in CODECS[suffix])
    raise UsageError(f"this build of PyAV has neither {names}; write another kind of film, or install PyAV's own wheel")


def write_sheet(path: Path, pictures: Sequence[Picture], *, dark: bool, width: int = 1800) -> None:
    """A PNG of all pictures in rows, each with its time, about ``width`` pixels wide. OutputError as ``write_film``."""
    height, side = pictures[0].pixels.shape[:2]
    columns = max(1, math.ceil(math.sqrt(len(pictures) * height / side * 1.3)))
    cell = (width - (columns + 1) * SHEET_GAP) // columns
    tall, label = round(cell * height / side), 22
    rows = math.ceil(len(pictures) / columns)
    sheet = Image.new("RGB", (width, rows * (tall + label + SHEET_GAP) + SHEET_GAP), (18, 19, 21) if dark else "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for n, picture in enumerate(pictures):
        x = SHEET_GAP + n % columns * (cell + SHEET_GAP)
        y = SHEET_GAP + n // columns * (tall + label + SHEET_GAP)
        sheet.paste(Image.fromarray(picture.pixels).resize((cell, tall), Image.Resampling.LANCZOS), (x, y))
        draw.text((x + 2, y + tall + 2), f"{picture.seconds:.2f} s", fill=INK[dark], font=font)
    with replace_file(path) as stream:
        sheet.save(stream, "PNG", optimize=True)


def counted(pictures: Iterable[Picture], report: Report, stage: str, total: int) -> Iterator[Picture]:
    """The same pictures, telling how many there were."""
    report(stage, 0, total)
    for done, picture in enumerate(pictures, start=1):
        yield picture
        report(stage, done, total)

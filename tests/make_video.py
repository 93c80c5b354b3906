"""Small videos for tests, written with PyAV."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RED, GREEN, BLUE = (230, 20, 20), (20, 200, 20), (20, 20, 220)


def picture(size: tuple[int, int], level: int = 0) -> np.ndarray:
    """Red at the top left, green at the top right, blue at the bottom left, a grey of ``level`` at the bottom right."""
    height, width = size
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2], image[: height // 2, width // 2 :] = RED, GREEN
    image[height // 2 :, : width // 2], image[height // 2 :, width // 2 :] = BLUE, level
    return image


def corners(image: np.ndarray) -> list[str]:
    """Names of the colours a quarter in from the top left, top right, bottom left and bottom right corner."""
    height, width = image.shape[:2]
    y, x = (height // 4, height - 1 - height // 4), (width // 4, width - 1 - width // 4)
    return [_name(image[row, column].astype(int)) for row in y for column in x]


def _name(colour: np.ndarray) -> str:
    named = {"red": RED, "green": GREEN, "blue": BLUE}
    name, distance = min(
        ((name, np.abs(colour - value).max()) for name, value in named.items()), key=lambda pair: pair[1]
    )
    if distance < 40:
        return name
    return "grey" if colour.max() - colour.min() < 12 else str(colour)


def write_video(
    path: Path,
    images: Sequence[np.ndarray],
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    stamps: Sequence[int] | None = None,
    rate: int = 24,
    options: dict[str, str] | None = None,
    rotation: int | None = None,
    sample_aspect_ratio: Fraction | None = None,
    container_options: dict[str, str] | None = None,
    source_format: str = "rgb24",
) -> Path:
    """Encode ``images``; ``stamps`` are their times in milliseconds (default: ``rate`` a second)."""
    if codec == "libx264":
        options = {"preset": "ultrafast", "crf": "12", "threads": "1", **(options or {})}
    height, width = images[0].shape[:2]
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        time_base = Fraction(1, 1000) if stamps is not None else Fraction(1, rate)
        stream.codec_context.time_base = time_base
        if sample_aspect_ratio is not None:
            stream.codec_context.sample_aspect_ratio = sample_aspect_ratio
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format=source_format)
            frame.pts = index if stamps is None else stamps[index]
            frame.time_base = time_base
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """Write [[a, b, 0], [c, d, 0], [0, 0, 1]] into the track header (tkhd) of an mp4, as a camera does."""
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4
    # Version 0: 4 bytes of version and flags, 20 of times and number, 8 reserved, 8 of layer, group, volume.
    assert data[start] == 0
    matrix = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    data[start + 40 : start + 76] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)

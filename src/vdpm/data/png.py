"""PNG files of eight or sixteen bit a channel in colour, unpacked by FFmpeg.

It takes three quarters of Pillow's time, gives all of the sixteen bit, of which Pillow drops the lower half, and minds
the checksums, which Pillow does not.
"""

from typing import Any

import numpy as np
from jaxtyping import Shaped

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {2: 3, 6: 4}
"""By PNG's type of colour: RGB, and RGB with alpha."""


def png_form(content: bytes) -> tuple[int, int, int, int] | None:
    """Width, height, channels (3 or 4) and bits of each, as the head of a file says; None for what ``decode_png`` does
    not take: other kinds of file, grey and indexed colours, interlaced pictures."""
    head = content[:33]
    if len(head) < 33 or head[:8] != _SIGNATURE or head[12:16] != b"IHDR" or head[28] != 0:
        return None
    bits, channels = head[24], _CHANNELS.get(head[25])
    if channels is None or bits not in (8, 16):
        return None
    return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big"), channels, bits


def decode_png(content: bytes) -> Shaped[np.ndarray, "height width channels"]:
    """Numbers of 8 bit, or of 16 (the high byte first), without alpha; a view of the decoder's memory.

    ``png_form`` must have found it fit, in a size that fits into memory. Raises ValueError for a file that was cut
    short or whose checksums are wrong; rows that it never had are black.
    """
    import av  # takes a while to load, and training on our own scenes needs no decoder

    form = png_form(content)
    if form is None:
        raise ValueError("not a PNG in colour that can be read")
    width, height, _, bits = form
    kind = np.dtype(np.uint8 if bits == 8 else ">u2")
    try:
        codec = av.CodecContext.create("png", "r")
        codec.thread_count = 1
        codec.options = {"err_detect": "crccheck+explode"}
        (frame,) = codec.decode(av.Packet(without_texts(content)))
    except (av.FFmpegError, ValueError):
        raise ValueError("cut short, or not what its checksums say") from None
    channels = len(frame.format.components)
    if (frame.width, frame.height) != (width, height) or frame.format.components[0].bits != bits or channels < 3:
        raise ValueError(f"unpacks to {frame.format.name} of {frame.width} x {frame.height}")
    # Rows may be longer than the picture.
    plane: Any = frame.planes[0]
    rows = np.frombuffer(plane, kind).reshape(height, plane.line_size // kind.itemsize)
    return rows[:, : width * channels].reshape(height, width, channels)[..., :3]


def without_texts(content: bytes) -> bytes:
    """The file without texts and colour profiles, which FFmpeg would unpack to whatever size they have."""
    parts, at = [content[:8]], 8
    while at < len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        if content[at + 4 : at + 8] not in (b"zTXt", b"iTXt", b"iCCP"):
            parts.append(content[at:end])
        at = end
    return b"".join(parts)

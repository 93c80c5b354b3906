"""PNG files unpacked by FFmpeg against the numbers that were written, and against Pillow."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vdpm.data.png import decode_png, png_form, without_texts
from vdpm.data.quarantine import CorruptFile
from vdpm.data.readers.files import read_rgb, read_rgb16

SIZE = (13, 37)


def noise(*channels: int, bits: int = 8) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 2**bits, (*SIZE, *channels)).astype(f"u{bits // 8}")


def packed(picture: np.ndarray) -> bytes:
    stream = BytesIO()
    Image.fromarray(picture).save(stream, format="PNG")
    return stream.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def written(picture: np.ndarray) -> bytes:
    """A PNG of 16 bit a channel, whose rows are not filtered."""
    height, width, _ = picture.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in picture)
    head = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("channels", [3, 4])
def test_eight_bit(channels: int) -> None:
    picture = noise(channels)
    content = packed(picture)
    assert png_form(content) == (37, 13, channels, 8)
    assert np.array_equal(decode_png(content), picture[..., :3])


def test_sixteen_bit_keep_all_of_them(tmp_path: Path) -> None:
    picture = noise(3, bits=16)
    assert np.array_equal(decode_png(written(picture)), picture)
    path = tmp_path / "one.png"
    path.write_bytes(written(picture))
    assert np.array_equal(read_rgb16(path), picture)
    path.write_bytes(packed(noise(3)))
    with pytest.raises(CorruptFile, match="16 bit"):
        read_rgb16(path)


@pytest.mark.parametrize("mode", ["L", "P", "LA", "RGB", "RGBA", "JPEG", "16"])
def test_pictures_of_every_kind_are_as_pillow_has_them(tmp_path: Path, mode: str) -> None:
    path, colours = tmp_path / "picture", Image.fromarray(noise(3))
    if mode == "16":
        path.write_bytes(written(noise(3, bits=16)))
    else:
        colours.convert("RGB" if mode == "JPEG" else mode).save(path, format="JPEG" if mode == "JPEG" else "PNG")
    expected = np.array(Image.open(path).convert("RGB"))
    assert np.array_equal(read_rgb(path).numpy(), expected)


def test_other_files_are_not_taken() -> None:
    content = packed(noise(3))
    interlaced = content[:28] + b"\1" + content[29:]
    for other in (b"", content[:20], interlaced, packed(noise()), b"\xff\xd8" + content[2:]):
        assert png_form(other) is None
        with pytest.raises(ValueError, match="not a PNG"):
            decode_png(other)


def test_damage_is_found(tmp_path: Path) -> None:
    content, path = packed(noise(3)), tmp_path / "damaged.png"
    draws = np.random.default_rng(5)
    cut = [content[:end] for end in draws.integers(40, len(content) - 12, 8).tolist()]
    flipped = [content[:-900] + bytes(900)]
    for place in draws.integers(41, len(content) - 16, 24).tolist():
        flipped.append(content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :])
    for damaged in (*cut, *flipped):
        path.write_bytes(damaged)
        with pytest.raises(CorruptFile, match="damaged picture") as raised:
            read_rgb(path)
        assert raised.value.path == path
        assert len(str(raised.value).splitlines()) == 1


def test_texts_and_profiles_are_not_unpacked() -> None:
    picture = noise(3)
    content = packed(picture)
    bombs = [
        chunk(name, head + zlib.compress(bytes(1 << 20))) for name, head in ((b"zTXt", b"a\0\0"), (b"iCCP", b"b\0\0"))
    ]
    loaded = content[:33] + b"".join(bombs) + content[33:]
    assert without_texts(loaded) == content
    assert np.array_equal(decode_png(loaded), picture)
    assert without_texts(content) == content
    # Lengths that reach beyond the file, and files that end in the middle of a head.
    for end in (8, 10, 35, 60):
        assert without_texts(content[:end]) == content[:end]

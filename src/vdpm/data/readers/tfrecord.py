"""TFRecord files and the ``tf.train.Example`` messages in them, without TensorFlow.

A record: uint64 length, uint32 checksum of the length, the message, uint32 checksum of the message. An Example maps
names to lists of bytes, of floats or of whole numbers. The checksum of the length is checked, which finds files that
are cut off or shifted; the pictures inside have checksums of their own.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vdpm.data.quarantine import CorruptFile

MAX_RECORD_BYTES = 2**30
_POLYNOMIAL = 0x82F63B78
"""CRC-32C (Castagnoli), reflected."""

Value = list[bytes] | np.ndarray


def record_offsets(path: Path) -> list[int]:
    """Where each record of the file starts. Raises CorruptFile for a file that ends within one."""
    if not path.is_file():
        raise CorruptFile(path, "is missing, or not a plain file")
    size, start, offsets = path.stat().st_size, 0, []
    with path.open("rb") as stream:
        while start < size:
            stream.seek(start)
            length = _length(path, stream.read(12), start)
            end = start + 16 + length
            if end > size:
                raise CorruptFile(path, f"ends within the record at byte {start}")
            offsets.append(start)
            start = end
    return offsets


def read_record(path: Path, offset: int) -> bytes:
    """The message of the record that starts at ``offset``."""
    with path.open("rb") as stream:
        stream.seek(offset)
        length = _length(path, stream.read(12), offset)
        data = stream.read(length)
    if len(data) != length:
        raise CorruptFile(path, f"ends within the record at byte {offset}")
    return data


def parse_example(path: Path, data: bytes) -> dict[str, Value]:
    """The features of an Example by name: bytes as a list, numbers as an array. ``path`` is for complaints."""
    features: dict[str, Value] = {}
    try:
        for _, whole in _fields(data):
            for _, entry in _fields(whole):
                parts = dict(_fields(entry))
                kind, content = next(_fields(parts[2]), (0, b""))
                features[bytes(parts[1]).decode()] = _values(kind, content)
    except (IndexError, KeyError, ValueError, TypeError):
        raise CorruptFile(path, "holds a record that is no Example") from None
    return features


def _values(kind: int, content: "bytes | memoryview | int") -> Value:
    """Of the lists of an Example: 1 bytes, 2 floats, 3 whole numbers. Numbers come packed, or one by one."""
    parts = [value for _, value in _fields(content)]
    if kind == 3:
        numbers = [n for part in parts for n in ([part] if isinstance(part, int) else _varints(part))]
        return np.array(numbers, dtype=np.uint64).view(np.int64)
    whole = [bytes(part) for part in parts if not isinstance(part, int)]
    return np.frombuffer(b"".join(whole), "<f4") if kind == 2 else whole


def _fields(data: "bytes | memoryview | int") -> "Iterator[tuple[int, memoryview | int]]":
    """Numbers and values of the fields of a protobuf message."""
    if isinstance(data, int):
        raise ValueError("a number where a message should be")
    view, place = memoryview(data), 0
    while place < len(view):
        tag, place = _varint(view, place)
        kind = tag & 7
        if kind == 0:
            value, place = _varint(view, place)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, place = _varint(view, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if place + length > len(view):
            raise ValueError("a field ends beyond its message")
        yield tag >> 3, view[place : place + length]
        place += length


def _varints(view: "memoryview") -> Iterator[int]:
    place = 0
    while place < len(view):
        value, place = _varint(view, place)
        yield value


def _varint(view: "memoryview", place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value & (2**64 - 1), place
        if shift > 63:
            raise ValueError("a number of more than 64 bit")


def _length(path: Path, head: bytes, offset: int) -> int:
    length = int.from_bytes(head[:8], "little")
    if len(head) != 12 or masked_crc(head[:8]) != int.from_bytes(head[8:], "little"):
        raise CorruptFile(path, f"holds no record at byte {offset} (its checksum is wrong)")
    if length > MAX_RECORD_BYTES:
        raise CorruptFile(path, f"holds a record of {length} bytes, above {MAX_RECORD_BYTES}")
    return length


def masked_crc(data: bytes) -> int:
    """CRC-32C as TFRecord stores it: turned by 15 bit and shifted by a constant."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (_POLYNOMIAL if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF

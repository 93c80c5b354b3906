"""TFRecord files and the ``tf.train.Example`` messages in them, without TensorFlow.

A record: uint64 length, uint32 checksum of the length, the message, uint32 checksum of the message. An Example maps
names to lists of bytes, of floats or of whole numbers. The checksum of the length is checked, which finds files that
are cut off or shifted; the pictures inside have checksums of their own.
"""

from pathlib import Path

import numpy as np

from vdpm.data.quarantine import CorruptFile
from vdpm.data.readers.protobuf import Field, Message, fields

MAX_RECORD_BYTES = 2**30
_POLYNOMIAL = 0x82F63B78
"""CRC-32C (Castagnoli), reflected."""

Value = list[bytes] | np.ndarray


def record_offsets(path: Path) -> list[int]:
    """Where each record of the file starts. Raises CorruptFile for a file that ends within one."""
    return [offset for offset, _ in record_heads(path, 0)]


def record_heads(path: Path, size: int) -> list[tuple[int, bytes]]:
    """Where each record of the file starts, and the first bytes of its message, at most ``size`` of them.

    Raises CorruptFile for a file that ends within a record.
    """
    if not path.is_file():
        raise CorruptFile(path, "is missing, or not a plain file")
    whole, start, heads = path.stat().st_size, 0, []
    with path.open("rb", buffering=0) as stream:
        while start < whole:
            stream.seek(start)
            head = stream.read(12 + size)
            length = _length(path, head[:12], start)
            end = start + 16 + length
            if end > whole:
                raise CorruptFile(path, f"ends within the record at byte {start}")
            heads.append((start, head[12 : 12 + length]))
            start = end
    return heads


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
        for whole in Message(data).all(1):
            for entry in Message(whole).messages(1):
                kind, content = next(fields(entry.content(2)), (0, memoryview(b"")))
                features[entry.text(1)] = _values(kind, content)
    except (IndexError, ValueError):
        raise CorruptFile(path, "holds a record that is no Example") from None
    return features


def _values(kind: int, content: Field) -> Value:
    """Of the lists of an Example: 1 bytes, 2 floats, 3 whole numbers. Numbers come packed, or one by one."""
    if isinstance(content, int):
        raise ValueError("a number where a list should be")
    values = Message(content)
    return values.integers(1) if kind == 3 else values.floats(1) if kind == 2 else [bytes(one) for one in values.all(1)]


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

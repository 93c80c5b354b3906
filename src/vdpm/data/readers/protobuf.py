"""Messages in protobuf's wire format, read without protobuf: what a field means is for the reader to know.

A message is a row of fields: a tag (number of the field times 8, plus the kind of what follows), then a number of 7 bit
a byte (kind 0), 8 bytes (1), 4 bytes (5), or a length and as many bytes (2): text, a message, or packed numbers.
Everything that does not fit raises ValueError or IndexError, and nothing is copied before its length is known to fit.
"""

from collections.abc import Iterator

import numpy as np

Content = bytes | memoryview
Field = memoryview | int


class Message:
    """The fields of one message by their numbers. Asked for one that is not there, text and numbers are 0 or empty."""

    def __init__(self, data: Content) -> None:
        self._fields: dict[int, list[Field]] = {}
        for number, value in fields(data):
            self._fields.setdefault(number, []).append(value)

    def all(self, number: int) -> list[memoryview]:
        """The contents of a field of bytes, text or messages, one for each time it is given."""
        found = [value for value in self._fields.get(number, []) if not isinstance(value, int)]
        if len(found) != len(self._fields.get(number, [])):
            raise ValueError(f"field {number} is a number where bytes should be")
        return found

    def content(self, number: int) -> memoryview:
        """The content of a field of bytes; of several the last one counts, as protobuf has it."""
        found = self.all(number)
        return found[-1] if found else memoryview(b"")

    def text(self, number: int) -> str:
        return bytes(self.content(number)).decode()

    def messages(self, number: int) -> "list[Message]":
        return [Message(content) for content in self.all(number)]

    def message(self, number: int) -> "Message":
        return Message(self.content(number))

    def integer(self, number: int) -> int:
        value = self._fields.get(number, [0])[-1]
        if not isinstance(value, int):
            raise ValueError(f"field {number} is bytes where a number should be")
        return value

    def doubles(self, number: int) -> np.ndarray:
        """A repeated field of doubles, packed or one by one."""
        return np.frombuffer(b"".join(self.all(number)), "<f8")

    def double(self, number: int) -> float:
        found = self.doubles(number)
        return float(found[-1]) if len(found) else 0.0

    def floats(self, number: int) -> np.ndarray:
        """A repeated field of floats, packed or one by one."""
        parts = self.all(number)
        return np.frombuffer(parts[0] if len(parts) == 1 else b"".join(parts), "<f4")

    def integers(self, number: int) -> np.ndarray:
        """A repeated field of whole numbers, packed or one by one; int16 or int32 where all are short, else int64."""
        parts = [
            np.array([value], dtype=np.uint64) if isinstance(value, int) else packed_numbers(value)
            for value in self._fields.get(number, [])
        ]
        numbers = parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.uint64), *parts])
        return numbers.view(numbers.dtype.name[1:])


def fields(data: Content) -> Iterator[tuple[int, Field]]:
    """Numbers and contents of the fields of a message, in their order."""
    view, place = memoryview(data), 0
    while place < len(view):
        tag, place = _number(view, place)
        kind = tag & 7
        if kind == 0:
            value, place = _number(view, place)
            yield tag >> 3, value
            continue
        if kind == 2:
            length, place = _number(view, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if place + length > len(view):
            raise ValueError("a field ends beyond its message")
        yield tag >> 3, view[place : place + length]
        place += length


def packed_numbers(data: Content) -> np.ndarray:
    """Whole numbers of 7 bit a byte, one after the other, all at once, for there may be a million: as uint16 where none
    takes more than two bytes, as uint32 up to four, else as uint64."""
    content = np.frombuffer(data, np.uint8)
    if len(content) and content[-1] > 127:
        raise ValueError("the last number has no end")
    first = np.flatnonzero(content > 127)
    if not (content[first + 1] > 127).any():
        # None takes more than two bytes, as in most files: far fewer steps.
        starts = np.ones(len(content), bool)
        starts[first + 1] = False
        short = content[starts].astype(np.uint16)
        # Each second byte left out moves what comes after it one place forward.
        place = first - np.arange(len(first))
        short[place] += content[first + 1].astype(np.uint16) * 128 - 128
        return short
    ends = np.flatnonzero(content < 128)
    starts = np.empty_like(ends)
    starts[:1], starts[1:] = 0, ends[:-1] + 1
    lengths = ends - starts + 1
    longest = int(lengths.max(initial=0))
    if longest > 10:
        raise ValueError("a number of more than 64 bit")
    bits = (content & 127).astype(np.uint32 if longest <= 4 else np.uint64)
    numbers = bits[starts]
    for byte in range(1, longest):
        longer = np.flatnonzero(lengths > byte)
        higher = np.left_shift(bits[starts[longer] + byte], bits.dtype.type(7 * byte))
        numbers[longer] = numbers[longer] + higher
    return numbers


def _number(view: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = view[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value & (2**64 - 1), place
        if shift > 63:
            raise ValueError("a number of more than 64 bit")

"""Numbers small enough for a page: positions on a grid of 16 bits, differences of neighbours, deflate, base64.

``browser/unpack.js`` is the other half; what is undone here for tests is undone there the same way.
"""

import base64
import zlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8, UInt16

LEAST_STEP = 1 / 4096
"""Of the scene's median distance. Maps are stored as float16, which rounds at 1/2048 to 1/4096 of a coordinate; finer
steps would store that noise."""


@dataclass(frozen=True, eq=False)
class PositionGrid:
    """Positions as whole ``step``s from ``low``, 0 to 65535 in each coordinate; rounding is off by ``step`` / 2."""

    low: Float[np.ndarray, "3"]
    step: float

    @classmethod
    def over(cls, low: Float[np.ndarray, "3"], high: Float[np.ndarray, "3"], typical_distance: float) -> "PositionGrid":
        """A grid over the box, no finer than ``LEAST_STEP`` of ``typical_distance``."""
        return cls(low, max(float((high - low).max()) / 65535, LEAST_STEP * typical_distance))

    def encode(self, positions: Float[np.ndarray, "*shape 3"]) -> UInt16[np.ndarray, "*shape 3"]:
        """World -> grid. Positions outside of it go to its rim."""
        return np.clip(np.rint((positions - self.low) / self.step), 0, 65535).astype(np.uint16)

    def decode(self, steps: UInt16[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape 3"]:
        """Grid -> world."""
        return self.low + steps.astype(np.float64) * self.step


def pack_positions(steps: UInt16[np.ndarray, "times points 3"]) -> bytes:
    """Differences from the point before, of those from the time before; coordinate by coordinate, low bytes first.

    Neighbours lie near each other, and move alike. 2 bytes a coordinate, which deflate makes much smaller.
    """
    values = np.ascontiguousarray(steps.transpose(0, 2, 1)).astype(np.int64)
    values = np.diff(values, axis=0, prepend=0)
    residual = np.diff(values, axis=2, prepend=0).astype(np.uint16).view(np.int16)
    folded = ((residual << 1) ^ (residual >> 15)).view(np.uint16)
    return (folded & 0xFF).astype(np.uint8).tobytes() + (folded >> 8).astype(np.uint8).tobytes()


def unpack_positions(packed: bytes, times: int, points: int) -> UInt16[np.ndarray, "times points 3"]:
    """The other way."""
    low, high = np.frombuffer(packed, np.uint8).astype(np.uint16).reshape(2, times, 3, points)
    folded = low | high << 8
    residual = (folded >> 1) ^ (0 - (folded & 1)).astype(np.uint16)
    return np.cumsum(np.cumsum(residual, axis=2), axis=0).astype(np.uint16).transpose(0, 2, 1)


def pack_bytes(values: UInt8[np.ndarray, "points channels"]) -> bytes:
    """Channel by channel, each value less the one before."""
    return np.diff(values.T.astype(np.int64), axis=1, prepend=0).astype(np.uint8).tobytes()


def unpack_bytes(packed: bytes, channels: int) -> UInt8[np.ndarray, "points channels"]:
    """The other way."""
    return np.cumsum(np.frombuffer(packed, np.uint8).reshape(channels, -1), axis=1).astype(np.uint8).T


def as_text(parts: dict[str, bytes]) -> tuple[str, dict[str, list[int]]]:
    """All parts behind each other, deflated (zlib), as base64; and where each part begins and ends once inflated."""
    places, end = {}, 0
    for name, part in parts.items():
        places[name] = [end, end + len(part)]
        end += len(part)
    return base64.b64encode(zlib.compress(b"".join(parts.values()), 9)).decode(), places


def from_text(text: str, places: dict[str, list[int]]) -> dict[str, bytes]:
    """The other way."""
    everything = zlib.decompress(base64.b64decode(text))
    return {name: everything[start:end] for name, (start, end) in places.items()}


def run_lengths(source: Int[np.ndarray, "points"], sources: tuple[int, ...]) -> list[int]:
    """How many points each source has, for points in the order of their sources."""
    return [int((source == frame).sum()) for frame in sources]

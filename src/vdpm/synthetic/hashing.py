"""Counter-based random numbers: a scene is a function of its seed alone.

Every draw is a hash of (seed, name of the draw, index), made with integer arithmetic, so the same seed gives the same
scene on any device, in any batch, and a new draw added later leaves the others as they were.
"""

import functools
import math
import zlib

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_MASK = 0xFFFFFFFF
_met: dict[str, int] = {}


def mix(x: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """A 32-bit integer hash (Wellons' lowbias32), held in int64: values in [0, 2**32)."""
    x = x & _MASK
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _MASK
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


_LATTICE = (-1918454973, -669632447, -887442657)
"""What x, y and z of a lattice cell are multiplied by before they are mixed."""


_CORNER_STEPS = tuple(
    (x * _LATTICE[0] + y * _LATTICE[1] + z * _LATTICE[2] + (1 << 31)) % (1 << 32) - (1 << 31)
    for z in (0, 1)
    for y in (0, 1)
    for x in (0, 1)
)


def lattice(
    x: Int[Tensor, "*#shape"], y: Int[Tensor, "*#shape"], z: Int[Tensor, "*#shape"], seed: Int[Tensor, "*#shape"]
) -> Float[Tensor, "*#shape"]:
    """A random number in [0, 1) for each cell of an integer lattice; int32 in, wrapping arithmetic."""
    return _scramble(x * _LATTICE[0] + y * _LATTICE[1] + z * _LATTICE[2] + seed)


def lattice_corners(cell: Int[Tensor, "3 *shape"], seed: Int[Tensor, "*#shape"]) -> Float[Tensor, "2 2 2 *shape"]:
    """``lattice`` at the eight corners of each cell: [z, y, x, ...], each axis at 0 and at 1 further."""
    first = cell[0] * _LATTICE[0] + cell[1] * _LATTICE[1] + cell[2] * _LATTICE[2] + seed
    steps = constant(_CORNER_STEPS, first.device).to(torch.int32)
    return _scramble(first + steps.view(2, 2, 2, *[1] * first.dim()))


def _scramble(h: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    h = (h ^ ((h >> 15) & 0x1FFFF)) * 0x2C1B3C6D
    h = (h ^ ((h >> 12) & 0xFFFFF)) * 0x297A2D39
    h = h ^ ((h >> 15) & 0x1FFFF)
    return (h & 0xFFFFFF).float() * (1.0 / (1 << 24))


def constant(values: tuple, device: torch.device) -> Tensor:
    """A small constant tensor, made once a device: making it anew would wait for the GPU each time.

    Inside of compiled functions it is put together from fills, which wait for nothing.
    """
    if torch.compiler.is_compiling():
        return _filled(values, device)
    return _kept(values, device)


@functools.lru_cache(maxsize=256)
def _kept(values: tuple, device: torch.device) -> Tensor:
    return torch.tensor(values, device=device)


def _filled(values: tuple, device: torch.device) -> Tensor:
    return torch.stack(
        [_filled(v, device) if isinstance(v, tuple) else torch.full((), v, device=device) for v in values]
    )


def choose(index: Int[Tensor, "*shape"], *options: Tensor | float) -> Tensor:
    """``options[index]`` elementwise; the options broadcast against ``index``."""
    result = torch.zeros_like(index, dtype=torch.float32) + options[0]
    for i, option in enumerate(options[1:], start=1):
        result = torch.where(index == i, option, result)
    return result


def seed_keys(seeds: Int[Tensor, "batch"]) -> tuple[Int[Tensor, "batch"], Int[Tensor, "batch"]]:
    """Two 32-bit keys of each seed: 64 bits in all, so that among many millions of seeds no two share their draws."""
    low, high = mix(seeds), mix((seeds >> 32) ^ 0x5BD1E995)
    return mix(low + high), mix((low ^ 0x9E3779B9) + 3 * high)


class Draws:
    """Named random draws of a batch of seeds; each returns a tensor [batch, *shape].

    All draws whose names have been met before are made at once, which on a GPU saves thousands of small kernels. What
    has been met only decides when a number is computed, never which.
    """

    def __init__(self, seeds: Int[Tensor, "batch"]) -> None:
        self.keys, self._second = seed_keys(seeds.long())
        self._columns, streams, counters = _known(seeds.device)
        self._bits = self._hash(streams, counters)
        self._unit = _to_unit(self._bits)

    @property
    def batch(self) -> int:
        return self.keys.shape[0]

    @property
    def device(self) -> torch.device:
        return self.keys.device

    def _hash(self, streams: Int[Tensor, "draws"], counters: Int[Tensor, "draws"]) -> Int[Tensor, "batch draws"]:
        return mix((mix(self.keys[:, None] + streams) ^ self._second[:, None]) + mix(counters + 1))

    def _columns_of(self, name: str, count: int) -> slice | None:
        """Where the draw stands among those made at once; None if it was not known then (it is from now on)."""
        start, known = self._columns.get(name, (0, 0))
        if known >= count:
            return slice(start, start + count)
        _met[name] = max(count, _met.get(name, 0))
        return None

    def _fresh(self, name: str, count: int) -> Int[Tensor, "batch draws"]:
        counters = torch.arange(count, device=self.device)
        return self._hash(torch.full_like(counters, zlib.crc32(name.encode())), counters)

    def bits(self, name: str, *shape: int) -> Int[Tensor, "batch *rest"]:
        """Integers in [0, 2**32)."""
        count = math.prod(shape)
        columns = self._columns_of(name, count)
        bits = self._fresh(name, count) if columns is None else self._bits[:, columns]
        return bits.reshape(self.batch, *shape)

    def uniform(self, name: str, *shape: int, low: float = 0.0, high: float = 1.0) -> Float[Tensor, "batch *rest"]:
        """Uniform in [low, high)."""
        count = math.prod(shape)
        columns = self._columns_of(name, count)
        unit = _to_unit(self._fresh(name, count)) if columns is None else self._unit[:, columns]
        unit = unit.reshape(self.batch, *shape)
        return unit if (low, high) == (0.0, 1.0) else low + (high - low) * unit

    def log_uniform(self, name: str, *shape: int, low: float, high: float) -> Float[Tensor, "batch *rest"]:
        """Log-uniform in [low, high)."""
        return torch.exp(self.uniform(name, *shape, low=math.log(low), high=math.log(high)))

    def chance(self, name: str, probability: float | Tensor, *shape: int) -> Bool[Tensor, "batch *rest"]:
        """True with the given probability (a number, or a tensor that broadcasts)."""
        return self.uniform(name, *shape) < probability

    def category(self, name: str, weights: tuple[float, ...], *shape: int) -> Int[Tensor, "batch *rest"]:
        """An index drawn with the given relative weights."""
        unit = self.uniform(name, *shape)
        index = torch.zeros_like(unit, dtype=torch.long)
        total, below = sum(weights), 0.0
        for weight in weights[:-1]:
            below += weight / total
            index = index + (unit >= below).long()
        return index

    def sign(self, name: str, *shape: int) -> Float[Tensor, "batch *rest"]:
        """-1 or 1."""
        return 1.0 - 2.0 * self.chance(name, 0.5, *shape).float()

    def direction(self, name: str, *shape: int) -> Float[Tensor, "batch *rest 3"]:
        """Unit vectors, uniform on the sphere."""
        unit = self.uniform(name, *shape, 2)
        z = unit[..., 0] * 2 - 1
        radius, angle = (1 - z * z).clamp_min(0).sqrt(), unit[..., 1] * (2 * math.pi)
        return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle), z], -1)


def _to_unit(bits: Int[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return (bits >> 8).float() * (1.0 / (1 << 24))


def _known(device: torch.device) -> tuple[dict[str, tuple[int, int]], Int[Tensor, "draws"], Int[Tensor, "draws"]]:
    """The draws met so far: the first column and number of columns of each; stream and counter of each column."""
    return _tables(tuple(_met.items()), device)


@functools.lru_cache(maxsize=16)
def _tables(
    met: tuple[tuple[str, int], ...], device: torch.device
) -> tuple[dict[str, tuple[int, int]], Int[Tensor, "draws"], Int[Tensor, "draws"]]:
    columns: dict[str, tuple[int, int]] = {}
    streams: list[int] = []
    counters: list[int] = []
    start = 0
    for name, count in met:
        columns[name] = (start, count)
        streams += [zlib.crc32(name.encode())] * count
        counters += range(count)
        start += count
    return (
        columns,
        torch.tensor(streams, dtype=torch.long, device=device),
        torch.tensor(counters, dtype=torch.long, device=device),
    )

"""Networks stored as what an earlier one lacks, so that a repository that keeps every version grows by little.

A folder holds ``base.safetensors``, the whole of a first network, and ``update-1.safetensors.xz``, ``update-2...``,
each the way from the network before it to a later one; the last is the network that the folder means. Of matrices an
update holds the difference in integers of 4 bits with a scale for each row, of everything else that in bfloat16:

    NAME::nibbles   uint8 [rows, (entries + 1) // 2], two entries a byte, the first in the upper half, each plus 8
    NAME::scale     bfloat16 or float32 [rows]
    NAME            bfloat16, of the tensor's shape

A matrix [m, n] whose difference is of low rank is held as two factors instead, ``(left * factor_scale) @ right``:

    NAME::left          int8 [rank, m], a row for each column of the factor
    NAME::right         int8 [rank, n]
    NAME::factor_scale  bfloat16 [rank], above 0, within 2 ** 20 of each other

Sums of such products have no more digits than float64, so that all machines find the same; they are rounded once, to
float32. What stays is left out. The description of the file holds as ``base`` the fingerprint of what it is the way
from, and as ``version`` 2 where there are factors, else 1.
"""

import json
import lzma
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float, Int8, UInt8
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vdpm.errors import CheckpointError, OutputError
from vdpm.model.checkpoint_file import METADATA_KEY, SCALE_SUFFIX
from vdpm.model.factors import IntegerFactors, have_exact_product, product

BASE_FILE = "base.safetensors"
UPDATE_FILE = "update-{}.safetensors.xz"
NIBBLES_SUFFIX = "::nibbles"
FACTOR_SUFFIXES = ("::left", "::right", "::factor_scale")
VERSIONS = (1, 2)
_KINDS = ({""}, {NIBBLES_SUFFIX, SCALE_SUFFIX}, set(FACTOR_SUFFIXES))
"""What an update may hold of a tensor."""
REACH = 7
"""Integers of an update go from minus to plus this."""
_OFFSET = 8
_SPARE = 2**24
"""Bytes that an update may have beyond two for each number of the network."""
_MEMORY = 2**28
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 3, "lp": 0, "pb": 0}]
"""Single bytes with nothing to align: the ranges of LZMA take 14 % less than the whole bits of zlib. Of factors they
take 5 % more than the entropy of each component's integers; by matrix rows instead of components 1 % more, in nibbles
where 4 bits do 1 % less, in nibbles with what is beyond beside them 1 to 4 % more."""


def update_files(folder: Path) -> tuple[Path, ...]:
    """The updates in ``folder``, in order. Raises CheckpointError where there are none or one in between is missing."""
    numbers = sorted(
        int(number)
        for path in folder.glob(UPDATE_FILE.format("*"))
        if (number := path.name.removeprefix("update-").partition(".")[0]).isascii() and number.isdigit()
    )
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        missing = next(number for number in range(1, len(numbers) + 2) if number not in numbers)
        raise CheckpointError(f"folder {folder} lacks {UPDATE_FILE.format(missing)}; fetch or convert the whole of it")
    return tuple(folder / UPDATE_FILE.format(number) for number in numbers)


def updated(tensors: Mapping[str, Tensor], before: str, path: Path) -> dict[str, Tensor]:
    """``tensors``, whose fingerprint is ``before``, with the update of ``path`` added.

    Raises CheckpointError for a file that is damaged, belongs to other weights, or does not fit them.
    """
    stored, base = _read(path, _limit(tensors))
    if base != before:
        raise CheckpointError(f"{path} is an update of other weights than lie beside it; fetch the whole folder again")
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in stored.items():
        of, mark, suffix = name.partition("::")
        parts.setdefault(of, {})[mark + suffix] = value
    result = dict(tensors)
    for name, held in parts.items():
        known = tensors.get(name)
        if known is None or not known.is_floating_point():
            raise CheckpointError(f"{path}: {name} is no tensor of the weights beside it; fetch the whole folder again")
        change = _change(held, known)
        if change is None:
            raise CheckpointError(f"{path}: {name} does not fit the weights beside it; fetch the whole folder again")
        result[name] = known.float() + change
    return result


def _change(held: Mapping[str, Tensor], known: Tensor) -> Tensor | None:
    """The difference of a tensor from what an update holds of it, by suffixes; None where that does not fit."""
    if held.keys() not in _KINDS:
        return None
    if "" in held:
        value = held[""]
        return value.float() if value.is_floating_point() and value.shape == known.shape else None
    if NIBBLES_SUFFIX in held:
        value, scale = held[NIBBLES_SUFFIX], held[SCALE_SUFFIX]
        entries = known[0].numel() if known.ndim >= 2 else 0
        fits = value.dtype == torch.uint8 and value.shape == (len(known), (entries + 1) // 2) and entries > 0
        fits = fits and scale.is_floating_point() and scale.shape == (len(known),)
        return (unpacked(value, entries).float() * scale.float()[:, None]).reshape(known.shape) if fits else None
    left, right, scale = (held[suffix] for suffix in FACTOR_SUFFIXES)
    if known.ndim != 2 or (left.dtype, right.dtype, scale.dtype) != (torch.int8, torch.int8, torch.bfloat16):
        return None
    rank = scale.numel()
    fits = scale.ndim == 1 and rank <= min(known.shape) and have_exact_product(scale)
    fits = fits and left.shape == (rank, len(known)) and right.shape == (rank, known.shape[1])
    return product(IntegerFactors(left.T, right, scale)) if fits else None


def scales_of_update(tensors: Mapping[str, Tensor], before: str, path: Path) -> dict[str, Float[Tensor, "rows"]]:
    """The scales of the rows of each matrix that the update of ``path`` holds in integers.

    ``tensors``, ``before`` and what is raised as in ``updated``; CheckpointError also for an update with factors.
    """
    updated(tensors, before, path)  # refuses what does not fit
    stored, _ = _read(path, _limit(tensors))
    if any(name.endswith(FACTOR_SUFFIXES) for name in stored):
        raise CheckpointError(f"{path} holds factors of low rank, which have no steps; give an update without (--rank)")
    return {
        name.removesuffix(SCALE_SUFFIX): value.float() for name, value in stored.items() if name.endswith(SCALE_SUFFIX)
    }


def write_update(
    path: Path,
    before: str,
    integers: Mapping[str, tuple[Int8[Tensor, "..."], Tensor]],
    rest: Mapping[str, Tensor],
    factors: Mapping[str, IntegerFactors] | None = None,
) -> None:
    """Write the way from the weights with fingerprint ``before``: ``integers`` of -7 to 7 and scales of the rows of
    matrices, differences of other tensors, which are stored in bfloat16, and ``factors`` of differences of low rank;
    all packed by LZMA. Tensors of ``rest`` that are zero and factors of no rank are left out; of a file with factors
    also integers that are: they have no use as steps of other updates. Raises OutputError where that fails.
    """
    content = update_content(before, integers, rest, factors)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror}); free space or choose another folder") from None
    finally:
        beside.unlink(missing_ok=True)


def update_content(
    before: str,
    integers: Mapping[str, tuple[Int8[Tensor, "..."], Tensor]],
    rest: Mapping[str, Tensor],
    factors: Mapping[str, IntegerFactors] | None = None,
) -> bytes:
    """What ``write_update`` writes."""
    present = {name: value for name, value in (factors or {}).items() if len(value.scale)}
    stored = {name: value.detach().cpu().to(torch.bfloat16).contiguous() for name, value in rest.items() if value.any()}
    for name, (values, scale) in integers.items():
        if not present or values.any():
            stored[name + NIBBLES_SUFFIX], stored[name + SCALE_SUFFIX] = packed(values.flatten(1)), scale.contiguous()
    for name, (left, right, scale) in present.items():
        assert have_exact_product(scale), name
        stored |= zip((name + suffix for suffix in FACTOR_SUFFIXES), (left.T.contiguous(), right.contiguous(), scale))
    description = json.dumps({"version": 2 if present else 1, "dtype": "int4", "base": before})
    return lzma.compress(save(stored, {"format": "pt", METADATA_KEY: description}), filters=_FILTERS)


def _limit(tensors: Mapping[str, Tensor]) -> int:
    return 2 * sum(value.numel() for value in tensors.values()) + _SPARE


def _read(path: Path, limit: int) -> tuple[dict[str, Tensor], str]:
    """Tensors as they are stored, and the fingerprint of what they are to be added to."""
    try:
        if path.stat().st_size > limit:
            raise ValueError("larger than the network")
        unpacking = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
        content = unpacking.decompress(path.read_bytes(), max_length=limit)
        if not unpacking.eof:
            raise ValueError("cut short, or larger than the network")
        stored = load(content)
        # What safetensors has read has a header: its length in 8 bytes, then JSON.
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        description = json.loads(header["__metadata__"][METADATA_KEY])
        base, version = str(description["base"]), description.get("version", 1)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, lzma.LZMAError, SafetensorError):
        raise CheckpointError(f"{path} is damaged or no update of weights; fetch the whole folder again") from None
    if version not in VERSIONS:
        raise CheckpointError(f"{path} is an update of a later make than is known here; install a newer vdpm")
    return stored, base


def packed(integers: Int8[Tensor, "rows entries"]) -> UInt8[Tensor, "rows bytes"]:
    """Two integers of -8 to 7 a byte; an odd last one has a 0 beside it."""
    shifted = integers.short() + _OFFSET
    if shifted.shape[1] % 2:
        shifted = torch.cat([shifted, torch.full_like(shifted[:, :1], _OFFSET)], dim=1)
    return (shifted[:, ::2] * 16 + shifted[:, 1::2]).to(torch.uint8)


def unpacked(values: UInt8[Tensor, "rows bytes"], entries: int) -> Int8[Tensor, "rows entries"]:
    """The integers that ``packed`` took."""
    pairs = torch.stack([values >> 4, values & 15], dim=-1).flatten(1)
    return (pairs[:, :entries].short() - _OFFSET).to(torch.int8)

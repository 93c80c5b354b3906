"""Networks stored as what an earlier one lacks, so that a repository that keeps every version grows by little.

A folder holds ``base.safetensors``, the whole of a first network, and ``update-1.safetensors.xz``, ``update-2...``,
each the way from the network before it to a later one; the last is the network that the folder means. Of matrices an
update holds the difference in integers of 4 bits with a scale for each row, of everything else that in bfloat16:

    NAME::nibbles   uint8 [rows, (entries + 1) // 2], two entries a byte, the first in the upper half, each plus 8
    NAME::scale     bfloat16 or float32 [rows]
    NAME            bfloat16, of the tensor's shape

``NAME`` and ``NAME::nibbles`` of tensors that stay are left out. The description of the file holds as ``base`` the
fingerprint of what it is the way from.
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

BASE_FILE = "base.safetensors"
UPDATE_FILE = "update-{}.safetensors.xz"
NIBBLES_SUFFIX = "::nibbles"
REACH = 7
"""Integers of an update go from minus to plus this."""
_OFFSET = 8
_SPARE = 2**24
"""Bytes that an update may have beyond two for each number of the network."""
_MEMORY = 2**28
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 6, "lc": 3, "lp": 0, "pb": 0}]
"""Single bytes with nothing to align: the ranges of LZMA take 14 % less than the whole bits of zlib."""


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
    result = dict(tensors)
    for name, value in stored.items():
        if name.endswith(SCALE_SUFFIX):
            continue
        of = name.removesuffix(NIBBLES_SUFFIX)
        known = tensors.get(of)
        if known is None or not known.is_floating_point():
            raise CheckpointError(f"{path}: {of} is no tensor of the weights beside it; fetch the whole folder again")
        if name == of:
            fits = value.is_floating_point() and value.shape == known.shape
            change = value.float() if fits else value
        else:
            scale = stored.get(of + SCALE_SUFFIX)
            entries = known[0].numel() if known.ndim >= 2 else 0
            fits = value.dtype == torch.uint8 and value.shape == (len(known), (entries + 1) // 2) and entries > 0
            fits = fits and scale is not None and scale.is_floating_point() and scale.shape == (len(known),)
            if fits and scale is not None:
                change = (unpacked(value, entries).float() * scale.float()[:, None]).reshape(known.shape)
        if not fits:
            raise CheckpointError(f"{path}: {name} does not fit the weights beside it; fetch the whole folder again")
        result[of] = known.float() + change
    return result


def scales_of_update(tensors: Mapping[str, Tensor], before: str, path: Path) -> dict[str, Float[Tensor, "rows"]]:
    """The scales of the rows of each matrix that the update of ``path`` holds in integers.

    ``tensors``, ``before`` and what is raised as in ``updated``.
    """
    updated(tensors, before, path)  # refuses what does not fit
    stored, _ = _read(path, _limit(tensors))
    return {
        name.removesuffix(SCALE_SUFFIX): value.float() for name, value in stored.items() if name.endswith(SCALE_SUFFIX)
    }


def write_update(
    path: Path,
    before: str,
    integers: Mapping[str, tuple[Int8[Tensor, "..."], Tensor]],
    rest: Mapping[str, Tensor],
) -> None:
    """Write the way from the weights with fingerprint ``before``: ``integers`` of -7 to 7 and scales of the rows of
    matrices, and differences of other tensors, which are stored in bfloat16; all packed by LZMA. Raises OutputError
    where that fails.
    """
    content = update_content(before, integers, rest)
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
) -> bytes:
    """What ``write_update`` writes."""
    stored = {name: value.detach().cpu().to(torch.bfloat16).contiguous() for name, value in rest.items()}
    for name, (values, scale) in integers.items():
        stored[name + NIBBLES_SUFFIX], stored[name + SCALE_SUFFIX] = packed(values.flatten(1)), scale.contiguous()
    description = json.dumps({"version": 1, "dtype": "int4", "base": before})
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
        return stored, str(json.loads(header["__metadata__"][METADATA_KEY])["base"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, lzma.LZMAError, SafetensorError):
        raise CheckpointError(f"{path} is damaged or no update of weights; fetch the whole folder again") from None


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

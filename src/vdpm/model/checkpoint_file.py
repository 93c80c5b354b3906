"""State dicts on disk: safetensors and PyTorch files read with suspicion, safetensors written whole or not at all."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vdpm.errors import CheckpointError, OutputError
from vdpm.model.config import VDPMConfig

StoredType = Literal["float32", "bfloat16", "int8"]

METADATA_KEY = "vdpm"
SCALE_SUFFIX = "::scale"
INT8_LEVELS = 127
INT8_MIN_NUMEL = 1024
"""Smaller weights stay in float32: the last layers before an exponential are among them and cost next to nothing."""

WRAPPERS = ("model", "state_dict", "model_state_dict")
PARALLEL_PREFIX = "module."
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True)
class StoredState:
    """Tensors of a file, int8 already turned back to float32, and the configuration where the file holds one."""

    tensors: dict[str, Tensor]
    config: VDPMConfig | None


def read_state(path: Path) -> StoredState:
    """Read a .safetensors file or a PyTorch file (tensors only: nothing in it is run).

    State dicts wrapped in {"model": ...} or {"state_dict": ...} and names with the prefix "module." are unwrapped.
    Raises CheckpointError for a file that is missing, damaged, no state dict, or holds other Python objects.
    """
    if not path.is_file():
        what = "is not a regular file" if path.exists() else "does not exist"
        raise CheckpointError(f"checkpoint {path} {what}; give a .safetensors or .pt file, or a folder with one")
    if path.suffix.lower() == ".safetensors":
        return _read_safetensors(path)
    return StoredState(_read_torch(path), None)


def write_state(
    path: Path,
    tensors: Mapping[str, Tensor],
    config: VDPMConfig,
    dtype: StoredType | None,
    integers: Mapping[str, tuple[Tensor, Tensor]] | None = None,
) -> None:
    """Write tensors and configuration to a .safetensors file, beside it first and then renamed into place.

    ``dtype`` None keeps each tensor's own. "int8" stores weights of two or more axes by rows of their first axis:
    integers of -127 to 127 and one float32 scale a row; the rest as float32. ``integers``: those of some weights and
    their scales, where they are not to be rounded to the nearest.
    """
    stored: dict[str, Tensor] = {}
    for name, value in tensors.items():
        tensor = value.detach().cpu()
        if dtype == "int8" and is_quantized(name, tensor):
            known = (integers or {}).get(name)
            stored[name], stored[name + SCALE_SUFFIX] = quantize_rows(tensor) if known is None else known
        elif dtype is None:
            stored[name] = tensor.contiguous()
        else:
            stored[name] = tensor.to(torch.bfloat16 if dtype == "bfloat16" else torch.float32).contiguous()
    description = json.dumps({"version": 1, "dtype": dtype, "config": config.to_dict()})
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.touch()
        permissions = beside.stat().st_mode
        save_file(stored, beside, metadata={"format": "pt", METADATA_KEY: description})
        # safetensors lets nobody but the owner read what it writes.
        beside.chmod(permissions)
        os.replace(beside, path)
    except (OSError, SafetensorError) as error:
        told = _first_line(error).replace(str(beside), str(path))
        raise OutputError(f"cannot write {path} ({told}); free space or choose another folder") from None
    finally:
        beside.unlink(missing_ok=True)


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """``weight`` [rows, ...] -> int8 of its shape and float32 scales [rows]; off by at most half a scale."""
    rows = weight.float().flatten(1)
    scale = row_scales(rows)
    safe = torch.where(scale > 0, scale, torch.ones_like(scale))
    integers = (rows / safe[:, None]).round().clamp(-INT8_LEVELS, INT8_LEVELS).to(torch.int8)
    return integers.reshape(weight.shape), scale


def dequantize_rows(integers: Tensor, scale: Tensor) -> Tensor:
    """The float32 weight that ``quantize_rows`` stored."""
    return integers.float() * scale.float().reshape(-1, *[1] * (integers.ndim - 1))


def row_scales(rows: Float[Tensor, "*rows entries"]) -> Float[Tensor, "*rows"]:
    """The smallest scales with which integers of 8 bits reach every entry."""
    return rows.abs().amax(dim=-1) / INT8_LEVELS


def is_quantized(name: str, tensor: Tensor) -> bool:
    """Whether "int8" stores this tensor as integers."""
    return tensor.ndim >= 2 and name.endswith(".weight") and tensor.numel() >= INT8_MIN_NUMEL


def _read_safetensors(path: Path) -> StoredState:
    tensors: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118, the handle is no mapping
                tensors[name] = file.get_tensor(name)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(
            f"checkpoint {path} is damaged or no safetensors file ({_first_line(error)}); fetch or save it again"
        ) from None
    return StoredState(_restore_int8(tensors, path), _stored_config(metadata.get(METADATA_KEY), path))


def _stored_config(description: str | None, path: Path) -> VDPMConfig | None:
    if description is None:
        return None
    try:
        return VDPMConfig.from_dict(json.loads(description)["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"checkpoint {path} holds a configuration that cannot be read ({_first_line(error)}); save it again"
        ) from None


def _restore_int8(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    restored: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE_SUFFIX):
            continue
        scale = tensors.get(name + SCALE_SUFFIX)
        if tensor.dtype == torch.int8:
            if scale is None or tensor.ndim < 2 or scale.shape != tensor.shape[:1]:
                raise CheckpointError(f"checkpoint {path}: int8 tensor {name} lacks scales of its rows; save it again")
            tensor = dequantize_rows(tensor, scale)
        restored[name] = tensor
    return restored


def _read_torch(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes raise anything from KeyError to UnpicklingError
        if "Unsupported global" in str(error) or "Unsupported class" in str(error):
            reason = "holds Python objects other than tensors, which could run code; save its plain state dict"
        else:
            reason = "is damaged or no PyTorch file; fetch or save it again"
        raise CheckpointError(f"checkpoint {path} {reason}") from None
    return _unwrap(content, path)


def _unwrap(content: Any, path: Path) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if wrapper is None:
            break
        content = content[wrapper]
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"checkpoint {path} holds no state dict (names with tensors); save model.state_dict()")
    names = [str(name) for name in content]
    if all(name.startswith(PARALLEL_PREFIX) for name in names):
        names = [name.removeprefix(PARALLEL_PREFIX) for name in names]
    return dict(zip(names, content.values()))


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{lines[0][:160]}" if lines else type(error).__name__

"""What a model said of a clip, as a file: one ``.npz`` a clip, written whole or not at all, nothing pickled in it.

Pairs and snippets (two-view, tracking), F frames, T targets, S sources, pictures of h x w:

    points      [T, S, h, w, 3]  P_i(t_j) in the camera of the clip's first frame, any unit
    own         [S, h, w, 3]     P_i(t_i) of the sources; may be absent: then ``points`` answers for own times
    c2w         [F, 4, 4]        camera to that world; may be absent: then what needs cameras is not scored
    intrinsics  [F, 3, 3]        in pixels of h x w, centres at +0.5; may be absent likewise
    visible     [T, S, h, w]     whether the point is seen at that time; may be absent likewise

Whole sequences: ``depth`` [F, h, w], z in each frame's own camera (video-depth); ``c2w`` [F, 4, 4] (camera-pose).

Any float type and any h x w will do; maps come to the size of the truth bilinearly, depth bicubically. Files that vdpm
writes are smaller: they hold the points that can be scored, one after the other [K, 3], and say in ``stored`` and
``own_stored`` (one bit a pixel, rows of bytes) which these are; ``size`` is h, w; numbers count times ``unit``.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from vdpm.archive.folder import disk_errors, write_whole
from vdpm.data.readers.files import MAX_SIDE, Archive
from vdpm.errors import InputError
from vdpm.evaluation.protocol import Prediction

Precision = Literal["float16", "float32"]

_REMEDY = "delete it and predict again"
_FLOAT16_REACH = 1024.0
"""Largest stored number: as far from overflow as from the loss of digits in small ones."""


@dataclass(frozen=True, eq=False)
class MapAnswer:
    """Points asked for, and where they were given; cameras and visibility are None where the model did not say."""

    at_targets: Float[Tensor, "targets sources height width 3"]
    stored: Bool[Tensor, "targets sources height width"]
    own: Float[Tensor, "sources height width 3"]
    own_stored: Bool[Tensor, "sources height width"]
    c2w: Float[Tensor, "frames 4 4"] | None
    intrinsics: Float[Tensor, "frames 3 3"] | None
    visible: Bool[Tensor, "targets sources height width"] | None


def save_maps(
    path: Path,
    said: Prediction,
    sources: Sequence[int],
    keep: Bool[Tensor, "targets sources height width"],
    keep_own: Bool[Tensor, "sources height width"],
    precision: Precision,
) -> None:
    """One clip's answer at the pixels to keep. Raises InputError for points that are not finite there, OutputError
    where the file cannot be written.
    """
    points, own = said.at_targets[keep], said.time_variant[list(sources)][keep_own]
    if not bool(points.isfinite().all() and own.isfinite().all() and said.c2w.isfinite().all()):
        raise InputError(f"{path.stem}: the model's answer holds numbers that are not finite; it cannot be scored")
    unit = _unit(precision, points, own)
    arrays: dict[str, np.ndarray] = {
        "size": np.array(keep.shape[-2:]),
        "unit": np.array(unit),
        "points": _numbers(points, unit, precision),
        "stored": _bits(keep),
        "own": _numbers(own, unit, precision),
        "own_stored": _bits(keep_own),
        "c2w": said.c2w.double().cpu().numpy(),
        "intrinsics": said.intrinsics.double().cpu().numpy(),
    }
    if said.visible is not None:
        arrays["visible"] = _bits(said.visible)
    _write(path, arrays)


def load_maps(path: Path, frames: int, targets: int, sources: int, size: tuple[int, int]) -> MapAnswer:
    """The answer at the ``size`` of the truth. Raises InputError, one line, for a file that is damaged or of another
    clip, or points that are not finite.
    """
    archive = _Checked(path)
    if "stored" in archive.names:
        if tuple(archive.array("size", (2,)).tolist()) != size:
            raise InputError(f"{path}: is of pictures of another size than {size[1]} x {size[0]}; {_REMEDY}")
        unit = float(archive.array("unit", ()))
        stored = archive.bits("stored", (targets, sources), size)
        own_stored = archive.bits("own_stored", (sources,), size)
        at_targets = _placed(archive.floats("points", (int(stored.sum()), 3)), stored, unit)
        own = _placed(archive.floats("own", (int(own_stored.sum()), 3)), own_stored, unit)
        visible = archive.bits("visible", (targets, sources), size) if "visible" in archive.names else None
        k = archive.floats("intrinsics", (frames, 3, 3))
    else:
        found = archive.floats("points", (targets, sources, None, None, 3))
        given = (found.shape[2], found.shape[3])
        at_targets = _resized(found, size)
        own = torch.zeros(0)
        if "own" in archive.names:
            own = _resized(archive.floats("own", (sources, *given, 3)), size)
        stored = torch.ones(at_targets.shape[:-1], dtype=torch.bool)
        own_stored = torch.ones(own.shape[:-1], dtype=torch.bool)
        visible, k = None, None
        if "visible" in archive.names:
            told = torch.from_numpy(archive.array("visible", (targets, sources, *given)) > 0).float()
            visible = F.interpolate(told, size=size, mode="nearest-exact") > 0.5
        if "intrinsics" in archive.names:
            k = archive.floats("intrinsics", (frames, 3, 3)).clone()
            k[:, 0] *= size[1] / given[1]
            k[:, 1] *= size[0] / given[0]
    c2w = archive.floats("c2w", (frames, 4, 4)) if "c2w" in archive.names else None
    if not own.numel() and sources:
        own, own_stored = torch.zeros(sources, *size, 3), torch.zeros(sources, *size, dtype=torch.bool)
    return MapAnswer(at_targets, stored, own, own_stored, c2w, k, visible)


def save_depth(path: Path, depth: Float[Tensor, "frames height width"], precision: Precision) -> None:
    """z of every frame. Raises as ``save_maps``."""
    if not bool(depth.isfinite().all()):
        raise InputError(f"{path.stem}: the model's depth holds numbers that are not finite; it cannot be scored")
    unit = _unit(precision, depth)
    _write(path, {"depth": _numbers(depth, unit, precision), "unit": np.array(unit)})


def load_depth(path: Path, frames: int) -> Float[Tensor, "frames height width"]:
    """z of every frame, at the size that the model gave it. Raises as ``load_maps``."""
    archive = _Checked(path)
    unit = float(archive.array("unit", ())) if "unit" in archive.names else 1.0
    return archive.floats("depth", (frames, None, None)) * unit


def save_path(path: Path, c2w: Float[Tensor, "frames 4 4"]) -> None:
    """Cameras of every frame. Raises as ``save_maps``."""
    if not bool(c2w.isfinite().all()):
        raise InputError(f"{path.stem}: the model's cameras hold numbers that are not finite; they cannot be scored")
    _write(path, {"c2w": c2w.double().cpu().numpy()})


def load_path(path: Path, frames: int) -> Float[Tensor, "frames 4 4"]:
    """Cameras of every frame, float64. Raises as ``load_maps``."""
    archive = _Checked(path)
    return torch.from_numpy(archive.array("c2w", (frames, 4, 4)).astype(np.float64))


def bicubic(depth: Float[Tensor, "frames height width"], size: tuple[int, int]) -> Float[Tensor, "frames h w"]:
    """Depth at another size, as published evaluations bring predictions to the truth's."""
    if depth.shape[-2:] == size:
        return depth
    return F.interpolate(depth[:, None], size=size, mode="bicubic", align_corners=False)[:, 0]


class _Checked:
    """An archive whose complaints say what to do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._archive = Archive(path)
        except InputError as error:
            raise InputError(f"{error}; {_REMEDY}") from None
        self.names = self._archive.names

    def array(self, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
        try:
            return self._archive.array(name, shape)
        except InputError as error:
            raise InputError(f"{error}; {_REMEDY}") from None

    def floats(self, name: str, shape: tuple[int | None, ...]) -> Tensor:
        found = self.array(name, shape)
        if any(side > MAX_SIDE for side in found.shape[-3:-1] if len(shape) > 3):
            raise InputError(f"{self.path}: {name!r} is of {list(found.shape)}, larger than any picture; {_REMEDY}")
        if not np.isfinite(found).all():
            raise InputError(f"{self.path}: {name!r} holds numbers that are not finite; {_REMEDY}")
        return torch.from_numpy(found.astype(np.float32))

    def bits(self, name: str, lead: tuple[int, ...], size: tuple[int, int]) -> Tensor:
        count = size[0] * size[1]
        packed = self.array(name, (*lead, (count + 7) // 8))
        if packed.dtype != np.uint8:
            raise InputError(f"{self.path}: {name!r} is not bytes of bits; {_REMEDY}")
        return torch.from_numpy(np.unpackbits(packed, axis=-1, count=count).astype(bool).reshape(*lead, *size))


def _bits(mask: Tensor) -> np.ndarray:
    return np.packbits(mask.flatten(-2).cpu().numpy(), axis=-1)


def _unit(precision: Precision, *values: Tensor) -> float:
    """A power of two, so that no digit is lost by it."""
    largest = max((value.abs().max().item() for value in values if value.numel()), default=0.0)
    return 1.0 if precision == "float32" or largest == 0 else float(2.0 ** np.ceil(np.log2(largest / _FLOAT16_REACH)))


def _numbers(values: Tensor, unit: float, precision: Precision) -> np.ndarray:
    return (values.double() / unit).cpu().numpy().astype(precision)


def _placed(values: Tensor, where: Tensor, unit: float) -> Tensor:
    full = torch.zeros(*where.shape, 3)
    full[where] = values * unit
    return full


def _resized(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """[..., h, w, 3] -> the same of ``size``, bilinearly."""
    if maps.shape[-3:-1] == size:
        return maps
    flat = maps.reshape(-1, *maps.shape[-3:]).permute(0, 3, 1, 2)
    grown = F.interpolate(flat, size=size, mode="bilinear", align_corners=False)
    return grown.permute(0, 2, 3, 1).reshape(*maps.shape[:-3], *size, 3)


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    content = io.BytesIO()
    cast(Any, np.savez)(content, **arrays)
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, [content.getvalue()])

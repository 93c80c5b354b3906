"""The grid of an update: which networks a file with its steps can hold, and the one of them that is nearest to another.

Training computes with that network while its learning rate falls (``training.grid``), so that what is stored at the end
is what has been trained.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.errors import CheckpointError
from vdpm.model.checkpoint_file import read_state
from vdpm.model.rounding import SCALE_DIGITS, Compacted, check_size, few_digits, finest_of_size
from vdpm.model.updates import REACH, scales_of_update, update_content, updated
from vdpm.model.vdpm import VDPM
from vdpm.model.weights import fingerprint, locate_weights
from vdpm.progress import Report, silent

SMALLEST_SCALE = 1e-30
"""Stands for a scale of 0, of rows that an update leaves as they are."""
MOST_FACTOR = 16.0
"""Steps are multiplied or divided by at most this to reach a size."""
ROUNDS = 9
STEPS_TRIED = 24
"""How many factors are tried for the one that loses least, whatever the file's size."""


@dataclass(frozen=True)
class UpdateGrid:
    """``base``: the tensors that an update is added to; ``scales`` [rows] of the matrices that it holds in integers,
    each the distance from integer to integer. Of everything else it holds the difference in bfloat16. ``held``: the
    network of the update that the grid is from, which stands on it."""

    base: Mapping[str, Tensor]
    scales: Mapping[str, Tensor]
    held: Mapping[str, Tensor] | None = None

    @property
    def fingerprint(self) -> str:
        """The same for two grids that are."""
        return fingerprint({**self.base, **{f"scales of {name}": value for name, value in self.scales.items()}})

    def scale_of(self, name: str) -> Tensor:
        """The scale of each entry of the tensor ``name``, to be broadcast; 0 where it is not held in integers."""
        if name not in self.scales:
            return torch.zeros(())
        return self.scales[name].clamp_min(SMALLEST_SCALE).reshape(-1, *[1] * (self.base[name].ndim - 1))

    def nearest_to(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What is loaded of an update that holds ``tensors``."""
        return {name: on_grid(value.float(), self.base[name], self.scale_of(name)) for name, value in tensors.items()}

    def update_to(self, tensors: Mapping[str, Tensor]) -> Compacted:
        """The same as it is stored: the way from the base. An entry that is the base's as bfloat16, in which trained
        networks are kept, has not gone any."""
        integers, rest = {}, {}
        for name, value in tensors.items():
            way = _way(value.detach().cpu().float(), self.base[name])
            if name in self.scales:
                integers[name] = nearest(way, self.scale_of(name)).to(torch.int8), self.scales[name]
            else:
                rest[name] = way.to(torch.bfloat16).float()
        return Compacted(integers, rest)


def read_update_grid(source: str | Path) -> UpdateGrid:
    """The grid of the last update of the folder or preset ``source``.

    Raises CheckpointError where it holds no update, or one that does not fit what it belongs to.
    """
    located = locate_weights(source)
    if not located.updates:
        raise CheckpointError(f"{source} holds no update; give a folder made by vdpm convert --update-of")
    *earlier, last = located.updates
    base = read_state(located.file).tensors
    for path in earlier:
        base = updated(base, fingerprint(base), path)
    before = fingerprint(base)
    held, scales = updated(base, before, last), scales_of_update(base, before, last)
    return UpdateGrid({name: value.float() for name, value in base.items()}, scales, held)


def update_with_steps_of(
    source: str | Path,
    model: VDPM,
    before: Mapping[str, Tensor],
    mib: float | None = None,
    report: Report = silent,
) -> Compacted:
    """The update from ``before`` to ``model``, to the nearest integers with the steps of the last one in ``source``.

    ``mib``: all steps are multiplied by one factor, the smallest with which the file takes no more MiB, but for those
    with which more is lost of what goes beyond the integers' reach than finer steps win. Raises CheckpointError where
    ``source`` holds none, or one of another network, UsageError for a size out of reach.
    """
    if mib is not None:
        check_size(mib)
    grid = read_update_grid(source)
    if {name: value.shape for name, value in grid.base.items()} != {
        name: value.shape for name, value in before.items()
    }:
        raise CheckpointError(f"{source} is an update of another network; take the steps of one of the same")
    grid = UpdateGrid(before, grid.scales)
    return grid.update_to(model.state_dict()) if mib is None else _of_size(grid, model.state_dict(), mib, report)


def _of_size(grid: UpdateGrid, tensors: Mapping[str, Tensor], mib: float, report: Report) -> Compacted:
    widest = math.log(MOST_FACTOR)
    tried = [-widest + 2 * widest * n / STEPS_TRIED for n in range(STEPS_TRIED)]
    nearest_yet = min(tried, key=partial(_error, grid, tensors))
    return finest_of_size(mib, partial(_at, grid, tensors), (nearest_yet, widest), ROUNDS, report)


def _error(grid: UpdateGrid, tensors: Mapping[str, Tensor], logarithm: float) -> float:
    """Sum of squares of what all steps times the exponential of ``logarithm`` lose of the way."""
    total = 0.0
    for name in grid.scales:
        way = _way(tensors[name].detach().cpu().float(), grid.base[name])
        scale = grid.scale_of(name) * math.exp(logarithm)
        total += float((way - nearest(way, scale) * scale).square().sum())
    return total


def _way(value: Tensor, base: Tensor) -> Tensor:
    way = value - base
    return torch.where(value == base.to(torch.bfloat16).float(), torch.zeros_like(way), way)


def _at(grid: UpdateGrid, tensors: Mapping[str, Tensor], logarithm: float) -> tuple[Compacted, float]:
    """The update with all steps times the exponential of ``logarithm``, and its MiB."""
    scales = {name: few_digits(value * math.exp(logarithm), SCALE_DIGITS) for name, value in grid.scales.items()}
    update = UpdateGrid(grid.base, scales).update_to(tensors)
    return update, len(update_content("", update.integers, update.rest)) / 2**20


def on_grid(
    values: Float[Tensor, "*shape"], base: Float[Tensor, "*shape"], scale: Float[Tensor, "..."]
) -> Float[Tensor, "*shape"]:
    """What is loaded of ``values`` stored as an update of ``base``; where ``scale`` is 0, not in integers."""
    way = _way(values, base)
    return base + torch.where(scale > 0, nearest(way, scale) * scale, way.to(torch.bfloat16).float())


def nearest(way: Float[Tensor, "*shape"], scale: Float[Tensor, "..."]) -> Float[Tensor, "*shape"]:
    """The integers of -7 to 7 for the differences ``way``."""
    return (way / scale.clamp_min(SMALLEST_SCALE)).round().clamp(-REACH, REACH)

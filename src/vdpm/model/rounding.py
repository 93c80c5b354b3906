"""Matrices on a coarse grid of integers, rounded so that what the network computes changes least.

Column after column, the error of rounding is made good in the columns still to come, as far as the inputs of the matrix
go together (GPTQ, Frantar et al., 2023). How they do is measured on clips that the network is run on.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Float64, Int8
from torch import Tensor, nn

from vdpm.model.checkpoint_file import INT8_LEVELS, is_quantized, row_scales

FINE_STEP = 0.12
"""The step of matrices outside of the transformers' blocks: those are few, and nothing after them makes up for it."""
COARSE = ("frame_blocks.", "global_blocks.")
_DAMPING = 0.01
_COLUMNS = 64


def second_moments(network: nn.Module, run: Callable[[], object]) -> dict[str, Float[Tensor, "inputs inputs"]]:
    """Sums of the products of any two inputs of each matrix, by the name of its weight, over all that ``run`` feeds
    to ``network``. A convolution is a matrix whose inputs are a window's values; those in groups, or with padding told
    by name, are left out."""
    sums: dict[str, Tensor] = {}

    def add(name: str, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        values = inputs[0].detach().float()
        if isinstance(layer, nn.Conv2d):
            padding = (layer.padding, layer.padding) if isinstance(layer.padding, int) else layer.padding
            if isinstance(padding, str) or layer.groups != 1:
                return
            windows = nn.functional.unfold(values, layer.kernel_size, layer.dilation, padding, layer.stride)
            values = windows.transpose(1, 2)
        rows = values.reshape(-1, values.shape[-1])
        sums[name] = sums.get(name, 0) + rows.T @ rows

    handles = [
        layer.register_forward_pre_hook(partial(add, f"{name}.weight"))
        for name, layer in network.named_modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and is_quantized(f"{name}.weight", layer.weight)
    ]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return sums


def coarse_integers(
    tensors: Mapping[str, Tensor], moments: Mapping[str, Tensor], step: float
) -> dict[str, tuple[Tensor, Tensor]]:
    """Integers and scales of its rows for each matrix of ``tensors`` whose inputs' ``moments`` are known.

    ``step``: from integer to integer, in root mean squares of a row, in the transformers' blocks; elsewhere at most
    ``FINE_STEP``. No row gets integers beyond those of 8 bits.
    """
    rounded = {}
    for name, inputs in moments.items():
        weight = tensors[name].detach().cpu().float()
        rows = weight.flatten(1)
        size = step if any(part in name for part in COARSE) else min(step, FINE_STEP)
        scale = grid_scales(rows, size)
        integers = round_with_feedback(rows, scale, inputs.cpu().double())
        rounded[name] = (integers.reshape(weight.shape), scale)
    return rounded


def grid_scales(rows: Float[Tensor, "*rows inputs"], step: float) -> Float[Tensor, "*rows"]:
    """The distance from integer to integer in each row: ``step`` root mean squares of it, or what 8 bits need."""
    return torch.maximum(row_scales(rows), step * rows.square().mean(-1).sqrt())


def on_grid(matrices: Float[Tensor, "*rows inputs"], step: float) -> Float[Tensor, "*rows inputs"]:
    """Every entry moved to the nearest integer of its row's grid."""
    scale = grid_scales(matrices, step)[..., None]
    return (matrices / scale.clamp_min(1e-30)).round() * scale


def round_with_feedback(
    weight: Float[Tensor, "rows inputs"], scale: Float[Tensor, "rows"], moments: Float64[Tensor, "inputs inputs"]
) -> Int8[Tensor, "rows inputs"]:
    """Integers times ``scale`` near ``weight``, with a small sum over inputs x of |(weight - rounded) x|^2."""
    damped = moments + _DAMPING * moments.diagonal().mean().clamp_min(1e-12) * torch.eye(len(moments)).double()
    # Columns that matter most come first, while there are many left to make good what they lose.
    order = damped.diagonal().argsort(descending=True)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped[order][:, order]))
    upper = torch.linalg.cholesky(inverse, upper=True)
    left, size = weight.double()[:, order], scale.double().clamp_min(1e-30)
    integers = torch.zeros_like(left)
    for start in range(0, len(order), _COLUMNS):
        end = min(start + _COLUMNS, len(order))
        errors = torch.zeros(len(left), end - start).double()
        for column in range(start, end):
            here = left[:, column]
            integers[:, column] = (here / size).round().clamp(-INT8_LEVELS, INT8_LEVELS)
            errors[:, column - start] = (here - integers[:, column] * size) / upper[column, column]
            left[:, column + 1 : end] -= errors[:, column - start, None] * upper[column, column + 1 : end]
        left[:, end:] -= errors @ upper[start:end, end:]
    return integers[:, order.argsort()].to(torch.int8)

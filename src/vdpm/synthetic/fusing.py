"""Per-pixel functions that the compiler may fuse, each on its own: one graph of all would take minutes to compile."""

import functools
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

Sizes = Literal["open", "fixed"]
"""What is compiled serves all sizes, or those alone that it was compiled for. The first batch of 9 x 294 x 518 (one
clip) comes after 86 s that way on an H200 with nothing in a cache, and (two clips) after 241 s with code for all."""

_RECOMPILE_LIMIT = 64
_HAS_TRITON = importlib.util.find_spec("triton") is not None
_active: Sizes | None = None


@contextmanager
def fusing(active: bool, sizes: Sizes = "open") -> Iterator[None]:
    """Inside, functions marked ``fusable`` run compiled (if ``active``), for all ``sizes`` or each for its own."""
    global _active
    before, _active = _active, sizes if active else None
    try:
        yield
    finally:
        _active = before


def is_fusing() -> bool:
    """Whether functions marked ``fusable`` run compiled now."""
    return _active is not None


def runs_kernels(device: torch.device) -> bool:
    """Whether Triton kernels of our own run in place of compiled functions."""
    return _active is not None and device.type == "cuda" and _HAS_TRITON


def can_skip(device: torch.device) -> bool:
    """Whether values may be looked at to leave work out that has no effect: not where it would make a GPU wait."""
    return _active is None and device.type == "cpu"


def fusable(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Mark a function of tensors alone for compilation when first run inside ``fusing``."""
    compiled: dict[Sizes, Callable[Arguments, Result]] = {}

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        if _active is None:
            return function(*args, **kwargs)
        if _active not in compiled:
            for limit in ("recompile_limit", "cache_size_limit"):
                if hasattr(torch._dynamo.config, limit):
                    setattr(torch._dynamo.config, limit, max(getattr(torch._dynamo.config, limit), _RECOMPILE_LIMIT))
            compiled[_active] = torch.compile(function, dynamic=_active == "open")
        return compiled[_active](*args, **kwargs)

    return call

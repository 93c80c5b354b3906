"""Per-pixel functions that the compiler may fuse, each on its own: one graph of all would take minutes to compile."""

import functools
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

import torch

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

_RECOMPILE_LIMIT = 64
_HAS_TRITON = importlib.util.find_spec("triton") is not None
_active = False


@contextmanager
def fusing(active: bool) -> Iterator[None]:
    """Inside, functions marked ``fusable`` run compiled (if ``active``)."""
    global _active
    before, _active = _active, active
    try:
        yield
    finally:
        _active = before


def is_fusing() -> bool:
    """Whether functions marked ``fusable`` run compiled now."""
    return _active


def runs_kernels(device: torch.device) -> bool:
    """Whether Triton kernels of our own run in place of compiled functions."""
    return _active and device.type == "cuda" and _HAS_TRITON


def can_skip(device: torch.device) -> bool:
    """Whether values may be looked at to leave work out that has no effect: not where it would make a GPU wait."""
    return not _active and device.type == "cpu"


def fusable(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Mark a function of tensors alone for compilation, once for all sizes, when first run inside ``fusing``."""
    compiled: Callable[Arguments, Result] | None = None

    @functools.wraps(function)
    def call(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        nonlocal compiled
        if not _active:
            return function(*args, **kwargs)
        if compiled is None:
            for limit in ("recompile_limit", "cache_size_limit"):
                if hasattr(torch._dynamo.config, limit):
                    setattr(torch._dynamo.config, limit, max(getattr(torch._dynamo.config, limit), _RECOMPILE_LIMIT))
            compiled = torch.compile(function, dynamic=True)
        return compiled(*args, **kwargs)

    return call

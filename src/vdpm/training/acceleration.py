"""How a step runs on a GPU: which attention kernels it takes, and steps recorded as CUDA graphs."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from vdpm.structures import Snippet
from vdpm.training.config import Attention

COMPILE: dict[str, Any] = {"dynamic": False, "options": {"comprehensive_padding": False}}
"""How networks and losses are compiled for one shape. Without the padding of strides in memory: with it, PyTorch 2.11's
backward pass of maps whose coarse grid is 14 x 20 or 14 x 21 wrote out of bounds on an H200, or gave NaN."""

WARM_UP = 3
"""Passes before a recording, in which libraries choose and prepare their kernels."""


def attention_kernels(kind: Attention) -> AbstractContextManager[Any]:
    """Inside, attention takes ``kind`` of kernel where it can; "auto" leaves the choice to PyTorch.

    On Hopper GPUs cuDNN's are the faster ones for long sequences, and not every version of PyTorch prefers them.
    """
    if kind == "auto":
        return nullcontext()
    others = [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION]
    first = others.pop(1 if kind == "cudnn" else 0)
    order = [first, *others, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    return sdpa_kernel(order, set_priority=True)


class RecordedStep:
    """Forward pass, losses and backward pass for one shape of batch, recorded once and replayed as one launch.

    ``compute`` gives the losses of a batch, entry "loss" the one to minimise; it must not copy from the CPU, wait for
    the device, or branch on values, and the batch's reference must always be the same frame. ``pool``: memory that
    recordings share, which is safe as long as gradients are used before the next replay.
    """

    def __init__(
        self,
        compute: Callable[[Snippet], dict[str, Tensor]],
        parameters: list[nn.Parameter],
        snippet: Snippet,
        pool: Any = None,
    ) -> None:
        self.parameters = parameters
        clones: dict[str, Any] = {name: value.clone() for name, value in _tensors(snippet).items()}
        self.inputs = replace(snippet, **clones)
        beside = torch.cuda.Stream()
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            for _ in range(WARM_UP):
                compute(self.inputs)["loss"].backward()
                self._drop_gradients()
        torch.cuda.current_stream().wait_stream(beside)
        self.graph = torch.cuda.CUDAGraph()
        # Thread-local: the watchdog of NCCL asks for events in a thread of its own meanwhile.
        with torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):
            losses = compute(self.inputs)
            losses["loss"].backward()
            self.values = torch.stack([value.detach() for value in losses.values()])
        self.names = tuple(losses)
        self.gradients = [parameter.grad for parameter in parameters]
        self._drop_gradients()

    def __call__(self, snippet: Snippet) -> dict[str, Tensor]:
        """The losses of another batch of the same shape; gradients are in ``grad`` of the parameters afterwards."""
        given, kept = _tensors(snippet), _tensors(self.inputs)
        torch._foreach_copy_(list(kept.values()), [given[name] for name in kept])
        self.graph.replay()
        for parameter, gradient in zip(self.parameters, self.gradients):
            parameter.grad = gradient
        return dict(zip(self.names, self.values.clone().unbind()))

    def _drop_gradients(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None


def _tensors(snippet: Snippet) -> dict[str, Tensor]:
    return {name: value for name, value in vars(snippet).items() if isinstance(value, Tensor)}

"""Memory, disk and time of a run, told before it.

The memory of a window is found by running the network on tensors without content (PyTorch's fake tensors), and adding
up what is alive at each step: it holds for every network and size, and takes a second. The network's time is tried on
a few frames; what is done on the processor beside it is reckoned by rates that were measured on one thread.
"""

import ctypes
import os
import sys
import time
import weakref
from collections.abc import Collection
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vdpm.errors import UsageError
from vdpm.long_video.observations import SAMPLES
from vdpm.long_video.sight import sight_bytes
from vdpm.model import VDPM
from vdpm.provenance import peak_process_memory
from vdpm.structures import Video

GIB = 2**30
SHORTEST_WINDOW = 4

KERNELS = 50
"""Bytes for each token and channel of the backbone that a CPU's kernels and allocator hold beside the tensors: fitted
to five runs of vdpm-small from 96 x 128 to 336 x 192 pixels, 8 to 24 frames."""
LIBRARIES = 40e6
"""Bytes that libraries take when a network first runs on a CPU."""
LOOSE = 0.14
"""Share of the tensors that a CPU's allocator holds beside them. The peaks of one and the same run differ by 8 %, so
this is for the upper ones: ten settings of vdpm-small lie between 0.86 and 1.05 of what is predicted."""
ALIGNMENT = 400
"""Bytes for each sampled point of each window's frame while the windows are aligned: the points, residuals before and
after a step, and weights, in float64. Derivatives are made of a few frames at a time."""
OBSERVED = 56
"""The same of what stays of it while the pictures are followed: the points, their slopes and weights."""
TRIAL_FRAMES = (2, 8)
"""Windows that are tried to tell the time. Each frame attends to all others, so it takes longer in a longer window."""
MAP_BYTES = 8
"""A pixel of a map on disk: three coordinates and a confidence in float16."""
CAMERA_BYTES = 450
"""Text for each frame in ``cameras.json`` and ``reconstruction.json``; a window takes about as much as two."""
FRAMES_WEIGHED = 8
"""Frames that are packed to tell how large all are as PNG."""
SECONDS_AN_ENTRY, SECONDS_A_PIXEL, SECONDS_A_PICTURE = 3e-3, 5e-8, 0.04
"""On one thread: aligning for each (window, frame) pair, reading each pixel of its map, following each picture."""


@dataclass(frozen=True)
class Forecast:
    """``memory``: of the process at its peak, bytes; ``device_memory``: allocated on an accelerator, 0 without one;
    ``disk``: bytes of the result; ``seconds``: of the run once network and video are loaded, None where not tried;
    ``disk_underway``: bytes at the most while it runs.
    """

    memory: float
    device_memory: float
    disk: float
    seconds: float | None
    disk_underway: float = 0.0

    def line(self) -> str:
        """One line of text."""
        parts = [f"memory {self.memory / GIB:.2f} GiB"]
        if self.device_memory:
            parts.append(f"device memory {self.device_memory / GIB:.2f} GiB")
        underway = f" ({self.disk_underway / 1e6:.0f} MB on the way)" if self.disk_underway > 1.1 * self.disk else ""
        parts.append(f"disk {self.disk / 1e6:.0f} MB{underway}")
        if self.seconds is not None:
            parts.append(f"about {_duration(self.seconds)} after loading")
        return ", ".join(parts)

    def with_files(self, size: float, seconds: float) -> "Forecast":
        """The same with files of ``size`` bytes, made in ``seconds``, added to the result."""
        taken = None if self.seconds is None else self.seconds + seconds
        return replace(self, disk=self.disk + size, seconds=taken)


def result_bytes(video: Video, maps: int, windows: int = 0) -> float:
    """Disk that a result of ``video`` takes, with ``maps`` in so many ``windows``: maps, frames as PNG, text."""
    height, width = video.size
    chosen = range(0, len(video), max(1, len(video) // FRAMES_WEIGHED))
    frames = sum(_png_bytes(video.frames[frame]) for frame in chosen) * len(video) / len(chosen)
    return float(maps * height * width * MAP_BYTES + frames + (len(video) + 2 * windows) * CAMERA_BYTES)


def _png_bytes(frame: Tensor) -> int:
    packed = BytesIO()
    Image.fromarray(frame.cpu().numpy()).save(packed, format="PNG")
    return packed.tell()


def window_bytes(network: VDPM, num_frames: int, size: tuple[int, int], moved: int) -> float:
    """Memory beside weights and video at the peak of one window: encoding, P, and ``moved`` frames at another time."""
    fake = FakeTensorMode()
    window = _Window(network)
    with torch.inference_mode(False), torch.no_grad():
        weights: dict[str, Tensor] = {
            name: fake.from_tensor(tensor) for name, tensor in (*window.named_parameters(), *window.named_buffers())
        }
        parameter = next(network.parameters())
        with fake, _Alive() as alive:
            images = torch.empty(1, num_frames, 3, *size, device=parameter.device, dtype=parameter.dtype)
            torch.func.functional_call(window, weights, (images, moved))
    if parameter.device.type != "cpu":
        return float(alive.peak)
    patch = network.config.patch_size
    tokens = num_frames * (size[0] // patch) * (size[1] // patch)
    return (1 + LOOSE) * alive.peak + KERNELS * tokens * network.config.dim


def alignment_bytes(entries: int, followed: int = 0) -> float:
    """Memory of the alignment of ``entries`` (window, frame) pairs, and then of following ``followed`` pictures."""
    sight = OBSERVED * SAMPLES * entries + sight_bytes(followed) if followed else 0.0
    return max(float(ALIGNMENT * SAMPLES * entries), sight)


def check_alignment(network: VDPM, entries: int, followed: int, max_memory: float | None) -> None:
    """Raises UsageError where the alignment, which shorter windows do not make smaller, needs more than ``max_memory``
    (GiB; None: any). Pictures are followed on the processor, and on an accelerator its memory counts.
    """
    if max_memory is None:
        return
    on_device = next(network.parameters()).device.type != "cpu"
    beside = _weights(network) if on_device else process_bytes() + LIBRARIES
    needed = beside + alignment_bytes(entries, 0 if on_device else followed)
    if needed > max_memory * GIB:
        less = " leave out the pictures (--no-sight)," if followed and not on_device else ""
        raise UsageError(
            f"aligning the windows needs {needed / GIB:.2f} GiB and max_memory is {max_memory:g}; take fewer frames,"
            f"{less} or allow more"
        )


def longest_window(network: VDPM, video: Video, max_memory: float | None, wanted: int) -> int:
    """The most frames, up to ``wanted``, that one window may have within ``max_memory`` (GiB; None: any).

    On an accelerator its memory counts, else the process's. Raises UsageError when not even a few frames fit.
    """
    if max_memory is None:
        return wanted
    if not max_memory > 0:
        raise UsageError(f"max_memory {max_memory} must be above 0 GiB")
    frames = wanted
    while True:
        needed = _window_peak(network, video, frames)
        if needed <= max_memory * GIB:
            return frames
        if frames <= SHORTEST_WINDOW:
            raise UsageError(
                f"{frames} frames of {video.size[1]} x {video.size[0]} need {needed / GIB:.2f} GiB and max_memory is "
                f"{max_memory:g}; use a smaller --size or allow more"
            )
        frames = max(SHORTEST_WINDOW, min(frames - 1, int(0.85 * frames)))


def forecast(
    network: VDPM,
    video: Video,
    windows: list[tuple[int, int, int]],
    disk: float,
    *,
    sight: bool,
    trial: bool,
    there: Collection[int] = (),
    aligned: bool = True,
) -> Forecast:
    """For ``windows`` given as (frames, targets, moved frames). ``sight``: cameras follow the pictures; ``aligned``:
    windows are aligned. ``trial`` runs the network on a few frames of the video to tell the time, which numbers of
    windows that are ``there`` already take none of.
    """
    frames, _, moved = max(windows, key=lambda window: (window[0], window[2]))
    on_device = next(network.parameters()).device.type != "cpu"
    peak = _window_peak(network, video, frames, moved)
    process = process_bytes()
    entries, followed = sum(window[0] for window in windows), len(video) if sight else 0
    aligning = alignment_bytes(entries, 0 if on_device else followed)
    seconds = None
    if trial:
        missing = [window for number, window in enumerate(windows) if number not in there]
        seconds = _network_seconds(network, video, missing) if missing else 0.0
        seconds += _camera_seconds(entries, video, sight) if aligned or sight else 0.0
    if on_device:
        own = process + LIBRARIES + sight_bytes(followed)
        return Forecast(own, max(peak, _weights(network) + aligning), disk, seconds)
    return Forecast(max(peak, process + LIBRARIES + aligning), 0.0, disk, seconds)


def process_bytes() -> float:
    """Memory that this process holds now, in bytes; where the system does not tell, the most it has held.

    What was freed is given back first: unpacking weights leaves twice their size with the allocator, which the run
    takes up again.
    """
    if sys.platform == "linux":
        if (give_back := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:  # glibc has it
            give_back(0)
        with open("/proc/self/statm") as file:
            return float(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
    return float(peak_process_memory() or 0)


def _window_peak(network: VDPM, video: Video, frames: int, moved: int | None = None) -> float:
    """Of the accelerator, or of the whole process on a CPU."""
    needed = window_bytes(network, frames, video.size, frames if moved is None else moved)
    if next(network.parameters()).device.type != "cpu":
        return needed + _weights(network)
    return process_bytes() + LIBRARIES + needed


def _weights(network: VDPM) -> float:
    return float(sum(parameter.numel() * parameter.element_size() for parameter in network.parameters()))


def _camera_seconds(entries: int, video: Video, sight: bool) -> float:
    """Alignment of ``entries`` (window, frame) pairs, and then following the pictures."""
    pixels = video.size[0] * video.size[1]
    return entries * (SECONDS_AN_ENTRY + pixels * SECONDS_A_PIXEL) + sight * len(video) * SECONDS_A_PICTURE


class _Trial(NamedTuple):
    """Seconds for each frame of a window of ``frames``: of encoding, of a map from tokens, of moving to a time."""

    frames: int
    encode: float
    head: float
    move: float


def _network_seconds(network: VDPM, video: Video, windows: list[tuple[int, int, int]]) -> float:
    """Of ``windows``, from a short and a longer one: what a frame takes grows with the frames beside it."""
    longest = min(len(video), max(frames for frames, _, _ in windows))
    few, more = (min(count, longest) for count in TRIAL_FRAMES)
    _tried(network, video, few)  # warms up
    # The short one on either side of the longer: were it slowed down by others, long windows would seem to be quick.
    before, longer, after = (_tried(network, video, count) for count in (few, more, few))
    short = _Trial(few, *(min(pair) for pair in zip(before[1:], after[1:])))
    seconds = 0.0
    for frames, targets, moved in windows:
        share = (frames - few) / (more - few) if more > few else 0.0
        encode, move = (low + share * max(0.0, high - low) for low, high in zip(short[1::2], longer[1::2]))
        seconds += frames * (encode + longer.head + targets * move) + targets * moved * longer.head
    return seconds


def _tried(network: VDPM, video: Video, count: int) -> _Trial:
    """``count`` frames of ``video`` through ``network``."""
    parameter = next(network.parameters())
    images = video.frames[:count].permute(0, 3, 1, 2)[None].to(parameter.device, parameter.dtype) / 255
    with torch.inference_mode():
        begin = time.perf_counter()
        tokens = network.encode(images)
        network.cameras(tokens).c2w.cpu()  # waits until an accelerator is done
        encoded = time.perf_counter()
        network.time_variant(tokens).points.float().cpu()
        shown = time.perf_counter()
        network.decode(tokens, 0).points.float().cpu()
        moved = time.perf_counter()
    head = shown - encoded
    return _Trial(count, (encoded - begin) / count, head / count, max(0.0, moved - shown - head) / count)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


class _Window(nn.Module):
    """What is done with one window, as one module, so that its weights can be stood in for."""

    def __init__(self, network: VDPM) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, moved: int) -> None:
        tokens = self.network.encode(images)
        self.network.cameras(tokens)
        maps = self.network.time_variant(tokens)
        del maps
        self.network.decode(tokens, 0, tuple(range(max(1, moved))))


class _Alive(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, and the most that were so at once."""

    def __init__(self) -> None:
        super().__init__()
        self.alive = self.peak = 0.0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                key = storage._cdata
                if key not in self._sizes:
                    self._sizes[key] = storage.nbytes()
                    self.alive += storage.nbytes()
                    self.peak = max(self.peak, self.alive)
                    weakref.finalize(storage, self._gone, key)
        return out

    def _gone(self, key: int) -> None:
        self.alive -= self._sizes.pop(key, 0)

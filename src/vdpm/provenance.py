"""What a result says of how it was made: network, device, seconds, memory."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import torch

from vdpm.model import VDPM, Mirrored
from vdpm.network_choice import device_name
from vdpm.structures import Video


def made_by(model: VDPM, model_name: str, video: Video) -> dict[str, Any]:
    """Network, whether it was asked about the mirrored clip as well, device, number format, and what reading the video
    noted.
    """
    parameter = next(model.parameters())
    return {
        "model": model_name,
        "fingerprint": model.fingerprint(),
        "mirrored": isinstance(model, Mirrored),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "device": device_name(parameter.device),
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "torch": str(torch.__version__),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "reading": list(video.notes),
    }


def cameras_by(followed: bool) -> str:
    """Where a result's cameras come from."""
    return "by the pictures" if followed else "by the network alone"


def lens_by(square: bool, known: bool = False) -> str:
    """What a result holds of its focal lengths. ``known``: they were given."""
    if known:
        return "as given"
    return "one focal length: square pixels" if square else "fx and fy each as the network has it"


def measurements(seconds: dict[str, float], device: torch.device) -> dict[str, Any]:
    """Seconds of each step and peak memory in MB."""
    rounded = {key: round(value, 3) for key, value in seconds.items()}
    memory = {}
    if (peak := peak_process_memory()) is not None:
        memory["memory_mb"] = round(peak / 1e6)
    if device.type == "cuda":
        memory["device_memory_mb"] = round(torch.cuda.max_memory_allocated(device) / 1e6)
    return {"seconds": {**rounded, "total": round(sum(rounded.values()), 3)}, **memory}


def peak_process_memory() -> int | None:
    """Most memory this process has held so far, in bytes; None where the system does not tell."""
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    """Adds the seconds of the block to ``seconds[step]``."""
    begin = time.perf_counter()
    yield
    seconds[step] = seconds.get(step, 0.0) + time.perf_counter() - begin

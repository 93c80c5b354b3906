"""Which network runs where: names to weights, devices and number formats, and how much it decodes at once."""

import platform

import torch

from vdpm.errors import UsageError
from vdpm.model import VDPM

LARGE_NETWORK = 500_000_000
"""Parameters above which ``dtype="auto"`` takes bfloat16 on CUDA, as the released network was trained."""

CHANNELS_PER_STEP = 2**29
"""Tokens x channels decoded at once on an accelerator: one time of the large network's 50 frames of 518 x 294."""


def load_network(model: str | VDPM, device: torch.device, dtype: str | torch.dtype) -> VDPM:
    """The network on ``device``, in evaluation mode; one given as an object stays where and as it is."""
    if isinstance(model, VDPM):
        return model.eval()
    names = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if isinstance(dtype, str) and dtype not in (*names, "auto"):
        raise UsageError(f"dtype {dtype!r} is unknown; use auto, {' or '.join(names)}")
    chosen = torch.float32 if dtype == "auto" else names[dtype] if isinstance(dtype, str) else dtype
    network = VDPM.from_pretrained(model, dtype=chosen, device=device).eval()
    if dtype == "auto" and device.type == "cuda" and sum(p.numel() for p in network.parameters()) > LARGE_NETWORK:
        return network.to(torch.bfloat16)
    return network


def choose_device(name: str) -> torch.device:
    """'auto', 'cpu', 'cuda', 'cuda:1', 'mps' -> device. Raises UsageError for one that this machine lacks."""
    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UsageError(f"device {name!r} is unknown; use auto, cpu, cuda or mps") from None
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(device.type, False):
        raise UsageError(f"device {name!r} is not available here; use auto or cpu")
    return device


def device_name(device: torch.device) -> str:
    """What a result says of the device that made it."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return (
        f"{device} ({torch.get_num_threads()} threads, {platform.machine()})" if device.type == "cpu" else str(device)
    )


def long_side(model: VDPM) -> int | None:
    """What the network was made for: square images of a ViT's size, or about as many pixels as ``read_video`` gives."""
    return model.config.vit_image_size if model.config.patch_encoder == "dinov2" else None


def times_per_step(model: VDPM, num_frames: int, size: tuple[int, int]) -> int:
    """How many times to decode at once. A CPU gains nothing from more than one."""
    if next(model.parameters()).device.type == "cpu":
        return 1
    tokens = num_frames * (size[0] // model.config.patch_size) * (size[1] // model.config.patch_size)
    return max(1, min(num_frames, CHANNELS_PER_STEP // (tokens * model.config.decoder_dim * 4)))

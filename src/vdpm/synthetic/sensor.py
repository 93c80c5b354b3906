"""The camera's sensor: from radiance to pixel values, one response a clip."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdpm.synthetic.blur import blur_along_motion, shift_colours, soften
from vdpm.synthetic.compression import compress
from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.fusing import fusable
from vdpm.synthetic.hashing import Draws, choose, lattice
from vdpm.synthetic.looks import SensorConfig


class Response(NamedTuple):
    """From radiance to pixel values. ``brightness``: mean radiance after exposure; ``balance``: gain of each colour;
    ``flicker``: gain of each frame; ``punch``: how much of an S-curve is laid over the tone curve; ``shutter``: seconds
    that it is open; ``blur``, ``fringe``: in pixels."""

    brightness: Float[Tensor, "batch"]
    balance: Float[Tensor, "batch frames 3"]
    flicker: Float[Tensor, "batch frames"]
    contrast: Float[Tensor, "batch"]
    gamma: Float[Tensor, "batch"]
    punch: Float[Tensor, "batch"]
    vignette: Float[Tensor, "batch"]
    noise: Float[Tensor, "batch"]
    noise_seed: Int[Tensor, "batch"]
    shutter: Float[Tensor, "batch"]
    blur: Float[Tensor, "batch"]
    sharpen: Float[Tensor, "batch"]
    fringe: Float[Tensor, "batch"]
    compression: Float[Tensor, "batch"]


def sample_response(
    draws: Draws,
    config: SceneConfig,
    clock: Float[Tensor, "batch frames"],
    timestamps: Float[Tensor, "batch frames"],
) -> Response:
    """Exposure, white balance and their drift, tone curve, vignette, blur, noise and compression.

    ``clock``: time in units of eight mean frame steps.
    """
    sensor = config.sensor
    gain = draws.uniform("response.flicker", config.num_frames, low=-1.0, high=1.0)
    size = draws.log_uniform("response.flicker_size", 1, low=0.001, high=0.03)
    drifts = draws.chance("response.drifts", sensor.drift_share, 1)
    phase = draws.uniform("response.drift_phase", 4, 1, high=2 * math.pi)
    rate = draws.log_uniform("response.drift_rate", 4, 1, low=0.6, high=5.0)
    way = torch.sin(phase + rate * clock[:, None]) * drifts[..., None]
    stops = draws.log_uniform("response.drift", 1, low=sensor.drift[0], high=sensor.drift[1]) * way[:, 0]
    tint = draws.log_uniform("response.tint_drift", 1, 1, low=sensor.tint_drift[0], high=sensor.tint_drift[1])
    balance = 1 + draws.uniform("response.balance", 1, 3, low=-0.08, high=0.08)

    def effect(name: str, share: float, low_high: tuple[float, float]) -> Tensor:
        amount = draws.log_uniform(f"response.{name}", low=low_high[0], high=low_high[1])
        return amount * draws.chance(f"response.{name}_share", share)

    step = (timestamps[:, -1] - timestamps[:, 0]) / max(config.num_frames - 1, 1)
    return Response(
        brightness=draws.log_uniform("response.brightness", low=0.13, high=0.45),
        balance=balance * (1 + tint * way[:, 1:].movedim(1, -1)),
        flicker=(1 + gain * size) * torch.exp2(stops),
        contrast=draws.uniform("response.contrast", low=0.2, high=1.0),
        gamma=choose(
            draws.category("response.curve", (3.0, 1.0)),
            1 / 2.2,
            1 / draws.uniform("response.gamma", low=1.6, high=2.5),
        ),
        punch=draws.uniform("response.punch", low=0.0, high=1.6),
        vignette=draws.uniform("response.vignette", high=0.35) * draws.chance("response.vignettes", 0.5),
        noise=draws.log_uniform("response.noise", low=config.noise_level[0], high=config.noise_level[1]),
        noise_seed=draws.bits("response.noise_seed") >> 9,
        shutter=torch.minimum(effect("exposure", sensor.exposure_share, sensor.exposure), 0.9 * step),
        blur=effect("blur", sensor.blur_share, sensor.blur),
        sharpen=effect("sharpen", sensor.sharpen_share, sensor.sharpen),
        fringe=effect("fringe", sensor.fringe_share, sensor.fringe),
        compression=effect("compression", sensor.compression_share, sensor.compression),
    )


def develop(
    response: Response,
    sensor: SensorConfig,
    radiance: Float[Tensor, "batch frames rays 3"],
    motion: Float[Tensor, "batch frames rays 3"],
    width: int,
    height: int,
) -> Float[Tensor, "batch frames 3 height width"]:
    """Blur, exposure by the clip's mean, tone curve, vignette, halos, noise, compression: RGB in [0, 1].

    ``motion`` as of ``blur.image_motion``. Effects that no clip has by ``sensor`` are left out.
    """
    luminance = radiance.clamp_max(3.0).mean((1, 2, 3)).clamp_min(1e-4)
    x = radiance.clamp_max(8.0).transpose(2, 3).unflatten(3, (height, width))
    if sensor.exposure_share > 0:
        way = motion.transpose(2, 3).unflatten(3, (height, width)).flatten(0, 1)
        open_for = response.shutter[:, None].expand(x.shape[:2]).reshape(-1, 1, 1, 1)
        x = blur_along_motion(x.flatten(0, 1), way[:, :2] * open_for, way[:, 2:]).unflatten(0, x.shape[:2])
    if sensor.fringe_share > 0:
        x = shift_colours(x, response.fringe)
    if sensor.blur_share > 0:
        x = soften(x, response.blur)
    gain = (response.brightness / luminance)[:, None] * response.flicker
    x = _toned(x, gain[..., None] * response.balance, response)
    if sensor.sharpen_share > 0:
        x = x + _per_clip(response.sharpen) * (x - soften(x, torch.full_like(response.sharpen, 0.9)))
    x = _grainy(x, response)
    if sensor.compression_share > 0:
        x = compress(x.clamp(0, 1), response.compression)
    return x.clamp(0, 1).contiguous()


def _per_clip(value: Float[Tensor, "batch"]) -> Float[Tensor, "batch 1 1 1 1"]:
    return value[:, None, None, None, None]


@fusable
def _toned(x: Tensor, gain: Tensor, response: Response) -> Tensor:
    """Gain of each frame and channel, vignette, tone curve."""
    height, width = x.shape[-2:]
    x = x * gain[..., None, None]
    column = (torch.arange(width, device=x.device) + 0.5) / width - 0.5
    row = ((torch.arange(height, device=x.device) + 0.5) / height - 0.5)[:, None]
    x = x * (1 - _per_clip(response.vignette) * (2 * (column * column + row * row)))
    bend = _per_clip(response.contrast)
    x = x * (1 + bend * x * 0.25) / (1 + bend * x)
    x = x.clamp(1e-6, 1.0) ** _per_clip(response.gamma)
    return x + _per_clip(response.punch) * x * (1 - x) * (2 * x - 1)


@fusable
def _grainy(x: Tensor, response: Response) -> Tensor:
    """With a sum of two random numbers, from -1 to 1, added to each channel of each pixel, by the clip's noise."""
    frames, _, height, width = x.shape[1:]
    pixel = torch.arange(width * height, device=x.device, dtype=torch.int32).view(height, width)
    frame = torch.arange(frames, device=x.device, dtype=torch.int32).view(-1, 1, 1, 1)
    twice = torch.stack([frame, frame + 7919])[:, None]
    channel = torch.arange(3, device=x.device, dtype=torch.int32).view(3, 1, 1)
    seed = response.noise_seed.to(torch.int32).view(-1, 1, 1, 1, 1)
    grain = lattice(pixel, twice, channel, seed)
    return x + _per_clip(response.noise) * 2.4 * (grain[0] + grain[1] - 1)

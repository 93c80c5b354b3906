"""The camera's sensor: from radiance to pixel values, one response a clip."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.hashing import Draws, choose, lattice


class Response(NamedTuple):
    """From radiance to pixel values. ``brightness``: mean radiance after exposure; ``flicker``: gain of each frame."""

    brightness: Float[Tensor, "batch"]
    balance: Float[Tensor, "batch 3"]
    flicker: Float[Tensor, "batch frames"]
    contrast: Float[Tensor, "batch"]
    gamma: Float[Tensor, "batch"]
    vignette: Float[Tensor, "batch"]
    noise: Float[Tensor, "batch"]
    noise_seed: Int[Tensor, "batch"]


def sample_response(draws: Draws, config: SceneConfig) -> Response:
    """Exposure, white balance, tone curve, vignette and sensor noise."""
    gain = draws.uniform("response.flicker", config.num_frames, low=-1.0, high=1.0)
    size = draws.log_uniform("response.flicker_size", 1, low=0.002, high=0.08)
    return Response(
        brightness=draws.log_uniform("response.brightness", low=0.11, high=0.32),
        balance=1 + draws.uniform("response.balance", 3, low=-0.08, high=0.08),
        flicker=1 + gain * size,
        contrast=draws.uniform("response.contrast", low=0.2, high=0.8),
        gamma=choose(
            draws.category("response.curve", (3.0, 1.0)),
            1 / 2.2,
            1 / draws.uniform("response.gamma", low=1.8, high=2.5),
        ),
        vignette=draws.uniform("response.vignette", high=0.35) * draws.chance("response.vignettes", 0.5),
        noise=draws.log_uniform("response.noise", low=config.noise_level[0], high=config.noise_level[1]),
        noise_seed=draws.bits("response.noise_seed") >> 9,
    )


def develop(
    response: Response, radiance: Float[Tensor, "batch frames rays 3"], width: int, height: int
) -> Float[Tensor, "batch frames 3 height width"]:
    """Exposure by the clip's mean, tone curve, vignette, sensor noise: RGB in [0, 1]."""
    luminance = radiance.clamp_max(3.0).mean((1, 2, 3)).clamp_min(1e-4)
    gain = (response.brightness / luminance)[:, None] * response.flicker
    x = radiance * gain[:, :, None, None] * response.balance[:, None, None]
    pixel = torch.arange(width * height, device=x.device)
    dx, dy = (pixel % width + 0.5) / width - 0.5, (pixel // width + 0.5) / height - 0.5
    x = x * (1 - response.vignette[:, None, None, None] * (2 * (dx * dx + dy * dy))[:, None])
    bend = response.contrast[:, None, None, None]
    x = x * (1 + bend * x * 0.25) / (1 + bend * x)
    x = x.clamp(1e-6, 1.0) ** response.gamma[:, None, None, None]
    frame = torch.arange(x.shape[1], device=x.device, dtype=torch.int32)[:, None, None]
    twice = torch.stack([frame, frame + 7919])[:, None]
    channel = torch.arange(3, device=x.device, dtype=torch.int32)
    seed = response.noise_seed.to(torch.int32)[:, None, None, None]
    grain = lattice(pixel.to(torch.int32)[:, None], twice, channel, seed)
    x = (x + response.noise[:, None, None, None] * 2.4 * (grain[0] + grain[1] - 1)).clamp(0, 1)
    return x.unflatten(2, (height, width)).permute(0, 1, 4, 2, 3).contiguous()

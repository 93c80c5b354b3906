"""Lights and sky, one set a clip."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.hashing import Draws, constant
from vdpm.synthetic.layout import OPEN, STREET, Surroundings


class Light(NamedTuple):
    """One lamp or the sun, an ambient hemisphere, haze and sky. ``place``: the lamp's position, or for the sun the
    unit direction towards it; ``up``: away from the ground; ``fill``: direction of a weak second light."""

    is_lamp: Bool[Tensor, "batch"]
    place: Float[Tensor, "batch 3"]
    up: Float[Tensor, "batch 3"]
    fill: Float[Tensor, "batch 3"]
    colour: Float[Tensor, "batch 3"]
    ambient: Float[Tensor, "batch 3"]
    bounce: Float[Tensor, "batch 3"]
    fill_strength: Float[Tensor, "batch"]
    shadow: Float[Tensor, "batch"]
    falloff: Float[Tensor, "batch"]
    haze: Float[Tensor, "batch"]
    horizon: Float[Tensor, "batch 3"]
    zenith: Float[Tensor, "batch 3"]
    clouds: Float[Tensor, "batch"]
    sky_seed: Int[Tensor, "batch"]


def sample_light(draws: Draws, config: SceneConfig, around: Surroundings) -> Light:
    """Sun outdoors, mostly lamps indoors; scene space (z up)."""
    outdoors = (around.kind == OPEN) | (around.kind == STREET)
    is_lamp = ~outdoors & draws.chance("light.lamp", 0.75)
    azimuth = draws.uniform("light.azimuth", high=2 * math.pi)
    elevation = torch.deg2rad(draws.uniform("light.elevation", low=22.0, high=82.0))
    sun = torch.stack(
        [torch.cos(elevation) * torch.cos(azimuth), torch.cos(elevation) * torch.sin(azimuth), torch.sin(elevation)], -1
    )
    spot = draws.uniform("light.spot", 2, low=-0.8, high=0.8) * around.half
    height = around.ceiling * draws.uniform("light.height", low=0.75, high=0.97)
    lamp = torch.cat([spot, height.clamp_max(1e3)[:, None]], -1)
    warmth = draws.uniform("light.warmth", low=-0.18, high=0.3)[:, None]
    tint = constant((1.0, 0.0, -1.0), draws.device)
    colour = (1 + warmth * tint) * draws.log_uniform("light.strength", 1, low=0.7, high=1.8)
    level = draws.uniform("light.ambient", 1, low=0.1, high=0.55)
    ambient = level * (1 - 0.5 * warmth * tint)
    blue = constant((0.32, 0.52, 0.88), draws.device)
    grey = draws.uniform("sky.grey", 1, high=0.9)
    zenith = torch.lerp(blue, torch.full_like(blue, 0.75), grey) * draws.uniform("sky.zenith", 1, low=0.6, high=1.2)
    horizon = constant((0.85, 0.88, 0.92), draws.device) * draws.uniform("sky.horizon", 1, low=0.7, high=1.3)
    horizon = horizon * (1 + 0.6 * warmth * tint)
    return Light(
        is_lamp=is_lamp,
        place=torch.where(is_lamp[:, None], lamp, sun),
        up=constant((0.0, 0.0, 1.0), draws.device).expand(draws.batch, 3),
        fill=draws.direction("light.fill"),
        colour=colour,
        ambient=ambient,
        bounce=ambient * draws.uniform("light.bounce", 1, low=0.3, high=0.8),
        fill_strength=draws.uniform("light.fill_strength", high=0.3),
        shadow=draws.uniform("light.shadow", low=0.6, high=1.0) * draws.chance("light.shadows", config.shadow_share),
        falloff=draws.uniform("light.falloff", low=0.0, high=0.5) / around.stage.square(),
        haze=draws.log_uniform("haze", low=0.03, high=0.6)
        / around.half.amax(-1)
        * outdoors
        * draws.chance("hazy", 0.35),
        horizon=horizon,
        zenith=zenith,
        clouds=draws.uniform("sky.clouds", high=0.8) * draws.chance("sky.cloudy", 0.7),
        sky_seed=draws.bits("sky.seed") >> 9,
    )

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
    unit direction towards it; ``up``: away from the ground; ``fill``: direction of a second light, of ``fill_colour``;
    ``size``: the lamp's radius (the sun's as an angle), which softens shadows; ``rim``: light from behind along
    outlines; ``dusk``: darkening of corners and near the ground."""

    is_lamp: Bool[Tensor, "batch"]
    place: Float[Tensor, "batch 3"]
    up: Float[Tensor, "batch 3"]
    fill: Float[Tensor, "batch 3"]
    colour: Float[Tensor, "batch 3"]
    ambient: Float[Tensor, "batch 3"]
    bounce: Float[Tensor, "batch 3"]
    fill_colour: Float[Tensor, "batch 3"]
    size: Float[Tensor, "batch"]
    rim: Float[Tensor, "batch"]
    dusk: Float[Tensor, "batch"]
    halo: Float[Tensor, "batch"]
    shadow: Float[Tensor, "batch"]
    falloff: Float[Tensor, "batch"]
    haze: Float[Tensor, "batch"]
    horizon: Float[Tensor, "batch 3"]
    zenith: Float[Tensor, "batch 3"]
    clouds: Float[Tensor, "batch"]
    sky_seed: Int[Tensor, "batch"]


def sample_light(draws: Draws, config: SceneConfig, around: Surroundings) -> Light:
    """Sun or clouds outdoors, mostly lamps indoors, now and then the night; scene space (z up)."""
    outdoors = (around.kind == OPEN) | (around.kind == STREET)
    overcast = outdoors & draws.chance("light.overcast", config.overcast_share)
    night = draws.chance("light.night", config.night_share) & ~overcast
    is_lamp = (~outdoors & draws.chance("light.lamp", 0.75)) | night
    azimuth = draws.uniform("light.azimuth", high=2 * math.pi)
    elevation = torch.deg2rad(draws.uniform("light.elevation", low=12.0, high=82.0))
    sun = torch.stack(
        [torch.cos(elevation) * torch.cos(azimuth), torch.cos(elevation) * torch.sin(azimuth), torch.sin(elevation)], -1
    )
    spot = draws.uniform("light.spot", 2, low=-0.8, high=0.8)
    spot = spot * torch.where(outdoors[:, None], around.stage[:, None], around.half)
    height = draws.uniform("light.height", low=0.75, high=0.97)
    height = height * torch.where(outdoors, around.stage.clamp(2.0, 6.0), around.ceiling.clamp_max(1e3))
    lamp = torch.cat([spot, height[:, None]], -1)
    warmth = draws.uniform("light.warmth", low=-0.2, high=0.35)[:, None]
    tint = constant((1.0, 0.0, -1.0), draws.device)
    dim = torch.where(overcast, 0.15, 1.0)[:, None]
    colour = (1 + warmth * tint) * draws.log_uniform("light.strength", 1, low=0.6, high=2.2) * dim
    level = draws.log_uniform("light.ambient", 1, low=0.1, high=0.55)
    level = torch.where(overcast[:, None], 0.5 + level, torch.where(night[:, None], 0.25 * level, level))
    ambient = level * (1 - 0.5 * warmth * tint)
    blue = constant((0.32, 0.52, 0.88), draws.device)
    cover = overcast.float()
    grey = torch.maximum(draws.uniform("sky.grey", 1, high=0.9), 0.95 * cover[:, None])
    dark = torch.where(night, 0.04, 1.0)[:, None]
    zenith = torch.lerp(blue, torch.full_like(blue, 0.75), grey) * draws.uniform("sky.zenith", 1, low=0.6, high=1.3)
    horizon = constant((0.85, 0.88, 0.92), draws.device) * draws.uniform("sky.horizon", 1, low=0.7, high=1.4)
    horizon = horizon * (1 + 0.6 * warmth * tint)
    second = draws.uniform("light.fill_warmth", 1, low=-0.4, high=0.4) * tint
    strong = draws.chance("light.second_lamp", config.second_lamp_share, 1)
    fill = draws.uniform("light.fill_strength", 1, high=0.25) + 0.7 * strong
    shadows = draws.chance("light.shadows", config.shadow_share)
    size = draws.log_uniform("light.size", low=0.01, high=0.12)
    return Light(
        is_lamp=is_lamp,
        place=torch.where(is_lamp[:, None], lamp, sun),
        up=constant((0.0, 0.0, 1.0), draws.device).expand(draws.batch, 3),
        fill=draws.direction("light.fill"),
        colour=colour,
        ambient=ambient,
        bounce=ambient * draws.uniform("light.bounce", 1, low=0.25, high=0.8),
        fill_colour=fill * (1 + second) * colour.mean(-1, keepdim=True),
        size=size * torch.where(is_lamp, lamp.norm(dim=-1), 0.3 + 2 * cover),
        rim=draws.uniform("light.rim", low=0.2, high=1.0) * draws.chance("light.rims", config.rim_share),
        dusk=draws.uniform("light.dusk", high=0.7),
        halo=draws.uniform("sky.halo", high=1.0) * ~is_lamp * (1 - cover),
        shadow=draws.uniform("light.shadow", low=0.6, high=1.0) * shadows,
        falloff=draws.uniform("light.falloff", low=0.0, high=0.5) * (1 + 3 * night) / around.stage.square(),
        haze=draws.log_uniform("haze", low=0.03, high=0.6)
        / around.half.amax(-1)
        * outdoors
        * draws.chance("hazy", 0.35),
        horizon=horizon * dark,
        zenith=zenith * dark,
        clouds=draws.uniform("sky.clouds", high=0.9) * draws.chance("sky.cloudy", 0.7) * dark[:, 0],
        sky_seed=draws.bits("sky.seed") >> 9,
    )

"""Camera paths: held in the hand, on a dolly, on an orbit, panning, following, still. Scene space (z up), c2w."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.hashing import Draws, choose, constant
from vdpm.synthetic.layout import STREET, TABLETOP, Surroundings
from vdpm.synthetic.rotations import axis_rotation, compose, looking_along, rotate, rotation_about

STILL, HANDHELD, DOLLY, ORBIT, PAN, FOLLOW = range(6)


class CameraPath(NamedTuple):
    """``rotation``, ``centre``: camera -> scene. ``focal``: in units of the image width. ``interest``: looked at."""

    rotation: Float[Tensor, "batch frames 3 3"]
    centre: Float[Tensor, "batch frames 3"]
    focal: Float[Tensor, "batch frames"]
    interest: Float[Tensor, "batch 3"]
    distance: Float[Tensor, "batch"]


def _drift(draws: Draws, name: str, clock: Tensor) -> Float[Tensor, "batch frames 3"]:
    """Smooth noise of about unit size: three sines an axis."""
    rate = draws.log_uniform(name + ".rate", 3, 3, low=1.5, high=16.0)
    phase = draws.uniform(name + ".phase", 3, 3, high=2 * math.pi)
    waves = torch.sin(clock[:, :, None, None] * rate[:, None] + phase[:, None])
    return (waves * (1.5 / rate)[:, None].sqrt()).sum(-1) * 0.6


def sample_camera(
    draws: Draws,
    config: SceneConfig,
    around: Surroundings,
    clock: Float[Tensor, "batch frames"],
    subject: Float[Tensor, "batch frames 3"],
) -> CameraPath:
    """A camera that looks at something near the middle of the stage; ``subject`` is what a following camera follows."""
    kind = draws.category("camera.kind", config.camera_weights)
    stage, u = around.stage, clock[..., None]
    spot = 0.4 * stage[:, None] * draws.uniform("camera.interest", 2, low=-1.0, high=1.0)
    level = choose(
        around.kind,
        draws.uniform("camera.level", low=0.2, high=1.3),
        stage * draws.uniform("camera.level", low=0.0, high=0.35),
        draws.uniform("camera.level", low=0.4, high=2.0),
        stage * draws.uniform("camera.level", low=0.0, high=0.3),
    )
    interest = torch.cat([spot, level[:, None]], -1)
    near_subject = (draws.chance("camera.on_subject", 0.4) | (kind == FOLLOW))[:, None]
    interest = torch.where(near_subject, subject[:, 0], interest)

    unit = draws.uniform("camera.distance")
    distance = stage * choose(around.kind, 0.7 + 0.7 * unit, 0.8 + 1.4 * unit, 0.7 + 1.2 * unit, 1.0 + 1.8 * unit)
    azimuth = draws.uniform("camera.azimuth", high=2 * math.pi)
    azimuth = torch.where(
        around.kind == STREET, math.pi / 2 + 0.25 * torch.sin(azimuth) + math.pi * (azimuth > math.pi), azimuth
    )
    tilt = draws.uniform("camera.elevation")
    elevation = torch.deg2rad(choose(around.kind, 30 * tilt, 2 + 26 * tilt, 1 + 22 * tilt, 12 + 45 * tilt))
    back = torch.stack(
        [torch.cos(elevation) * torch.cos(azimuth), torch.cos(elevation) * torch.sin(azimuth), torch.sin(elevation)], -1
    )
    baseline = distance * draws.log_uniform("camera.baseline", low=config.baseline[0], high=config.baseline[1])
    moves = (kind != STILL).float()

    sway = torch.where(kind == HANDHELD, 0.5 * baseline, 0.006 * distance * draws.chance("camera.shaky", 0.6))
    shake = _drift(draws, "camera.sway", clock) * (sway * moves)[:, None, None]
    way = draws.direction("camera.dolly") * constant((1.0, 1.0, 0.4), draws.device)
    glide = way[:, None] * (baseline * ((kind == DOLLY) | (kind == FOLLOW)))[:, None, None] * u
    ease = draws.chance("camera.ease", 0.3)[:, None, None]
    glide = glide * torch.where(ease, 0.5 + 0.5 * u, 1.0)
    swept = (baseline / distance).clamp_max(0.9) * draws.sign("camera.orbit_sign") * (kind == ORBIT)
    arm = rotate(axis_rotation(2, swept[:, None] * clock), (back * distance[:, None])[:, None])
    centre = interest[:, None] + arm + glide + shake

    gap = 0.12 * stage
    limit = (around.half - gap[:, None])[:, None]
    lowest = torch.where(around.kind == TABLETOP, 0.12 * stage, 0.15 * stage.clamp_max(3.0))
    highest = around.ceiling - gap
    xy = torch.maximum(torch.minimum(centre[..., :2], limit), -limit)
    z = torch.maximum(torch.minimum(centre[..., 2], highest[:, None]), lowest[:, None])
    centre = torch.cat([xy, z[..., None]], -1)

    followed = torch.where((kind == FOLLOW)[:, None, None], subject - subject[:, :1], 0.0)
    tracked = draws.chance("camera.locked", 0.6) | (kind == ORBIT) | (kind == FOLLOW)
    aim = torch.where(tracked[:, None, None], centre, centre[:, :1])
    rotation = looking_along(interest[:, None] + followed - aim)
    view = torch.deg2rad(draws.uniform("camera.view", low=config.field_of_view[0], high=config.field_of_view[1]))
    focal = 0.5 / torch.tan(view / 2)

    off = draws.uniform("camera.off", 3, low=-1.0, high=1.0) * torch.stack(
        [0.15 * view, 0.15 * view, torch.zeros_like(view)], -1
    )
    lean = draws.uniform("camera.lean", low=-1.0, high=1.0)
    roll = choose(draws.category("camera.roll", (6.0, 3.0, 1.0)), 0.0, 0.06 * lean, 0.35 * lean)
    steady = compose(compose(axis_rotation(1, off[:, 0]), axis_rotation(0, off[:, 1])), axis_rotation(2, roll))
    pan = view * draws.log_uniform("camera.pan", low=0.05, high=0.8) * draws.sign("camera.pan_sign")
    pan = pan * torch.where(kind == PAN, 1.0, 0.25 * draws.chance("camera.also_pans", 0.3)) * moves
    nod = pan * draws.uniform("camera.nod", low=-0.4, high=0.4)
    middle = clock[:, -1:] / 2
    turned = compose(
        axis_rotation(1, pan[:, None] * (clock - middle)), axis_rotation(0, nod[:, None] * (clock - middle))
    )
    tremble = (
        torch.where(kind == HANDHELD, 0.03, 0.006) * moves * draws.log_uniform("camera.tremble", low=0.3, high=2.0)
    )
    wobble = _drift(draws, "camera.wobble", clock) * tremble[:, None, None]
    size = wobble.norm(dim=-1).clamp_min(1e-9)
    rotation = compose(
        compose(rotation, compose(steady[:, None], turned)), rotation_about(wobble / size[..., None], size)
    )

    zoom = draws.uniform("camera.zoom", low=-0.5, high=0.5) * draws.chance("camera.zooms", config.zoom_share)
    return CameraPath(rotation, centre, focal[:, None] * torch.exp(zoom[:, None] * clock), interest, distance)

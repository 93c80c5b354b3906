"""Camera paths: held in the hand or by one who walks, on a dolly, a truck, a crane, an orbit or a drone, panning,
following, still. Scene space (z up), c2w."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.hashing import Draws, choose, constant
from vdpm.synthetic.layout import STREET, TABLETOP, Surroundings
from vdpm.synthetic.rotations import axis_rotation, compose, looking_along, rotate, rotation_about

STILL, HANDHELD, DOLLY, ORBIT, PAN, FOLLOW, WALK, TRUCK, CRANE, DRONE, DOLLY_ZOOM = range(11)


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


def _shake(draws: Draws, name: str, seconds: Tensor) -> Float[Tensor, "batch frames 3"]:
    """How a hand trembles: four sines an axis from 0.5 to 9 Hz, the faster the weaker; of about unit size."""
    hertz = draws.log_uniform(name + ".hertz", 3, 4, low=0.5, high=9.0)
    phase = draws.uniform(name + ".phases", 3, 4, high=2 * math.pi)
    waves = torch.sin(seconds[:, :, None, None] * (2 * math.pi * hertz)[:, None] + phase[:, None])
    return (waves / hertz[:, None]).sum(-1) * 0.7


def _steps(draws: Draws, seconds: Tensor) -> Float[Tensor, "batch frames 3"]:
    """How one who walks goes up and down, and from side to side half as often: (aside, along, up), of unit size."""
    hertz = draws.uniform("camera.steps", 1, low=1.6, high=2.4)
    phase = draws.uniform("camera.step_phase", 1, high=2 * math.pi)
    angle = math.pi * hertz * seconds + phase
    return torch.stack([torch.sin(angle), torch.zeros_like(angle), torch.sin(2 * angle + 0.6)], -1)


def sample_camera(
    draws: Draws,
    config: SceneConfig,
    around: Surroundings,
    clock: Float[Tensor, "batch frames"],
    timestamps: Float[Tensor, "batch frames"],
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
    near_subject = (draws.chance("camera.on_subject", 0.75) | (kind == FOLLOW))[:, None]
    # What moves stays in the picture longest where the camera looks at the middle of its way; followers start with it.
    halfway = torch.where((kind == FOLLOW)[:, None], subject[:, 0], subject[:, subject.shape[1] // 2])
    interest = torch.where(near_subject, halfway, interest)

    unit = draws.uniform("camera.distance")
    distance = stage * choose(around.kind, 0.7 + 0.7 * unit, 0.8 + 1.4 * unit, 0.7 + 1.2 * unit, 1.0 + 1.8 * unit)
    view = torch.deg2rad(draws.uniform("camera.view", low=config.field_of_view[0], high=config.field_of_view[1]))
    focal = 0.5 / torch.tan(view / 2)
    # Long lenses stand back, wide ones come near, though not so far that things look equally large.
    distance = distance * (1.2 * focal).sqrt()
    azimuth = draws.uniform("camera.azimuth", high=2 * math.pi)
    azimuth = torch.where(
        around.kind == STREET, math.pi / 2 + 0.25 * torch.sin(azimuth) + math.pi * (azimuth > math.pi), azimuth
    )
    tilt = draws.uniform("camera.elevation")
    elevation = choose(around.kind, 30 * tilt, 2 + 26 * tilt, 1 + 22 * tilt, 12 + 45 * tilt)
    elevation = torch.deg2rad(torch.where(kind == DRONE, 25 + 45 * tilt, elevation))
    back = torch.stack(
        [torch.cos(elevation) * torch.cos(azimuth), torch.cos(elevation) * torch.sin(azimuth), torch.sin(elevation)], -1
    )
    baseline = distance * draws.log_uniform("camera.baseline", low=config.baseline[0], high=config.baseline[1])
    moves = (kind != STILL).float()

    sway = torch.where(kind == HANDHELD, 0.5 * baseline, 0.006 * distance * draws.chance("camera.shaky", 0.6))
    shake = _drift(draws, "camera.sway", clock) * (sway * moves)[:, None, None]
    free = draws.direction("camera.dolly") * constant((1.0, 1.0, 0.4), draws.device)
    sign = draws.sign("camera.way")[:, None]
    ahead = -back * constant((1.0, 1.0, 0.0), draws.device)
    aside = torch.stack([-back[:, 1], back[:, 0], torch.zeros_like(distance)], -1)
    up = constant((0.0, 0.0, 1.0), draws.device).expand_as(back)
    way = choose(
        kind[:, None], 0.0, 0.0, free, 0.0, 0.0, free, ahead + 0.2 * free, sign * aside + 0.1 * free,
        sign * up + 0.2 * free, ahead * sign + 0.4 * free, -back * sign,
    )  # fmt: skip
    reach = torch.where(kind == DOLLY_ZOOM, torch.minimum(baseline, 0.5 * distance), baseline)
    glide = way[:, None] * reach[:, None, None] * u
    gait = _steps(draws, timestamps) * constant((0.02, 0.0, 0.035), draws.device)
    gait = torch.cat([gait[..., :1] * aside[:, None, :2], gait[..., 2:]], -1)
    glide = glide + gait * ((kind == WALK) * (0.4 * stage).clamp_max(1.0))[:, None, None]
    ease = draws.chance("camera.ease", 0.3)[:, None, None]
    glide = glide * torch.where(ease, 0.5 + 0.5 * u, 1.0)
    turning = torch.where(kind == ORBIT, 1.0, 0.3 * (kind == DRONE))
    swept = (baseline / distance).clamp_max(0.9) * draws.sign("camera.orbit_sign") * turning
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
    tracked = draws.chance("camera.locked", 0.6) | (kind == ORBIT) | (kind == FOLLOW) | (kind == DOLLY_ZOOM)
    tracked = tracked & (kind != TRUCK) & (kind != WALK)
    aim = torch.where(tracked[:, None, None], centre, centre[:, :1])
    rotation = looking_along(interest[:, None] + followed - aim)

    off = draws.uniform("camera.off", 3, low=-1.0, high=1.0) * torch.stack(
        [0.15 * view, 0.15 * view, torch.zeros_like(view)], -1
    )
    lean = draws.uniform("camera.lean", low=-1.0, high=1.0)
    roll = choose(draws.category("camera.roll", (6.0, 3.0, 1.0)), 0.0, 0.06 * lean, 0.35 * lean)
    steady = compose(compose(axis_rotation(1, off[:, 0]), axis_rotation(0, off[:, 1])), axis_rotation(2, roll))
    pan = view * draws.log_uniform("camera.pan", low=0.05, high=0.8) * draws.sign("camera.pan_sign")
    pan = pan * torch.where(kind == PAN, 1.0, 0.25 * draws.chance("camera.also_pans", 0.3)) * moves
    nod = pan * draws.uniform("camera.nod", low=-0.4, high=0.4)
    tilts = (kind == PAN) & draws.chance("camera.tilts", 0.35)
    pan, nod = torch.where(tilts, nod, pan), torch.where(tilts, 0.6 * pan, nod)
    middle = clock[:, -1:] / 2
    turned = compose(
        axis_rotation(1, pan[:, None] * (clock - middle)), axis_rotation(0, nod[:, None] * (clock - middle))
    )
    tremble = (
        torch.where(kind == HANDHELD, 0.03, 0.006) * moves * draws.log_uniform("camera.tremble", low=0.3, high=2.0)
    )
    shaking = (kind == HANDHELD) | (kind == WALK) | (kind == FOLLOW) | draws.chance("camera.by_hand", 0.3)
    hand = draws.log_uniform("camera.hand", low=0.002, high=0.012) * shaking * moves
    wobble = _drift(draws, "camera.wobble", clock) * tremble[:, None, None]
    wobble = wobble + _shake(draws, "camera.hand", timestamps) * hand[:, None, None]
    size = wobble.norm(dim=-1).clamp_min(1e-9)
    rotation = compose(
        compose(rotation, compose(steady[:, None], turned)), rotation_about(wobble / size[..., None], size)
    )

    zoom = draws.uniform("camera.zoom", low=-0.6, high=0.6) * draws.chance("camera.zooms", config.zoom_share) * moves
    focal = focal[:, None] * torch.exp((zoom * (kind != DOLLY_ZOOM))[:, None] * clock).clamp(0.5, 2.0)
    # The subject keeps its size while the camera comes nearer or goes away.
    away = (centre - interest[:, None]).norm(dim=-1)
    held = (away / away[:, :1].clamp_min(1e-3)).clamp(0.4, 2.5)
    focal = torch.where((kind == DOLLY_ZOOM)[:, None], focal * held, focal)
    return CameraPath(rotation, centre, focal, interest, distance)

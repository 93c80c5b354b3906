"""Cars, trucks and carts: a body, a cabin and four wheels that roll without slipping."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.hashing import Draws, choose, constant
from vdpm.synthetic.layout import NUM_PARTS, STREET, VEHICLE, Layout, Surroundings
from vdpm.synthetic.motion import Poses
from vdpm.synthetic.rotations import axis_rotation, compose, rotate

_ELSEWHERE = 0.2
"""Share of the vehicles that streets have, in scenes that are no streets."""


def place_vehicle(
    draws: Draws,
    config: SceneConfig,
    around: Surroundings,
    layout: Layout,
    poses: Poses,
    instance: Int[Tensor, "batch parts"],
    lively: Bool[Tensor, "batch"],
    clock: Float[Tensor, "batch frames"],
) -> tuple[Layout, Poses, Int[Tensor, "batch parts"]]:
    """Puts a vehicle in a share of scenes: parked, at even speed, setting off, or braking to a stand."""
    street = around.kind == STREET
    share = config.shapes.vehicle_share * torch.where(street, 1.0, _ELSEWHERE)
    here = draws.chance("vehicle", share)
    stage, device = around.stage, draws.device
    length = torch.where(
        street, draws.uniform("vehicle.length", low=1.6, high=2.6),
        stage * draws.uniform("vehicle.length", low=0.2, high=0.4),
    )  # fmt: skip
    wide = length * draws.uniform("vehicle.width", low=0.36, high=0.5)
    tall = length * draws.uniform("vehicle.tall", low=0.14, high=0.26)
    radius = length * draws.uniform("vehicle.wheel", low=0.13, high=0.2)
    cabin = torch.stack(
        [length * draws.uniform("vehicle.cabin", low=0.3, high=0.6), wide * 0.9,
         length * draws.uniform("vehicle.roof", low=0.12, high=0.3)], -1,
    )  # fmt: skip
    body = torch.stack([length, wide, tall], -1)
    wheel = torch.stack([radius, radius, length * 0.06], -1)
    floor = radius * 1.1 + tall
    zero = torch.zeros_like(length)
    behind = length * draws.uniform("vehicle.behind", low=-0.45, high=0.25)
    places = [
        torch.stack([zero, zero, floor], -1),
        torch.stack([behind, zero, floor + tall + cabin[:, 2]], -1),
        *(torch.stack([x * 0.62 * length, y * (wide - 0.03 * length), radius], -1) for x in (-1, 1) for y in (-1, 1)),
    ]
    local = torch.stack(places, 1)

    # In streets it keeps to one lane, along the street.
    heading = draws.uniform("vehicle.heading", high=2 * math.pi)
    heading = torch.where(street, math.pi * (0.5 + (heading > math.pi)), heading)
    lane = torch.where(
        street, 0.45 * around.half[:, 0] * torch.sin(heading), stage * draws.uniform("vehicle.lane", low=-0.5, high=0.5)
    )
    ahead = stage * draws.uniform("vehicle.ahead", low=-0.6, high=0.6)
    speed = (
        length * draws.log_uniform("vehicle.speed", low=0.8, high=5.0) * lively * draws.chance("vehicle.drives", 0.85)
    )
    speed = torch.where(street, speed, torch.minimum(speed, 0.8 * stage))
    manner = draws.category("vehicle.manner", (2.0, 1.0, 1.0))[:, None].expand_as(clock)
    end = draws.uniform("vehicle.end", low=0.4, high=1.2)[:, None]
    braking = torch.minimum(clock, end)
    way = choose(
        manner, clock, 0.8 * clock.square() / end.clamp_max(0.8), 1.5 * (braking - braking.square() / (2 * end))
    )
    middle = 0.5 * clock[:, -1:]
    turn = draws.uniform("vehicle.turn", low=-0.9, high=0.9) * ~street * draws.chance("vehicle.turns", 0.6)
    turn = torch.where(turn.abs() < 0.02, 0.02, turn) * torch.where(street, 0.0, 1.0)
    driven = speed[:, None] * (way - middle * 0.8)
    bend = torch.where(turn == 0, 1.0, turn)[:, None] / (speed[:, None] + 0.2 * length[:, None])
    yaw = heading[:, None] + bend * driven * (turn != 0)[:, None]
    arc = torch.stack([torch.sin(yaw) - torch.sin(heading)[:, None], torch.cos(heading)[:, None] - torch.cos(yaw)], -1)
    start = torch.where(street[:, None], torch.stack([lane, ahead], -1), torch.stack([ahead, lane], -1))
    line = torch.stack([torch.cos(heading), torch.sin(heading)], -1)[:, None] * driven[..., None]
    ground = start[:, None] + torch.where((turn == 0)[:, None, None], line, arc / bend[..., None])

    frame = axis_rotation(2, yaw)[:, :, None]
    place = rotate(frame, local[:, None]) + torch.nn.functional.pad(ground, (0, 1))[:, :, None]
    rolling = axis_rotation(1, driven / radius[:, None])[:, :, None]
    lying = axis_rotation(0, torch.full_like(driven, 0.5 * math.pi))[:, :, None]
    wheels = compose(frame, compose(rolling, lying)).expand(-1, -1, 4, -1, -1)
    rotation = torch.cat([frame.expand(-1, -1, 2, -1, -1), wheels], 2)
    size = torch.stack([body, cabin, wheel, wheel, wheel, wheel], 1)

    slots = constant(VEHICLE, device)
    mine = torch.zeros(NUM_PARTS, dtype=torch.bool, device=device)
    mine[slots] = True
    mine = mine & here[:, None]
    layout = layout._replace(
        active=layout.active | mine,
        size=torch.where(mine[..., None], layout.size.index_copy(1, slots, size), layout.size),
        taper=torch.where(mine, 1.0, layout.taper),
    )
    poses = Poses(
        torch.where(mine[:, None, :, None, None], poses.rotation.index_copy(2, slots, rotation), poses.rotation),
        torch.where(mine[:, None, :, None], poses.position.index_copy(2, slots, place), poses.position),
    )
    # The first part of the instance is the body.
    return layout, poses, torch.where(mine, VEHICLE[0] + 1, instance)

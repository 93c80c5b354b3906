"""Figures: people who walk, run, wave, squat and dance, and four-legged animals, as chains of rigid limbs.

A figure is a torso, a head, four limbs of two segments and a neck: eleven parts, each with its own pose at every time.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.hashing import Draws, choose, constant
from vdpm.synthetic.layout import FIGURE_PARTS, NUM_PARTS, STREET, Layout, Surroundings
from vdpm.synthetic.motion import Poses
from vdpm.synthetic.rotations import axis_rotation, compose, rotate

WALK, RUN, WAVE, SQUAT, DANCE, STAND = range(6)
LIMBS = 4
"""Limb order: two legs then two arms, or hind legs then fore legs; left first."""


class Figure(NamedTuple):
    """One figure a scene, in scene space; parts ordered torso, head, upper and lower segment of each limb, neck."""

    present: Bool[Tensor, "batch"]
    size: Float[Tensor, "batch 11 3"]
    poses: Poses


def sample_figure(
    draws: Draws,
    config: SceneConfig,
    around: Surroundings,
    lively: Bool[Tensor, "batch"],
    clock: Float[Tensor, "batch frames"],
    number: int,
) -> Figure:
    """Figure ``number`` (0 or 1) of each scene. Animals walk where people would wave, and trot where they would run."""
    name = f"figure{number}."
    share = config.figure_share * (1.0 if number == 0 else config.second_figure_share)
    present = draws.chance(name + "present", share)
    animal = draws.category(name + "animal", (config.figures.person, config.figures.animal)) == 1
    height = choose(
        around.kind,
        torch.minimum(draws.uniform(name + "height", low=1.2, high=1.9), around.ceiling * 0.8),
        draws.uniform(name + "height", low=1.2, high=2.2),
        draws.uniform(name + "height", low=1.3, high=2.0),
        around.stage * draws.uniform(name + "height", low=0.25, high=0.6),
    )
    height = torch.where(animal, height * draws.uniform(name + "animal_height", low=0.4, high=0.9), height)

    def vary(part: str, low: float = 0.8, high: float = 1.25) -> Tensor:
        return draws.uniform(name + part, low=low, high=high)

    leg = torch.where(animal, 0.5 * height, 0.48 * height) * vary("leg", 0.85, 1.1)
    arm = torch.where(animal, leg, 0.4 * height * vary("arm"))
    thick = height * torch.where(animal, 0.05, 0.04) * vary("thick", 0.7, 1.5)
    trunk = torch.where(animal, 0.55 * height * vary("trunk", 0.8, 1.6), 0.26 * height * vary("trunk", 0.9, 1.1))
    girth = height * torch.where(animal, 0.17, 0.12) * vary("girth", 0.75, 1.3)
    skull = height * torch.where(animal, 0.12, 0.075) * vary("head")
    neck = height * torch.where(animal, 0.2 * vary("neck", 0.5, 2.5), 0.06)

    # Gait: the phase follows the distance walked, so that feet hardly slide.
    act = draws.category(name + "act", config.figures.acts)
    act = torch.where(animal & ((act == WAVE) | (act == SQUAT) | (act == DANCE)), WALK, act)
    running = act == RUN
    walking = ((act == WALK) | running) & lively
    stride = torch.where(running, 2.2, 1.6) * leg
    steps = draws.log_uniform(name + "steps", low=0.25, high=1.3) * torch.where(running, 1.4, 1.0)
    start = draws.uniform(name + "phase", high=2 * math.pi)
    phase = start[:, None] + 2 * math.pi * (steps * walking)[:, None] * clock
    speed = stride * steps * walking
    turn = draws.uniform(name + "turn", low=-1.2, high=1.2)
    turn = torch.where(turn.abs() < 0.05, 0.05, turn)
    facing = draws.uniform(name + "facing", high=2 * math.pi)
    # Towards the camera's side or away, as in motion.sample_paths; in streets along them.
    azimuth = torch.where(around.kind == STREET, 0.5 * math.pi, draws.uniform("camera.azimuth", high=2 * math.pi))
    depth = draws.chance(name + "depth", config.motions.depth_share) | (around.kind == STREET)
    facing = torch.where(depth, azimuth + 0.15 * facing + math.pi * draws.chance(name + "away", 0.5), facing)
    beat = draws.log_uniform(name + "beat", low=3.0, high=12.0) * lively
    measure = start[:, None] + beat[:, None] * clock
    dances, squats = (act == DANCE)[:, None], (act == SQUAT)[:, None]
    sway = torch.sin(measure) - torch.sin(start)[:, None]
    yaw = facing[:, None] + (turn * walking)[:, None] * clock + 0.5 * dances * sway
    centre = (
        choose(around.kind, 0.5, 0.6, 0.5, 0.4)[:, None]
        * around.stage[:, None]
        * draws.uniform(name + "place", 2, low=-1.0, high=1.0)
    )
    span = (speed / turn)[:, None]
    path = torch.stack([torch.sin(yaw) - torch.sin(facing)[:, None], torch.cos(facing)[:, None] - torch.cos(yaw)], -1)
    middle = 0.5 * clock[:, -1:]
    begin = torch.stack([torch.cos(facing), torch.sin(facing)], -1) * speed[:, None] * middle
    ground = centre[:, None] - begin[:, None] + span[..., None] * torch.where(walking[:, None, None], path, 0.0)

    # Joint angles about the figure's left-right axis; x forward, y left, z up in the figure's own frame.
    quarter = constant((0.0, math.pi, math.pi, 0.0), draws.device)
    trot = constant((0.0, math.pi, math.pi / 2, 1.5 * math.pi), draws.device)
    shift = torch.where(animal[:, None], trot, quarter)
    limb_phase = phase[..., None] + shift[:, None]
    is_arm = (torch.arange(LIMBS, device=draws.device) >= 2) & ~animal[:, None]
    reach = draws.uniform(name + "reach", 1, low=0.3, high=0.65) * torch.where(is_arm, 0.8, 1.0)
    reach = reach * torch.where(walking, 1.0, 0.25)[:, None] * torch.where(running, 1.35, 1.0)[:, None]
    hip = reach[:, None] * torch.sin(limb_phase)
    bend = torch.where(is_arm, -0.5, 0.9)[:, None] * reach[:, None] * (1 + torch.sin(limb_phase - 0.5 * math.pi)) * 0.8
    waves = (act == WAVE)[:, None] & (torch.arange(LIMBS, device=draws.device) == 3)
    wave = torch.sin(measure)[..., None]
    hip = torch.where(waves[:, None], 2.6 + 0.3 * wave, hip)
    bend = torch.where(waves[:, None], -0.5 + 0.7 * wave, bend)
    # Knees that bend by twice the hip's angle keep the feet below the hips; arms go forward, or up and about.
    deep = draws.uniform(name + "deep", low=0.5, high=1.2)[:, None] * (0.5 - 0.5 * torch.cos(2 * measure))
    crouch = torch.where(squats, deep, torch.where(dances, 0.35 * deep, 0.0))
    bent = (squats | dances)[..., None]
    offbeat = draws.uniform(name + "offbeat", LIMBS, high=2 * math.pi)[:, None]
    swings = 1.3 + 1.1 * torch.sin(measure[..., None] + offbeat)
    arms_up = torch.where(squats[..., None], 1.2 * crouch[..., None].expand_as(hip), swings)
    hip = torch.where(bent, torch.where(is_arm[:, None], arms_up, crouch[..., None]), hip)
    flex = torch.where(dances[..., None], -0.9 + 0.8 * torch.cos(measure[..., None] + offbeat), -0.1)
    bend = torch.where(bent, torch.where(is_arm[:, None], flex, 2 * crouch[..., None]), bend)

    half_trunk = trunk / 2
    hips_up = leg * 0.96 + thick
    bob = torch.where(running[:, None], 0.05, 0.02) * height[:, None] * torch.cos(2 * phase) * walking[:, None]
    leaps = draws.chance(name + "leaps", 0.4)[:, None] & dances
    bob = (
        bob - leg[:, None] * (1 - torch.cos(crouch)) + leaps * 0.12 * height[:, None] * torch.sin(measure).clamp_min(0)
    )
    zero = torch.zeros_like(height)
    lateral = girth * torch.where(animal, 0.55, 0.5)
    torso_up = torch.where(animal, hips_up + 0.2 * girth, hips_up + half_trunk)
    torso = torch.stack([zero, zero, torso_up], -1)
    shoulder = torso_up + torch.where(animal, -0.2 * girth, half_trunk * 0.75)
    rear = torch.where(animal, -half_trunk * 0.75, zero)
    front = torch.where(animal, half_trunk * 0.75, zero)
    wide = torch.where(animal, lateral, girth * 1.15)
    joints = torch.stack(
        [
            torch.stack([rear, lateral, hips_up], -1), torch.stack([rear, -lateral, hips_up], -1),
            torch.stack([front, wide, shoulder], -1), torch.stack([front, -wide, shoulder], -1),
        ], 1,
    )  # fmt: skip
    length = torch.stack([leg, leg, arm, arm], 1)
    upper = length * 0.5
    down = constant((0.0, 0.0, -1.0), draws.device)
    upper_rotation = axis_rotation(1, -hip)
    knee = joints[:, None] + rotate(upper_rotation, down * upper[:, None, :, None])
    upper_centre = joints[:, None] + rotate(upper_rotation, down * (upper / 2)[:, None, :, None])
    lower_rotation = compose(upper_rotation, axis_rotation(1, bend))
    lower_centre = knee + rotate(lower_rotation, down * (upper / 2)[:, None, :, None])

    lean = torch.where(animal, zero, draws.uniform(name + "lean", low=-0.05, high=0.2))
    lean = lean + torch.where(running & ~animal, 0.2, 0.0)
    neck_tilt = torch.where(animal, draws.uniform(name + "neck_tilt", low=0.3, high=1.2), lean)
    nod = neck_tilt[:, None] + 0.08 * torch.sin(phase)
    neck_base = torch.stack([front, zero, torch.where(animal, torso_up + 0.3 * girth, torso_up + half_trunk * 0.9)], -1)
    neck_rotation = axis_rotation(1, nod)
    neck_centre = neck_base[:, None] + rotate(neck_rotation, -down * (neck / 2)[:, None, None])
    head_centre = neck_base[:, None] + rotate(neck_rotation, -down * (neck + skull * 0.8)[:, None, None])

    frames = clock.shape[1]
    still = axis_rotation(1, lean)[:, None].expand(-1, frames, -1, -1)
    rotation = torch.cat(
        [
            still[:, :, None],
            neck_rotation[:, :, None],
            _interleave(upper_rotation, lower_rotation),
            neck_rotation[:, :, None],
        ],
        2,
    )
    position = torch.cat(
        [
            torso[:, None, None].expand(-1, frames, -1, -1),
            head_centre[:, :, None],
            _interleave(upper_centre, lower_centre),
            neck_centre[:, :, None],
        ],
        2,
    )
    lift = torch.stack([torch.zeros_like(bob), torch.zeros_like(bob), bob], -1)
    root = axis_rotation(2, yaw)[:, :, None]
    placed = rotate(root, position + lift[:, :, None])
    placed = placed + torch.cat([ground, torch.zeros_like(ground[..., :1])], -1)[:, :, None]

    body = torch.stack(
        [
            torch.where(animal, half_trunk * 1.15, girth * 0.7),
            girth * torch.where(animal, 0.85, 1.1),
            torch.where(animal, girth, half_trunk * 1.15),
        ],
        -1,
    )
    head = torch.stack([skull * torch.where(animal, 1.4, 1.0), skull * 0.85, skull * torch.where(animal, 0.9, 1.2)], -1)
    slim = torch.stack([thick, thick, thick * 0.85, thick * 0.85], 1)
    segment = torch.stack([slim, slim, upper / 2], -1)
    lower = torch.stack([slim * 0.8, slim * 0.8, upper / 2], -1)
    throat = torch.stack([thick * 1.1, thick * 1.1, neck / 2], -1)
    size = torch.cat([body[:, None], head[:, None], torch.stack([segment, lower], 2).flatten(1, 2), throat[:, None]], 1)
    return Figure(present, size, Poses(compose(root, rotation), placed))


def place_figure(
    figure: Figure, number: int, layout: Layout, poses: Poses, instance: Int[Tensor, "batch parts"]
) -> tuple[Layout, Poses, Int[Tensor, "batch parts"]]:
    """Puts a figure in place of the parts reserved for it, where it is present; its parts become one instance."""
    slots = constant(FIGURE_PARTS[number], figure.size.device)
    here = torch.zeros(NUM_PARTS, dtype=torch.bool, device=slots.device)
    here[slots] = True
    here = here & figure.present[:, None]
    size = layout.size.index_copy(1, slots, figure.size)
    rotation = poses.rotation.index_copy(2, slots, figure.poses.rotation)
    position = poses.position.index_copy(2, slots, figure.poses.position)
    layout = layout._replace(active=layout.active | here, size=torch.where(here[..., None], size, layout.size))
    poses = Poses(
        torch.where(here[:, None, :, None, None], rotation, poses.rotation),
        torch.where(here[:, None, :, None], position, poses.position),
    )
    return layout, poses, torch.where(here, FIGURE_PARTS[number][0] + 1, instance)


def _interleave(upper: Tensor, lower: Tensor) -> Tensor:
    """[b, f, limbs, ...] twice -> [b, f, 2 * limbs, ...], upper before lower of each limb."""
    return torch.stack([upper, lower], 3).flatten(2, 3)

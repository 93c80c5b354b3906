"""What is taken out of a scene: parts that crowd the camera, and parts that stand in one another."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vdpm.synthetic.cameras import CameraPath
from vdpm.synthetic.collisions import BALLS
from vdpm.synthetic.hashing import constant
from vdpm.synthetic.layout import (
    CAPSULES,
    FIGURE_PARTS,
    FURNITURE,
    NUM_PARTS,
    SHEETS,
    TABLE,
    TABLETOP,
    VEHICLE,
    Layout,
    Surroundings,
    half_extents,
)
from vdpm.synthetic.motion import Poses
from vdpm.synthetic.rotations import unrotate
from vdpm.synthetic.sheets import Sheets


def unit_scale(size: Float[Tensor, "batch parts 3"]) -> Float[Tensor, "batch parts 3"]:
    """What the axes of each part are divided by in the frame of its unit shape."""
    radius = size[:, CAPSULES, :1].expand(-1, -1, 3)
    return torch.cat([size[:, : CAPSULES.start], radius, size[:, CAPSULES.stop :]], 1)


def in_the_way(
    camera: CameraPath,
    layout: Layout,
    poses: Poses,
    vertices: Float[Tensor, "batch frames sheets vertices 3"],
    instance: Int[Tensor, "batch parts"],
    around: Surroundings,
) -> Bool[Tensor, "batch parts"]:
    """Parts that hold a camera centre at some frame or crowd it; what belongs to one of them goes with it."""
    offset = unrotate(poses.rotation, camera.centre[:, :, None] - poses.position)
    extent = half_extents(layout.size)
    gap = (offset.abs() - extent[:, None]).clamp_min(0).norm(dim=-1).amin(1)
    clearance = (0.1 * camera.distance)[:, None] + 0.6 * extent.norm(dim=-1)
    near = gap < clearance
    apart = (vertices - camera.centre[:, :, None, None]).norm(dim=-1).amin((1, 3)) < 0.25 * camera.distance[:, None]
    near = torch.cat([near[:, : SHEETS.start], apart], 1) & layout.active
    is_table = (around.kind[:, None] == TABLETOP) & (torch.arange(NUM_PARTS, device=gap.device) == TABLE)
    return _with_others(near & ~is_table, instance)


def overlapping(
    layout: Layout,
    poses: Poses,
    sheets: Sheets,
    instance: Int[Tensor, "batch parts"],
    collides: Bool[Tensor, "batch"],
    around: Surroundings,
) -> Bool[Tensor, "batch parts"]:
    """Parts that hold the middle of a more important one, or have theirs in it, when the clip begins, halfway, or when
    it ends. Figures come before balls that collide, the hero, vehicles, furniture, and the rest in their order."""
    frames = poses.position.shape[1]
    some = constant((0, frames // 2, frames - 1), instance.device)
    corners = sheets.vertices[:, some]
    low, high = corners.amin(3), corners.amax(3)
    position = torch.cat([poses.position[:, some, : SHEETS.start], 0.5 * (low + high)], 2)
    eye = torch.eye(3, device=instance.device).expand(*low.shape[:-1], 3, 3)
    rotation = torch.cat([poses.rotation[:, some, : SHEETS.start], eye], 2)
    extent = half_extents(layout.size)[:, None, : SHEETS.start].expand(-1, len(some), -1, -1)
    extent = torch.cat([extent, 0.5 * (high - low)], 2)

    # [batch, frames, i, j]: how far the middle of j is from the box of i.
    offset = unrotate(rotation[:, :, :, None], position[:, :, None] - position[:, :, :, None])
    gap = (offset.abs() - extent[:, :, :, None]).clamp_min(0).square().sum(-1)
    within = (gap < (0.7 * extent.amin(-1)).square()[:, :, None]).any(1)
    meets = within | within.transpose(-1, -2)

    number = torch.arange(NUM_PARTS, device=instance.device)
    figures = torch.zeros(NUM_PARTS, dtype=torch.bool, device=instance.device)
    balls, vehicle, furniture = figures.clone(), figures.clone(), figures.clone()
    figures[constant(sum(FIGURE_PARTS, ()), instance.device)] = True
    balls[constant(BALLS, instance.device)] = True
    vehicle[constant(VEHICLE, instance.device)] = True
    furniture[FURNITURE] = True
    rank = 5.0 - furniture.float() - 2 * (number == layout.hero[:, None]) - 1.5 * vehicle
    rank = torch.where(balls & collides[:, None], 2.0, rank)
    rank = torch.where(figures & (instance != number + 1) | (number < 4), 0.0, rank) + number * 1e-3
    before = rank[:, :, None] < rank[:, None]
    apart = instance[:, :, None] != instance[:, None]
    both = layout.active[:, :, None] & layout.active[:, None]
    is_table = (around.kind[:, None] == TABLETOP) & (number == TABLE)
    taken = (meets & before & apart & both & ~is_table[:, :, None]).any(1)
    return _with_others(taken & ~is_table, instance)


def _with_others(taken: Bool[Tensor, "batch parts"], instance: Int[Tensor, "batch parts"]) -> Tensor:
    """All parts of the objects of which one is taken."""
    same = instance[:, :, None] == instance[:, None]
    return (same & taken[:, :, None]).any(1)

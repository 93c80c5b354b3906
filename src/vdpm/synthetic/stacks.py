"""Things made of several parts that stand on each other and move together: roofs on houses, crowns on trunks, vases."""

import torch
from jaxtyping import Int
from torch import Tensor

from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.hashing import Draws, constant
from vdpm.synthetic.layout import LATHE, Layout, half_height
from vdpm.synthetic.motion import Poses
from vdpm.synthetic.rotations import compose, rotate

PAIRS = ((38, 26), (39, 27), (40, 28), (6, 41), (7, 42), (8, 43))
"""(upper, lower): cylinders and cones on boxes, ellipsoids on cylinders and cones."""


def stack_parts(
    draws: Draws, config: SceneConfig, layout: Layout, poses: Poses, instance: Int[Tensor, "batch parts"]
) -> tuple[Layout, Poses, Int[Tensor, "batch parts"]]:
    """Puts a share of the upper parts on their lower ones, as one rigid instance."""
    device = draws.device
    parents = list(range(layout.size.shape[1]))
    uppers = [False] * len(parents)
    for upper, lower in PAIRS:
        parents[upper], uppers[upper] = lower, True
    parent = constant(tuple(parents), device)
    stacked = draws.chance("stack", config.shapes.stack_share, len(parents)) & constant(tuple(uppers), device)

    sink = draws.uniform("stack.sink", len(parents), low=0.75, high=1.0)
    rise = layout.size[:, parent, 2] + sink * layout.size[..., 2]
    above = rise[..., None] * constant((0.0, 0.0, 1.0), device)
    rotation = poses.rotation[:, :, parent]
    position = poses.position[:, :, parent] + rotate(rotation, above[:, None])
    here = stacked[:, None, :, None]
    poses = Poses(rotation.where(here[..., None], poses.rotation), position.where(here, poses.position))
    layout = layout._replace(active=layout.active[:, parent].where(stacked, layout.active))
    return layout, poses, instance[:, parent].where(stacked, instance)


def stack_lathe(
    draws: Draws, config: SceneConfig, layout: Layout, poses: Poses, instance: Int[Tensor, "batch parts"]
) -> tuple[Layout, Poses, Int[Tensor, "batch parts"]]:
    """Turned bodies, as vases, bottles, lamps: five cones and cylinders on each other, each as wide below as the last
    one above, or with a step. They stand and move as the first of them."""
    device = draws.device
    here = draws.chance("lathe", config.shapes.lathe_share)
    slots = constant(LATHE, device)
    count = len(LATHE)
    # A smooth profile, drawn as radii at six heights; a share of its joints has a step.
    size = layout.size[:, slots[:1], :1].amax(-1)
    radius = size * draws.log_uniform("lathe.radius", count + 1, low=0.25, high=1.0)
    ends = draws.uniform("lathe.ends", 2) < 0.3
    radius = torch.cat(
        [torch.where(ends[:, :1], 0.15 * radius[:, :1], radius[:, :1]), radius[:, 1:-1],
         torch.where(ends[:, 1:], 0.0, radius[:, -1:])], 1,
    )  # fmt: skip
    step = torch.where(
        draws.chance("lathe.step", 0.25, count), draws.uniform("lathe.wider", count, low=0.6, high=1.5), 1.0
    )
    bottom, top = (radius[:, :-1] * step).clamp_min(1e-3), radius[:, 1:]
    half = size * draws.log_uniform("lathe.height", count, low=0.12, high=0.7)
    # A frustum is widest at its bottom, z = -1, or turned over.
    over = top > bottom
    wide, narrow = torch.where(over, top, bottom), torch.where(over, bottom, top)
    whole = half.sum(1, keepdim=True)
    level = half.cumsum(1) * 2 - half - whole
    flip = torch.where(over, -1.0, 1.0)
    turn = torch.diag_embed(torch.stack([torch.ones_like(flip), flip, flip], -1))

    mine = torch.zeros(layout.size.shape[1], dtype=torch.bool, device=device)
    mine[slots] = True
    mine = mine & here[:, None]
    root = LATHE[0]
    standing = layout.rotation[:, root, 2, 2].abs()[:, None]
    rise = standing * whole + (1 - standing.square()).clamp_min(0).sqrt() * wide.amax(1, keepdim=True)
    lift = rise[:, 0] - half_height(layout.size, layout.rotation)[:, root]
    first = poses.rotation[:, :, root, None]
    middle = poses.position[:, :, root, None] + lift[:, None, None, None] * constant((0.0, 0.0, 1.0), device)
    up = level[..., None] * constant((0.0, 0.0, 1.0), device)
    new_size = torch.stack([wide, wide, half], -1)
    taper = layout.taper.index_copy(1, slots, narrow / wide)
    layout = layout._replace(
        active=torch.where(mine, layout.active[:, root, None], layout.active),
        size=torch.where(mine[..., None], layout.size.index_copy(1, slots, new_size), layout.size),
        taper=torch.where(mine, taper, layout.taper),
    )
    rotation = poses.rotation.index_copy(2, slots, compose(first, turn[:, None]))
    position = poses.position.index_copy(2, slots, middle + rotate(first, up[:, None]))
    poses = Poses(
        torch.where(mine[:, None, :, None, None], rotation, poses.rotation),
        torch.where(mine[:, None, :, None], position, poses.position),
    )
    return layout, poses, torch.where(mine, root + 1, instance)

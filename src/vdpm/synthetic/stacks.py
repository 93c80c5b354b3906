"""Things made of two parts: one part standing on another and moving with it, as roofs on houses, crowns on trunks."""

from jaxtyping import Int
from torch import Tensor

from vdpm.synthetic.hashing import Draws, constant
from vdpm.synthetic.layout import Layout
from vdpm.synthetic.motion import Poses
from vdpm.synthetic.rotations import rotate

PAIRS = ((18, 14), (19, 15), (20, 16), (6, 21), (7, 22), (8, 23))
"""(upper, lower): cylinders and cones on boxes, ellipsoids on cylinders and cones."""
_SHARE = 0.4


def stack_parts(
    draws: Draws, layout: Layout, poses: Poses, instance: Int[Tensor, "batch parts"]
) -> tuple[Layout, Poses, Int[Tensor, "batch parts"]]:
    """Puts a share of the upper parts on their lower ones, as one rigid instance."""
    device = draws.device
    parents = list(range(layout.size.shape[1]))
    uppers = [False] * len(parents)
    for upper, lower in PAIRS:
        parents[upper], uppers[upper] = lower, True
    parent = constant(tuple(parents), device)
    stacked = draws.chance("stack", _SHARE, len(parents)) & constant(tuple(uppers), device)

    sink = draws.uniform("stack.sink", len(parents), low=0.75, high=1.0)
    rise = layout.size[:, parent, 2] + sink * layout.size[..., 2]
    above = rise[..., None] * constant((0.0, 0.0, 1.0), device)
    rotation = poses.rotation[:, :, parent]
    position = poses.position[:, :, parent] + rotate(rotation, above[:, None])
    here = stacked[:, None, :, None]
    poses = Poses(rotation.where(here[..., None], poses.rotation), position.where(here, poses.position))
    layout = layout._replace(active=layout.active[:, parent].where(stacked, layout.active))
    return layout, poses, instance[:, parent].where(stacked, instance)

"""A batch of scenes, from seeds to everything the renderer needs, in the world of the reference camera."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdpm.synthetic.cameras import CameraPath, sample_camera
from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.figures import place_figure, sample_figure
from vdpm.synthetic.hashing import Draws
from vdpm.synthetic.intersect import Parts
from vdpm.synthetic.layout import (
    FIGURE_PARTS,
    NUM_PARTS,
    TABLE,
    TABLETOP,
    Layout,
    Surroundings,
    half_extents,
    sample_layout,
    sample_surroundings,
)
from vdpm.synthetic.lighting import Light, sample_light
from vdpm.synthetic.materials import sample_materials
from vdpm.synthetic.motion import Poses, sample_paths, sample_times
from vdpm.synthetic.rotations import compose, rotate, unrotate
from vdpm.synthetic.sensor import Response, sample_response
from vdpm.synthetic.stacks import stack_parts


class Scene(NamedTuple):
    """Scenes ready to render. World: the camera of the reference frame (x right, y down, z forward).

    ``skyline``: base, rise, period and whether it is made of blocks. ``focal`` in units of the image width.
    """

    parts: Parts
    materials: Float[Tensor, "batch materials fields"]
    light: Light
    response: Response
    skyline: Float[Tensor, "batch 4"]
    c2w: Float[Tensor, "batch frames 4 4"]
    focal: Float[Tensor, "batch frames"]
    timestamps: Float[Tensor, "batch frames"]


def sample_scenes(seeds: Int[Tensor, "batch"], config: SceneConfig, reference: int | Int[Tensor, "batch"] = 0) -> Scene:
    """Scenes of ``seeds``, on the device of ``seeds``, in the world of frame ``reference`` (one for all, or one each).

    A scene depends on its seed and on nothing else in the batch. The work is some 2,400 small kernels however many the
    seeds are, so a run samples the scenes of several batches at once.
    """
    draws = Draws(seeds)
    around = sample_surroundings(draws, config)
    layout = sample_layout(draws, config, around)
    timestamps, clock = sample_times(draws, config)
    poses, lively = sample_paths(draws, config, around, layout, clock)
    instance = torch.arange(1, NUM_PARTS + 1, device=seeds.device).expand(draws.batch, -1)
    layout, poses, instance = stack_parts(draws, layout, poses, instance)
    for number in range(len(FIGURE_PARTS)):
        figure = sample_figure(draws, config, around, lively, clock, number)
        layout, poses, instance = place_figure(figure, number, layout, poses, instance)
        if number == 0:
            walker = figure
    index = layout.hero[:, None, None, None].expand(-1, config.num_frames, 1, 3)
    middle = poses.position.gather(2, index)[:, :, 0]
    subject = torch.where(walker.present[:, None, None], walker.poses.position[:, :, 0], middle)
    camera = sample_camera(draws, config, around, clock, subject)
    layout = layout._replace(active=layout.active & ~_in_the_way(camera, layout, poses, instance, around))
    materials = sample_materials(draws, config, around, layout)
    light = sample_light(draws, config, around)
    response = sample_response(draws, config, clock, timestamps)
    skyline = torch.stack(
        [around.skyline_base, around.skyline_rise, around.skyline_period, around.skyline_blocks.float()], -1
    )

    # From scene space to the world: the reference camera's axes and centre.
    clips = torch.arange(draws.batch, device=seeds.device)
    chosen = torch.full_like(clips, reference) if isinstance(reference, int) else reference
    turn = camera.rotation[clips, chosen].transpose(-1, -2)
    origin = camera.centre[clips, chosen]
    rotation = torch.cat([poses.rotation, torch.eye(3, device=seeds.device).expand_as(poses.rotation[:, :, :1])], 2)
    position = torch.cat([poses.position, torch.zeros_like(poses.position[:, :, :1])], 2)
    c2w = torch.zeros(*camera.centre.shape[:2], 4, 4, device=seeds.device)
    c2w[..., :3, :3] = compose(turn[:, None], camera.rotation)
    c2w[..., :3, 3] = rotate(turn[:, None], camera.centre - origin[:, None])
    c2w[..., 3, 3] = 1
    c2w[clips, chosen] = torch.eye(4, device=seeds.device)
    end = torch.ones_like(layout.size[:, :1])
    parts = Parts(
        rotation=compose(turn[:, None, None], rotation),
        position=rotate(turn[:, None, None], position - origin[:, None, None]),
        size=torch.cat([layout.size, end], 1),
        taper=torch.cat([layout.taper, end[..., 0]], 1),
        active=layout.active,
        instance=torch.cat([instance, torch.zeros_like(instance[:, :1])], 1),
        half=around.half,
        floor=around.floor,
        ceiling=around.ceiling,
    )
    lamp = rotate(turn, light.place - origin)
    light = light._replace(
        place=torch.where(light.is_lamp[:, None], lamp, rotate(turn, light.place)),
        up=rotate(turn, light.up),
        fill=rotate(turn, light.fill),
    )
    return Scene(parts, materials, light, response, skyline, c2w, camera.focal, timestamps)


def _in_the_way(
    camera: CameraPath, layout: Layout, poses: Poses, instance: Int[Tensor, "batch parts"], around: Surroundings
) -> Tensor:
    """Parts that hold a camera centre at some frame or crowd it; one part of a figure takes all of it away."""
    offset = unrotate(poses.rotation, camera.centre[:, :, None] - poses.position)
    extent = half_extents(layout.size)
    gap = (offset.abs() - extent[:, None]).clamp_min(0).norm(dim=-1).amin(1)
    clearance = (0.1 * camera.distance)[:, None] + 0.6 * extent.norm(dim=-1)
    near = (gap < clearance) & layout.active
    is_table = (around.kind[:, None] == TABLETOP) & (torch.arange(NUM_PARTS, device=gap.device) == TABLE)
    near = near & ~is_table
    for slots in FIGURE_PARTS:
        here = instance == slots[0] + 1
        near = near | (here & (near & here).any(1, keepdim=True))
    return near

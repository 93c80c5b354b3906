"""A batch of scenes, from seeds to everything the renderer needs, in the world of the reference camera."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdpm.synthetic.cameras import CameraPath, sample_camera
from vdpm.synthetic.clearance import in_the_way, overlapping, unit_scale
from vdpm.synthetic.collisions import BALLS, place_collision
from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.crowds import place_crowd
from vdpm.synthetic.figures import place_figure, sample_figure
from vdpm.synthetic.hashing import Draws, constant
from vdpm.synthetic.intersect import Lamp, Parts
from vdpm.synthetic.layout import (
    FIGURE_PARTS,
    NUM_PARTS,
    SHEETS,
    SUPERQUADRICS,
    Surroundings,
    sample_layout,
    sample_surroundings,
)
from vdpm.synthetic.lighting import Light, sample_light
from vdpm.synthetic.materials import sample_materials
from vdpm.synthetic.motion import on_ground, sample_paths, sample_times
from vdpm.synthetic.rotations import compose, rotate
from vdpm.synthetic.sensor import Response, sample_response
from vdpm.synthetic.sheets import lift_sheets, place_pole, sample_sheets
from vdpm.synthetic.stacks import stack_lathe, stack_parts
from vdpm.synthetic.terrain import terrain_height
from vdpm.synthetic.vehicles import place_vehicle


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
    layout, poses, collides = place_collision(draws, config, around, layout, poses, lively, clock)
    layout, poses, instance = stack_parts(draws, config, layout, poses, instance)
    layout, poses, instance = stack_lathe(draws, config, layout, poses, instance)
    layout, poses = place_crowd(draws, config, around, layout, poses, lively, clock)
    layout, poses, instance = place_vehicle(draws, config, around, layout, poses, instance, lively, clock)
    sheets = sample_sheets(draws, config, around, layout, poses, lively, clock)
    layout, poses, instance = place_pole(sheets, layout, poses, instance)
    for number in range(len(FIGURE_PARTS)):
        figure = sample_figure(draws, config, around, lively, clock, number)
        layout, poses, instance = place_figure(figure, number, layout, poses, instance)
        if number == 0:
            walker = figure
    layout = layout._replace(active=layout.active & ~overlapping(layout, poses, sheets, instance, collides, around))
    poses = on_ground(poses, layout, around.waves, instance)
    vertices = lift_sheets(sheets, around.waves)
    index = layout.hero[:, None, None, None].expand(-1, config.num_frames, 1, 3)
    middle = poses.position.gather(2, index)[:, :, 0]
    middle = torch.where((layout.hero == SHEETS.start)[:, None, None], vertices[:, :, 0].mean(-2), middle)
    middle = torch.where(collides[:, None, None], poses.position[:, :, BALLS[1]], middle)
    subject = torch.where(walker.present[:, None, None], poses.position[:, :, FIGURE_PARTS[0][0]], middle)
    camera = sample_camera(draws, config, around, clock, timestamps, subject)
    camera = _above_ground(camera, around)
    layout = layout._replace(active=layout.active & ~in_the_way(camera, layout, poses, vertices, instance, around))
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
    lamp = rotate(turn, light.place - origin)
    light = light._replace(
        place=torch.where(light.is_lamp[:, None], lamp, rotate(turn, light.place)),
        up=rotate(turn, light.up),
        fill=rotate(turn, light.fill),
    )
    end = torch.ones_like(layout.size[:, :1])
    shape = torch.cat([layout.taper[..., None], torch.ones_like(layout.taper[..., None])], -1)
    curved = slice(SUPERQUADRICS.start, SUPERQUADRICS.stop)
    shape = torch.cat([shape[:, : curved.start], layout.exponents[:, curved], shape[:, curved.stop :], end[..., :2]], 1)
    rotation = compose(turn[:, None, None], rotation)
    inverse = _inverted(rotation)
    scale = unit_scale(layout.size)[:, None, : SHEETS.start, :, None]
    parts = Parts(
        turn=rotation,
        position=rotate(turn[:, None, None], position - origin[:, None, None]),
        inverse=inverse,
        unit=inverse[:, :, : SHEETS.start] / scale,
        size=torch.cat([layout.size, end], 1),
        shape=shape,
        active=layout.active,
        instance=torch.cat([instance, torch.zeros_like(instance[:, :1])], 1),
        half=around.half,
        floor=around.floor,
        ceiling=around.ceiling,
        waves=around.waves,
        vertices=rotate(turn[:, None, None, None], vertices - origin[:, None, None, None]),
        rest=sheets.rest,
        topology=sheets.topology,
        wraps=sheets.wraps,
        creased=sheets.creased,
        lamp=Lamp(light.is_lamp, light.place, _light_frame(light)),
    )
    return Scene(parts, materials, light, response, skyline, c2w, camera.focal, timestamps)


def _inverted(matrix: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3 3"]:
    """The inverse from cross products of columns: element by element, so that no other scene has a part in it."""
    x, y, z = matrix.unbind(-1)
    rows = torch.stack([torch.linalg.cross(y, z), torch.linalg.cross(z, x), torch.linalg.cross(x, y)], -2)
    return rows / (x * rows[..., 0, :]).sum(-1)[..., None, None]


def _light_frame(light: Light) -> Float[Tensor, "batch 3 3"]:
    """World -> light: as the world for a lamp; for the sun, rows of which the third points to it."""
    axis = light.place / light.place.norm(dim=-1, keepdim=True).clamp_min(1e-9)
    other = torch.where(
        (axis[:, :1].abs() < 0.6), constant((1.0, 0.0, 0.0), axis.device), constant((0.0, 1.0, 0.0), axis.device)
    )
    first = torch.linalg.cross(axis, other)
    first = first / first.norm(dim=-1, keepdim=True)
    frame = torch.stack([first, torch.linalg.cross(axis, first), axis], -2)
    return torch.where(light.is_lamp[:, None, None], torch.eye(3, device=axis.device), frame)


def _above_ground(camera: CameraPath, around: Surroundings) -> CameraPath:
    """The camera lifted by the highest ground below its path."""
    rise = terrain_height(around.waves, camera.centre[..., :2]).amax(1)
    up = torch.nn.functional.pad(rise[:, None], (2, 0))
    return camera._replace(centre=camera.centre + up[:, None], interest=camera.interest + up)

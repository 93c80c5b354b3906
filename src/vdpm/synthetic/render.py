"""From scenes to pixels and their ground truth. World: the reference camera; vectors stand along the first axis."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vdpm.synthetic.blur import image_motion
from vdpm.synthetic.hashing import constant, lattice
from vdpm.synthetic.intersect import Rays, nearest_hit, unit
from vdpm.synthetic.layout import SURROUNDINGS
from vdpm.synthetic.rotations import turned_back
from vdpm.synthetic.scene import Scene
from vdpm.synthetic.shading import Hit, indices, shade
from vdpm.synthetic.texture import noise

_OFFSETS = {
    1: ((0.0, 0.0),),
    3: ((0.0, 0.0), (-0.28, 0.24), (0.28, -0.24)),
    5: ((0.0, 0.0), (-0.15, -0.35), (0.35, -0.15), (0.15, 0.35), (-0.35, 0.15)),
}
"""Where in a pixel its colour is sampled, relative to its centre; the first sample gives the ground truth."""


class Pixels(NamedTuple):
    """What tracing gives for each ray; ``displacement``: how far its point moves from its own place in the clip;
    ``parts``: which part of the scene it is on; ``motion``: as of ``blur.image_motion``."""

    radiance: Float[Tensor, "batch frames rays 3"]
    points: Float[Tensor, "batch frames rays 3"]
    target_points: Float[Tensor, "batch targets frames rays 3"]
    valid: Bool[Tensor, "batch frames rays"]
    instances: Int[Tensor, "batch frames rays"]
    displacement: Float[Tensor, "batch frames rays"]
    parts: UInt8[Tensor, "batch frames rays"]
    motion: Float[Tensor, "batch frames rays 3"]


def trace(
    scene: Scene,
    pixels: Float[Tensor, "rays 2"],
    targets: Int[Tensor, "batch targets"],
    width: int,
    height: int,
    samples: int,
) -> Pixels:
    """Colour and ground truth of the given pixel positions (x, y) in every frame of every scene."""
    # All colour samples are traced as one set of rays; the first set, through the centres, comes first.
    count = len(pixels)
    offsets = constant(_OFFSETS[samples], pixels.device)
    x, y = (pixels + offsets[:, None]).flatten(0, 1).unbind(-1)
    origin, direction = _rays(scene, x, y, width, height)
    poses = torch.cat([scene.parts.rotation.flatten(-2), scene.parts.position], -1)
    hit = _hit(scene, poses, origin, direction)
    colour = shade(scene, origin, direction, hit, width).movedim(0, -1)
    radiance = colour.unflatten(2, (samples, count)).mean(2)

    part, valid = hit.part[..., :count], ~hit.sky[..., :count]
    batch, own = indices(part)
    # Where each point is at the times of the targets, then at those of all frames: [batch, times, frames, rays].
    times = torch.cat([targets, own.view(1, -1).expand(len(targets), -1)], 1)
    pose = poses[batch[..., None], times[..., None, None], part[:, None]]
    turn = pose[..., :9].unflatten(-1, (3, 3))
    px, py, pz = hit.material[:, :, None, :, :count, None]
    points = turn[..., 0] * px + turn[..., 1] * py + turn[..., 2] * pz + pose[..., 9:]
    moved, everywhere = points.split([targets.shape[1], poses.shape[1]], 1)
    frames = own.flatten()
    here = everywhere[:, frames, frames]
    displacement = (everywhere - here[:, None]).square().sum(-1).amax(1).sqrt()
    return Pixels(
        radiance=radiance,
        points=here * valid[..., None],
        target_points=moved * valid[:, None, ..., None],
        valid=valid,
        instances=scene.parts.instance[batch, part],
        displacement=displacement * valid,
        parts=part.to(torch.uint8),
        motion=image_motion(everywhere, scene.c2w, scene.focal, scene.timestamps, width),
    )


def _rays(scene: Scene, x: Tensor, y: Tensor, width: int, height: int) -> tuple[Rays, Rays]:
    focal = scene.focal[..., None] * width
    cx, cy = (x - 0.5 * width) / focal, (y - 0.5 * height) / focal
    columns = scene.c2w[:, :, :3, :, None].permute(3, 2, 0, 1, 4)
    # Both contiguous, and an origin for each ray, as shadow rays have them: for another layout all that is compiled
    # would be compiled again.
    direction = unit(columns[0] * cx + columns[1] * cy + columns[2]).contiguous()
    return columns[3].expand_as(direction).contiguous(), direction


def _hit(scene: Scene, poses: Float[Tensor, "batch frames parts 12"], origin: Rays, direction: Rays) -> Hit:
    """The material point that each ray meets first, and whether it is sky instead."""
    length, part, face = nearest_hit(scene.parts, origin, direction)
    batch, frame = indices(part)
    # One gather of rows, then one copy that puts the columns first: all that follows reads whole columns.
    pose = poses[batch, frame, part].movedim(-1, 0).contiguous()
    turn = pose[:9].unflatten(0, (3, 3))
    material = turned_back(turn, origin + length * direction - pose[9:])

    x, y, z = material
    seed = scene.light.sky_seed[:, None, None].to(torch.int32)
    base, rise, period, blocks = scene.skyline[:, None, None].unbind(-1)
    along = torch.where(face < 2, y, x) / period
    smooth = noise(torch.stack([along, face.float() * 7.3, torch.zeros_like(along)]), seed)
    none = torch.zeros_like(face, dtype=torch.int32)
    column = lattice(along.floor().to(torch.int32), face.to(torch.int32), none, seed)
    skyline = base + rise * torch.where(blocks > 0.5, column, smooth)
    sky = (part == SURROUNDINGS) & (face != 4) & ((z > skyline) | (face == 5) & (base < 1e4))
    return Hit(length, part, face, turn, material, sky)

"""From scenes to pixels and their ground truth. World: the reference camera; vectors stand along the first axis."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Int16
from torch import Tensor

from vdpm.synthetic.blur import image_motion
from vdpm.synthetic.fusing import fusable
from vdpm.synthetic.hashing import constant, lattice
from vdpm.synthetic.intersect import Rays, dot, nearest_hit, unit
from vdpm.synthetic.layout import SURROUNDINGS
from vdpm.synthetic.pieces import Contact, contact, piece_poses
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
    ``pieces``: which part of the scene, or triangle of a sheet, it is on (a row of ``pieces.piece_poses``);
    ``motion``: as of ``blur.image_motion``."""

    radiance: Float[Tensor, "batch frames rays 3"]
    points: Float[Tensor, "batch frames rays 3"]
    target_points: Float[Tensor, "batch targets frames rays 3"]
    valid: Bool[Tensor, "batch frames rays"]
    instances: Int[Tensor, "batch frames rays"]
    displacement: Float[Tensor, "batch frames rays"]
    pieces: Int16[Tensor, "batch frames rays"]
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
    poses = piece_poses(scene.parts)
    end = contact(scene.parts, poses, origin, direction)
    hit = Hit(end.length, end.part, end.face, end.material, end.own_normal, end.normal, _is_sky(scene, end))
    colour = shade(scene, origin, direction, hit, width, samples).movedim(0, -1)
    radiance = colour.unflatten(2, (samples, count)).mean(2)

    piece, valid = end.piece[..., :count], ~hit.sky[..., :count]
    batch, own = indices(piece)
    # Where each point is at the times of the targets, then of the frames before and after its own, and of its own.
    frame, material = own.flatten(), end.own[..., :count].contiguous()
    around = torch.stack([(frame - 1).clamp_min(0), (frame + 1).clamp_max(len(frame) - 1), frame])
    times = [targets[..., None].expand(-1, -1, len(frame)), around.expand(len(targets), -1, -1)]
    moved, beside = _carried(poses, piece, material, torch.cat(times, 1)).split([targets.shape[1], 3], 1)
    here = beside[:, 2]
    displacement = _displacement(poses, piece, material, here)
    return Pixels(
        radiance=radiance,
        points=here * valid[..., None],
        target_points=moved * valid[:, None, ..., None],
        valid=valid,
        instances=scene.parts.instance[batch, end.part[..., :count]],
        displacement=displacement * valid,
        pieces=piece.to(torch.int16),
        motion=image_motion(beside, scene.c2w, scene.focal, scene.timestamps, width),
    )


@fusable
def _carried(poses: Tensor, piece: Tensor, own: Tensor, times: Tensor) -> Tensor:
    """World points [batch, times, frames, rays, 3] of what has coordinates ``own`` [3, batch, frames, rays] on pieces,
    at ``times`` [batch, times, frames]."""
    return _on_pieces(poses, piece, own, times[..., None])


@fusable
def _displacement(poses: Tensor, piece: Tensor, own: Tensor, here: Tensor) -> Tensor:
    """How far each point is from ``here`` [batch, frames, rays, 3] when it is farthest, of all times."""
    every = torch.arange(poses.shape[1], device=poses.device)[None, :, None, None]
    return (_on_pieces(poses, piece, own, every) - here[:, None]).square().sum(-1).amax(1).sqrt()


def _on_pieces(poses: Tensor, piece: Tensor, own: Tensor, times: Tensor) -> Tensor:
    """``_carried`` at ``times`` that broadcast to [batch, times, frames, rays]. Not fused on its own: the compiler
    would then keep the points of all times."""
    batch = torch.arange(len(poses), device=poses.device)[:, None, None, None]
    pose = poses[batch, times, piece[:, None]]
    x, y, z = own[:, :, None, ..., None].unbind(0)
    return pose[..., 0:9:3] * x + pose[..., 1:9:3] * y + pose[..., 2:9:3] * z + pose[..., 9:]


def _rays(scene: Scene, x: Tensor, y: Tensor, width: int, height: int) -> tuple[Rays, Rays]:
    focal = scene.focal[..., None] * width
    cx, cy = (x - 0.5 * width) / focal, (y - 0.5 * height) / focal
    columns = scene.c2w[:, :, :3, :, None].permute(3, 2, 0, 1, 4)
    # Both contiguous, and an origin for each ray, as shadow rays have them: for another layout all that is compiled
    # would be compiled again.
    direction = unit(columns[0] * cx + columns[1] * cy + columns[2]).contiguous()
    return columns[3].expand_as(direction).contiguous(), direction


def _is_sky(scene: Scene, end: Contact) -> Bool[Tensor, "batch frames rays"]:
    """Whether a ray passes above the skyline."""
    return _above_skyline(scene.skyline, scene.light.sky_seed, end.own, end.part, end.face)


@fusable
def _above_skyline(table: Tensor, seed: Tensor, own: Tensor, part: Tensor, face: Tensor) -> Tensor:
    x, y, z = own.unbind(0)
    seed = seed[:, None, None].to(torch.int32)
    base, rise, period, blocks = table[:, None, None].unbind(-1)
    along = torch.where(face < 2, y, x) / period
    smooth = noise(torch.stack([along, face.float() * 7.3, torch.zeros_like(along)]), seed)
    none = torch.zeros_like(face, dtype=torch.int32)
    column = lattice(along.floor().to(torch.int32), face.to(torch.int32), none, seed)
    skyline = base + rise * torch.where(blocks > 0.5, column, smooth)
    return (part == SURROUNDINGS) & (face != 4) & ((z > skyline) | (face == 5) & (base < 1e4))


def visibility(
    scene: Scene,
    targets: Int[Tensor, "batch targets"],
    points: Float[Tensor, "batch targets frames rays 3"],
    width: int,
    height: int,
) -> Bool[Tensor, "batch targets frames rays"]:
    """Whether the camera of each target frame sees the points, which are at its time: within its picture, in front of
    it, and not behind anything. World points."""
    there = at_frames(scene, targets)
    batch, times = targets.shape
    place = points.flatten(2, 3).movedim(-1, 0)
    columns = there.c2w[:, :, :3, :, None].permute(3, 2, 0, 1, 4)
    offset = place - columns[3]
    x, y, z = (dot(column, offset) for column in columns[:3])
    focal = there.focal[..., None]
    inside = (z > 0) & ((x * focal).abs() < 0.5 * z) & ((y * focal).abs() * width < 0.5 * height * z)
    distance = dot(offset, offset).clamp_min(1e-12).sqrt()
    origin = columns[3].expand_as(offset).contiguous()
    length, _, _ = nearest_hit(there.parts, origin, (offset / distance).contiguous())
    return (inside & (length > distance * (1 - 2e-3))).view(batch, times, *points.shape[2:4])


def at_frames(scene: Scene, frames: Int[Tensor, "batch some"]) -> Scene:
    """The scenes at some of their frames only, which may differ from clip to clip."""
    rows = torch.arange(len(frames), device=frames.device)[:, None]
    parts = scene.parts._replace(
        turn=scene.parts.turn[rows, frames],
        position=scene.parts.position[rows, frames],
        inverse=scene.parts.inverse[rows, frames],
        unit=scene.parts.unit[rows, frames],
        vertices=scene.parts.vertices[rows, frames],
    )
    return scene._replace(
        parts=parts,
        c2w=scene.c2w[rows, frames],
        focal=scene.focal[rows, frames],
        timestamps=scene.timestamps[rows, frames],
    )

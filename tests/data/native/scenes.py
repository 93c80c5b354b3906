"""The clip that all writers put on disk, made once, and how what a reader gives is compared with it."""

from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from vdpm.geometry.alignment import unit_mean_distance
from vdpm.geometry.rigid import invert_rigid, rigid, rotation_vector_to_matrix, transform_points
from vdpm.structures import Snippet
from vdpm.synthetic import SceneConfig, generate, held_out_seeds
from vdpm.synthetic.families import FAMILIES

FRAMES, HEIGHT, WIDTH = 5, 48, 64
WORLD = rigid(
    rotation_vector_to_matrix(torch.tensor([0.4, -1.1, 0.7], dtype=torch.float64)),
    torch.tensor([1.5, -0.6, 2.2], dtype=torch.float64),
)
"""From the world of the clip, its first camera, to that of the files: data sets have worlds of their own, and a reader
that mixes up directions must not get away with a first camera at the origin."""


@cache
def clip() -> Snippet:
    """Rigid objects that move before a moving camera, with sky, and points at the times of all frames."""
    config = replace(FAMILIES["rigid"], num_frames=FRAMES, height=HEIGHT, width=WIDTH)
    return _resized(generate(held_out_seeds(1, start=84), config).clip(0), 0.3)


@cache
def still_clip() -> Snippet:
    """A clip in which nothing but the camera moves."""
    config = SceneConfig(
        num_frames=FRAMES, height=HEIGHT, width=WIDTH, colour_samples=1, static_share=1.0, still_camera_weight=0.0
    )
    return generate(held_out_seeds(1, start=71), config).clip(0)


def _resized(clip: Snippet, factor: float) -> Snippet:
    """In a smaller unit: 16 bit hold 13 metres in some formats."""
    c2w = clip.c2w.clone()
    c2w[:, :3, 3] *= factor
    return replace(clip, points=clip.points * factor, target_points=clip.target_points * factor, c2w=c2w)


def c2w_in_files(truth: Snippet) -> Tensor:
    """[frames 4 4], float64, camera to the world of the files."""
    return WORLD @ truth.c2w.double()


def depth(truth: Snippet) -> Tensor:
    """[frames h w], float64, along z; 0 where nothing is seen."""
    z = transform_points(invert_rigid(truth.c2w.double()), truth.points.double())[..., 2]
    return z.masked_fill(~truth.valid, 0)


def pictures(truth: Snippet) -> Tensor:
    """[frames h w 3], 8 bit."""
    return (truth.images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def scale(truth: Snippet) -> float:
    return float(unit_mean_distance(truth.points, truth.valid, batch_axes=0))


def assert_is(read: Snippet, truth: Snippet, frames: list[int], quantum: float = 0.0, lossy: bool = False) -> None:
    """Everything at the frames' own times: cameras within 1e-4, points within 1e-3 of the scene's scale and the file's
    own ``quantum`` of depth, masks exactly. The world is the camera of ``frames[read.reference]``."""
    world = invert_rigid(truth.c2w[frames[read.reference]].double())
    expected = (world @ truth.c2w[frames].double()).float()
    size = scale(truth)
    torch.testing.assert_close(read.c2w[:, :3, :3], expected[:, :3, :3], rtol=0, atol=1e-4)
    torch.testing.assert_close(read.c2w[:, :3, 3] / size, expected[:, :3, 3] / size, rtol=0, atol=1e-4)
    torch.testing.assert_close(read.intrinsics, truth.intrinsics[frames], rtol=1e-4, atol=1e-4)
    assert torch.equal(read.valid, truth.valid[frames])
    points = transform_points(world, truth.points[frames].double())
    off = (read.points - points).norm(dim=-1)[read.valid]
    assert float(off.max()) < 1e-3 * size + 2 * quantum, float(off.max()) / size
    if not lossy:
        assert torch.equal(read.images, pictures(truth)[frames].permute(0, 3, 1, 2).float() / 255)


def assert_moved(read: Snippet, truth: Snippet, frames: list[int], known: Tensor, quantum: float = 0.0) -> None:
    """Points at the times of the targets, where ``known`` [targets frames h w] says that the files hold them."""
    world = invert_rigid(truth.c2w[frames[read.reference]].double())
    times = [frames[place] for place in read.targets.tolist()]
    points = transform_points(world, truth.target_points[times][:, frames].double())
    assert read.target_valid is not None
    assert torch.equal(read.target_valid, known)
    off = (read.target_points - points).norm(dim=-1)[known]
    assert float(off.max()) < 1e-3 * scale(truth) + 2 * quantum, float(off.max()) / scale(truth)

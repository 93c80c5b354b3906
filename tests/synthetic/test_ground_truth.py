"""The ground truth of a snippet is one world seen by moving cameras: every map must agree with every other."""

import pytest
import torch

from vdpm.structures import Snippet
from vdpm.synthetic import SceneConfig, generate, held_out_seeds
from vdpm.synthetic.contact_sheet import depth_maps

CONFIG = SceneConfig(num_frames=4, height=36, width=48, colour_samples=1, time_step=(0.1, 0.2))
CLIPS = 6


@pytest.fixture(scope="module")
def snippet() -> Snippet:
    return generate(held_out_seeds(CLIPS, start=100), CONFIG)


def _project(snippet: Snippet, points: torch.Tensor, frame: int) -> tuple[torch.Tensor, torch.Tensor]:
    """World points [clips, ..., 3] -> pixels [clips, ..., 2] and depth in ``frame``."""
    c2w = snippet.c2w[:, frame].double()
    flat = points.double().flatten(1, -2)
    camera = (flat - c2w[:, None, :3, 3]) @ c2w[:, :3, :3]
    image = camera @ snippet.intrinsics[:, frame].double().transpose(-1, -2)
    pixels = (image[..., :2] / image[..., 2:]).view(*points.shape[:-1], 2)
    return pixels, camera[..., 2].view(points.shape[:-1])


def test_points_project_to_their_own_pixel_centres(snippet: Snippet) -> None:
    ys, xs = torch.meshgrid(torch.arange(36) + 0.5, torch.arange(48) + 0.5, indexing="ij")
    centres = torch.stack([xs, ys], -1).double()
    for frame in range(CONFIG.num_frames):
        pixels, depth = _project(snippet, snippet.points[:, frame], frame)
        valid = snippet.valid[:, frame]
        assert ((pixels - centres)[valid].abs() < 2e-3).all()
        assert (depth[valid] > 0).all()
    assert (depth_maps(snippet)[snippet.valid] > 0).all()


def test_the_world_is_the_reference_camera(snippet: Snippet) -> None:
    assert torch.equal(snippet.c2w[:, 0], torch.eye(4).expand(CLIPS, -1, -1))
    other = generate(held_out_seeds(CLIPS, start=100), CONFIG, reference=2)
    assert torch.equal(other.c2w[:, 2], torch.eye(4).expand(CLIPS, -1, -1))
    moved = (snippet.points - snippet.c2w[:, None, 2:3, None, :3, 3].transpose(1, 2)) @ snippet.c2w[:, 2, None, :3, :3][
        :, None
    ]
    same = snippet.valid & other.valid & (snippet.instances == other.instances)
    scale = snippet.points.norm(dim=-1).amax()
    assert torch.quantile((moved - other.points).norm(dim=-1)[same], 0.999) < 1e-4 * scale


def test_a_point_at_its_own_time_is_p(snippet: Snippet) -> None:
    for frame in range(CONFIG.num_frames):
        assert torch.equal(snippet.target_points[:, frame, frame], snippet.points[:, frame])


def test_static_pixels_stay_and_dynamic_ones_move(snippet: Snippet) -> None:
    away = (snippet.target_points - snippet.points[:, None]).norm(dim=-1).amax(1)
    distance = torch.stack([p.norm(dim=-1)[v].mean() for p, v in zip(snippet.points, snippet.valid)])
    moved = away > 0.01 * distance[:, None, None, None]
    assert torch.equal(moved & snippet.valid, snippet.dynamic)
    assert (away[snippet.instances == 0] == 0).all()
    assert snippet.dynamic.any()


def test_points_carried_to_another_time_land_on_the_same_surface(snippet: Snippet) -> None:
    """Where frame j sees the carried point (equal depth), it sees the same instance, also at a third time."""
    checked, agreeing = 0, 0
    depth = depth_maps(snippet)
    for source, target in ((0, 2), (3, 1), (1, 3)):
        pixels, z = _project(snippet, snippet.target_points[:, target, source], target)
        column, row = pixels[..., 0].floor().long(), pixels[..., 1].floor().long()
        seen = snippet.valid[:, source] & (z > 0) & (column >= 0) & (column < 48) & (row >= 0) & (row < 36)
        clip = torch.arange(CLIPS)[:, None, None].expand_as(column)
        at = (clip, row.clamp(0, 35), column.clamp(0, 47))
        visible = seen & ((depth[:, target][at] / z.clamp_min(1e-6) - 1).abs() < 0.005)
        same = snippet.instances[:, source] == snippet.instances[:, target][at]
        checked, agreeing = checked + int(visible.sum()), agreeing + int((same & visible).sum())
        # A third time: both pixels name nearly the same material point, so they stay together (rigid parts).
        third = 0 if 0 not in (source, target) else 1
        gap_now = (snippet.target_points[:, target, source] - snippet.points[:, target][at]).norm(dim=-1)
        gap_then = (snippet.target_points[:, third, source] - snippet.target_points[:, third, target][at]).norm(dim=-1)
        kept = visible & same & (snippet.instances[:, source] == 0)
        assert torch.allclose(gap_now[kept], gap_then[kept], atol=1e-4)
    assert checked > 3000
    assert agreeing > 0.97 * checked


def test_colours_stick_to_what_moves() -> None:
    """A dynamic point seen at two times keeps its colour, under lighting that does not depend on its pose."""
    config = SceneConfig(num_frames=3, height=60, width=80, static_share=0.0, moving_share=(0.9, 0.9), shadow_share=0.0,
                         noise_level=(1e-6, 1e-6), colour_samples=1, travel=(0.5, 1.0))  # fmt: skip
    snippet = generate(held_out_seeds(4, start=40), config)
    depth = depth_maps(snippet)
    pixels, z = _project(snippet, snippet.target_points[:, 1, 0], 1)
    grid = torch.stack([pixels[..., 0] / 80 * 2 - 1, pixels[..., 1] / 60 * 2 - 1], -1).float()
    seen = torch.nn.functional.grid_sample(snippet.images[:, 1], grid, align_corners=False)
    near = torch.nn.functional.grid_sample(depth[:, 1, None], grid, align_corners=False)[:, 0]
    visible = snippet.dynamic[:, 0] & ((near / z - 1).abs() < 0.003) & (grid.abs() < 1).all(-1)
    assert visible.sum() > 200
    carried = (seen - snippet.images[:, 0]).abs().mean(1)[visible].median()
    in_place = (snippet.images[:, 1] - snippet.images[:, 0]).abs().mean(1)[visible].median()
    assert carried < 0.06
    assert carried < 0.7 * in_place

"""Flow, tracks, correspondence and motion against a scene whose every point is known at every time."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor

from fixtures.moving_sphere import FOCAL, RADIUS, MovingSphere, make_moving_sphere
from vdpm import motion
from vdpm.errors import UsageError
from vdpm.geometry.pinhole import pixel_grid
from vdpm.structures import DynamicPointMaps, Reconstruction


@pytest.fixture(scope="module")
def scene() -> MovingSphere:
    return make_moving_sphere()


@pytest.fixture(scope="module")
def noisy() -> MovingSphere:
    return make_moving_sphere(noise=0.005)


def queries_of(scene: MovingSphere) -> Tensor:
    height, width = scene.reconstruction.size
    return pixel_grid(height, width).reshape(-1, 2)


def on_edge(mask: Tensor) -> Tensor:
    """Pixels with both values of ``mask`` among their 3 x 3 neighbours."""
    wide = torch.nn.functional.max_pool2d(mask.float()[None, None], 3, 1, 1)[0, 0] > 0
    thin = torch.nn.functional.max_pool2d(1 - mask.float()[None, None], 3, 1, 1)[0, 0] == 0
    return wide & ~thin


def overlap(found: Tensor, truth: Tensor) -> float:
    return float((found & truth).sum() / (found | truth).sum())


def test_flow_is_the_displacement_and_antisymmetric(scene: MovingSphere) -> None:
    rec = scene.reconstruction
    assert (motion.scene_flow(rec, 2, 2, 2) == 0).all()
    flow = motion.scene_flow(rec, 2, 0, 4)
    assert torch.equal(flow, -motion.scene_flow(rec, 2, 4, 0))
    ball = scene.moving[2]
    assert flow[~ball].abs().max() < 1e-6
    own = rec.maps.time_variant(2).points[ball]
    truth = scene.at_time(own, 2, 4) - scene.at_time(own, 2, 0)
    assert torch.allclose(flow[ball].double(), truth, atol=1e-5)
    parts = motion.scene_flow(rec, 2, 0, 2) + motion.scene_flow(rec, 2, 2, 4)
    assert torch.allclose(flow, parts, atol=1e-6)


def test_flow_of_a_time_that_is_not_kept_says_so() -> None:
    rec = make_moving_sphere(num_frames=4, size=(12, 16), targets=(1,)).reconstruction
    assert motion.scene_flow(rec, 2, 2, 1).shape == (12, 16, 3)
    with pytest.raises(UsageError, match="target 3 is not in this result"):
        motion.scene_flow(rec, 2, 2, 3)


def test_depth_is_z_in_the_frames_own_camera(scene: MovingSphere) -> None:
    rec = scene.reconstruction
    points = rec.maps.time_variant(3).points
    pixels, z = motion.project_to(rec, points, 3)
    assert torch.allclose(motion.depth(rec, 3), z)
    # P_i(t_i) projects onto its own pixels, moving or not.
    assert (pixels.reshape(-1, 2) - queries_of(scene)).abs().max() < 1e-3
    assert torch.allclose(motion.depth(rec, 0), rec.maps.time_variant(0).points[..., 2])


def test_tracks_follow_still_and_moving_points(scene: MovingSphere) -> None:
    rec = scene.reconstruction
    queries = queries_of(scene)
    found = motion.tracks(rec, 1, queries)
    assert found.targets == (0, 1, 2, 3, 4)
    assert found.points.shape == (5, len(queries), 3)
    own = rec.maps.time_variant(1).points.reshape(-1, 3)
    ball = scene.moving[1].flatten()
    for row, target in enumerate(found.targets):
        assert torch.allclose(found.points[row, ~ball], own[~ball], atol=1e-5)
        assert torch.allclose(found.points[row, ball].double(), scene.at_time(own[ball], 1, target), atol=1e-5)
    assert torch.allclose(found.pixels[1], queries, atol=1e-3)
    assert found.visible[1].all()
    assert (found.confidence == 20).all()


def test_visibility_is_that_of_the_scene(scene: MovingSphere) -> None:
    """Wall points behind the ball, ball points that turned away and points out of view are hidden; others are seen."""
    found = motion.tracks(scene.reconstruction, 0, queries_of(scene))
    for row, target in enumerate(found.targets):
        truth = scene.visible(found.points[row], target)
        assert (found.visible[row] == truth).float().mean() > 0.955
        # Away from silhouettes, where one pixel decides, there is no mistake.
        x, y = found.pixels[row].floor().long().clamp(min=0).unbind(-1)
        edge = on_edge(scene.moving[target])[y.clamp(max=47), x.clamp(max=63)]
        border = ((found.pixels[row] < 1) | (found.pixels[row] > torch.tensor([63, 47]))).any(dim=-1)
        assert torch.equal(found.visible[row][~edge & ~border], truth[~edge & ~border])
    assert found.visible[4].float().mean() < 0.9


def test_a_ball_passing_in_front_hides_the_wall(scene: MovingSphere) -> None:
    rec = scene.reconstruction
    center, _ = motion.project_to(rec, scene.centers[4].float(), 4)
    # The wall point that frame 4 would see behind the ball's centre, found in frame 0.
    ray = torch.cat([(center - torch.tensor([32.0, 24.0])) / FOCAL, torch.ones(1)])
    c2w = rec.cameras.c2w[4]
    direction = c2w[:3, :3] @ ray
    normal = torch.tensor([0.15, 0.1, -1.0])
    wall = c2w[:3, 3] + direction * ((-4 - c2w[:3, 3] @ normal) / (direction @ normal))
    query, _ = motion.project_to(rec, wall, 0)
    found = motion.tracks(rec, 0, query[None])
    assert found.visible[:, 0].tolist() == [True, True, True, False, False]


def test_tracks_with_noise(scene: MovingSphere, noisy: MovingSphere) -> None:
    queries = queries_of(scene)
    found, exact = motion.tracks(noisy.reconstruction, 0, queries), motion.tracks(scene.reconstruction, 0, queries)
    for row, target in enumerate(found.targets):
        assert (found.visible[row] == scene.visible(exact.points[row], target)).float().mean() > 0.94
        assert ((found.points[row] - exact.points[row]).norm(dim=-1) / exact.points[row, :, 2]).mean() < 0.01


def test_sub_pixel_queries_are_bilinear_on_one_surface(scene: MovingSphere) -> None:
    rec = scene.reconstruction
    queries = torch.tensor([[5.25, 6.75], [50.0, 40.0]])
    found = motion.tracks(rec, 0, queries, targets=(0, 3))
    assert torch.allclose(found.pixels[0], queries, atol=0.01)
    # Both are on the wall, which stands still.
    assert torch.allclose(found.points[0], found.points[1], atol=1e-5)


def test_sampling_does_not_mix_across_edges(scene: MovingSphere) -> None:
    """Around the silhouette every point is the ball's or the wall's, at every time, never between the two."""
    rec = scene.reconstruction
    y, x = on_edge(scene.moving[2]).nonzero().unbind(-1)
    base = torch.stack([x, y], dim=-1) + 0.5
    queries = torch.cat([base + torch.tensor(shift) for shift in ((0.3, 0.1), (-0.4, 0.45), (0.0, -0.5))])
    found = motion.tracks(rec, 2, queries)
    for row, target in enumerate(found.targets):
        points = found.points[row].double()
        ball = ((points - scene.centers[target]).norm(dim=-1) - RADIUS).abs() < 0.03
        wall = (points @ torch.tensor([0.15, 0.1, -1.0]).double() + 4.0).abs() < 0.03
        assert (ball | wall).all()
        assert 0.2 < ball.float().mean() < 0.8


def test_sampling_does_not_mix_motions_at_like_depth() -> None:
    """Two halves at one depth, the right one moving: a query at the seam goes with one of them."""
    rec = make_moving_sphere(num_frames=2, size=(8, 8), travel=0.0).reconstruction
    flat = torch.cat([pixel_grid(8, 8) - 4, torch.full((8, 8, 1), 60.0)], dim=-1) / 60.0
    moved = flat.clone()
    moved[:, 4:, 0] += 0.3
    maps = type(rec.maps).from_tensors(
        flat.expand(2, 8, 8, 3),
        torch.ones(2, 8, 8),
        torch.stack([flat, moved])[:, None].expand(2, 2, 8, 8, 3),
        torch.ones(2, 2, 8, 8),
        num_frames=2,
        targets=(0, 1),
        sources=(0, 1),
    )
    found = motion.tracks(dataclasses.replace(rec, maps=maps), 0, torch.tensor([[3.9, 4.0], [4.1, 4.0]]))
    steps = (found.points[1] - found.points[0])[:, 0]
    assert torch.allclose(steps, torch.tensor([0.0, 0.3]), atol=1e-6)


def test_surface_of_a_frame_that_is_not_a_source_comes_from_those_that_are(scene: MovingSphere) -> None:
    alone = make_moving_sphere(sources=(0,))
    queries = queries_of(scene)
    found, full = motion.tracks(alone.reconstruction, 0, queries), motion.tracks(scene.reconstruction, 0, queries)
    assert torch.equal(found.points, full.points)
    for row, target in enumerate(found.targets):
        truth = scene.visible(full.points[row], target)
        assert (found.visible[row] == truth).float().mean() > 0.93
    hidden = full.pixels.isfinite().all(-1) & ~full.visible
    assert (~found.visible[4] & hidden[4]).sum() > 0.5 * hidden[4].sum()


def test_doubt_widens_the_tolerance() -> None:
    """A point 4 % behind the surface: hidden when both are sure, not told apart from it at confidence 1."""
    rec = make_moving_sphere(num_frames=2, size=(8, 8), travel=0.0).reconstruction
    flat = torch.cat([pixel_grid(8, 8) - 4, torch.full((8, 8, 1), 60.0)], dim=-1) / 60.0
    rec = dataclasses.replace(rec, cameras=dataclasses.replace(rec.cameras, c2w=torch.eye(4).expand(2, 4, 4).clone()))
    seen = []
    for confidence in (50.0, 1.0):
        sure = torch.full((2, 8, 8), confidence)
        maps = type(rec.maps).from_tensors(
            flat.expand(2, 8, 8, 3),
            sure,
            (flat * 1.04).expand(2, 2, 8, 8, 3),
            sure.expand(2, 2, 8, 8),
            num_frames=2,
            targets=(0, 1),
            sources=(0, 1),
        )
        found = motion.tracks(dataclasses.replace(rec, maps=maps), 0, torch.tensor([[4.0, 4.0]]), targets=(1,))
        seen.append(bool(found.visible[0, 0]))
    assert seen == [False, True]


def test_queries_may_be_lists_or_arrays(scene: MovingSphere) -> None:
    tracked = motion.tracks(scene.reconstruction, 0, torch.tensor([[20.0, 10.5], [3.5, 4.0]]))
    for queries in ([[20, 10.5], [3.5, 4]], np.array([[20.0, 10.5], [3.5, 4.0]])):
        again = motion.tracks(scene.reconstruction, 0, queries)
        assert torch.equal(again.points, tracked.points)
        assert again.queries.dtype == torch.float32
    whole = motion.tracks(scene.reconstruction, 0, np.array([[20, 10]]))
    assert torch.equal(whole.points, motion.tracks(scene.reconstruction, 0, [[20.0, 10.0]]).points)
    with pytest.raises(UsageError, match=r"shape \[1, 3\] must be \[tracks, 2\]"):
        motion.tracks(scene.reconstruction, 0, [[20.0, 10.5, 0.0]])


def test_plain_data_shows_itself_in_one_line(scene: MovingSphere) -> None:
    result = scene.reconstruction
    size = list(result.size)
    assert repr(result.maps.at(0, 1)) == f"PointMap(points=float32{[*size, 3]}, confidence=float32{size})"
    assert repr(result.cameras).startswith(f"Cameras(c2w=float32[{len(result)}, 4, 4], intrinsics=")
    tracked = motion.tracks(result, 0, [[20.0, 10.5]])
    for data in (tracked, motion.fuse(result, 0), motion.correspondence(result, 0, 1)):
        assert "tensor(" not in repr(data)
        assert "\n" not in repr(data)


def test_queries_are_checked(scene: MovingSphere) -> None:
    for bad in ([-0.1, 3.0], [64.5, 3.0], [3.0, float("nan")]):
        with pytest.raises(UsageError, match="outside of the image of 64 x 48"):
            motion.tracks(scene.reconstruction, 0, torch.tensor([bad]))
    with pytest.raises(UsageError, match="source 9"):
        motion.tracks(scene.reconstruction, 9, torch.tensor([[1.0, 1.0]]))
    empty = motion.tracks(scene.reconstruction, 0, torch.zeros(0, 2), targets=())
    assert empty.points.shape == (0, 0, 3)


@pytest.mark.parametrize(("a", "b", "target"), [(0, 1, None), (1, 3, None), (0, 4, None), (3, 1, 2), (2, 2, None)])
def test_correspondence_finds_the_pixel_on_still_and_moving_surfaces(
    scene: MovingSphere, a: int, b: int, target: int | None
) -> None:
    rec = scene.reconstruction
    found = motion.correspondence(rec, a, b, target)
    truth_points = rec.maps.at(b, a).points
    truth, _ = motion.project_to(rec, truth_points, b)
    visible = scene.visible(truth_points.reshape(-1, 3), b).view(48, 64)
    error = (found.pixels - truth).norm(dim=-1)
    for part in (scene.moving[a], ~scene.moving[a]):
        seen = visible & part
        assert seen.sum() > 50
        assert (found.valid & seen).sum() > 0.97 * seen.sum()
        right = error[found.valid & seen]
        assert right.median() < 0.05
        assert (right < 0.5).float().mean() > 0.97
    # What is called valid though hidden lies within the tolerance of the silhouette or of the border.
    assert (found.valid & ~visible).float().mean() < 0.08
    assert found.distance[found.valid & visible].median() < 0.005


def test_correspondence_with_itself_is_the_identity(scene: MovingSphere) -> None:
    found = motion.correspondence(scene.reconstruction, 2, 2)
    assert (found.pixels.reshape(-1, 2) - queries_of(scene)).abs().max() < 1e-3
    assert found.valid.all()


def test_correspondence_of_hidden_points_is_invalid(scene: MovingSphere) -> None:
    rec = scene.reconstruction
    found = motion.correspondence(rec, 0, 4)
    points = rec.maps.at(4, 0).points
    behind, _ = motion.project_to(rec, points, 4)
    center, _ = motion.project_to(rec, scene.centers[4].float(), 4)
    deep = ~scene.moving[0] & ((behind - center).norm(dim=-1) < 9)
    assert deep.sum() > 30
    assert not found.valid[deep].any()


def test_correspondence_with_noise(scene: MovingSphere, noisy: MovingSphere) -> None:
    found = motion.correspondence(noisy.reconstruction, 0, 2)
    exact = scene.reconstruction.maps.at(2, 0).points
    truth, _ = motion.project_to(scene.reconstruction, exact, 2)
    visible = scene.visible(exact.reshape(-1, 3), 2).view(48, 64)
    error = (found.pixels - truth).norm(dim=-1)[found.valid & visible]
    assert error.median() < 1.0
    assert (found.valid & visible).sum() > 0.9 * visible.sum()


def test_motion_mask_is_the_ball(scene: MovingSphere, noisy: MovingSphere) -> None:
    for source in range(5):
        assert torch.equal(motion.motion_mask(scene.reconstruction, source), scene.moving[source])
        assert overlap(motion.motion_mask(noisy.reconstruction, source), noisy.moving[source]) > 0.9


def test_motion_mask_of_a_still_scene_is_empty_up_to_chance() -> None:
    still = make_moving_sphere(noise=0.01, num_frames=3, travel=0.0)
    wall = ~still.moving[1]
    assert motion.motion_mask(still.reconstruction, 1)[wall].float().mean() < 0.002
    assert motion.motion_mask(still.reconstruction, 1, threshold=1e-4)[wall].float().mean() > 0.99


def test_motion_mask_wants_another_time() -> None:
    rec = make_moving_sphere(num_frames=3, size=(12, 16), targets=(1,)).reconstruction
    assert motion.motion_mask(rec, 0).any()
    with pytest.raises(UsageError, match="needs another target"):
        motion.motion_mask(rec, 1)
    with pytest.raises(UsageError, match="above 0"):
        motion.motion_mask(rec, 0, threshold=0.0)


def changed(scene: MovingSphere, decoded: Tensor, confidence: float | None = None) -> Reconstruction:
    """The scene of 4 frames with ``decoded`` [target, source, height, width, 3] added to Q, and its confidence set."""
    maps, frames = scene.reconstruction.maps, tuple(range(4))
    own = [maps.time_variant(source) for source in frames]
    kept = [[maps.time_invariant(target, source) for source in frames] for target in frames]
    sure = torch.stack([torch.stack([map.confidence for map in row]) for row in kept])
    altered = DynamicPointMaps.from_tensors(
        torch.stack([map.points for map in own]),
        torch.stack([map.confidence for map in own]),
        torch.stack([torch.stack([map.points for map in row]) for row in kept]) + decoded,
        sure if confidence is None else torch.where((decoded != 0).any(dim=-1), confidence, sure),
        num_frames=4,
        targets=frames,
        sources=frames,
    )
    return dataclasses.replace(scene.reconstruction, maps=altered)


def test_an_offset_of_the_decoder_is_no_motion() -> None:
    """Q that is off by the same vector at every time, the frame's own included, adds nothing to flow or mask."""
    scene = make_moving_sphere(num_frames=4)
    shifted = changed(scene, torch.tensor([0.2, -0.1, 0.3]))
    for start, end in ((1, 3), (0, 1), (0, 3)):
        expected = motion.scene_flow(scene.reconstruction, 1, start, end)
        assert torch.allclose(motion.scene_flow(shifted, 1, start, end), expected, atol=1e-5)
    assert torch.equal(motion.motion_mask(shifted, 1), scene.moving[1])


def test_doubtful_points_must_move_farther() -> None:
    """A corner of the wall, off by 3 % of its distance at one time, counts as moving only where it is sure."""
    scene = make_moving_sphere(num_frames=4)
    height, width = scene.reconstruction.size
    off = torch.zeros(4, 4, height, width, 3)
    corner = (slice(0, 8), slice(0, 8))
    off[3, 1, *corner] = 0.03 * scene.reconstruction.maps.time_variant(1).points[corner]
    assert motion.motion_mask(changed(scene, off), 1)[corner].all()
    doubtful = changed(scene, off, confidence=1.0)
    assert torch.equal(motion.motion_mask(doubtful, 1), scene.moving[1])
    assert motion.motion_mask(doubtful, 1, threshold=0.02)[corner].all()


def test_a_track_is_visible_in_its_own_frame_whatever_the_cameras_say(scene: MovingSphere) -> None:
    rec = scene.reconstruction
    c2w = rec.cameras.c2w.clone()
    c2w[:, :3, 3] += 0.5
    moved = dataclasses.replace(rec, cameras=dataclasses.replace(rec.cameras, c2w=c2w))
    found = motion.tracks(moved, 2, queries_of(scene))
    assert found.visible[2].all()
    assert not found.visible[3].all()

"""Focal length and pose recovered from points made with a known camera, exact, noisy, flat, and with outliers."""

import numpy as np
import pytest
import torch
from PIL import Image

from vdpm.errors import UsageError
from vdpm.geometry.camera_recovery import focal_weiszfeld, pose_pnp, pose_umeyama, reprojection_error
from vdpm.geometry.pinhole import pixel_grid, project, unproject
from vdpm.geometry.rigid import (
    invert_rigid,
    quaternion_to_matrix,
    rigid,
    rotation_angle,
    rotation_vector_to_matrix,
    transform_points,
)

INTRINSICS = torch.tensor([[210.0, 0, 112], [0, 205.0, 64], [0, 0, 1]], dtype=torch.float64)


def known_pose(seed: int = 0) -> torch.Tensor:
    """A w2c."""
    generator = torch.Generator().manual_seed(seed)
    quaternion = torch.randn(4, generator=generator, dtype=torch.float64)
    return rigid(quaternion_to_matrix(quaternion), 3 * torch.randn(3, generator=generator, dtype=torch.float64))


def seen_points(w2c: torch.Tensor, count: int = 300, flat: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """World points in view and the pixels they are seen at."""
    xy = torch.rand(count, 2, dtype=torch.float64) * torch.tensor([224.0, 128.0])
    depth = 4 + 3 * torch.rand(count, dtype=torch.float64)
    if flat:
        # 1 / z is linear in the pixel position on a plane.
        depth = 1 / (0.2 + 0.0005 * xy[:, 0] + 0.0003 * xy[:, 1])
    rays = torch.linalg.solve(INTRINSICS, torch.cat((xy, torch.ones(count, 1)), -1).T).T
    return transform_points(invert_rigid(w2c), rays * depth[:, None]), xy


def angle_and_shift(found: torch.Tensor, known: torch.Tensor) -> tuple[float, float]:
    difference = found.double() @ invert_rigid(known)
    return rotation_angle(difference[:3, :3]).item(), difference[:3, 3].norm().item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("focal", [30.0, 75.0, 400.0])
def test_focal_length_is_exact_on_exact_points(dtype, focal):
    intrinsics = torch.tensor([[focal, 0, 32], [0, focal, 20], [0, 0, 1]], dtype=dtype)
    depth = 1 + 5 * torch.rand(2, 3, 40, 64, dtype=dtype)
    points = unproject(depth, intrinsics.expand(2, 3, 3, 3))
    torch.testing.assert_close(focal_weiszfeld(points), torch.full((2, 3), focal, dtype=dtype), rtol=1e-4, atol=0)


def test_focal_length_withstands_outliers_and_gaps():
    intrinsics = torch.tensor([[60.0, 0, 32], [0, 60, 20], [0, 0, 1]], dtype=torch.float64)
    points = unproject(1 + 5 * torch.rand(40, 64, dtype=torch.float64), intrinsics)
    points[:8] = torch.randn(8, 64, 3) * 3
    points[30, :10] = torch.nan
    points[31, :10, 2] *= -1
    assert focal_weiszfeld(points).item() == pytest.approx(60, rel=0.02)
    valid = torch.ones(40, 64, dtype=torch.bool)
    valid[:8] = False
    assert focal_weiszfeld(points, valid).item() == pytest.approx(60, rel=1e-9)


def test_focal_length_of_nothing_is_refused():
    with pytest.raises(UsageError, match="focal length"):
        focal_weiszfeld(torch.full((4, 4, 3), torch.nan))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-7), (torch.float32, 1e-4)])
def test_pnp_recovers_an_exact_pose(seed, flat, dtype, tolerance):
    known = known_pose(seed)
    points, pixels = seen_points(known, flat=flat)
    found = pose_pnp(points.to(dtype), pixels.to(dtype), INTRINSICS.to(dtype))
    assert found.dtype == dtype
    angle, shift = angle_and_shift(found, known)
    assert angle < tolerance
    assert shift < 10 * tolerance


@pytest.mark.parametrize("count", [4, 5, 6])
def test_pnp_needs_few_points(count):
    known = known_pose(1)
    points, pixels = seen_points(known, count)
    angle, shift = angle_and_shift(pose_pnp(points, pixels, INTRINSICS), known)
    assert angle < 1e-6
    assert shift < 1e-5


def test_pnp_withstands_outliers_and_noise():
    known = known_pose(2)
    points, pixels = seen_points(known, 600)
    pixels = pixels + 0.5 * torch.randn(600, 2, dtype=torch.float64)
    pixels[:240] = torch.rand(240, 2, dtype=torch.float64) * torch.tensor([224.0, 128.0])
    angle, shift = angle_and_shift(pose_pnp(points, pixels, INTRINSICS), known)
    assert angle < 4e-3
    assert shift < 3e-2


def test_pnp_leaves_out_points_of_weight_zero_and_gaps():
    known = known_pose(3)
    points, pixels = seen_points(known, 100)
    weights = torch.rand(100, dtype=torch.float64) + 0.1
    points[:40] += 5 * torch.randn(40, 3, dtype=torch.float64)
    weights[:40] = 0
    points[41], pixels[42] = torch.nan, torch.inf
    angle, _ = angle_and_shift(pose_pnp(points, pixels, INTRINSICS, weights), known)
    assert angle < 1e-7


def test_pnp_draws_come_from_the_generator_alone():
    points, pixels = seen_points(known_pose(4), 200)
    pixels = pixels + torch.randn(200, 2, dtype=torch.float64)
    torch.manual_seed(1)
    state = torch.get_rng_state()
    runs = [pose_pnp(points, pixels, INTRINSICS, generator=torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*runs)
    assert torch.equal(torch.get_rng_state(), state)


def test_pnp_refuses_what_has_no_answer():
    points, pixels = seen_points(known_pose(5), 50)
    with pytest.raises(UsageError, match="at least 4 points"):
        pose_pnp(points[:3], pixels[:3], INTRINSICS)
    with pytest.raises(UsageError, match="at least 4 points"):
        pose_pnp(points, pixels, INTRINSICS, torch.zeros(50, dtype=torch.float64))
    spot = points[:1].expand(50, 3).contiguous()
    with pytest.raises(UsageError, match="no pose found"):
        pose_pnp(spot, pixels, INTRINSICS)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_pose_by_umeyama_is_c2w(batch):
    c2w = invert_rigid(known_pose(6)).expand(*batch, 4, 4)
    points_camera = torch.randn(*batch, 30, 3, dtype=torch.float64)
    found = pose_umeyama(transform_points(c2w, points_camera), points_camera)
    torch.testing.assert_close(found, c2w.contiguous())


def test_the_two_poses_agree_on_a_point_map():
    w2c = rigid(
        rotation_vector_to_matrix(torch.tensor([0.1, -0.2, 0.05]).double()), torch.tensor([0.3, 0.1, -0.2]).double()
    )
    depth = 3 + torch.rand(16, 28, dtype=torch.float64)
    intrinsics = torch.tensor([[25.0, 0, 14], [0, 25, 8], [0, 0, 1]], dtype=torch.float64)
    camera = unproject(depth, intrinsics)
    world = transform_points(invert_rigid(w2c), camera).flatten(0, 1)
    pixels = project(camera, intrinsics)[0].flatten(0, 1)
    by_pnp = pose_pnp(world, pixels, intrinsics)
    by_umeyama = pose_umeyama(world, camera.flatten(0, 1))
    torch.testing.assert_close(by_pnp @ by_umeyama, torch.eye(4, dtype=torch.float64), atol=1e-7, rtol=0)
    assert reprojection_error(world, pixels, by_umeyama, intrinsics).max() < 1e-9
    behind = transform_points(by_umeyama, torch.tensor([[0.0, 0, -1]], dtype=torch.float64))
    assert reprojection_error(behind, pixels[:1], by_umeyama, intrinsics).tolist() == [torch.inf]


@pytest.mark.shared
def test_the_camera_of_real_depth_is_found(shared_dir):
    folder = shared_dir / "real" / "7scenes"
    c2w = torch.from_numpy(np.loadtxt(folder / "frame-000020.pose.txt"))
    depth = torch.from_numpy(np.asarray(Image.open(folder / "frame-000020.depth.png")).astype(np.float64) / 1000)
    intrinsics = torch.tensor([[585.0, 0, 320], [0, 585, 240], [0, 0, 1]], dtype=torch.float64)
    camera = unproject(depth, intrinsics)
    # 65.535 m marks pixels without depth.
    valid = (depth > 0) & (depth < 60)
    assert focal_weiszfeld(camera.float(), valid).item() == pytest.approx(585, rel=1e-4)
    chosen = torch.zeros_like(valid)
    chosen[::6, ::6] = True
    chosen &= valid
    world, pixels = transform_points(c2w, camera)[chosen], pixel_grid(480, 640, dtype=torch.float64)[chosen]
    noise = torch.randn(world.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    w2c = pose_pnp(world + 0.01 * noise, pixels, intrinsics)
    angle, shift = angle_and_shift(w2c, torch.linalg.inv(c2w))
    assert angle < 1e-3
    # 60 mm if the pose were read the wrong way round.
    assert shift < 4e-3

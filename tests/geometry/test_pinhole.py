"""Identities of pinhole cameras: project after unproject, fields of view, the place of pixel centres."""

import math

import pytest
import torch

from vdpm.geometry.pinhole import (
    FARTHEST,
    fov_from_intrinsics,
    intrinsics_from_focal,
    intrinsics_from_fov,
    pixel_grid,
    project,
    square_pixels,
    unproject,
    ways_to_rays,
)


def test_pixel_centres_lie_at_half():
    grid = pixel_grid(2, 3)
    assert grid.tolist() == [[[0.5, 0.5], [1.5, 0.5], [2.5, 0.5]], [[0.5, 1.5], [1.5, 1.5], [2.5, 1.5]]]
    assert pixel_grid(2, 2, dtype=torch.float64).dtype == torch.float64


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-5), (torch.float64, 1e-12)])
def test_project_after_unproject_is_the_pixel_grid(batch, dtype, tolerance):
    height, width = 9, 14
    intrinsics = torch.tensor([[20.0, 1.5, 6.1], [0, 22.0, 4.7], [0, 0, 1]], dtype=dtype).repeat(*batch, 1, 1)
    depth = 0.3 + 9 * torch.rand(*batch, height, width, dtype=dtype)
    points = unproject(depth, intrinsics)
    pixels, found = project(points, intrinsics)
    torch.testing.assert_close(found, depth)
    expected = pixel_grid(height, width, dtype=dtype).expand_as(pixels)
    torch.testing.assert_close(pixels, expected, atol=tolerance, rtol=0)


def test_project_agrees_with_the_homogeneous_product():
    intrinsics = torch.tensor([[20.0, 1.5, 6.1], [0, 22.0, 4.7], [0, 0, 1]], dtype=torch.float64)
    points = torch.tensor([[0.3, -0.2, 2.0], [1.0, 1.0, 4.0]], dtype=torch.float64)
    homogeneous = points @ intrinsics.T
    pixels, depth = project(points, intrinsics)
    torch.testing.assert_close(pixels, homogeneous[:, :2] / homogeneous[:, 2:])
    torch.testing.assert_close(depth, points[:, 2])


def test_a_point_at_depth_zero_stays_finite():
    points = torch.tensor([[1.0, 1.0, 0.0]], requires_grad=True)
    pixels, depth = project(points, torch.eye(3))
    assert depth.tolist() == [0.0]
    assert bool(pixels.isfinite().all())


def test_field_of_view_of_a_square_seen_at_90_degrees():
    right_angle = torch.tensor(math.pi / 2, dtype=torch.float64)
    intrinsics = intrinsics_from_fov(right_angle, right_angle, (100, 200))
    torch.testing.assert_close(intrinsics, torch.tensor([[100.0, 0, 100], [0, 50, 50], [0, 0, 1]], dtype=torch.float64))
    # The left edge of the image is seen at 45 degrees.
    pixels, _ = project(torch.tensor([[-1.0, 0, 1]], dtype=torch.float64), intrinsics)
    torch.testing.assert_close(pixels, torch.tensor([[0.0, 50]], dtype=torch.float64))


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
def test_field_of_view_round_trip(batch):
    fov_h, fov_w = (0.2 + 2 * torch.rand(2, *batch, dtype=torch.float64)).unbind()
    found = fov_from_intrinsics(intrinsics_from_fov(fov_h, fov_w, (17, 31)), (17, 31))
    torch.testing.assert_close(found, (fov_h, fov_w))


@pytest.mark.parametrize("batch", [(), (3,), (2, 2)])
@pytest.mark.parametrize("ratio", [1.0, 0.5])
def test_one_focal_length_lies_between_the_two(batch, ratio):
    fx, fy = (20 + 60 * torch.rand(2, *batch, dtype=torch.float64)).unbind()
    given = intrinsics_from_focal(fx, fy, (30, 40))
    found = square_pixels(given, ratio)
    torch.testing.assert_close(found[..., 0, 0], ratio * found[..., 1, 1])
    torch.testing.assert_close(found[..., 0, 0] * found[..., 1, 1], fx * fy)
    assert torch.equal(found[..., 2], given[..., 2])
    assert torch.equal(given[..., 0, 0], fx), "what was given stays"
    torch.testing.assert_close(square_pixels(found, ratio), found)


def test_points_come_to_their_rays_but_no_farther_than_they_may():
    size, focal = (3, 4), torch.tensor(10.0)
    intrinsics = intrinsics_from_focal(focal, focal, size)
    rays = torch.zeros(4, 2)
    points = torch.tensor([[0.02, -0.04, 2.0], [0.0, 0.0, 5.0], [3.0, 4.0, 1.0], [0.1, 0.1, -1.0]])
    off = ways_to_rays(points, rays, intrinsics, size)
    assert torch.allclose(off[0], torch.tensor([-0.01, 0.02]))
    assert off[1].tolist() == [0.0, 0.0]
    # Five depths aside: only so far as a quarter of the diagonal of 5 pixels is seen, in the same direction.
    assert torch.allclose(off[2], -FARTHEST * 0.5 * torch.tensor([0.6, 0.8]))
    assert off[3].tolist() == [0.0, 0.0], "behind the camera"

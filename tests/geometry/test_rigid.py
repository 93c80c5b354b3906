"""Group axioms of rigid motions over batch axes and dtypes, and quaternions through half turns."""

import math

import pytest
import torch

from vdpm.geometry.rigid import (
    cross_matrix,
    invert_rigid,
    is_rigid,
    matrix_to_quaternion,
    quaternion_to_matrix,
    rigid,
    rotation_angle,
    rotation_matrix_to_vector,
    rotation_vector_to_matrix,
    transform_points,
)

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14}
CASES = [(batch, dtype) for batch in ((), (5,), (2, 3)) for dtype in TOLERANCE]


def random_rigid(batch: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    quaternion = torch.randn(*batch, 4, generator=generator, dtype=torch.float64)
    translation = torch.randn(*batch, 3, generator=generator, dtype=torch.float64)
    return rigid(quaternion_to_matrix(quaternion).to(dtype), translation.to(dtype))


@pytest.mark.parametrize(("batch", "dtype"), CASES)
def test_group_axioms(batch, dtype):
    a, b, c = (random_rigid(batch, dtype, seed) for seed in range(3))
    close = {"atol": TOLERANCE[dtype], "rtol": 0}
    identity = torch.eye(4, dtype=dtype).expand(*batch, 4, 4)
    torch.testing.assert_close(a @ invert_rigid(a), identity, **close)
    torch.testing.assert_close(invert_rigid(a) @ a, identity, **close)
    torch.testing.assert_close(invert_rigid(a @ b), invert_rigid(b) @ invert_rigid(a), atol=4 * close["atol"], rtol=0)
    points = torch.randn(*batch, 4, 7, 3, dtype=dtype)
    torch.testing.assert_close(
        transform_points(a @ (b @ c), points),
        transform_points(a, transform_points(b, transform_points(c, points))),
        atol=10 * close["atol"],
        rtol=0,
    )
    rotation = a[..., :3, :3]
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(batch, dtype=dtype), **close)


def test_transform_points_agrees_with_the_matrix_product():
    transform = random_rigid((2, 3), torch.float64)
    points = torch.randn(2, 3, 5, 6, 3, dtype=torch.float64)
    homogeneous = torch.cat((points, torch.ones_like(points[..., :1])), dim=-1)
    expected = torch.einsum("abij,abxyj->abxyi", transform, homogeneous)[..., :3]
    torch.testing.assert_close(transform_points(transform, points), expected)
    torch.testing.assert_close(transform_points(transform[0, 0], points[0, 0, 0]), expected[0, 0, 0])


def test_a_quarter_turn_about_z_takes_x_to_y():
    s = math.sqrt(0.5)
    rotation = quaternion_to_matrix(torch.tensor([0.0, 0.0, s, s]))
    torch.testing.assert_close(rotation @ torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0]))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("angle", [0.0, 1e-6, 1.0, math.pi - 1e-6, math.pi])
def test_quaternion_round_trip(dtype, angle):
    axes = torch.tensor(
        [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, -1, 1], [1, -2, 3], [-1, -1, -1]], dtype=torch.float64
    )
    axes = axes / axes.norm(dim=-1, keepdim=True)
    quaternion = torch.cat((axes * math.sin(angle / 2), axes.new_full((7, 1), math.cos(angle / 2))), dim=-1)
    rotation = quaternion_to_matrix(quaternion).to(dtype)
    found = matrix_to_quaternion(rotation)
    assert bool((found[:, 3] >= 0).all())
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(7, dtype=dtype))
    torch.testing.assert_close(quaternion_to_matrix(found), rotation, atol=TOLERANCE[dtype], rtol=0)
    torch.testing.assert_close(
        rotation_angle(rotation), torch.full((7,), angle, dtype=dtype), atol=3 * TOLERANCE[dtype], rtol=0
    )


def test_quaternions_of_any_length_and_either_sign_give_one_rotation():
    quaternion = torch.tensor([0.1, -0.4, 0.3, 0.7], dtype=torch.float64)
    for factor in (-1.0, 5.0, 1e-3):
        torch.testing.assert_close(quaternion_to_matrix(factor * quaternion), quaternion_to_matrix(quaternion))


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.7, 3.0])
def test_rotation_vector_agrees_with_the_matrix_exponential(angle):
    vector = torch.tensor([2.0, -1.0, 2.0], dtype=torch.float64) / 3 * angle
    x, y, z = vector.tolist()
    cross = torch.tensor([[0, -z, y], [z, 0, -x], [-y, x, 0]], dtype=torch.float64)
    torch.testing.assert_close(rotation_vector_to_matrix(vector), torch.matrix_exp(cross), atol=1e-12, rtol=0)
    torch.testing.assert_close(rotation_matrix_to_vector(torch.matrix_exp(cross)), vector, atol=1e-9, rtol=0)
    torch.testing.assert_close(cross_matrix(vector), cross, atol=0, rtol=0)


@pytest.mark.parametrize("scale", [0.0, 1e-3, 1.0])
def test_rotations_are_differentiable(scale):
    vector = (torch.tensor([0.3, -0.5, 0.4], dtype=torch.float64) * scale).requires_grad_()
    assert torch.autograd.gradcheck(rotation_vector_to_matrix, (vector,), atol=1e-5)
    quaternion = torch.tensor([0.3, -0.5, 0.4, 0.2], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda q: matrix_to_quaternion(quaternion_to_matrix(q)), (quaternion,))


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_rigid_motions_are_told_from_others(dtype: torch.dtype) -> None:
    motions = random_rigid((2, 3), dtype)
    assert is_rigid(motions).shape == (2, 3)
    assert bool(is_rigid(motions).all())
    mirrored, scaled, transposed, infinite, unknown = (motions.clone() for _ in range(5))
    mirrored[1, 2, :3, 0] *= -1
    scaled[1, 2, :3, :3] *= 1.01
    transposed[1, 2] = transposed[1, 2].T.clone()
    infinite[1, 2, 0, 3] = math.inf
    unknown[1, 2, 0, 0] = math.nan
    for wrong in (mirrored, scaled, transposed, infinite, unknown):
        assert is_rigid(wrong).flatten().tolist() == [True] * 5 + [False]
    assert bool(is_rigid(scaled, tolerance=0.03).all())
    assert is_rigid(mirrored, tolerance=0.03).flatten().tolist() == [True] * 5 + [False]

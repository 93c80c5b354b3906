"""Umeyama on known similarities, with weights, mirrored and flat points; the mean distance on points made by hand."""

import pytest
import torch

from vdpm.errors import UsageError
from vdpm.geometry.alignment import Similarity, umeyama, unit_mean_distance
from vdpm.geometry.rigid import quaternion_to_matrix, transform_points


def known_similarity(batch: tuple[int, ...], dtype: torch.dtype) -> Similarity:
    generator = torch.Generator().manual_seed(3)
    quaternion = torch.randn(*batch, 4, generator=generator, dtype=torch.float64)
    return Similarity(
        scale=(0.2 + 3 * torch.rand(batch, generator=generator, dtype=torch.float64)).to(dtype),
        rotation=quaternion_to_matrix(quaternion).to(dtype),
        translation=torch.randn(*batch, 3, generator=generator, dtype=torch.float64).to(dtype),
    )


@pytest.mark.parametrize("batch", [(), (4,), (2, 3)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_recovers_a_known_similarity(batch, dtype, tolerance):
    known = known_similarity(batch, dtype)
    source = torch.randn(*batch, 20, 3, dtype=dtype)
    found = umeyama(source, known.apply(source))
    for a, b in zip(found, known, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=0)
    torch.testing.assert_close(transform_points(known.matrix(), source), known.apply(source))


def test_points_of_weight_zero_do_not_count_even_when_not_finite():
    known = known_similarity((), torch.float64)
    source = torch.randn(30, 3, dtype=torch.float64)
    target = known.apply(source)
    target[:5] += 100 * torch.randn(5, 3)
    source[5], target[6] = float("nan"), float("inf")
    weights = torch.rand(30, dtype=torch.float64) + 0.1
    weights[:7] = 0
    for a, b in zip(umeyama(source, target, weights), known, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=0)


def test_a_whole_weight_is_a_repeated_point():
    source, target = torch.randn(2, 6, 3, dtype=torch.float64)
    weights = torch.tensor([1.0, 3, 1, 2, 1, 1], dtype=torch.float64)
    repeats = weights.long()
    weighted = umeyama(source, target, weights)
    repeated = umeyama(source.repeat_interleave(repeats, 0), target.repeat_interleave(repeats, 0))
    for a, b in zip(weighted, repeated, strict=True):
        torch.testing.assert_close(a, b)


def test_rigid_alignment_keeps_the_scale_at_one():
    known = known_similarity((), torch.float64)._replace(scale=torch.tensor(1.0, dtype=torch.float64))
    source = torch.randn(9, 3, dtype=torch.float64)
    found = umeyama(source, 1.7 * known.apply(source), with_scale=False)
    assert found.scale.item() == 1
    torch.testing.assert_close(found.rotation, known.rotation)


def test_mirrored_points_still_give_a_rotation():
    source = torch.randn(50, 3, dtype=torch.float64)
    mirrored = source * torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64)
    found = umeyama(source, mirrored)
    torch.testing.assert_close(torch.linalg.det(found.rotation), torch.tensor(1.0, dtype=torch.float64))


def test_flat_points_are_enough():
    known = known_similarity((), torch.float64)
    source = torch.cat((torch.randn(10, 2, dtype=torch.float64), torch.full((10, 1), 2.0)), dim=-1)
    for a, b in zip(umeyama(source, known.apply(source)), known, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("far", [0.0, 100.0])
def test_points_on_a_line_or_at_a_spot_are_refused(dtype, far):
    direction = torch.tensor([1.0, 2.0, -0.7], dtype=dtype)
    line = torch.rand(12, 1, dtype=dtype) * direction + far
    for points in (line, line[:1].expand(12, 3)):
        with pytest.raises(UsageError, match="one line"):
            umeyama(points, 2 * points + 1)


def test_a_narrow_strip_is_no_line():
    known = known_similarity((), torch.float64)
    source = torch.randn(40, 3, dtype=torch.float64) * torch.tensor([1.0, 1e-4, 0], dtype=torch.float64)
    torch.testing.assert_close(umeyama(source, known.apply(source)).rotation, known.rotation)


def test_what_cannot_be_aligned_is_refused():
    points = torch.randn(5, 3)
    with pytest.raises(UsageError, match="at least 3 points"):
        umeyama(points[:2], points[:2])
    with pytest.raises(UsageError, match="at least 3 points"):
        umeyama(points, points, torch.tensor([1.0, 1, 0, 0, 0]))
    with pytest.raises(UsageError, match="not negative"):
        umeyama(points, points, torch.tensor([1.0, 1, 1, 1, -1]))
    with pytest.raises(UsageError, match="weight 0"):
        umeyama(torch.where(torch.arange(5)[:, None] == 2, torch.nan, points), points)


def test_alignment_is_differentiable():
    source, target = torch.randn(2, 8, 3, dtype=torch.float64)
    target.requires_grad_()
    assert torch.autograd.gradcheck(lambda t: tuple(umeyama(source, t)), (target,))


def test_unit_mean_distance_by_hand():
    points = torch.tensor([[[3.0, 4, 0], [0, 0, 1], [torch.nan, 0, 0]], [[2.0, 0, 0], [0, 2, 0], [0, 0, 2]]])
    valid = torch.tensor([[True, True, False], [True, True, True]])
    assert unit_mean_distance(points, valid).tolist() == [3.0, 2.0]
    assert unit_mean_distance(points[1], batch_axes=0).item() == 2.0
    assert unit_mean_distance(points, torch.zeros_like(valid)).tolist() == [1.0, 1.0]


def test_unit_mean_distance_has_finite_gradients():
    points = torch.tensor([[[3.0, 4, 0], [0, 0, 0], [torch.nan, 0, 0]]], requires_grad=True)
    unit_mean_distance(points, torch.tensor([[True, False, False]])).sum().backward()
    torch.testing.assert_close(points.grad, torch.tensor([[[0.6, 0.8, 0], [0, 0, 0], [0, 0, 0]]]))


def test_division_gives_a_mean_distance_of_one():
    points = torch.randn(3, 4, 5, 3, dtype=torch.float64)
    scaled = points / unit_mean_distance(points)[:, None, None, None]
    torch.testing.assert_close(unit_mean_distance(scaled), torch.ones(3, dtype=torch.float64))

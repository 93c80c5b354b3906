"""Clouds of all frames at one time, fused from a scene whose every point is known at every time."""

import dataclasses

import pytest
import torch

from fixtures.moving_sphere import RADIUS, MovingSphere, make_moving_sphere
from fixtures.sky import with_sky
from vdpm import motion
from vdpm.errors import UsageError
from vdpm.geometry.image_transform import ImageTransform


@pytest.fixture(scope="module")
def scene() -> MovingSphere:
    return make_moving_sphere()


def test_fused_cloud_shows_the_ball_at_one_place(scene: MovingSphere) -> None:
    rec = scene.reconstruction
    for target in (0, 3):
        cloud = motion.fuse(rec, target)
        assert len(cloud) == 5 * 48 * 64
        x, y = cloud.pixels.long().unbind(-1)
        ball = scene.moving[cloud.source, y, x]
        radius = (cloud.points[ball].double() - scene.centers[target]).norm(dim=-1)
        assert (radius - RADIUS).abs().max() < 1e-5
        assert torch.equal(cloud.colors, rec.frames[cloud.source, y, x])
        assert set(cloud.source[ball].tolist()) == {0, 1, 2, 3, 4}
    # Each frame at its own time smears it instead.
    smeared = motion.fuse(rec, None)
    radius = (smeared.points[ball].double() - scene.centers[3]).norm(dim=-1)
    assert (radius - RADIUS).abs().max() > 0.3


def test_fusing_selects(scene: MovingSphere) -> None:
    rec = scene.reconstruction
    assert len(motion.fuse(rec, 1, sources=(2,), stride=2)) == 24 * 32
    assert set(motion.fuse(rec, 1, sources=(2, 4)).source.tolist()) == {2, 4}
    assert len(motion.fuse(rec, 1, max_points=2000)) <= 2000
    assert len(motion.fuse(rec, 1, min_confidence=21.0)) == 0
    assert len(motion.fuse(rec, 1, min_confidence=21.0, voxel=0.1)) == 0
    padded = dataclasses.replace(rec, transform=ImageTransform.from_resized((40, 64), (40, 64), (48, 64), (0, 4)))
    cloud = motion.fuse(padded, 1, sources=(0,))
    assert len(cloud) == 40 * 64
    assert (cloud.pixels[:, 1].min(), cloud.pixels[:, 1].max()) == (4.5, 43.5)
    assert not motion.motion_mask(padded, 2)[:4].any()


def test_fusing_drops_the_least_sure(scene: MovingSphere) -> None:
    rec = scene.reconstruction
    confidence = torch.arange(48 * 64).view(1, 48, 64) + 1.0
    points = rec.maps.time_variant(0).points[None]
    maps = type(rec.maps).from_tensors(
        points, confidence, points[:0, None], confidence[:0, None], num_frames=5, targets=(), sources=(0,)
    )
    cloud = motion.fuse(dataclasses.replace(rec, maps=maps), 0, drop_percent=25.0)
    assert len(cloud) == 0.75 * 48 * 64
    assert cloud.confidence.min() == 48 * 64 / 4 + 1
    thin = motion.fuse(dataclasses.replace(rec, maps=maps), 0, voxel=0.5)
    cells = (thin.points / 0.5).floor()
    assert len(torch.unique(cells, dim=0)) == len(thin) < 300
    # The surest of each cube.
    every = (points[0].reshape(-1, 3) / 0.5).floor()
    for cell, sure in zip(cells[::20], thin.confidence[::20]):
        assert confidence.flatten()[(every == cell).all(dim=1)].max() == sure


def test_sky_is_what_is_far_and_in_doubt(scene: MovingSphere) -> None:
    rec = with_sky(scene.reconstruction)
    upper = torch.zeros(48, 64, dtype=torch.bool)
    upper[:12] = True
    for frame in (0, 4):
        assert torch.equal(motion.sky(rec, frame), upper)
    beyond = motion.sky_distance(rec)
    distance = (rec.maps.time_variant(2).points - rec.cameras.centers[2].float()).norm(dim=-1)
    assert beyond == pytest.approx(3 * float(distance[24:].median()), rel=0.1)
    assert not motion.sky(rec, 0, beyond=1e9).any()
    # With nothing that is sure there is nothing to measure by, and what is sure is no sky however far.
    assert not motion.sky(with_sky(scene.reconstruction, sure=1.05), 0).any()
    assert not motion.sky(scene.reconstruction, 0).any()
    padded = dataclasses.replace(rec, transform=ImageTransform.from_resized((40, 64), (40, 64), (48, 64), (0, 4)))
    assert not motion.sky(padded, 0)[:4].any()
    assert motion.sky(padded, 0)[4:12].all()
    with pytest.raises(UsageError, match="7"):
        motion.sky(rec, 7)


def test_fusing_drops_sky_and_edges(scene: MovingSphere) -> None:
    rec = with_sky(scene.reconstruction)
    for target in (None, 1):
        cloud = motion.fuse(rec, target, drop_sky=True)
        assert len(cloud) == 5 * 36 * 64
        assert cloud.pixels[:, 1].min() == 12.5
    # The border of what is far is an edge, and the ball's outline.
    edges = torch.stack([motion.depth_edges(motion.depth(rec, source)) for source in range(5)])
    assert edges[:, 11:13].all()
    cloud = motion.fuse(rec, 1, drop_edges=True, stride=2)
    assert len(cloud) == int((~edges[:, ::2, ::2]).sum())
    x, y = cloud.pixels.long().unbind(-1)
    assert not edges[cloud.source, y, x].any()


def test_fuse_options_are_checked(scene: MovingSphere) -> None:
    for options, words in (
        ({"drop_percent": 100.0}, "drop_percent"),
        ({"voxel": 0.0}, "voxel"),
        ({"voxel": 1e-9}, "too small"),
        ({"stride": 0}, "at least 1"),
        ({"sources": ()}, "at least one source"),
        ({"sources": (7,)}, "source 7"),
    ):
        with pytest.raises(UsageError, match=words):
            motion.fuse(scene.reconstruction, 1, **options)

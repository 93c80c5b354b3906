"""Cameras recovered from point maps alone are those the maps were made with."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fixtures.moving_sphere import MovingSphere, make_moving_sphere
from vdpm import archive, motion
from vdpm.errors import UsageError
from vdpm.geometry.image_transform import ImageTransform
from vdpm.geometry.rigid import invert_rigid, transform_points
from vdpm.structures import DynamicPointMaps, PointMap, Reconstruction


@pytest.fixture(scope="module")
def scene() -> MovingSphere:
    return make_moving_sphere(num_frames=3)


def with_maps(rec: Reconstruction, change: Callable[[torch.Tensor, int], torch.Tensor]) -> Reconstruction:
    """The reconstruction with ``change(points, frame)`` applied to P."""

    def read(target: int | None, source: int) -> PointMap:
        points, confidence = rec.maps.read(target, source)
        return PointMap(change(points.clone(), source), confidence)

    maps = rec.maps
    changed = DynamicPointMaps(maps.num_frames, maps.size, maps.targets, maps.sources, read)
    return dataclasses.replace(rec, maps=changed)


def test_exact_maps_give_the_true_cameras(scene: MovingSphere) -> None:
    rec = scene.reconstruction
    found = motion.recovered_cameras(rec)
    assert torch.allclose(found.c2w, rec.cameras.c2w, atol=1e-4)
    assert torch.allclose(found.intrinsics, rec.cameras.intrinsics, rtol=1e-4)
    agreement = motion.camera_agreement(rec)
    assert agreement.frames == (0, 1, 2)
    assert agreement.rotation.max() < 0.05
    assert agreement.translation.max() < 1e-4
    assert (agreement.focal_ratio - 1).abs().max() < 1e-4
    assert "worst" in agreement.line()


def test_noise_and_wrong_pixels_hardly_matter() -> None:
    rec = make_moving_sphere(num_frames=3, noise=0.005).reconstruction
    generator = torch.Generator().manual_seed(1)

    def spoil(points: torch.Tensor, source: int) -> torch.Tensor:
        wrong = torch.rand(points.shape[:2], generator=generator) < 0.15
        return torch.where(wrong[..., None], points + torch.randn(points.shape, generator=generator), points)

    agreement = motion.camera_agreement(with_maps(rec, spoil))
    assert agreement.rotation.max() < 0.5
    assert agreement.translation.max() < 0.02
    assert (agreement.focal_ratio - 1).abs().max() < 0.02


def test_points_beside_the_camera_do_not_drown_the_rest(scene: MovingSphere) -> None:
    """A tenth of the pixels lies at one spot just before the camera, where a small turn moves it far."""
    rec = scene.reconstruction

    def collapse(points: torch.Tensor, source: int) -> torch.Tensor:
        c2w = rec.cameras.c2w[source]
        if source != rec.reference:
            points[:5] = c2w[:3, 3] + 0.05 * c2w[:3, 2] + 0.01 * c2w[:3, 0]
        return points

    agreement = motion.camera_agreement(with_maps(rec, collapse))
    assert agreement.rotation.max() < 0.01
    assert agreement.translation.max() < 1e-3


def test_a_stretched_picture_has_a_lens_for_each_side(scene: MovingSphere) -> None:
    """The same pixels, from a picture twice as wide: what stands in them is twice as wide as well."""
    rec = scene.reconstruction
    height, width = rec.maps.size
    stretched = dataclasses.replace(rec, transform=ImageTransform.stretch((height, 2 * width), (height, width)))

    def widen(points: torch.Tensor, source: int) -> torch.Tensor:
        c2w = rec.cameras.c2w[source]
        seen = transform_points(invert_rigid(c2w), points) * torch.tensor((2.0, 1.0, 1.0))
        return transform_points(c2w, seen)

    found = motion.recovered_cameras(with_maps(stretched, widen))
    halved = rec.cameras.intrinsics.clone()
    halved[:, 0, 0] /= 2
    assert torch.allclose(found.intrinsics, halved, rtol=1e-4)
    assert torch.allclose(found.c2w, rec.cameras.c2w, atol=1e-4)
    cameras = dataclasses.replace(rec.cameras, intrinsics=halved)
    agreement = motion.camera_agreement(dataclasses.replace(with_maps(stretched, widen), cameras=cameras))
    assert (agreement.focal_ratio - 1).abs().max() < 1e-4


def test_disagreement_is_measured(scene: MovingSphere) -> None:
    """A head that is 2 degrees, 0.1 units and 10 % off, each in another frame."""
    rec = scene.reconstruction
    c2w, k = rec.cameras.c2w.clone(), rec.cameras.intrinsics.clone()
    angle = torch.deg2rad(torch.tensor(2.0))
    turn = torch.tensor([[angle.cos(), 0, angle.sin()], [0, 1, 0], [-angle.sin(), 0, angle.cos()]])
    c2w[0, :3, :3] = c2w[0, :3, :3] @ turn
    c2w[1, 0, 3] += 0.1
    k[2, 0, 0] *= 1.1
    k[2, 1, 1] *= 1.1
    cameras = dataclasses.replace(rec.cameras, c2w=c2w, intrinsics=k)
    agreement = motion.camera_agreement(dataclasses.replace(rec, cameras=cameras))
    mean_distance = rec.maps.time_variant(0).points.norm(dim=-1).mean()
    assert torch.allclose(agreement.rotation, torch.tensor([2.0, 0.0, 0.0]), atol=0.05)
    assert torch.allclose(agreement.translation, torch.tensor([0.0, 0.1, 0.0]) / mean_distance, atol=1e-3)
    assert torch.allclose(agreement.focal_ratio, torch.tensor([1.0, 1.0, 1.1]), atol=1e-3)


def test_a_zoom_shows_in_the_focal_length(scene: MovingSphere) -> None:
    """Frame 2 through a lens 10 % longer: its pixels see directions nearer the axis. A part goes to the pose."""
    rec = scene.reconstruction
    w2c, c2w = rec.cameras.w2c[2], rec.cameras.c2w[2]

    def zoom(points: torch.Tensor, source: int) -> torch.Tensor:
        if source != 2:
            return points
        in_camera = points @ w2c[:3, :3].T + w2c[:3, 3]
        in_camera[..., :2] /= 1.1
        return in_camera @ c2w[:3, :3].T + c2w[:3, 3]

    agreement = motion.camera_agreement(with_maps(rec, zoom))
    assert (agreement.focal_ratio[:2] - 1).abs().max() < 1e-3
    assert agreement.focal_ratio[2] < 0.99
    assert agreement.translation[2] > 0.03


def test_a_subset_of_sources_and_another_reference() -> None:
    rec = make_moving_sphere(num_frames=3, sources=(2, 0)).reconstruction
    found = motion.recovered_cameras(rec)
    assert torch.allclose(found.c2w, rec.cameras.c2w[[2, 0]], atol=1e-4)
    with pytest.raises(UsageError, match="needs the reference view 1 among the sources"):
        motion.recovered_cameras(dataclasses.replace(rec, reference=1))


def test_everything_works_on_a_result_from_disk(scene: MovingSphere, tmp_path: Path) -> None:
    """float16 on disk costs at most 0.05 % of a coordinate."""
    archive.save(scene.reconstruction, tmp_path / "out")
    rec = archive.load(tmp_path / "out")
    for source in range(3):
        assert torch.equal(motion.motion_mask(rec, source), scene.moving[source])
    agreement = motion.camera_agreement(rec)
    assert agreement.rotation.max() < 0.1
    assert agreement.translation.max() < 2e-3
    found, exact = motion.correspondence(rec, 0, 2), motion.correspondence(scene.reconstruction, 0, 2)
    both = found.valid & exact.valid
    assert both.sum() > 0.99 * exact.valid.sum()
    assert (found.pixels - exact.pixels)[both].norm(dim=-1).median() < 0.1
    assert len(motion.fuse(rec, 1)) == 3 * 48 * 64

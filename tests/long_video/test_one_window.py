"""A clip seen at once: a network whose cameras turn and go too little before a wavy, textured wall."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fixtures.wavy_wall import wavy_wall
from vdpm.geometry.pinhole import intrinsics_from_focal, pixel_grid, project
from vdpm.geometry.rigid import invert_rigid, rigid, rotation_matrix_to_vector, rotation_vector_to_matrix
from vdpm.long_video.one_window import Followed, follow_pictures
from vdpm.structures import Cameras

FRAMES, SIZE, FOCAL = 10, (64, 96), 90.0


def filmed(zoom: float = 1.0) -> tuple[Tensor, Cameras, Tensor]:
    """Pictures, true cameras and true points of every pixel; the world is the first camera."""
    step = torch.arange(FRAMES, dtype=torch.float64) / (FRAMES - 1)
    turn = torch.stack((0.05 * (3 * step).sin(), 0.2 * step, 0 * step), dim=-1)
    centre = torch.stack((0.9 * step, 0.15 * (4 * step).sin(), 0.3 * step), dim=-1)
    c2w = rigid(rotation_vector_to_matrix(turn), centre)
    focal = FOCAL * zoom**step
    k = intrinsics_from_focal(focal, focal, SIZE).double()
    places = (pixel_grid(*SIZE, dtype=torch.float64) - k[0, :2, 2]) / focal[:, None, None, None]
    rays = torch.cat((places, torch.ones(FRAMES, *SIZE, 1)), dim=-1)
    pictures, points, _ = wavy_wall(c2w, rays)
    cameras = Cameras(c2w.float(), k.float(), SIZE)
    return pictures, cameras, points.float()


def told_wrong(cameras: Cameras, points: Tensor) -> tuple[Cameras, Tensor]:
    """A tenth less of turn and way; points as those cameras have them, waved off their rays."""
    turn = 0.9 * rotation_matrix_to_vector(cameras.c2w[:, :3, :3])
    c2w = rigid(rotation_vector_to_matrix(turn), 0.9 * cameras.c2w[:, :3, 3])
    own = moved(invert_rigid(cameras.c2w), points)
    bent = 0.04 * torch.sin(9 * own[..., :2].flip(-1) / own[..., 2:]) * own[..., 2:]
    return Cameras(c2w, cameras.intrinsics, SIZE), moved(c2w, own + F.pad(bent, (0, 1)))


def moved(matrices: Tensor, points: Tensor) -> Tensor:
    return torch.einsum("nij,nhwj->nhwi", matrices[:, :3, :3], points) + matrices[:, None, None, :3, 3]


def off_pixels(cameras: Cameras, points: Tensor) -> Tensor:
    places, _ = project(moved(cameras.w2c, points).flatten(1, 2), cameras.intrinsics)
    return (places - pixel_grid(*SIZE).flatten(0, 1)).norm(dim=-1)


@pytest.fixture(scope="module")
def film() -> tuple[Tensor, Cameras, Tensor]:
    return filmed()


def test_cameras_and_points_follow(film: tuple[Tensor, Cameras, Tensor]) -> None:
    pictures, true, true_points = film
    before, points = told_wrong(true, true_points)
    found = follow_pictures(pictures, before, points, torch.full(points.shape[:-1], 3.0))
    assert found is not None
    worlds = [float((one.c2w - true.c2w)[:, :3, 3].norm(dim=-1).mean()) for one in (before, found.cameras)]
    turns = [(one.c2w[:, :3, :3] - true.c2w[:, :3, :3]).abs().amax() for one in (before, found.cameras)]
    assert worlds[1] < worlds[0] / 3
    assert turns[1] < turns[0] / 5
    assert torch.allclose(found.cameras.c2w[0], torch.eye(4), atol=1e-6)
    put = found.points(points, points, range(FRAMES))
    errors = [float((one - true_points).norm(dim=-1).mean()) for one in (points, put)]
    assert errors[1] < errors[0] / 2
    assert float(off_pixels(before, points).median()) > 2
    assert float(off_pixels(found.cameras, put).max()) < 0.01


def test_another_reference_and_some_sources(film: tuple[Tensor, Cameras, Tensor]) -> None:
    pictures, true, true_points = film
    to_world = invert_rigid(true.c2w[4]).expand(FRAMES, 4, 4)
    before, points = told_wrong(Cameras(to_world @ true.c2w, true.intrinsics, SIZE), moved(to_world, true_points))
    confidence = torch.full(points.shape[:-1], 3.0)
    found = follow_pictures(pictures, before, points, confidence, reference=4)
    assert found is not None
    assert torch.allclose(found.cameras.c2w[4], torch.eye(4), atol=1e-6)
    whole = found.points(points, points, range(FRAMES))
    assert torch.equal(found.points(points[[7, 2]], points[[7, 2]], (7, 2)), whole[[7, 2]])


def test_cameras_that_are_right_stay(film: tuple[Tensor, Cameras, Tensor]) -> None:
    pictures, true, points = film
    found = follow_pictures(pictures, true, points, torch.full(points.shape[:-1], 3.0))
    cameras = true if found is None else found.cameras
    assert (cameras.c2w - true.c2w).abs().amax() < 0.01


def test_a_lens_that_zooms_stays_the_networks() -> None:
    """One focal length for all frames would be made up for by going forward."""
    pictures, true, points = filmed(zoom=1.2)
    assert follow_pictures(pictures, true, points, torch.full(points.shape[:-1], 3.0)) is None


def test_points_next_to_the_camera_send_nothing_away(film: tuple[Tensor, Cameras, Tensor]) -> None:
    _, true, points = film
    own = points.clone()
    own[0, 5, 5] = torch.tensor((0.02, 0.02, 1e-4))
    put = Followed(true, true).points(points, own, range(FRAMES))
    assert (put[0, 5, 5] - points[0, 5, 5]).norm() < points[0, 5, 5].norm()


def test_what_moves_keeps_its_motion(film: tuple[Tensor, Cameras, Tensor]) -> None:
    """Same cameras before and after, a tenth less of focal length: sideways motion grows by what the lens says."""
    _, true, points = film
    lens = true.intrinsics.clone()
    lens[:, [0, 1], [0, 1]] *= 0.9
    followed = Followed(true, Cameras(true.c2w, lens, SIZE))
    own = moved(true.w2c, points)
    later = moved(true.c2w, own * 1.2 + torch.tensor((0.1, 0.0, 0.0)))
    now, then = (moved(true.w2c, followed.points(one, points, range(FRAMES))) for one in (points, later))
    assert torch.allclose(now[..., 2], own[..., 2], atol=1e-5)
    assert torch.allclose(now[..., :2], own[..., :2] / 0.9, atol=1e-4)
    shift = now * 1.2 + torch.tensor((0.1, 0.0, 0.0))
    assert torch.allclose(then, shift, atol=1e-4)


def test_pictures_that_do_not_tell(film: tuple[Tensor, Cameras, Tensor]) -> None:
    pictures, true, true_points = film
    before, points = told_wrong(true, true_points)
    confidence = torch.full(points.shape[:-1], 3.0)
    assert follow_pictures(torch.full_like(pictures, 128), before, points, confidence) is None
    noise = torch.randint(256, pictures.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert follow_pictures(noise, before, points, confidence) is None
    # Points of a network that knows nothing of its cameras.
    assert follow_pictures(pictures, before, points.flip(2), confidence) is None
    assert follow_pictures(pictures[:1], Cameras(*(part[:1] for part in (true.c2w, true.intrinsics)), SIZE),
                           points[:1], confidence[:1]) is None  # fmt: skip

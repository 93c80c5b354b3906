"""What windows tell of surfaces: how aslant they lie, and which pixels are sure enough to be followed."""

import torch

from vdpm.geometry.pinhole import intrinsics_from_focal, pixel_grid
from vdpm.geometry.rigid import rigid, rotation_vector_to_matrix, transform_points
from vdpm.long_video.alignment import _scaled, _scene, align
from vdpm.long_video.observations import Observations, WindowMaps, observe
from vdpm.long_video.sight import Sighted
from vdpm.structures import Cameras, PointMap

SIZE, FOCAL = (40, 60), 50.0
NORMAL = torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64)


def window(confidence: torch.Tensor) -> WindowMaps:
    """A plane aslant, in frames 0 and 1 of one window; the camera of the second lies and looks elsewhere."""
    k = intrinsics_from_focal(torch.tensor(FOCAL), torch.tensor(FOCAL), SIZE).double()
    ray = torch.cat(((pixel_grid(*SIZE, dtype=torch.float64) - k[:2, 2]) / FOCAL, torch.ones(*SIZE, 1)), dim=-1)
    own = ray * (5 / (ray @ NORMAL))[..., None]
    turn, centre = torch.tensor([[0.0, 0, 0], [0.1, 0.4, 0.2]]), torch.tensor([[0.0, 0, 0], [1.0, 0.5, -0.3]])
    c2w = rigid(rotation_vector_to_matrix(turn.double()), centre.double())
    maps = [PointMap(transform_points(pose[None, None], own), confidence) for pose in c2w]
    return WindowMaps((0, 1), Cameras(c2w, k.expand(2, 3, 3), SIZE), lambda frame: maps[frame])


def seen(confidence: torch.Tensor) -> Observations:
    return observe([window(confidence)], torch.ones(SIZE, dtype=torch.bool), 2)


def test_slopes_are_those_of_the_plane_in_its_own_camera() -> None:
    found = seen(torch.ones(SIZE))
    ray = torch.cat(((found.pixels - torch.tensor([30.0, 20.0])) / FOCAL, torch.ones(len(found.pixels), 1)), dim=-1)
    slope = -NORMAL[:2] / FOCAL / (ray.double() @ NORMAL)[:, None]
    inner = ((found.pixels > 4) & (found.pixels < torch.tensor([56, 36]))).all(-1)
    assert torch.allclose(found.slope[:, inner], slope[inner].expand(2, -1, -1), atol=2e-5)
    assert float((found.slope - slope).abs().max()) < 1e-3, "at the edge from one side less far"


def test_only_pixels_that_the_network_is_sure_of_are_followed() -> None:
    confidence = torch.ones(SIZE)
    confidence[:10] = 0.2
    found = seen(confidence)
    alignment = align(found)
    scene = _scene(found, alignment, alignment.cameras.c2w.double(), alignment.cameras.intrinsics.double())
    assert torch.equal(scene.followed, (found.pixels[:, 1] > 10).expand(2, -1))
    assert torch.allclose(scene.slope, found.slope)


def test_frames_are_scaled_as_their_pixels_and_keep_their_shape() -> None:
    found = seen(torch.ones(SIZE))
    alignment = align(found)
    scene = _scene(found, alignment, alignment.cameras.c2w.double(), alignment.cameras.intrinsics.double())
    count = scene.depth.shape[1]
    share = torch.full_like(scene.depth, 1.2)
    share[:, : count // 4] = 3.0
    again = torch.zeros(2, count, dtype=torch.bool)
    again[0] = True
    scaled = _scaled(
        scene,
        Sighted(scene.moved(torch.zeros(2, 6).double(), torch.zeros(()).double(), share.log()), 1.0, 1.0, 0.0, again),
    )
    assert torch.allclose(scaled.depth, 1.2 * scene.depth), "also of a frame of which nothing was found again"

"""What stands still, seen from elsewhere: patches of a plane lie where the plane has them."""

import torch

from vdpm.geometry.rigid import rigid, rotation_vector_to_matrix
from vdpm.long_video.sightings import _not_aslant
from vdpm.long_video.still_scene import Scene

HERE, THERE = torch.tensor([0]), torch.tensor([1])
PIXELS = torch.tensor([[40.0, 30.0], [60.0, 45.0], [10.0, 70.0]], dtype=torch.float64)


def plane(pixels: torch.Tensor) -> Scene:
    """A plane aslant, seen by two cameras; slopes exact."""
    turn = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.3, 0.05]], dtype=torch.float64)
    centre = torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.2, 0.3]], dtype=torch.float64)
    k = torch.tensor([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]], dtype=torch.float64).expand(2, 3, 3)
    normal = torch.tensor([0.3, 0.2, 1.0], dtype=torch.float64)
    ray = torch.cat(((pixels - k[0, :2, 2]) / 100, torch.ones_like(pixels[:, :1])), dim=-1)
    depth = 5 / (ray @ normal)
    slope = -depth[:, None] / 5 * normal[:2] / 100
    known = torch.ones(2, len(pixels), dtype=torch.bool)
    c2w = rigid(rotation_vector_to_matrix(turn), centre)
    return Scene(c2w, k, depth.expand(2, -1), pixels, slope.expand(2, -1, -1), known)


def test_a_pixels_surroundings_lie_where_the_plane_has_them() -> None:
    scene = plane(PIXELS)
    warp = scene.warps(HERE, THERE)[0]
    before = scene.seen(HERE, THERE[:, None]).place[0, 0]
    for step in ([5.0, -3.0], [-4.0, 6.0]):
        aside = torch.tensor(step, dtype=torch.float64)
        exact = plane(PIXELS + aside).seen(HERE, THERE[:, None]).place[0, 0] - before
        assert torch.allclose((warp[:, :2] @ aside) / (1 + warp[:, 2] @ aside)[:, None], exact, atol=1e-9)
        assert (warp[:, :2] @ aside - exact).norm(dim=-1).min() > 0.05, "straight steps alone do not do"


def test_patches_that_nothing_is_left_of_are_not_looked_for() -> None:
    across = torch.tensor([1.0, 0.5, 0.2, -1.0, 4.0])
    warps = torch.eye(3)[:, :2].repeat(5, 1, 1)
    warps[:, 0, 0] = across
    assert _not_aslant(warps).tolist() == [True, True, False, False, False]

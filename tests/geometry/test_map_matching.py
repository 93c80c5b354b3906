"""Matching two point maps of the same time, against the nearest of all pixels."""

import pytest
import torch

from vdpm.geometry.map_matching import from_nothing, inside, match_map, match_some, surface_of

SIZE = (40, 56)


def bumpy(shift: float, seed: int | None = None) -> torch.Tensor:
    """A relief seen from the side by ``shift``, with a ball before it."""
    y, x = torch.meshgrid(torch.arange(SIZE[0]) / 40 - 0.5, torch.arange(SIZE[1]) / 40 - 0.7, indexing="ij")
    x = x + shift
    z = 2 + 0.1 * torch.sin(7 * x) * torch.cos(5 * y)
    z = torch.where((x - 0.1).square() + y.square() < 0.04, torch.full_like(z, 1.2), z)
    points = torch.stack((x, y, z), -1)
    if seed is not None:
        points = points + 0.003 * torch.randn(points.shape, generator=torch.Generator().manual_seed(seed))
    return points


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.2])
def test_a_map_finds_its_nearest_pixels(shift: float) -> None:
    points, target = bumpy(shift, 0), bumpy(0.0, 1)
    surface = surface_of(target)
    flat, other = points.flatten(0, 1), target.flatten(0, 1)
    best = torch.cdist(flat, other).min(dim=1).values
    found = (other[match_map(points, surface)] - flat).norm(dim=-1)
    assert float((found <= best + 0.01).float().mean()) > 0.98, "0.025 lies between neighbours"
    some = torch.arange(0, len(flat), 3)
    index, distance = match_some(flat[some], some, SIZE, surface, torch.zeros_like(some))
    assert torch.allclose(distance, (other[index] - flat[some]).norm(dim=-1), atol=1e-5)
    assert float((distance <= best[some] + 0.01).float().mean()) > 0.98


def test_a_map_finds_itself() -> None:
    points = bumpy(0.0)
    assert torch.equal(match_map(points, surface_of(points)), torch.arange(SIZE[0] * SIZE[1]))


def test_padding_is_never_found_and_indices_go_both_ways() -> None:
    surface = surface_of(bumpy(0.0))
    index = torch.arange(SIZE[0] * SIZE[1])
    assert torch.equal(surface.plain(surface.padded(index)), index)
    far = torch.tensor([[100.0, 0, 0], [-100, 50, 3], [0, 0, -1000]])
    found = surface.plain(from_nothing(far, surface))
    assert ((found >= 0) & (found < len(index))).all()


def test_what_a_camera_sees_with_a_margin() -> None:
    k = torch.tensor([[40.0, 0, 28], [0, 40, 20], [0, 0, 1]])
    points = torch.tensor([[0.0, 0, 1], [0, 0, -1], [0.8, 0, 1], [2.0, 0, 1]])
    seen, pixel = inside(points, torch.eye(4), k, SIZE)
    assert seen.tolist() == [True, False, True, False]
    assert pixel[0] == 20 * 56 + 28
    assert pixel[2] == 20 * 56 + 55

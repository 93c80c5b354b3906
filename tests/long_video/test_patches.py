"""Patches found again: to a tenth of a pixel where there is texture, and no claim where there is none."""

import pytest
import torch
import torch.nn.functional as F

from vdpm.long_video.patches import blurred, grey, match_patches

HEIGHT, WIDTH = 60, 80


def texture(columns: int = WIDTH) -> torch.Tensor:
    noise = torch.rand(1, 1, 16, columns // 4 + 4, generator=torch.Generator().manual_seed(0))
    return F.interpolate(noise, (HEIGHT, columns), mode="bicubic")[0]


def shifted(picture: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """The picture with everything moved by (x, y) pixels."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT) + 0.5 - y, torch.arange(WIDTH) + 0.5 - x, indexing="ij")
    grid = torch.stack((2 * columns / WIDTH - 1, 2 * rows / HEIGHT - 1), dim=-1)[None]
    return F.grid_sample(picture[None], grid, mode="bicubic", padding_mode="border", align_corners=False)[0]


AT = torch.tensor([[30.5, 20.5], [50.5, 35.5], [40.5, 30.5]])


@pytest.mark.parametrize("contrast", [1.0, 0.7])
def test_a_shift_is_found_from_a_wrong_guess(contrast: float) -> None:
    first = blurred(texture(), 1.0)
    second = contrast * shifted(first, 2.3, -1.2) + 0.1
    found = match_patches(first, second, AT, AT[None] + 0.6, 4)
    assert (found.places - AT - torch.tensor([2.3, -1.2])).norm(dim=-1).max() < 0.1
    assert found.alike.min() > 0.98


def test_what_is_not_there_is_not_alike() -> None:
    first = blurred(texture(), 1.0)
    found = match_patches(first, first.flip(-1, -2), AT, AT[None], 4)
    assert found.alike.min() < 0.9


def test_an_edge_is_sure_across_it_alone_and_nothing_where_there_is_no_texture() -> None:
    edge = torch.zeros(1, HEIGHT, WIDTH)
    edge[..., 30:] = 1
    edge = blurred(edge, 1.0)
    found = match_patches(edge, shifted(edge, 1.5, 0.0), AT[:2], AT[None, :2], 4)
    across, along = found.sureness[0, 0, 0, 0], found.sureness[0, 0, 1, 1]
    assert across > 100, "to a tenth of a pixel"
    assert along < 1e-3 * across
    assert found.places[0, 0, 0] - 30.5 == pytest.approx(1.5, abs=0.1)
    assert found.places[0, 0, 1] == pytest.approx(20.5, abs=0.05), "along an edge the guess stays"
    assert found.sureness[0, 1].abs().max() < 1e-3


def test_a_wall_seen_from_aside_is_found_where_it_is_if_it_is_followed_so() -> None:
    """A picture made narrower about the patch, more so to its right, as a wall that turns away is."""
    first = blurred(texture(), 1.0)
    at, shift, across, bend = AT[:1], torch.tensor([1.2, -0.4]), 0.6, 0.02
    rows, columns = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    there = torch.stack((columns, rows), dim=-1) - at - shift
    # Solved for what is u away in the first picture: there = (across * u_x, u_y) / (1 + bend * u_x).
    x = there[..., 0] / (across - bend * there[..., 0])
    source = torch.stack((x, there[..., 1] * (1 + bend * x)), dim=-1) + at
    second = F.grid_sample(
        first[None], 2 * source[None] / torch.tensor([WIDTH, HEIGHT]) - 1, mode="bicubic", align_corners=False
    )[0]
    warp = torch.tensor([[across, 0.0], [0.0, 1.0], [bend, 0.0]])[None, None]
    plain = match_patches(first, second, at, at[None] + 0.5, 5)
    followed = match_patches(first, second, at, at[None] + 0.5, 5, warp)
    assert (followed.places - at - shift).norm() < 0.06
    assert (plain.places - at - shift).norm() > 0.2
    assert followed.alike.min() > max(0.97, float(plain.alike.min()))


def test_sureness_is_that_of_places_in_noise() -> None:
    """Of patches with little and much texture in the same noise: errors are what is told of them, about."""
    noise = torch.Generator().manual_seed(3)
    errors: list[torch.Tensor] = []
    for contrast in (0.1, 0.4):
        pictures = [0.5 + contrast * (texture() - 0.5) for _ in range(24)]
        first, second = (
            blurred(torch.cat([p + 0.01 * torch.randn(p.shape, generator=noise) for p in pictures]), 1.0) for _ in "ab"
        )
        found = match_patches(first, second, AT, AT.expand(24, -1, -1) + 0.3, 4)
        off = found.places - AT
        errors.append((off[..., None, :] @ found.sureness @ off[..., None])[..., 0, 0].sqrt())
    for told in errors:
        assert 0.3 < told.median() < 3


def test_blur_is_a_convolution_with_a_gaussian() -> None:
    ramp = torch.arange(float(WIDTH)).expand(1, HEIGHT, WIDTH)
    assert torch.allclose(blurred(ramp, 2.0)[:, :, 6:-6], ramp[:, :, 6:-6], atol=1e-3), "a slope stays"
    point = torch.zeros(1, HEIGHT, WIDTH)
    point[0, 30, 40] = 1.0
    spread = blurred(point, 2.0)[0]
    rows, columns = torch.meshgrid(torch.arange(HEIGHT) - 30, torch.arange(WIDTH) - 40, indexing="ij")
    assert float((spread * rows**2).sum()) == pytest.approx(4, rel=0.05)
    assert float((spread * columns**2).sum()) == pytest.approx(4, rel=0.05)
    assert float(spread.sum()) == pytest.approx(1, abs=1e-5)


def test_grey_is_luma() -> None:
    frames = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    frames[..., 1] = 255
    assert torch.allclose(grey(frames), torch.tensor(0.587))

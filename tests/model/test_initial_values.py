"""What a fresh network starts from, and what parity does not reach: position grids of other sizes, activations."""

import math

import torch
from network_samples import TINY_OURS, TINY_RELEASED

from vdpm.model import VDPM
from vdpm.model.conv_head import double_size
from vdpm.model.dpt_head import ResidualUnit, sincos_position
from vdpm.model.layers import image_plane
from vdpm.model.patch_encoder import VisionTransformer, normalize_images
from vdpm.model.point_map import activate_point_map


def test_released_start() -> None:
    torch.manual_seed(0)
    state = VDPM(TINY_RELEASED).state_dict()
    assert 0.5 < state["aggregator.time_conditioning_token"].std() < 1.5
    for name in ("aggregator.camera_token", "aggregator.register_token"):
        assert 0 < state[name].abs().max() < 1e-5, name
    assert (state["aggregator.frame_blocks.1.ls1.gamma"] == 0.01).all()
    assert (state["decoder.global_blocks.0.0.ls2.gamma"] == 0.01).all()
    modulation = state["decoder.frame_blocks.0.0.modulation.lin.weight"]
    assert modulation.abs().max() <= 1 / math.sqrt(TINY_RELEASED.decoder_dim)
    assert modulation.abs().max() > 0.9 / math.sqrt(TINY_RELEASED.decoder_dim)


@torch.no_grad()
def test_start_from_nothing_is_a_plausible_scene() -> None:
    torch.manual_seed(0)
    model = VDPM(TINY_OURS)
    state = model.state_dict()
    assert not any(name.endswith(".gamma") for name in state)
    gate = state["decoder.frame_blocks.0.0.modulation.lin.bias"][2 * TINY_OURS.decoder_dim :]
    assert (gate == 1).all()
    tokens = model.encode(torch.rand(1, 3, 3, 32, 48))
    assert 0.3 < model.decode(tokens, 1).points[..., 2].mean() < 1.6
    encoding = model.pose_encodings(tokens)[-1]
    assert encoding[..., :6].abs().max() < 0.3
    assert (encoding[..., 6] > 0.5).all()
    assert (encoding[..., 7:] > 0.4).all()


def test_position_grid_is_exact_at_its_own_size_and_smooth_at_others() -> None:
    vit = VisionTransformer(TINY_RELEASED)
    assert torch.equal(vit.position_embedding((3, 3)), vit.pos_embed[:, 1:])
    with torch.no_grad():
        rows = torch.arange(3.0)[:, None].expand(3, 3).reshape(1, 9, 1)
        vit.pos_embed[:, 1:] = rows
    for grid in ((3, 7), (9, 3), (2, 2)):
        resized = vit.position_embedding(grid).reshape(*grid, -1)
        torch.testing.assert_close(resized, resized[:, :1].expand_as(resized))
        torch.testing.assert_close(resized + resized.flip(0), torch.full_like(resized, 2.0))
        assert (resized.diff(dim=0) > 0).all()


def test_images_are_normalized_by_channel() -> None:
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1)
    images = mean + torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1) * torch.tensor([[-1.0, 0.0, 2.0]])
    torch.testing.assert_close(normalize_images(images), torch.tensor([[-1.0, 0.0, 2.0]]).expand(3, 1, 3))


def test_image_plane_has_a_half_diagonal_of_one() -> None:
    plane = image_plane((1000, 2000), (294, 518), torch.device("cpu"))
    assert math.isclose(float(plane.u[-1] ** 2 + plane.v[-1] ** 2), 1, abs_tol=3e-3)
    torch.testing.assert_close(plane.u, -plane.u.flip(0))
    assert math.isclose(float(plane.u[-1] / plane.v[-1]), 518 / 294, abs_tol=2e-3)
    embedding = sincos_position(plane, 8)
    torch.testing.assert_close(embedding[0, 5], plane.u.sin())
    torch.testing.assert_close(embedding[6, :, 9], plane.v.cos())


def test_residual_unit_adds_the_rectified_input() -> None:
    unit = ResidualUnit(1)
    with torch.no_grad():
        for parameter in unit.parameters():
            parameter.zero_()
    x = torch.tensor([-2.0, 3.0]).reshape(1, 1, 1, 2)
    kept = x.clone()
    assert unit(x).flatten().tolist() == [0.0, 3.0]
    assert torch.equal(x, kept)


def test_points_and_confidence_come_from_exponentials() -> None:
    raw = torch.tensor([0.0, 1.0, -2.0, 0.5]).reshape(1, 1, 4)
    maps = activate_point_map(raw)
    expected = torch.tensor([0.0, math.e - 1, 1 - math.e**2])
    torch.testing.assert_close(maps.points[0, 0], expected)
    torch.testing.assert_close(maps.confidence[0, 0], torch.tensor(1 + math.exp(0.5)))
    assert activate_point_map(raw.bfloat16()).points.dtype == torch.float32


def test_doubling_by_sums_is_bilinear() -> None:
    maps = torch.rand(2, 3, 1, 5, generator=torch.Generator().manual_seed(0))
    maps = torch.cat([maps, maps.flip(-1) * 2, maps**2], dim=2)
    with torch.no_grad():
        interpolated = double_size(maps)
    torch.testing.assert_close(double_size(maps), interpolated)

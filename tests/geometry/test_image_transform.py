"""Resizing, padding and cropping against images that were actually resized, and back."""

import json
import math

import pytest
import torch

from vdpm.errors import UsageError
from vdpm.geometry.image_transform import ImageTransform
from vdpm.geometry.pinhole import pixel_grid, project

SOURCES = [(48, 80), (80, 48), (65, 37), (30, 30), (120, 16)]
TRANSFORMS = {
    "identity": ImageTransform.identity,
    "stretch": lambda size: ImageTransform.stretch(size, (56, 40)),
    "fit_pad": lambda size: ImageTransform.fit_pad(size, (64, 96)),
    "fill_crop": lambda size: ImageTransform.fill_crop(size, (24, 40)),
    "long_side": lambda size: ImageTransform.long_side(size, 64, 8),
    "long_side up": lambda size: ImageTransform.long_side(size, 200, 8),
    "width_crop": lambda size: ImageTransform.width_crop(size, 28, 14),
}
every_transform = pytest.mark.parametrize("kind", TRANSFORMS)
every_source = pytest.mark.parametrize("source", SOURCES)


def ramp(size: tuple[int, int]) -> torch.Tensor:
    """An image whose red is x / width and whose green is y / height at every pixel centre; blue is 0.5."""
    height, width = size
    grid = pixel_grid(height, width, dtype=torch.float64) / torch.tensor([width, height])
    return torch.stack((grid[..., 0], grid[..., 1], torch.full((height, width), 0.5, dtype=torch.float64)))


@every_transform
@every_source
def test_positions_agree_with_an_image_that_was_resized(kind, source):
    transform = TRANSFORMS[kind](source)
    image = transform.apply(ramp(source))
    assert image.shape == (3, *transform.output_size)
    # Where no filter reaches past the border of the source, a resized ramp is the same ramp.
    position = transform.points_to_source(pixel_grid(*transform.output_size, dtype=torch.float64))
    reach = 3 * max(1.0, *(1 / scale for scale in transform.scale))
    limits = torch.tensor([source[1] - reach, source[0] - reach])
    inner = ((position > reach) & (position < limits)).all(-1)
    expected = position / torch.tensor([source[1], source[0]])
    if min(source) > 2 * reach + 2 / min(transform.scale):
        assert bool(inner.any())
    torch.testing.assert_close(image[:2].permute(1, 2, 0)[inner], expected[inner], atol=2e-3, rtol=0)


@every_transform
@every_source
def test_positions_and_intrinsics_go_there_and_back(kind, source):
    transform = TRANSFORMS[kind](source)
    xy = 50 * torch.randn(4, 5, 2, dtype=torch.float64)
    torch.testing.assert_close(transform.points_to_source(transform.points_to_output(xy)), xy)
    intrinsics = torch.tensor([[50.0, 1, 22], [0, 60, 19], [0, 0, 1]], dtype=torch.float64).repeat(2, 1, 1)
    moved = transform.intrinsics_to_output(intrinsics)
    torch.testing.assert_close(transform.intrinsics_to_source(moved), intrinsics)
    points = torch.randn(2, 9, 3, dtype=torch.float64) + torch.tensor([0, 0, 5.0])
    expected = transform.points_to_output(project(points, intrinsics)[0])
    torch.testing.assert_close(project(points, moved)[0], expected)


@every_transform
@every_source
def test_restore_gives_back_a_ramp(kind, source):
    transform = TRANSFORMS[kind](source)
    maps = transform.points_to_source(pixel_grid(*transform.output_size, dtype=torch.float64)).permute(2, 0, 1)
    maps = torch.where(transform.content_mask(), maps, torch.nan)
    restored = transform.restore(maps, fill=-7.0).permute(1, 2, 0)
    seen = transform.source_mask()
    assert restored.shape == (*source, 2)
    assert bool(restored.isfinite().all())
    assert bool((restored[~seen] == -7).all())
    # Half a pixel of the output at the border has no neighbour to mix with.
    slack = 0.5 / torch.tensor(transform.scale, dtype=torch.float64)
    expected = pixel_grid(*source, dtype=torch.float64)
    assert bool(((restored - expected).abs()[seen] <= slack + 1e-9).all())
    seen_xy = transform.points_to_output(expected)
    top, bottom, left, right = box(transform.content_mask())
    inner = (seen_xy[..., 0] > left + 0.5) & (seen_xy[..., 0] < right - 0.5)
    inner &= (seen_xy[..., 1] > top + 0.5) & (seen_xy[..., 1] < bottom - 0.5)
    torch.testing.assert_close(restored[inner], expected[inner])


def box(mask: torch.Tensor) -> tuple[int, int, int, int]:
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


@every_source
def test_padding_is_what_the_content_mask_leaves(source):
    transform = ImageTransform.fit_pad(source, (64, 96))
    image = transform.apply(torch.zeros(2, 3, *source), fill=1.0)
    assert torch.equal(image[0, 0] == 0, transform.content_mask())
    assert torch.equal(image[0], image[1])


def test_shrinking_by_two_is_exact_to_the_half_pixel():
    transform = ImageTransform.stretch((4, 8), (2, 4))
    assert transform.points_to_output(torch.tensor([0.5, 0.5])).tolist() == [0.25, 0.25]
    assert transform.points_to_source(torch.tensor([0.5, 0.5])).tolist() == [1.0, 1.0]
    labels = torch.arange(8).reshape(1, 2, 4)
    expected = labels.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert torch.equal(transform.restore(labels, mode="nearest"), expected)
    # A linear map comes back at the quarters between pixel centres.
    restored = transform.restore(torch.tensor([[[0.5, 1.5, 2.5, 3.5], [0.5, 1.5, 2.5, 3.5]]]))
    assert restored[0, 0].tolist() == [0.5, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25, 3.5]


def test_the_released_preprocessing_of_a_landscape_and_a_portrait_video():
    landscape = ImageTransform.width_crop((1080, 1920), 518, 14)
    assert (landscape.output_size, landscape.resized_size) == ((294, 518), (294, 518))
    portrait = ImageTransform.width_crop((1920, 1080), 518, 14)
    assert (portrait.output_size, portrait.resized_size, portrait.offset) == ((518, 518), (924, 518), (0, -203))


def test_long_side_keeps_everything_and_never_stretches_by_more_than_a_pixel():
    for source in [(1080, 1920), (1920, 1080), (333, 777), (9, 2000), (1, 1)]:
        transform = ImageTransform.long_side(source, 224, 14)
        assert max(transform.output_size) == 224
        assert all(side % 14 == 0 for side in transform.output_size)
        assert bool(transform.source_mask().all())
        isotropic = 224 / max(source)
        for resized, side in zip(transform.resized_size, source, strict=True):
            assert abs(resized - side * isotropic) <= 0.5 or resized == 1
        # Less than one multiple is padded on either axis.
        assert all(o - r < 14 for o, r in zip(transform.output_size, transform.resized_size, strict=True))


def test_wide_pixels_become_square():
    transform = ImageTransform.long_side((480, 720), 224, 8, pixel_aspect=32 / 27)
    assert transform.resized_size == (126, 224)
    transform = ImageTransform.fit_pad((480, 720), (224, 224), pixel_aspect=32 / 27)
    assert transform.resized_size == (126, 224)
    assert ImageTransform.fill_crop((480, 720), (224, 224), pixel_aspect=32 / 27).resized_size == (224, 398)


@every_source
@pytest.mark.parametrize("pixel_aspect", [1.0, 2.0, 0.6])
@pytest.mark.parametrize("kind", ["stretch", "fit_pad", "fill_crop", "long_side"])
def test_a_camera_of_one_focal_length_has_the_square_ratio(kind, pixel_aspect, source):
    sizes = {"long_side": (64, 8)}.get(kind, ((56, 40),))
    transform = getattr(ImageTransform, kind)(source, *sizes, pixel_aspect=pixel_aspect)
    # Fifty pixel heights, which are so many fewer pixel widths as these are wider.
    camera = torch.tensor([[50 / pixel_aspect, 0, 1], [0, 50.0, 1], [0, 0, 1]], dtype=torch.float64)
    seen = transform.intrinsics_to_output(camera)
    assert transform.square_ratio == pytest.approx(float(seen[0, 0] / seen[1, 1]), rel=1e-9)
    if kind != "stretch":
        assert abs(math.log(transform.square_ratio)) < 0.55 / min(transform.resized_size) + 0.55 / max(
            transform.resized_size
        )
    again = ImageTransform.from_json(json.loads(json.dumps(transform.to_json())))
    assert again == transform
    assert again.pixel_aspect == pixel_aspect


def test_results_of_before_pixels_were_told_have_square_ones():
    told = ImageTransform.fit_pad((48, 80), (64, 96)).to_json()
    del told["pixel_aspect"]
    assert ImageTransform.from_json(told).pixel_aspect == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_every_float_type_is_kept(dtype):
    transform = ImageTransform.fit_pad((9, 12), (16, 16))
    image = transform.apply(torch.rand(2, 2, 3, 9, 12).to(dtype))
    assert image.dtype == dtype
    assert 0 <= image.min() <= image.max() <= 1
    assert transform.restore(image).dtype == dtype


def test_images_and_maps_are_differentiable():
    transform = ImageTransform.fit_pad((5, 7), (8, 8))
    image = (0.3 + 0.4 * torch.rand(3, 5, 7, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: transform.restore(transform.apply(x)), (image,))


@every_transform
def test_json_round_trip(kind):
    transform = TRANSFORMS[kind]((65, 37))
    assert ImageTransform.from_json(json.loads(json.dumps(transform.to_json()))) == transform


@pytest.mark.parametrize("data", [{}, {"source_size": 3}, {"source_size": [1, 2, 3]}])
def test_json_of_something_else_is_refused(data):
    with pytest.raises(UsageError, match="not an image transform"):
        ImageTransform.from_json(data)


def test_impossible_transforms_are_refused():
    with pytest.raises(UsageError, match="whole pixels"):
        ImageTransform((10, 10), (5, 5), (0.55, 0.5), (0, 0))
    with pytest.raises(UsageError, match="above 0"):
        ImageTransform((10, 10), (5, 5), (-1.0, 0.5), (0, 0))
    with pytest.raises(UsageError, match="at least 1"):
        ImageTransform((0, 10), (5, 5), (0.5, 0.5), (0, 0))
    for aspect in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UsageError, match="pixel aspect"):
            ImageTransform((10, 10), (5, 5), (0.5, 0.5), (0, 0), aspect)
    with pytest.raises(UsageError, match="10 x 12"):
        ImageTransform.identity((10, 12)).apply(torch.rand(3, 12, 10))
    with pytest.raises(UsageError, match="nearest"):
        ImageTransform.identity((2, 2)).restore(torch.zeros(1, 2, 2, dtype=torch.long))


@every_transform
def test_eight_bit_images_come_out_as_floating_point_ones_do(kind):
    transform = TRANSFORMS[kind]((65, 37))
    # No overshoot: what the cubic makes of extremes is clamped after each pass in 8 bit, and once in floating point.
    image = torch.randint(64, 192, (2, 3, 65, 37), dtype=torch.uint8)
    expected = transform.apply(image.double() / 255) * 255
    found = transform.apply(image)
    assert found.dtype == torch.uint8
    # Two roundings, after each of the two passes.
    assert (found - expected).abs().max() <= 1.5

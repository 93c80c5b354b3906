"""What the sensor does to pictures, and that it leaves the truth alone."""

from dataclasses import replace

import pytest
import torch

from vdpm.errors import UsageError
from vdpm.synthetic import SceneConfig, SceneGenerator, generate
from vdpm.synthetic.blur import blur_along_motion, shift_colours, soften
from vdpm.synthetic.compression import compress
from vdpm.synthetic.looks import NO_SENSOR_EFFECTS, SensorConfig

EVERYTHING = SensorConfig(
    exposure_share=1.0, exposure=(0.01, 0.04), blur_share=1.0, sharpen_share=1.0, fringe_share=1.0, drift_share=1.0,
    compression_share=1.0,
)  # fmt: skip
CONFIG = SceneConfig(num_frames=3, height=24, width=32, colour_samples=1, time_step=(0.05, 0.1))


def test_the_truth_does_not_depend_on_the_sensor() -> None:
    plain = generate(range(4), replace(CONFIG, sensor=NO_SENSOR_EFFECTS))
    full = generate(range(4), replace(CONFIG, sensor=EVERYTHING))
    for name in ("points", "target_points", "valid", "dynamic", "instances", "c2w", "intrinsics", "timestamps"):
        assert torch.equal(getattr(plain, name), getattr(full, name)), name
    assert (plain.images - full.images).abs().mean() > 0.01
    assert (plain.images - full.images).abs().mean() < 0.2


def _dot(height: int = 33, width: int = 49) -> torch.Tensor:
    picture = torch.zeros(1, 3, height, width)
    picture[..., height // 2, width // 2] = 1
    return picture


@pytest.mark.parametrize("motion", [(5.0, 0.0), (0.0, 5.0), (4.0, 3.0)])
def test_blur_goes_along_the_motion_about_its_middle(motion: tuple[float, float]) -> None:
    picture = _dot()
    way = torch.tensor(motion).view(1, 2, 1, 1).expand(1, 2, 33, 49)
    blurred = blur_along_motion(picture, way, torch.ones(1, 1, 33, 49))[0, 0]
    weight = blurred / blurred.sum()
    y, x = torch.meshgrid(torch.arange(33.0) - 16, torch.arange(49.0) - 24, indexing="ij")
    assert abs(float((weight * x).sum())) < 0.05
    assert abs(float((weight * y).sum())) < 0.05
    along = (x * motion[0] + y * motion[1]) / 5
    aside = (x * motion[1] - y * motion[0]) / 5
    # A dot that moves evenly by 5 pixels has variance 25 / 12 along its way; the weights favour the middle.
    assert 0.8 < float((weight * along.square()).sum()) < 2.6
    assert float((weight * aside.square()).sum()) < 0.35
    assert float(blurred.sum()) == pytest.approx(1.0, abs=0.1)


def test_what_stands_still_stays_sharp() -> None:
    picture = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    still = blur_along_motion(picture, torch.zeros(2, 2, 16, 24), torch.ones(2, 1, 16, 24))
    assert torch.allclose(still, picture, atol=1e-5)


def test_what_moves_is_smeared_over_what_stands_behind() -> None:
    """A bright near square that moves right leaves its outline; the background far from it does not change."""
    picture = torch.zeros(1, 3, 32, 48)
    picture[..., 10:22, 18:30] = 1
    inside = picture[:, :1]
    way = torch.cat([8 * inside, 0 * inside], 1)
    blurred = blur_along_motion(picture, way, 0.1 + inside)[0, 0]
    assert float(blurred[16, 31]) > 0.1
    assert float(blurred[16, 16]) > 0.1
    assert float(blurred[16, 24]) > 0.9
    assert float(blurred[:, :8].abs().max()) < 1e-4
    assert float(blurred[24:].abs().max()) < 1e-4


def test_image_motion_is_where_points_go() -> None:
    """The motion that blurs is the way between the frame before and the one after, seen by their cameras."""
    generator = SceneGenerator(CONFIG)
    scene = generator.sample(torch.arange(3))
    targets = torch.arange(3).expand(3, -1)
    _, pixels, _ = generator.render(scene, targets)
    snippet = generator.snippet(scene, targets)
    places = []
    for frame in (0, 2):
        points = snippet.target_points[:, frame, 1].flatten(1, 2)
        camera = (points - snippet.c2w[:, frame, None, :3, 3]) @ snippet.c2w[:, frame, :3, :3]
        image = camera @ snippet.intrinsics[:, frame].transpose(-1, -2)
        places.append((image[..., :2] / image[..., 2:], camera[..., 2] > 0.05))
    seconds = (snippet.timestamps[:, 2] - snippet.timestamps[:, 0])[:, None, None]
    expected = (places[1][0] - places[0][0]) / seconds
    seen = snippet.valid[:, 1].flatten(1) & places[0][1] & places[1][1]
    error = (pixels.motion[:, 1, :, :2] - expected).norm(dim=-1)[seen]
    size = expected.norm(dim=-1)[seen]
    assert size.median() > 1
    assert (error < 0.01 + 0.01 * size).float().mean() > 0.99


def test_compression_loses_little_at_high_quality_and_more_at_low() -> None:
    scene = generate([3, 4], replace(CONFIG, sensor=NO_SENSOR_EFFECTS, height=40, width=52)).images
    away = [float((compress(scene, torch.full((2,), s)) - scene).abs().mean()) for s in (0.0, 0.02, 0.3, 2.0)]
    assert away[0] == 0
    # Colour has half the resolution at any quality.
    assert away[1] < 0.02
    assert away[1] < away[2] < away[3]
    assert away[3] > 0.02
    grey = torch.full((1, 1, 3, 16, 32), 0.5)
    assert torch.allclose(compress(grey, torch.tensor([1.0])), grey, atol=1e-5)


def test_each_clip_has_its_own_strength() -> None:
    scene = generate([3, 4], replace(CONFIG, sensor=NO_SENSOR_EFFECTS)).images
    strength = torch.tensor([0.0, 1.0])
    assert torch.equal(compress(scene, strength)[0], scene[0])
    assert torch.allclose(soften(scene, strength)[0], scene[0], atol=1e-6)
    assert (soften(scene, strength)[1] - scene[1]).abs().mean() > 0.005
    assert torch.allclose(shift_colours(scene, strength)[0], scene[0], atol=1e-4)
    assert torch.allclose(shift_colours(scene, strength)[1, :, 1], scene[1, :, 1], atol=1e-4)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(UsageError, match=r"blur_share is 1\.5"):
        SensorConfig(blur_share=1.5)
    with pytest.raises(UsageError, match="exposure is"):
        SensorConfig(exposure=(0.0, 0.1))

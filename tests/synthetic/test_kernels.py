import importlib.util
import os

import pytest
import torch

from vdpm.synthetic import SceneConfig
from vdpm.synthetic.blur import _TAPS, _gathered
from vdpm.synthetic.scene import sample_scenes
from vdpm.synthetic.terrain import _MISS, _STEPS, terrain_distance, terrain_height

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton"),
    pytest.mark.skipif(DEVICE == "cpu" and not INTERPRETED, reason="needs a GPU, or TRITON_INTERPRET=1"),
]


def test_the_kernel_blurs_as_the_plain_sums_do() -> None:
    from vdpm.synthetic.blur_kernel import gathered_on_gpu

    random = torch.Generator().manual_seed(0)
    height, width = 22, 30
    layers = torch.rand(4, 5, height, width, generator=random)
    layers[:, 3] *= 6
    longest = torch.randn(4, 2, height, width, generator=random) * 4
    longest[1] = 0
    longest[2, :, : height // 2] = 0
    mine = gathered_on_gpu(layers.to(DEVICE), longest.to(DEVICE), _TAPS).cpu()
    torch.testing.assert_close(mine, _gathered(layers, longest), rtol=1e-4, atol=1e-5)
    assert torch.equal(mine[1], layers[1, :3])
    assert (mine[0] - layers[0, :3]).abs().mean() > 0.05


def test_the_kernel_finds_the_ground_where_the_plain_search_does() -> None:
    from vdpm.synthetic.terrain_kernel import terrain_distance_on_gpu

    config = SceneConfig(num_frames=1, height=8, width=8)
    every = sample_scenes(torch.arange(200), config, 0).parts.waves
    hilly = (every[..., 3] > 0).any(1)
    waves = torch.cat([every[hilly][:5], every[~hilly][:1]])
    random = torch.Generator().manual_seed(0)
    origin = torch.randn(3, len(waves), 2, 300, generator=random) * 3
    at = origin[:2].movedim(0, -1)
    origin[2] = terrain_height(waves, at) + torch.rand(origin.shape[1:], generator=random) + 0.1
    direction = torch.nn.functional.normalize(torch.randn(origin.shape, generator=random), dim=0)
    far = torch.full(origin.shape[1:], 30.0)
    expected = terrain_distance(waves, origin, direction, far)
    given = (value.to(DEVICE) for value in (waves, origin, direction, far))
    mine = terrain_distance_on_gpu(*given, _STEPS, _MISS).cpu()
    met = expected < _MISS
    assert 0.2 < met[:5].float().mean() < 0.9
    assert not met[5].any()
    alike = torch.isclose(mine, expected, rtol=1e-3, atol=1e-4)
    assert alike.float().mean() > 0.998

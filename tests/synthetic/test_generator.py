"""Seeds, batches, devices and settings."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.structures import Snippet
from vdpm.synthetic import HELD_OUT_START, SceneConfig, generate, held_out_seeds, training_seeds
from vdpm.synthetic.hashing import Draws, mix

SMALL = SceneConfig(num_frames=2, height=16, width=24, colour_samples=1)


def _tensors(snippet: Snippet) -> dict[str, Tensor]:
    return {name: value for name, value in vars(snippet).items() if isinstance(value, Tensor)}


def test_a_seed_gives_the_same_scene_in_any_batch() -> None:
    many = _tensors(generate([5, 9, 123456789012, 7], SMALL))
    for row, seed in ((1, 9), (2, 123456789012)):
        alone = _tensors(generate([seed], SMALL))
        for name, value in alone.items():
            assert torch.equal(value[0], many[name][row]), name


def test_different_seeds_give_different_scenes() -> None:
    a, b = generate([1, 1 + 2**32], SMALL).images
    assert (a - b).abs().mean() > 0.02


def test_targets_can_be_chosen() -> None:
    config = SceneConfig(num_frames=3, height=12, width=16, colour_samples=1)
    every = generate([3, 4], config)
    some = generate([3, 4], config, targets=torch.tensor([[2, 0], [1, 1]]))
    assert torch.equal(some.target_points[0, 0], every.target_points[0, 2])
    assert torch.equal(some.target_points[1], every.target_points[1, [1, 1]])


def test_held_out_seeds_are_never_training_seeds() -> None:
    assert int(held_out_seeds(5).min()) >= HELD_OUT_START
    assert int(training_seeds(HELD_OUT_START - 5, 5).max()) < HELD_OUT_START
    with pytest.raises(UsageError, match="held out"):
        training_seeds(HELD_OUT_START - 4, 5)


def test_shares_are_respected() -> None:
    still = SceneConfig(num_frames=2, height=12, width=16, colour_samples=1, static_share=1.0, handheld_weight=0.0,
                        dolly_weight=0.0, orbit_weight=0.0, pan_weight=0.0, follow_weight=0.0, walk_weight=0.0,
                        truck_weight=0.0, crane_weight=0.0, drone_weight=0.0, dolly_zoom_weight=0.0)  # fmt: skip
    snippet = generate(range(8), still)
    assert not snippet.dynamic.any()
    assert torch.allclose(snippet.c2w[:, 1], torch.eye(4).expand(8, -1, -1), atol=1e-6)
    indoors = SceneConfig(num_frames=2, height=12, width=16, open_weight=0.0, street_weight=0.0, colour_samples=1)
    assert generate(range(8), indoors).valid.all()


def test_scenes_are_lit_and_finite() -> None:
    snippet = generate(range(20, 36), SMALL)
    for name, value in _tensors(snippet).items():
        assert torch.isfinite(value.float()).all(), name
    assert 0.25 < snippet.images.mean() < 0.6
    assert (snippet.images.mean((1, 2, 3, 4)) > 0.1).all()
    assert (snippet.timestamps.diff(dim=1) > 0).all()


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(UsageError, match=r"static_share is 1\.5"):
        SceneConfig(static_share=1.5)
    with pytest.raises(UsageError, match="colour_samples is 2"):
        SceneConfig(colour_samples=2)
    with pytest.raises(UsageError, match="baseline"):
        SceneConfig(baseline=(2.0, 1.0))
    with pytest.raises(UsageError, match="reference frame 2"):
        generate([1], SMALL, reference=2)
    with pytest.raises(UsageError, match="frames 0 to 1"):
        generate([1], SMALL, targets=torch.tensor([[2]]))


def test_the_hash_spreads_its_bits() -> None:
    """Reference value of lowbias32 computed with wrapping 32-bit arithmetic in plain Python; draws are uniform."""

    def plain(x: int) -> int:
        x ^= x >> 16
        x = x * 0x7FEB352D % 2**32
        x ^= x >> 15
        x = x * 0x846CA68B % 2**32
        return x ^ x >> 16

    inputs = [1, 77, 2**31, 2**32 - 1]
    assert mix(torch.tensor(inputs)).tolist() == [plain(x) for x in inputs]
    values = Draws(torch.arange(2000)).uniform("x", 4)
    assert torch.allclose(values.mean(0), torch.full((4,), 0.5), atol=0.03)
    assert torch.corrcoef(values.T).fill_diagonal_(0).abs().max() < 0.08


def _run(program: str, *args: str) -> None:
    """In a process of its own: what is compiled cannot have its annotations checked while it is traced."""
    subprocess.run([sys.executable, "-c", program, *args], check=True)


@pytest.mark.slow
def test_compiled_equals_eager(tmp_path: Path) -> None:
    """All fused functions, each traced as one graph; for these sizes alone and without code of its own, which for all
    of them take minutes."""
    program = (
        "import sys, torch\n"
        "real, fused = torch.compile, []\n"
        "def traced(function, **options):\n"
        "    fused.append(function)\n"
        "    assert options == {'dynamic': False}, options\n"
        "    return real(function, backend='aot_eager', fullgraph=True, **options)\n"
        "torch.compile = traced\n"
        "from vdpm.synthetic import SceneConfig, SceneGenerator\n"
        "config = SceneConfig(num_frames=2, height=16, width=24, colour_samples=1)\n"
        "snippet = SceneGenerator(config, compile=True, sizes='fixed')(range(3))\n"
        "assert len(fused) > 20, fused\n"
        "torch.save({n: v for n, v in vars(snippet).items() if isinstance(v, torch.Tensor)}, sys.argv[1])\n"
    )
    _run(program, str(tmp_path / "snippet.pt"))
    compiled = torch.load(tmp_path / "snippet.pt")
    for name, value in _tensors(generate(range(3), SMALL)).items():
        away = ((value.float() - compiled[name].float()).abs() > 1e-3).float().mean()
        assert away < 2e-3, name


@pytest.mark.slow
def test_one_compilation_serves_all_sizes() -> None:
    """Of one function, down to the code that is made of it; headers compiled beforehand would not pay for one."""
    _run(
        "import functools, torch\n"
        "import torch._inductor.config\n"
        "torch._inductor.config.cpp_cache_precompile_headers = False\n"
        "from torch._dynamo.testing import CompileCounterWithBackend\n"
        "counter = CompileCounterWithBackend('inductor')\n"
        "torch.compile = functools.partial(torch.compile, backend=counter, fullgraph=True)\n"
        "from vdpm.synthetic.fusing import fusing\n"
        "from vdpm.synthetic.intersect import _from_lamp\n"
        "for batch, frames, rays in (4, 5, 50), (2, 7, 70), (3, 2, 90):\n"
        "    lamp = torch.rand(batch) > 0.5, torch.randn(batch, 3), torch.randn(batch, 3, 3)\n"
        "    origin = torch.randn(3, batch, frames, rays)\n"
        "    with fusing(True):\n"
        "        found = _from_lamp(*lamp, origin)\n"
        "    for one, other in zip(found, _from_lamp(*lamp, origin), strict=True):\n"
        "        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)\n"
        "assert counter.frame_count == 1, counter.frame_count\n"
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_equals_cpu() -> None:
    cpu = _tensors(generate(range(8), SMALL))
    gpu = _tensors(generate(range(8), SMALL, device="cuda").to("cpu"))
    for name, value in cpu.items():
        away = ((value.float() - gpu[name].float()).abs() > 1e-3).float().mean()
        assert away < 5e-3, name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_fused_on_a_gpu_equals_cpu(tmp_path: Path) -> None:
    program = (
        "import sys, torch\n"
        "from vdpm.synthetic import SceneConfig, SceneGenerator\n"
        "config = SceneConfig(num_frames=3, height=48, width=64, colour_samples=1)\n"
        "generate = SceneGenerator(config, sys.argv[2], compile=sys.argv[2] == 'cuda', sizes='fixed')\n"
        "snippet = generate(range(24)).to('cpu')\n"
        "torch.save({n: v for n, v in vars(snippet).items() if isinstance(v, torch.Tensor)}, sys.argv[1])\n"
    )
    for device in ("cpu", "cuda"):
        _run(program, str(tmp_path / device), device)
    cpu, gpu = torch.load(tmp_path / "cpu"), torch.load(tmp_path / "cuda")
    for name, value in cpu.items():
        away = ((value.float() - gpu[name].float()).abs() > 1e-3).float().mean()
        assert away < 1e-3, name

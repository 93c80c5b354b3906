import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from fixtures.tiny_run import RUN, TINY, losses, trainer
from vdpm.model import VDPM
from vdpm.structures import Snippet
from vdpm.training.acceleration import attention_kernels
from vdpm.training.config import Bucket
from vdpm.training.distributed import Ranks
from vdpm.training.trainer import Trainer


@pytest.mark.parametrize("kind", ["auto", "flash", "cudnn"])
def test_attention_is_the_same_whatever_kernels_are_preferred(kind: str) -> None:
    q, k, v = torch.randn(3, 1, 2, 5, 8, generator=torch.Generator().manual_seed(0)).unbind()
    plain = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    with attention_kernels("auto" if kind == "auto" else "flash" if kind == "flash" else "cudnn"):
        torch.testing.assert_close(torch.nn.functional.scaled_dot_product_attention(q, k, v), plain)


def test_model_flops_are_those_of_a_real_step(tmp_path: Path) -> None:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "train_step.py"
    spec = importlib.util.spec_from_file_location("train_step", path)
    assert spec is not None
    assert spec.loader is not None
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    bucket = Bucket(frames=2, height=16, width=24, batch=2)
    run = trainer(tmp_path, dataclasses.replace(RUN, buckets=(bucket,)))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        output = run._output(benchmark.random_snippet(bucket, run.ranks))
        values = [*output.time_variant, *output.decoded, output.pose_encodings, output.descriptors]
        torch.stack([value.sum() for value in values]).sum().backward()
    assert benchmark.model_flop(TINY, bucket, False) == pytest.approx(counter.get_total_flops(), rel=0.01)
    assert benchmark.model_flop(TINY, bucket, True) < benchmark.model_flop(TINY, bucket, False)


class _Constants(TorchDispatchMode):
    """Counts tensors made of Python's numbers: on a GPU each is a copy from the CPU, which cannot be recorded."""

    made = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.made += operation is torch.ops.aten.lift_fresh.default
        return operation(*args, **(kwargs or {}))


def test_a_step_copies_nothing_from_the_cpu(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    bucket, snippet = run.supply.batch(0, 0.0)
    with _Constants() as constants:
        torch.tensor([1.0])
        run._forward_backward(bucket, snippet)
    assert constants.made == 1


class _Unrecorded:
    """Stands in for a recorded step: the same passes, launched kernel by kernel."""

    graph = SimpleNamespace(pool=lambda: None)

    def __init__(self, compute: Callable[[Snippet], dict[str, Tensor]], *recording: Any) -> None:
        self.compute = compute

    def __call__(self, snippet: Snippet) -> dict[str, Tensor]:
        losses = self.compute(snippet)
        losses["loss"].backward()
        return losses


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_recorded_step_gives_the_losses_and_weights_of_the_same_passes_launched_singly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranks = Ranks(0, 1, torch.device("cuda"))
    weights = {}
    for kind in ("recorded", "single"):
        if kind == "single":
            monkeypatch.setattr("vdpm.training.trainer.RecordedStep", _Unrecorded)
        torch.manual_seed(3)
        run = Trainer(VDPM(TINY), dataclasses.replace(RUN, cuda_graphs=True, steps=6), tmp_path / kind, ranks)
        run.run()
        weights[kind] = run.update.weights()
    assert losses(tmp_path / "recorded") == losses(tmp_path / "single")
    for name, value in weights["single"].items():
        assert torch.equal(weights["recorded"][name], value), name


def test_networks_and_losses_are_compiled_without_padded_strides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def record(function: object, **options: object) -> object:
        asked.append(options)
        return function

    monkeypatch.setattr(torch, "compile", record)
    trainer(tmp_path, dataclasses.replace(RUN, compile=True))
    assert len(asked) > 3
    assert all(options == {"dynamic": False, "options": {"comprehensive_padding": False}} for options in asked)

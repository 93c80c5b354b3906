"""Agreement with the released network, run in float32 with weights drawn from their names."""

from pathlib import Path

import numpy as np
import pytest
import torch
from network_samples import PARITY

from vdpm.model import VDPM, preset_config

TOLERANCE = 3e-5


def test_sampled_values(parity_outputs: dict[str, np.ndarray], parity_values: dict) -> None:
    assert sum(len(expected["values"]) for expected in parity_values.values()) > 300
    for name, expected in parity_values.items():
        ours = parity_outputs[name]
        assert list(ours.shape) == expected["shape"], name
        difference = np.abs(ours.reshape(-1)[expected["indices"]] - np.array(expected["values"], dtype=np.float32))
        assert difference.max() < TOLERANCE, f"{name}: {difference.max()}"


@pytest.mark.shared
def test_every_value(parity_outputs: dict[str, np.ndarray], shared_dir: Path) -> None:
    reference = np.load(shared_dir / "parity" / "small_outputs.npz")
    for name in reference.files:
        difference = np.abs(parity_outputs[name] - reference[name]).max()
        assert difference < TOLERANCE, f"{name}: {difference}"


@pytest.mark.shared
@pytest.mark.parametrize(("listing", "preset"), [("full", "vdpm-1b"), ("small", None)])
def test_names_and_shapes_are_the_released_ones(listing: str, preset: str | None, shared_dir: Path) -> None:
    lines = (shared_dir / "parity" / f"{listing}_state_dict.txt").read_text().split("\n")
    released = dict(line.split() for line in lines if line.strip())
    with torch.device("meta"):
        model = VDPM(preset_config(preset) if preset else PARITY)
    ours = {name: "x".join(map(str, tensor.shape)) for name, tensor in model.state_dict().items()}
    assert ours == released


def test_full_size_has_the_released_number_of_parameters() -> None:
    with torch.device("meta"):
        model = VDPM(preset_config("vdpm-1b"))
    assert len(model.state_dict()) == 1478
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_661_508_918


def test_epsilons_too_small_to_show_in_the_outputs() -> None:
    with torch.device("meta"):
        model = VDPM(preset_config("vdpm-1b"))
    norms = {name: part.eps for name, part in model.named_modules() if isinstance(part, torch.nn.LayerNorm)}
    assert len(norms) > 250
    for name, eps in norms.items():
        small = name.startswith("aggregator.patch_embed.") or name == "camera_head.adaln_norm"
        assert eps == (1e-6 if small else 1e-5), name

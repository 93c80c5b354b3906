"""Fixtures of the network's tests."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from network_samples import PARITY, TINY_OURS, TINY_RELEASED, fill_by_rule

from vdpm.model import VDPM


@pytest.fixture(scope="session", params=[TINY_RELEASED, TINY_OURS], ids=lambda config: config.name)
def tiny(request: pytest.FixtureRequest) -> VDPM:
    """A tiny network of each kind; its weights by the rule, so that nothing is near zero."""
    return fill_by_rule(VDPM(request.param))


@pytest.fixture(scope="session")
def parity_outputs() -> dict[str, np.ndarray]:
    """What our small network makes of the input the released one was run on."""
    model = fill_by_rule(VDPM(PARITY))
    images = np.random.Generator(np.random.PCG64(7)).random(size=(2, 3, 3, 70, 98), dtype=np.float32)
    with torch.no_grad():
        tokens = model.encode(torch.from_numpy(images))
        outputs = dict(zip(("P_points", "P_confidence"), model.time_variant(tokens)))
        for target in (0, 2):
            outputs |= zip((f"Q{target}_points", f"Q{target}_confidence"), model.decode(tokens, target))
        outputs["pose_encodings"] = model.pose_encodings(tokens)
        outputs["world_to_camera"] = model.cameras(tokens).w2c[..., :3, :]
    return {name: value.numpy() for name, value in outputs.items()}


@pytest.fixture(scope="session")
def parity_values() -> dict[str, dict[str, list]]:
    return json.loads((Path(__file__).parent / "parity_values.json").read_text())

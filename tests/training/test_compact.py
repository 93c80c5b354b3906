import math
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fixtures.tiny_run import TINY
from vdpm.errors import UsageError
from vdpm.model import VDPM
from vdpm.model.convert import convert
from vdpm.synthetic import SceneConfig
from vdpm.training.compact import compact_integers

SCENES = SceneConfig(num_frames=2, height=16, width=24)


def test_a_folder_with_coarse_integers_loads_and_computes_nearly_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = VDPM(TINY).eval()
    model.save_pretrained(tmp_path / "trained")
    for name, step in (("plain", None), ("coarse", 0.5)):
        integers_of = None if step is None else partial(compact_integers, step=step, scenes=SCENES, clips=2)
        convert(tmp_path / "trained", tmp_path / name, dtype="int8", integers_of=integers_of)
    plain, coarse = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "coarse"))
    assert plain.keys() == coarse.keys()
    blocks = [name for name, value in coarse.items() if value.dtype == torch.int8 and "frame_blocks." in name]
    assert blocks
    for name in blocks:
        # Half a root mean square apart, few integers are beyond eight.
        assert (coarse[name].abs() > 8).float().mean() < 0.01
        assert int(plain[name].abs().max()) == 127
    again = VDPM.from_pretrained(tmp_path / "coarse")
    images = torch.rand(1, 2, 3, 16, 24, generator=torch.Generator().manual_seed(6))
    target = torch.zeros(1, 1, dtype=torch.long)
    with torch.no_grad():
        before, after = (network(images, target).time_variant.points for network in (model, again))
    assert float((after - before).norm(dim=-1).mean()) < 0.2 * float(before.norm(dim=-1).mean())


@pytest.mark.parametrize("step", [0.0, -1.0, 1.5, math.nan])
def test_what_is_no_step_is_refused(step: float) -> None:
    with pytest.raises(UsageError, match="step"):
        compact_integers(VDPM(TINY), step, SCENES, 1)

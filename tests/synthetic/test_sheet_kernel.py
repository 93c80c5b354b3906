import importlib.util
import os

import pytest
import torch

from vdpm.synthetic import SceneConfig
from vdpm.synthetic.intersect import _edges
from vdpm.synthetic.meshes import _SEAM, MISS, TRIANGLES, _highest, highest, sheet_cones
from vdpm.synthetic.scene import sample_scenes

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def sheets_seen_by_cameras() -> tuple[torch.Tensor, torch.Tensor]:
    """Functions of the triangles of some clips, and rays through 300 places of their pictures."""
    scene = sample_scenes(torch.arange(40, 46), SceneConfig(num_frames=2, height=8, width=8), 0)
    near = torch.ones_like(scene.parts.lamp.is_near)
    as_is = torch.eye(3).expand(len(near), 3, 3)
    functions = _edges(scene.parts, scene.c2w[:, :, :3, 3], as_is, near)
    local = torch.randn(300, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.6, 0.6, 0.0])
    local[:, 2] = 1
    return functions, (scene.c2w[:, :, :3, :3] @ local.T).movedim(2, 0).contiguous()


def test_cones_hold_every_ray_that_meets_a_sheet_and_not_all() -> None:
    functions, q = sheets_seen_by_cameras()
    cones = sheet_cones(functions)
    assert cones.shape == (*functions.shape[:2], functions.shape[3] // TRIANGLES, 4)
    height, index = _highest(functions, *q.unbind(0))
    along = torch.einsum("bfsk,kbfr->bfsr", cones[..., :3], q)
    within = along > cones[..., 3:] * q.norm(dim=0)[:, :, None]
    met = height > 0
    assert met.any()
    sheet = (index // TRIANGLES)[:, :, None]
    assert within.gather(2, sheet)[:, :, 0][met].all()
    assert within.float().mean() < 0.5
    found, which = highest(functions, q)
    assert torch.equal(found > 0, met)
    assert torch.equal(which[met], index[met])


@pytest.mark.gpu
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
@pytest.mark.skipif(DEVICE == "cpu" and not INTERPRETED, reason="needs a GPU, or TRITON_INTERPRET=1")
def test_the_kernel_finds_the_same_triangles() -> None:
    from vdpm.synthetic.sheet_kernel import highest_of_sheets

    functions, q = sheets_seen_by_cameras()
    height, index = highest(functions, q)
    here, which = highest_of_sheets(functions.to(DEVICE), sheet_cones(functions).to(DEVICE), q.to(DEVICE), MISS, _SEAM)
    # At height 0, infinitely far, is what is no triangle.
    torch.testing.assert_close(here.cpu().clamp_min(0), height.clamp_min(0), rtol=1e-4, atol=1e-4)
    met = height > 0
    assert met.any()
    assert (which.cpu() == index)[met].float().mean() > 0.99

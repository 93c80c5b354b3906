"""The page's first view, by the page's own script and without a browser."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fixtures.moving_sphere import make_moving_sphere
from vdpm.geometry.pinhole import pixel_grid
from vdpm.structures import Cameras, DynamicPointMaps, Reconstruction
from vdpm.viewer.page import write_page

FRAMES, SIZE = 12, (24, 42)


def panned(turns: list[float]) -> Reconstruction:
    """A camera in one place that turns to the right by so many degrees, before a wall that is 4 away everywhere."""
    height, width = SIZE
    intrinsics = torch.tensor([[30.0, 0, width / 2], [0, 30.0, height / 2], [0, 0, 1]])
    pixels = pixel_grid(height, width, torch.device("cpu"), torch.float32)
    rays = torch.cat([(pixels - torch.tensor([width / 2, height / 2])) / 30.0, torch.ones(height, width, 1)], -1)
    rays = 4 * rays / rays.norm(dim=-1, keepdim=True)
    c2w = torch.eye(4).repeat(len(turns), 1, 1)
    angles = torch.deg2rad(torch.tensor(turns))
    c2w[:, 0, 0], c2w[:, 0, 2] = angles.cos(), angles.sin()
    c2w[:, 2, 0], c2w[:, 2, 2] = -angles.sin(), angles.cos()
    own = torch.stack([rays @ one[:3, :3].T for one in c2w])
    sure = torch.full(own.shape[:3], 9.0)
    sources = tuple(range(len(turns)))
    maps = DynamicPointMaps.from_tensors(
        own, sure, own[None], sure[None], num_frames=len(turns), targets=(0,), sources=sources
    )
    sphere = make_moving_sphere(num_frames=len(turns), size=SIZE).reconstruction
    cameras = Cameras(c2w, intrinsics.repeat(len(turns), 1, 1), SIZE)
    return replace(sphere, cameras=cameras, maps=maps)


@pytest.mark.parametrize("window", [(1176, 740), (1656, 920), (390, 640), (700, 700)])
def test_what_one_frame_alone_sees_is_in_the_first_view(tmp_path: Path, window: tuple[int, int]) -> None:
    """A pan whose last frame sees what the others do not: a tenth of all points, and a third of the width."""
    node = shutil.which("node") or pytest.skip("node is not installed")
    write_page(panned([*(0.5 * frame for frame in range(FRAMES - 1)), 30.0]), tmp_path / "a.html", hide_percent=0.0)
    told = subprocess.run(
        [node, Path(__file__).with_name("first_view.js"), *map(str, window)],
        input=(tmp_path / "a.html").read_bytes(),
        stdout=subprocess.PIPE,
        check=True,
    )
    shares = torch.tensor(json.loads(told.stdout))
    assert shares.shape == (FRAMES, 4)
    assert shares.max() < 0.03

"""Camera paths: outside of things, inside of rooms, with the intrinsics that their zoom gives."""

from dataclasses import replace

import pytest
import torch

from vdpm.synthetic import SceneConfig, SceneGenerator, generate
from vdpm.synthetic.contact_sheet import depth_maps
from vdpm.synthetic.layout import SURROUNDINGS

KINDS = ("still_camera", "handheld", "dolly", "orbit", "pan", "follow", "walk", "truck", "crane", "drone", "dolly_zoom")
CONFIG = SceneConfig(num_frames=4, height=18, width=24, colour_samples=1, time_step=(0.1, 0.2))


def _only(kind: str, config: SceneConfig = CONFIG) -> SceneConfig:
    return replace(config, **{f"{name}_weight": float(name == kind) for name in KINDS})


@pytest.mark.parametrize("kind", KINDS)
def test_cameras_keep_out_of_things_and_inside_of_rooms(kind: str) -> None:
    config = _only(kind)
    generator = SceneGenerator(config)
    scene = generator.sample(torch.arange(12))
    parts = scene.parts
    centre = scene.c2w[..., :3, 3]
    own = ((centre - parts.position[:, :, SURROUNDINGS])[..., None] * parts.turn[:, :, SURROUNDINGS]).sum(-2)
    assert (own[..., :2].abs() < parts.half[:, None]).all()
    assert (own[..., 2] > parts.floor[:, None]).all()
    assert (own[..., 2] < parts.ceiling[:, None]).all()
    # World -> the unit shape of each solid: within the unit box would be inside, or nearly.
    local = (parts.unit * (centre[:, :, None] - parts.position[:, :, : parts.unit.shape[2]])[..., None, :]).sum(-1)
    inside = (local.abs() < 1).all(-1) & parts.active[:, None, : parts.unit.shape[2]]
    assert not inside.any()


@pytest.mark.parametrize("kind", ["dolly", "dolly_zoom"])
def test_intrinsics_follow_the_zoom(kind: str) -> None:
    config = replace(_only(kind), zoom_share=1.0)
    snippet = generate(range(6), config)
    focal = snippet.intrinsics[:, :, 0, 0]
    assert ((focal[:, -1] / focal[:, 0] - 1).abs() > 0.01).float().mean() > 0.6
    assert torch.equal(focal, snippet.intrinsics[:, :, 1, 1])
    ys, xs = torch.meshgrid(torch.arange(18) + 0.5, torch.arange(24) + 0.5, indexing="ij")
    for frame in range(config.num_frames):
        c2w = snippet.c2w[:, frame].double()
        camera = (snippet.points[:, frame].double().flatten(1, 2) - c2w[:, None, :3, 3]) @ c2w[:, :3, :3]
        image = camera @ snippet.intrinsics[:, frame].double().transpose(-1, -2)
        pixels = image[..., :2] / image[..., 2:]
        expected = torch.stack([xs, ys], -1).flatten(0, 1).double()
        assert ((pixels - expected).abs().amax(-1)[snippet.valid[:, frame].flatten(1)] < 2e-3).all()


def test_a_dolly_zoom_keeps_its_subject_as_large() -> None:
    """The nearer the camera, the shorter its focal length: their ratio at what is looked at stays within the limits."""
    scene = SceneGenerator(replace(_only("dolly_zoom"), zoom_share=0.0)).sample(torch.arange(40))
    travel = scene.c2w[:, -1, :3, 3] - scene.c2w[:, 0, :3, 3]
    ahead = (travel * scene.c2w[:, 0, :3, 2]).sum(-1)
    longer = scene.focal[:, -1] > scene.focal[:, 0]
    moved = ahead.abs() > 0.02
    assert moved.sum() > 10
    assert ((ahead < 0) == longer)[moved].float().mean() > 0.9


def test_kinds_move_as_they_are_called() -> None:
    def paths(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
        config = replace(_only(kind), baseline=(0.5, 0.5))
        scene = SceneGenerator(config).sample(torch.arange(60))
        travel = scene.c2w[:, -1, :3, 3] - scene.c2w[:, 0, :3, 3]
        up = (travel * scene.light.up).sum(-1).abs()
        aside = travel[:, 0].abs()
        return torch.stack([aside, up, travel[:, 2].abs()], -1).median(0).values, travel.norm(dim=-1)

    truck, _ = paths("truck")
    assert truck[0] > 2 * truck[2]
    crane, _ = paths("crane")
    assert crane[1] > crane[0]
    walk, _ = paths("walk")
    assert walk[2] > walk[0]
    _, still = paths("still_camera")
    assert still.max() < 1e-6


def test_something_near_is_in_view() -> None:
    snippet = generate(range(100, 124), CONFIG)
    depth = depth_maps(snippet)
    things = (snippet.instances > 0) & snippet.valid
    assert things.flatten(1).any(1).float().mean() > 0.9
    assert (depth[snippet.valid] > 1e-3).all()

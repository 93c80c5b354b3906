"""Identities of the network: order of frames, several targets at once, subsets, sizes, precisions."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from network_samples import TINY_OURS, TINY_RELEASED, fill_by_rule
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.model import VDPM, VDPMConfig, preset_config
from vdpm.model.layers import apply_rotary, rotary_table
from vdpm.model.pose_encoding import cameras_from_encoding, encoding_from_cameras


def clip(model: VDPM, frames: int = 4, batch: int = 2, rows: int = 2, columns: int = 3) -> Tensor:
    patch = model.config.patch_size
    shape = (batch, frames, 3, rows * patch, columns * patch)
    return torch.rand(shape, generator=torch.Generator().manual_seed(frames))


def assert_close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-5)


@torch.no_grad()
def test_frames_may_come_in_any_order(tiny: VDPM) -> None:
    images, order = clip(tiny), [2, 0, 3, 1]
    tokens, moved = tiny.encode(images, reference=0), tiny.encode(images[:, order], reference=order.index(0))
    assert_close(tiny.time_variant(tokens).points[:, order], tiny.time_variant(moved).points)
    assert_close(tiny.decode(tokens, 3).points[:, order], tiny.decode(moved, order.index(3)).points)
    assert_close(tiny.pose_encodings(tokens)[:, :, order], tiny.pose_encodings(moved))


@torch.no_grad()
def test_the_reference_matters(tiny: VDPM) -> None:
    images = clip(tiny)
    first, second = (tiny.time_variant(tiny.encode(images, reference=frame)).points for frame in (0, 1))
    assert (first - second).abs().max() > 1e-3


@torch.no_grad()
def test_several_targets_equal_one_at_a_time(tiny: VDPM) -> None:
    tokens = tiny.encode(clip(tiny))
    together = tiny.decode(tokens, torch.tensor([3, 0, 1]))
    assert together.points.shape == (2, 3, 4, *tokens.size, 3)
    for row, target in enumerate((3, 0, 1)):
        alone = tiny.decode(tokens, target)
        assert alone.points.shape == (2, 4, *tokens.size, 3)
        assert_close(together.points[:, row], alone.points)
        assert_close(together.confidence[:, row], alone.confidence)
    assert (together.points[:, 0] - together.points[:, 1]).abs().max() > 1e-4


@torch.no_grad()
def test_each_clip_may_have_its_own_targets(tiny: VDPM) -> None:
    tokens = tiny.encode(clip(tiny))
    maps = tiny.decode(tokens, torch.tensor([[0, 2], [3, 1]]))
    assert_close(maps.points[0, 1], tiny.decode(tokens, 2).points[0])
    assert_close(maps.points[1, 0], tiny.decode(tokens, 3).points[1])


@torch.no_grad()
def test_sources_are_a_slice_of_all(tiny: VDPM) -> None:
    tokens = tiny.encode(clip(tiny))
    assert_close(tiny.decode(tokens, 1, sources=[3, 1]).points, tiny.decode(tokens, 1).points[:, [3, 1]])
    assert_close(tiny.time_variant(tokens, sources=(2,)).confidence, tiny.time_variant(tokens).confidence[:, [2]])


def test_forward_gives_what_the_parts_give_with_gradients(tiny: VDPM) -> None:
    images, targets = clip(tiny), torch.tensor([[0, 2], [3, 1]])
    output = tiny(images, targets)
    with torch.no_grad():
        tokens = tiny.encode(images)
        assert_close(output.time_variant.points, tiny.time_variant(tokens).points)
        assert_close(output.decoded.confidence, tiny.decode(tokens, targets).confidence)
        assert_close(output.pose_encodings, tiny.pose_encodings(tokens))
    loss = output.time_variant.points.mean() + output.decoded.points.mean() + output.pose_encodings.mean()
    if output.descriptors is not None:
        loss = loss + output.descriptors[..., 0].mean()
    tiny.zero_grad()
    loss.backward()
    without = {name for name, p in tiny.named_parameters() if p.requires_grad and p.grad is None}
    assert without == set()
    tiny.zero_grad()


def test_checkpointing_changes_no_gradient(tiny: VDPM) -> None:
    gradients = []
    for checkpointed in (False, True):
        tiny.checkpoint_blocks = checkpointed
        tiny.zero_grad()
        tiny(clip(tiny, frames=2, batch=1), torch.tensor([[1]])).decoded.points.mean().backward()
        gradient = tiny.get_parameter("aggregator.frame_blocks.0.attn.qkv.weight").grad
        assert gradient is not None
        gradients.append(gradient.clone())
    tiny.checkpoint_blocks = False
    tiny.zero_grad()
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-7)


@torch.no_grad()
def test_long_clips_are_made_in_chunks(tiny: VDPM) -> None:
    tokens = tiny.encode(clip(tiny, frames=11, batch=1))
    with torch.enable_grad():
        whole = tiny.time_variant(tokens).points
    assert_close(tiny.time_variant(tokens).points, whole)


@torch.no_grad()
def test_one_frame_is_enough(tiny: VDPM) -> None:
    tokens = tiny.encode(clip(tiny, frames=1, batch=1))
    assert tiny.decode(tokens, 0).points.isfinite().all()
    assert tiny.cameras(tokens).c2w.shape == (1, 1, 4, 4)


@torch.no_grad()
@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_stays_near_float32(tiny: VDPM, autocast: bool) -> None:
    images = clip(tiny)
    exact = tiny.decode(tiny.encode(images), 1)
    model = VDPM(tiny.config)
    model.load_state_dict(tiny.state_dict())
    if not autocast:
        model.bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        tokens = model.encode(images)
        rough, poses = model.decode(tokens, 1), model.pose_encodings(tokens)
    assert rough.points.dtype == rough.confidence.dtype == poses.dtype == torch.float32
    spread = exact.points.std()
    assert (rough.points - exact.points).abs().mean() < 0.1 * spread


@torch.no_grad()
def test_only_tapped_pairs_are_kept(tiny: VDPM) -> None:
    tokens = tiny.encode(clip(tiny))
    released = tiny.config.head == "dpt"
    assert len(tokens.taps) == (len(tiny.config.taps) if released else 1)
    assert tokens.taps[0].shape == (2, 4, tiny.config.special_tokens + 6, tiny.config.decoder_dim)


def test_descriptors_have_unit_length() -> None:
    model = fill_by_rule(VDPM(TINY_OURS))
    descriptors = model.match_descriptors(model.encode(clip(model)))
    assert descriptors.shape == (2, 4, 2, 3, TINY_OURS.match_dim)
    assert_close(descriptors.norm(dim=-1), torch.ones(2, 4, 2, 3))
    released = VDPM(TINY_RELEASED)
    with pytest.raises(UsageError, match="no descriptors"):
        released.match_descriptors(released.encode(clip(released, frames=1)))


@pytest.mark.parametrize(
    ("size", "reference", "message"),
    [((30, 48), 0, "multiples of"), ((0, 48), 0, "multiples of"), (None, 4, "reference frame 4"), (None, -1, "-1")],
)
def test_unfit_images_are_refused(tiny: VDPM, size: tuple[int, int] | None, reference: int, message: str) -> None:
    images = clip(tiny) if size is None else torch.rand(1, 2, 3, *size)
    with pytest.raises(UsageError, match=message):
        tiny.encode(images, reference)


@torch.no_grad()
def test_unknown_times_and_sources_are_refused(tiny: VDPM) -> None:
    tokens = tiny.encode(clip(tiny, batch=1))
    for target in (4, -1, torch.tensor([0, 4])):
        with pytest.raises(UsageError, match="target time"):
            tiny.decode(tokens, target)
    for sources in ([], [4]):
        with pytest.raises(UsageError, match="sources"):
            tiny.decode(tokens, 0, sources=sources)


def test_rotary_embedding_depends_on_differences_of_position() -> None:
    table = rotary_table((5, 6), 2, 8, 100.0, torch.device("cpu"))
    assert torch.equal(table.cos[:2], torch.ones(2, 2, 1, 2))
    q, k = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    turned_q = apply_rotary(q.expand(1, 1, 32, 8), table)[0, 0, 2:].reshape(5, 6, 8)
    turned_k = apply_rotary(k.expand(1, 1, 32, 8), table)[0, 0, 2:].reshape(5, 6, 8)
    here, there = turned_q[0, 1] @ turned_k[2, 4], turned_q[2, 2] @ turned_k[4, 5]
    torch.testing.assert_close(here, there)
    assert (here - turned_q[0, 1] @ turned_k[1, 4]).abs() > 1e-4


def test_cameras_and_their_encoding_are_inverse() -> None:
    encoding = torch.rand(2, 5, 9, generator=torch.Generator().manual_seed(0)) + 0.2
    cameras = cameras_from_encoding(encoding, (48, 64))
    again = encoding_from_cameras(cameras.c2w, cameras.intrinsics, (48, 64))
    unit = encoding[..., 3:7] / encoding[..., 3:7].norm(dim=-1, keepdim=True)
    torch.testing.assert_close(again, torch.cat([encoding[..., :3], unit, encoding[..., 7:]], dim=-1))
    blind = cameras_from_encoding(torch.cat([encoding[..., :7], torch.zeros(2, 5, 2)], dim=-1), (48, 64))
    assert blind.intrinsics.isfinite().all()


COMPILED = """
import torch
from network_samples import TINY_OURS, fill_by_rule
from vdpm.model import VDPM
model = fill_by_rule(VDPM(TINY_OURS))
names = list(model.state_dict())
images, targets = torch.rand(1, 2, 3, 16, 24), torch.tensor([[1]])
plain = model(images, targets)
compiled = model.compile_blocks(backend="eager", fullgraph=True)(images, targets)
torch.testing.assert_close(plain.decoded.points, compiled.decoded.points, rtol=1e-4, atol=2e-5)
assert list(model.state_dict()) == names
assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 5
"""


def test_compiled_regions_hold_no_graph_break_and_change_nothing() -> None:
    # In a process of its own: the shape checks that wrap every function here would break the graphs.
    run = subprocess.run([sys.executable, "-c", COMPILED], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]


def test_small_preset_has_about_20_million_parameters() -> None:
    with torch.device("meta"):
        model = VDPM(preset_config("vdpm-small"))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"vdpm-small: {parameters:,} parameters")
    assert 18e6 < parameters < 20.5e6


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"heads": 3}, "heads"),
        ({"dim": 0}, "dim"),
        ({"dim": "64"}, "dim"),
        ({"pairs": 10**9}, "pairs"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio"),
        ({"taps": (0, 1, 3, 2)}, "taps"),
        ({"taps": (0, 1, 2, 4)}, "taps"),
        ({"taps": (1, 2, 3)}, "head"),
        ({"decoder_dim": 32}, "decoder_dim"),
        ({"head": "conv"}, "head"),
        ({"head": "mlp"}, "head"),
        ({"patch_encoder": "conv"}, "patch_size"),
        ({"vit_image_size": 40}, "vit_image_size"),
        ({"match_dim": 8, "match_pair": 9}, "match_pair"),
        ({"layer_scale_init": -1.0}, "layer_scale_init"),
        ({"no_such_field": 1}, "no_such_field"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict, field: str) -> None:
    with pytest.raises(UsageError, match=field):
        VDPMConfig.from_dict(TINY_RELEASED.to_dict() | change)


@pytest.mark.parametrize("config", [TINY_RELEASED, TINY_OURS, preset_config("vdpm-1b"), preset_config("vdpm-small")])
def test_configuration_survives_json(config: VDPMConfig) -> None:
    assert VDPMConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize("text", ["", "[]", "{", '{"taps": 3}', "null"])
def test_other_json_is_no_configuration(text: str) -> None:
    with pytest.raises(UsageError, match="configuration"):
        VDPMConfig.from_json(text)


def test_unknown_preset_is_refused() -> None:
    with pytest.raises(UsageError, match="vdpm-small"):
        preset_config("vdpm-huge")

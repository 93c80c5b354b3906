"""The whole loss of a batch: sparse and dense truth, order of frames, averages, compiled."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from fixtures.tiny_run import RUN, TINY, trainer
from vdpm.model import VDPM
from vdpm.structures import Snippet
from vdpm.training.batch import reference_first, to_unit_scale
from vdpm.training.config import LossConfig
from vdpm.training.objective import objective
from vdpm.training.supply import SceneSupply


def snippet_of(frames: int = 3, reference: int = 0, batch: int = 2) -> Snippet:
    bucket = dataclasses.replace(RUN.buckets[0], frames=frames, batch=batch)
    supply = SceneSupply(dataclasses.replace(RUN, buckets=(bucket,)), trainer(Path("unused")).ranks)
    scene = supply.generators[bucket].sample(torch.arange(batch) + 3, reference)
    targets = torch.tensor([[frames - 1, 0]]).expand(batch, -1)
    return to_unit_scale(supply.generators[bucket].snippet(scene, targets, reference))


def network() -> VDPM:
    torch.manual_seed(0)
    return VDPM(TINY)


def gradients(model: VDPM, snippet: Snippet, weights: LossConfig) -> dict[str, Tensor]:
    model.zero_grad()
    output = model(snippet.images, snippet.targets, reference=snippet.reference)
    objective(output, snippet, weights, TINY.patch_size)["loss"].backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("reference", [1, 2])
def test_moving_the_reference_to_the_front_changes_neither_output_nor_loss(reference: int) -> None:
    """The released network takes frame 0 for the reference: frames are reordered for it and put back."""
    model, snippet = network(), snippet_of(reference=reference)
    moved = reference_first(snippet)
    order = [reference, *(frame for frame in range(3) if frame != reference)]
    assert moved.reference == 0
    for name, value in vars(snippet).items():
        if isinstance(value, Tensor) and name != "targets":
            axis = value.ndim - {"images": 4, "c2w": 3, "intrinsics": 3, "timestamps": 1}.get(name, 3)
            axis -= 1 if name.endswith("points") else 0
            assert torch.equal(getattr(moved, name), value.index_select(axis, torch.tensor(order))), name
    assert torch.equal(moved.images, snippet.images[:, order])
    assert torch.equal(moved.target_points, snippet.target_points[:, :, order])
    assert [order[t] for t in moved.targets[0]] == snippet.targets[0].tolist()
    theirs = model(moved.images, moved.targets)
    ours = model(snippet.images, snippet.targets, reference=reference)
    back = [order.index(frame) for frame in range(3)]
    torch.testing.assert_close(theirs.time_variant.points[:, back], ours.time_variant.points, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(theirs.decoded.points[:, :, back], ours.decoded.points, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(theirs.pose_encodings[:, :, back], ours.pose_encodings, atol=1e-5, rtol=1e-4)
    losses = [objective(o, s, LossConfig(motion=1.0), TINY.patch_size) for o, s in ((ours, snippet), (theirs, moved))]
    for name, value in losses[0].items():
        torch.testing.assert_close(losses[1][name], value, atol=1e-5, rtol=1e-4, msg=name)


def test_truth_may_be_sparse_and_anything_where_there_is_none() -> None:
    snippet = snippet_of()
    sparse = torch.rand(snippet.target_points.shape[:-1], generator=torch.Generator().manual_seed(0)) < 0.1
    valid = snippet.valid & (torch.rand(snippet.valid.shape, generator=torch.Generator().manual_seed(1)) < 0.2)
    given = dataclasses.replace(snippet, target_valid=sparse & valid[:, None], valid=valid)
    nothing = torch.tensor(float("nan"))
    holes = dataclasses.replace(
        given,
        points=torch.where(valid[..., None], given.points, nothing),
        target_points=torch.where(given.target_valid[..., None], given.target_points, nothing),
    )
    model, weights = network(), LossConfig(motion=1.0)
    expected, found = (gradients(model, to_unit_scale(s), weights) for s in (given, holes))
    for name, value in expected.items():
        assert torch.isfinite(value).all(), name
        torch.testing.assert_close(found[name], value, msg=name)
    everywhere = gradients(model, to_unit_scale(snippet), weights)
    assert any(not torch.allclose(value, everywhere[name]) for name, value in expected.items())


@pytest.mark.parametrize(("average", "lowest", "highest"), [("example", 0.3, 3.0), ("batch", 0.0, 0.05)])
def test_dense_static_examples_drown_sparse_dynamic_ones_only_in_batch_averages(
    average: str, lowest: float, highest: float
) -> None:
    """Supplement, Sec. 6: how strongly a clip of sparse tracks pulls at its predictions beside a dense static clip."""
    snippet = snippet_of()
    tracks = torch.zeros_like(snippet.valid[1])
    tracks[:, 2::8, 3::8] = True
    valid = snippet.valid.clone()
    valid[1] &= tracks
    snippet = dataclasses.replace(snippet, valid=valid, target_valid=snippet.target_valid & valid[:, None])
    assert 5 < int(valid[1].sum()) < 0.03 * int(valid[0].sum())
    weights = LossConfig(average="example" if average == "example" else "batch", moving=0.0, camera=0.0, matching=0.0)
    output = network()(snippet.images, snippet.targets)
    for value in (*output.time_variant, *output.decoded):
        value.retain_grad()
    objective(output, snippet, weights, TINY.patch_size)["loss"].backward()
    gradient = output.decoded.points.grad
    assert gradient is not None
    pull = gradient.norm(dim=-1).flatten(1).sum(1)
    assert lowest < (pull[1] / pull[0]).item() < highest


def test_the_central_frame_can_be_the_reference() -> None:
    bucket = dataclasses.replace(RUN.buckets[0], frames=5)
    for policy, expected in (("central", {2}), ("first", {0}), ("any", {0, 1, 2, 3, 4})):
        config = dataclasses.replace(RUN, reference=policy, buckets=(bucket,))
        supply = SceneSupply(config, trainer(Path("unused")).ranks)
        assert {supply.plan(step, bucket).reference for step in range(60)} == expected


COMPILED = """
import sys
sys.path[:0] = ["tests"]
import torch
from training.test_objective import LossConfig, TINY, network, objective, snippet_of
model, snippet = network(), snippet_of()
output = model(snippet.images, snippet.targets)
plain = objective(output, snippet, LossConfig(motion=1.0), TINY.patch_size)
compiled = torch.compile(objective, fullgraph=True, backend="eager", dynamic=False)
for name, value in compiled(output, snippet, LossConfig(motion=1.0), TINY.patch_size).items():
    torch.testing.assert_close(value, plain[name], msg=name)
print("as written")
"""


def test_the_loss_compiles_as_one_graph() -> None:
    """In a process of its own: the checks of annotations that tests add cannot be compiled."""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", COMPILED], cwd=root, capture_output=True, text=True)
    assert done.stdout == "as written\n", done.stderr

"""Normal equations against derivatives taken by machine, and in parts against all at once."""

from dataclasses import replace

import pytest
import torch

import vdpm.long_video.system as module
from vdpm.geometry.alignment import Similarity
from vdpm.geometry.rigid import rigid, rotation_vector_to_matrix
from vdpm.long_video.observations import Observations, observe
from vdpm.long_video.state import AdjustmentConfig, State, moved
from vdpm.long_video.system import System
from vdpm.long_video.trial import disturbed_windows, walk_through_room
from vdpm.long_video.windows import WindowConfig, plan_windows

FRAMES, SIZE = 20, (9, 16)


def shaken() -> tuple[Observations, State]:
    """Windows about where they belong."""
    walk = walk_through_room(FRAMES, SIZE, laps=0.2)
    windows = plan_windows(FRAMES, WindowConfig(length=8, overlap=4, strided=False))
    generator = torch.Generator().manual_seed(0)
    maps, truths, _ = disturbed_windows(walk, windows, generator, noise=0.03)
    places = Similarity(*(torch.stack(parts) for parts in zip(*truths)))
    step = 0.05 * torch.randn(len(windows), 7, generator=generator, dtype=torch.float64)
    focal = 0.1 * torch.ones(FRAMES, dtype=torch.float64)
    state = State(moved(places, step), walk.cameras.c2w, focal, walk.cameras.intrinsics)
    return observe(maps, torch.ones(SIZE, dtype=torch.bool), FRAMES, 40), state


@pytest.mark.parametrize("focal", ["shared", "per-frame", "fixed"])
def test_the_right_hand_side_is_half_the_gradient_of_the_cost(focal: str) -> None:
    seen, state = shaken()
    fixed = torch.zeros(FRAMES, dtype=torch.bool)
    fixed[3] = True
    system = System(seen, AdjustmentConfig(focal=focal), fixed)
    found = system.residuals(state)
    weights = system.weights(found)
    normal = system.normal_equations(state, found, weights)

    windows = torch.zeros(seen.num_windows, 7, dtype=torch.float64, requires_grad=True)
    frames = torch.zeros(FRAMES, 6, dtype=torch.float64, requires_grad=True)
    lens = torch.zeros(FRAMES, dtype=torch.float64, requires_grad=True)
    there = replace(
        state,
        windows=moved(state.windows, windows),
        c2w=state.c2w @ rigid(rotation_vector_to_matrix(frames[:, 3:]), frames[:, :3]),
        log_focal=state.log_focal + lens,
    )
    system.squares(system.residuals(there), weights).backward()
    assert windows.grad is not None
    assert frames.grad is not None
    assert lens.grad is not None
    frames.grad[fixed] = 0
    torch.testing.assert_close(2 * normal.w, windows.grad, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(2 * normal.f[:, :6], frames.grad, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(2 * normal.g, lens.grad.sum(), rtol=1e-6, atol=1e-6)
    if focal == "per-frame":
        torch.testing.assert_close(2 * normal.f[:, 6], lens.grad, rtol=1e-6, atol=1e-6)


def test_parts_give_what_all_at_once_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    seen, state = shaken()
    steps = []
    for most in (1, 9, 10**6):
        monkeypatch.setattr(module, "PART", most)
        system = System(seen, AdjustmentConfig(), torch.zeros(FRAMES, dtype=torch.bool))
        assert max(len(part.entries) for part in system.parts) <= max(most, 4)
        assert sorted(torch.cat([part.entries for part in system.parts]).tolist()) == list(range(len(seen.frame)))
        found = system.residuals(state)
        steps.append(system.step(state, system.normal_equations(state, found, system.weights(found)), 1e-3))
    for step in steps[1:]:
        torch.testing.assert_close(step.c2w, steps[0].c2w, rtol=0, atol=1e-9)
        torch.testing.assert_close(step.windows.scale, steps[0].windows.scale, rtol=1e-9, atol=0)
        torch.testing.assert_close(step.log_focal, steps[0].log_focal, rtol=0, atol=1e-9)

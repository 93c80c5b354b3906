"""Positions that follow what camera heads say of neighbouring frames."""

import pytest
import torch
from torch import Tensor

from vdpm.geometry.alignment import Similarity
from vdpm.long_video.observations import Observations, observe
from vdpm.long_video.steps import follow_steps
from vdpm.long_video.trial import disturbed_windows, walk_through_room
from vdpm.long_video.windows import WindowConfig, plan_windows

FRAMES, SIZE = 40, (18, 32)


def clip(camera_noise: float) -> tuple[Observations, Similarity, Tensor]:
    """Windows put where they truly belong, and the true cameras."""
    walk = walk_through_room(FRAMES, SIZE, laps=0.3)
    windows = plan_windows(FRAMES, WindowConfig(length=10, overlap=5, strided=False))
    generator = torch.Generator().manual_seed(0)
    maps, truths, _ = disturbed_windows(walk, windows, generator, noise=0.0, camera_noise=camera_noise)
    seen = observe(maps, torch.ones(SIZE, dtype=torch.bool), FRAMES)
    return seen, Similarity(*(torch.stack(parts) for parts in zip(*truths))), walk.cameras.c2w


def shaken(c2w: Tensor) -> Tensor:
    off = torch.zeros_like(c2w)
    off[:, :3, 3] = 0.03 * torch.randn(FRAMES, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return c2w + off


def error(c2w: Tensor, true: Tensor) -> float:
    return float((c2w - true)[:, :3, 3].square().sum(-1).mean().sqrt())


def test_steps_that_windows_agree_on_lead() -> None:
    seen, windows, true = clip(camera_noise=0.0)
    one, free = torch.ones(len(seen.frame), dtype=torch.float64), torch.zeros(FRAMES, dtype=torch.bool)
    followed = follow_steps(seen, windows, shaken(true), one, free)
    assert error(followed, true) < 0.35 * error(shaken(true), true)
    assert torch.equal(followed[:, :3, :3], true[:, :3, :3])
    torch.testing.assert_close(follow_steps(seen, windows, true, one, free), true, atol=1e-6, rtol=0)


def test_known_poses_stay_and_steps_that_are_not_believed_do_nothing() -> None:
    seen, windows, true = clip(camera_noise=0.0)
    fixed = torch.zeros(FRAMES, dtype=torch.bool)
    fixed[[0, 17]] = True
    start = torch.where(fixed[:, None, None], true, shaken(true))
    one = torch.ones(len(seen.frame), dtype=torch.float64)
    followed = follow_steps(seen, windows, start, one, fixed)
    assert torch.equal(followed[fixed], true[fixed])
    assert error(followed, true) < 0.35 * error(start, true)
    torch.testing.assert_close(follow_steps(seen, windows, start, 0 * one, fixed), start)


@pytest.mark.parametrize("frames", [range(10), range(FRAMES)])
def test_nothing_moves_where_windows_differ_about_steps_or_none_tells_one_twice(frames: range) -> None:
    seen, windows, true = clip(camera_noise=0.02 if len(frames) == FRAMES else 0.0)
    some = seen if len(frames) == FRAMES else seen.entries([0])
    one = torch.ones(len(some.frame), dtype=torch.float64)
    start = true if len(frames) == FRAMES else shaken(true)
    assert torch.equal(follow_steps(some, windows, start, one, torch.zeros(FRAMES, dtype=torch.bool)), start)

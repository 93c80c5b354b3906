"""Clips whose frames lie several steps of their scene apart."""

import pytest
import torch

from vdpm.errors import UsageError
from vdpm.synthetic import SceneConfig, generate, held_out_seeds


def test_a_stride_leaves_out_frames_of_the_longer_clip() -> None:
    seeds = held_out_seeds(6, start=40)
    long = SceneConfig(num_frames=9, height=8, width=8, uneven_share=0.0, colour_samples=1)
    few = SceneConfig(num_frames=5, height=8, width=8, uneven_share=0.0, colour_samples=1, frame_stride=(2, 2))
    whole, some = generate(seeds, long), generate(seeds, few)
    torch.testing.assert_close(some.timestamps, whole.timestamps[:, ::2])
    torch.testing.assert_close(some.c2w, whole.c2w[:, ::2], rtol=1e-4, atol=1e-4)
    same = (some.points - whole.points[:, ::2]).norm(dim=-1) < 1e-3
    assert same.float().mean() > 0.9  # things in the camera's way are taken out of a clip, so not all


def test_each_clip_draws_one_stride_of_the_range_and_keeps_it() -> None:
    config = SceneConfig(num_frames=4, height=8, width=8, uneven_share=0.0, time_step=(0.1, 0.1), frame_stride=(1, 3))
    steps = generate(held_out_seeds(24), config).timestamps.diff() / 0.1
    torch.testing.assert_close(steps, steps[:, :1].expand(-1, 3))
    assert set(steps[:, 0].round().int().tolist()) == {1, 2, 3}


def test_no_stride_is_refused() -> None:
    with pytest.raises(UsageError, match="frame_stride"):
        SceneConfig(frame_stride=(0, 2))

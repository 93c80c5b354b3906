"""Places seen again, told by the cameras found."""

import pytest
import torch

from vdpm.long_video.alignment import Alignment, align
from vdpm.long_video.observations import Observations, observe
from vdpm.long_video.overlap import find_overlaps, overlaps
from vdpm.long_video.trial import disturbed_windows, walk_through_room
from vdpm.long_video.windows import WindowConfig, plan_windows

FRAMES, SIZE = 80, (18, 32)


def aligned(laps: float) -> tuple[Observations, Alignment]:
    walk = walk_through_room(FRAMES, SIZE, laps=laps)
    windows = plan_windows(FRAMES, WindowConfig(length=10, overlap=5, strided=False))
    maps, _, _ = disturbed_windows(walk, windows, torch.Generator().manual_seed(0), noise=0.01)
    seen = observe(maps, torch.ones(SIZE, dtype=torch.bool), FRAMES)
    return seen, align(seen)


def test_a_lap_and_a_quarter_sees_the_first_quarter_again() -> None:
    seen, found = aligned(1.25)
    pairs = find_overlaps(seen, found, gap=20)
    assert pairs
    for a, b in pairs:
        assert abs((b - a) - 64) <= 12, "one lap is 64 frames"
    assert len(find_overlaps(seen, found, gap=20, most=1)) == 1


def test_half_a_lap_sees_nothing_again() -> None:
    seen, found = aligned(0.5)
    assert find_overlaps(seen, found, gap=30) == []


def test_shares_are_of_both_and_whole_for_a_frame_itself() -> None:
    seen, found = aligned(0.5)
    share = overlaps(seen, found)
    assert torch.equal(share, share.T)
    assert float(share.diagonal().mean()) > 0.9
    assert float(share[0, 1]) > 0.7
    assert float(share[0, 70]) == pytest.approx(0.0, abs=0.05)

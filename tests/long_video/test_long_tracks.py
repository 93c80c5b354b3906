"""The benchmark of long clips tells tracks in sight from those out of it, and what moves from what stands still."""

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from vdpm.geometry.pinhole import intrinsics_from_focal, unproject

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "long_tracks.py"
SIZE = (24, 32)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    return runpy.run_path(str(SCRIPT), run_name="long_tracks")


def test_sight_ends_at_the_picture_and_behind_things(names: dict[str, Any]) -> None:
    """A wall at depth 4, a board at 2 before its left half, and a hole at the bottom; a camera moved by 1."""
    depth = torch.full(SIZE, 4.0)
    depth[:, :16] = 2.0
    valid = torch.ones(SIZE, dtype=torch.bool)
    valid[20:] = False
    c2w = torch.eye(4)
    c2w[0, 3] = 1.0
    focal = torch.tensor(30.0)
    surface = unproject(depth, intrinsics_from_focal(focal, focal, SIZE)) + c2w[:3, 3]
    local = torch.tensor(
        [
            [-0.8, 0.0, 4.0],  # behind the board
            [-0.4, 0.0, 2.0],  # on it
            [0.8, 0.0, 4.0],  # on the wall
            [0.8, 0.0, 4.05],  # about there
            [0.8, 0.0, 4.4],  # behind it
            [0.8, 1.3, 4.4],  # behind the hole
            [2.4, 0.0, 4.0],  # beside the picture
            [-0.8, 0.0, -4.0],  # behind the camera
        ]
    )
    seen = names["in_sight"](local + c2w[:3, 3], c2w, surface, valid)
    assert seen.tolist() == [False, True, True, True, False, True, False, False]


def test_errors_by_hand(names: dict[str, Any]) -> None:
    """Two pixels at distance 2 from the camera, one of which goes 2 and 4 aside, out of sight at the end."""
    first = torch.tensor([[0.0, 0.0, 2.0], [0.0, 2.0, 0.0]])
    moved = torch.tensor([[[2.0, 0.0, 0.0]], [[4.0, 0.0, 0.0]]]) * torch.tensor([[1.0], [0.0]])
    sight = torch.tensor([[True, True], [False, False]])
    truth = names["Tracked"]([5, 9], first, first + moved, sight)
    # In half the unit, the mover is found to stand still at the end, the other 0.1 of its distance away.
    found = {5: (first + moved[0]) / 2, 9: first / 2 + torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 0.1]])}
    errors = names["track_errors"](truth, first / 2, found.__getitem__)
    assert errors.epe == pytest.approx((0 + 2 + 0 + 0.1) / 4)
    assert errors.moving == pytest.approx(1)
    assert errors.still == pytest.approx(0.05)
    assert (errors.in_sight, errors.in_sight_moving, errors.in_sight_still) == pytest.approx((0, 0, 0), abs=1e-6)
    assert (errors.share_in_sight, errors.share_moving) == (0.5, 0.5)
    assert errors.staying == pytest.approx((1 + 2) / 4)
    assert errors.staying_in_sight == pytest.approx(0.5)
    assert errors.oracle == pytest.approx(1 / 4), "it stays where it was last seen, half the way"
    without = names["TrackErrors"]()
    assert names["TrackErrors"].mean([errors, without]) == errors, "a stretch that has none of it does not count"

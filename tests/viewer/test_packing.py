"""What is packed comes back: exactly where it is whole numbers, within half a step where it is rounded."""

import base64

import numpy as np
import pytest

from vdpm.viewer.confidence import LEVELS, ConfidenceScale
from vdpm.viewer.packing import (
    PositionGrid,
    as_text,
    from_text,
    pack_bytes,
    pack_positions,
    run_lengths,
    unpack_bytes,
    unpack_positions,
)

RANDOM = np.random.default_rng(3)


@pytest.mark.parametrize(("times", "points"), [(1, 500), (7, 90), (3, 1), (2, 0)])
def test_positions_come_back_exactly(times: int, points: int) -> None:
    steps = RANDOM.integers(0, 65536, (times, points, 3)).astype(np.uint16)
    packed = pack_positions(steps)
    assert len(packed) == times * points * 6
    assert (unpack_positions(packed, times, points) == steps).all()


def test_positions_are_right_within_half_a_step() -> None:
    low, high = np.array([-3.0, -1.0, 0.5]), np.array([5.0, 1.0, 40.0])
    grid = PositionGrid.over(low, high, typical_distance=2.0)
    points = RANDOM.uniform(low, high, (4, 300, 3))
    assert np.abs(grid.decode(grid.encode(points)) - points).max() <= grid.step / 2 * 1.0001
    assert grid.step == pytest.approx(39.5 / 65535)
    assert PositionGrid.over(low, high, typical_distance=20.0).step == pytest.approx(20 / 4096)
    assert (grid.encode(np.array([[-9.0, 0.0, 99.0]]))[0, [0, 2]] == [0, 65535]).all(), "outside goes to the rim"


def test_a_moving_body_costs_little() -> None:
    """A rigid body that moves in a line is the same difference for all points and times: next to nothing to store."""
    body = np.cumsum(RANDOM.integers(0, 3, (2000, 3)), axis=0) + 1000
    moving = np.stack([body + 40 * time for time in range(16)]).astype(np.uint16)
    still, _ = as_text({"a": pack_positions(moving[:1])})
    all_times, _ = as_text({"a": pack_positions(moving)})
    assert len(all_times) < 1.5 * len(still)


def test_bytes_come_back_exactly() -> None:
    colors = RANDOM.integers(0, 256, (100, 3)).astype(np.uint8)
    assert (unpack_bytes(pack_bytes(colors), 3) == colors).all()


def test_parts_are_found_in_the_text() -> None:
    parts = {"one": b"abc", "none": b"", "two": bytes(range(256))}
    text, places = as_text(parts)
    assert from_text(text, places) == parts
    base64.b64decode(text, validate=True)


def test_levels_of_confidence_keep_the_order_and_hide_the_share() -> None:
    confidence = 1 + RANDOM.exponential(3.0, 20_000)
    scale = ConfidenceScale.of(confidence)
    levels = scale.encode(confidence)
    order = np.argsort(confidence)
    assert (np.diff(levels[order].astype(int)) >= 0).all()
    assert (levels.min(), levels.max()) == (0, LEVELS - 1)
    for percent in (0.0, 5.0, 20.0, 50.0, 95.0):
        hidden = 100 * (levels < scale.hiding(levels, percent)).mean()
        assert abs(hidden - percent) < 0.5


def test_what_is_equally_sure_is_hidden_together() -> None:
    confidence = np.array([1.0] * 30 + [2.0] * 70)
    scale = ConfidenceScale.of(confidence)
    levels = scale.encode(confidence)
    hidden = [(levels < scale.hiding(levels, percent)).sum() for percent in (0.0, 10.0, 20.0, 40.0, 95.0)]
    assert hidden == [0, 0, 30, 30, 30]


def test_runs_are_counted_in_the_order_of_the_sources() -> None:
    assert run_lengths(np.array([2, 2, 5]), (2, 3, 5)) == [2, 0, 1]

"""Colours, sizes, trails and arrows say what the maps say."""

import numpy as np
import pytest

from fixtures.moving_sphere import MovingSphere, make_moving_sphere
from vdpm.viewer.live.cloud import Cloud, CloudOptions, read_sources
from vdpm.viewer.live.frusta import apart, video_cameras, wires
from vdpm.viewer.live.look import REST, Look, Painter, in_sizes
from vdpm.viewer.live.paths import arrow_factor, flow_arrows, trails

EVERYTHING = Look(hide=0.0)


@pytest.fixture(scope="module")
def sphere() -> MovingSphere:
    return make_moving_sphere()


@pytest.fixture(scope="module")
def painter(sphere: MovingSphere) -> Painter:
    cloud = Cloud(sphere.reconstruction, CloudOptions())
    for part in read_sources(sphere.reconstruction, cloud.options):
        cloud.add(part)
    cloud.finish()
    loaded = cloud.loaded()
    assert loaded is not None
    return Painter(loaded, 3.0)


def test_colours(painter: Painter) -> None:
    still, moving = painter.loaded.still, painter.loaded.moving_at(2)
    assert (painter.colors("video", still, None) == still.colors).all()
    assert (painter.colors("speed", still, None) == REST).all()
    assert (painter.colors("speed", moving.points, moving.speed).max(axis=1) > 100).all()
    z = still.positions[0, :, 2]
    bright = painter.colors("depth", still, None).astype(int).sum(axis=1)
    assert np.corrcoef(z, bright)[0, 1] < -0.8, "near is bright"
    shades = [np.unique(painter.colors("frame", still, None)[still.source == frame], axis=0) for frame in range(5)]
    assert [len(shade) for shade in shades] == [1] * 5
    assert len({tuple(shade[0]) for shade in shades}) == 5
    far = np.linspace(0, 3, len(still))
    far[::2] = np.nan
    painted = painter.colors("difference", still, None, far)
    assert len(np.unique(painted[::2], axis=0)) == 1
    assert painted[1].sum() < painted[-1 - len(still) % 2].sum()


def test_sizes_are_few_and_near_what_they_stand_for() -> None:
    draws = np.random.default_rng(3)
    sides = np.exp(draws.uniform(np.log(0.01), np.log(0.04), 4000))
    positions = draws.normal(size=(4000, 3))
    batches = in_sizes(positions, np.zeros((4000, 3), dtype=np.uint8), sides)
    assert len(batches) == 4
    assert sum(len(batch.positions) for batch in batches) == 4000
    start = 0
    order = np.sort(sides)
    for batch in batches:
        inside = order[start : start + len(batch.positions)]
        start += len(inside)
        assert inside[0] / 1.01 <= batch.side <= inside[-1] * 1.01
    assert batches[0].positions.dtype == np.float16
    assert in_sizes(positions[:0], np.zeros((0, 3), dtype=np.uint8), sides[:0]) == []
    assert len(in_sizes(positions, np.zeros((4000, 3), dtype=np.uint8), np.full(4000, 0.02))) == 1


def test_trails_follow_the_sphere(sphere: MovingSphere, painter: Painter) -> None:
    times = (0, 1, 2, 3, 4)
    whole = trails(painter, EVERYTHING, 4, times, 0, "time", 350)
    assert 300 <= len(whole.points) / 4 <= 350
    assert whole.points.shape == whole.colors.shape
    way = whole.points[:, 1] - whole.points[:, 0]
    moved = (sphere.centers[1:] - sphere.centers[:-1]).mean(dim=0).numpy()
    # The side that is seen rolls back a little.
    assert np.abs(way.mean(axis=0) - moved).max() < 0.08
    short = trails(painter, EVERYTHING, 3, times, 2, "speed", 350)
    assert len(short.points) == len(whole.points) // 2
    assert len(trails(painter, EVERYTHING, 0, times, 2, "time", 350).points) == 0
    early, late = whole.colors[: len(whole.points) // 4, 0], whole.colors[-len(whole.points) // 4 :, 1]
    assert early.astype(int).sum() < late.astype(int).sum(), "dark is early"


def test_hidden_points_have_no_trails(painter: Painter) -> None:
    assert len(trails(painter, Look(hide=0.0), 4, (0, 1, 2, 3, 4), 0, "time", 10).points) == 40
    shown = painter.shown_moving(2, Look(hide=95.0)).points
    assert len(shown) == len(painter.loaded.moving_at(2).points), "equally sure points are hidden together, or none"


def test_arrows_point_where_things_go(painter: Painter) -> None:
    large = Painter(painter.loaded, 60.0)
    factor = arrow_factor(large, (0, 1, 2, 3, 4))
    # A step is about 0.35 units long, and 0.08 of 60 are 4.8.
    assert factor == 10
    assert arrow_factor(painter, (0, 1, 2, 3, 4)) == 1
    moving = painter.loaded.moving_at(1)
    ends, colors = flow_arrows(large, moving, 200, factor)
    assert 100 <= len(ends) <= 200
    assert colors.shape == (len(ends), 3)
    step = dict(zip(map(tuple, moving.points.positions[0].tolist()), moving.step))
    for start, end in ends.tolist():
        assert np.abs(np.subtract(end, start) - factor * step[tuple(start)]).max() < 1e-4
    assert len(flow_arrows(Painter(painter.loaded, 6000.0), moving, 200, 1)[0]) == 0, "none that would be all head"


def test_frusta_are_the_results_own_cameras(sphere: MovingSphere) -> None:
    result = sphere.reconstruction
    cameras = video_cameras(result)
    height, width = result.size
    for camera in cameras:
        w2c = np.linalg.inv(camera.c2w)
        seen = camera.corners(0.7) @ w2c[:3, :3].T + w2c[:3, 3]
        assert seen[:, 2] == pytest.approx(0.7)
        pixels = seen @ camera.intrinsics.T / 0.7
        corners = [[0, 0], [width, 0], [width, height], [0, height]]
        assert np.abs(pixels[:, :2] - corners).max() < 1e-9
        place = camera.picture(0.7)
        assert np.abs(place.middle - camera.corners(0.7).mean(axis=0)).max() < 1e-9
        assert place.width == pytest.approx(0.7 * width / 60)
        # As wide as the frame where the window is wide enough, and never less.
        assert camera.vertical_view(4.0) == pytest.approx(2 * np.arctan(height / 2 / 60))
        assert np.tan(camera.vertical_view(0.5) / 2) * 0.5 == pytest.approx(width / 2 / 60)
    assert cameras[0].wxyz == pytest.approx([1, 0, 0, 0])
    drawn = apart(cameras, 0.5)
    assert drawn[0].frame == 0
    lines = wires(drawn, cameras, 0.5)
    assert len(lines.points) == 4 + 8 * len(drawn)
    assert len(apart(cameras, 50.0)) == 1

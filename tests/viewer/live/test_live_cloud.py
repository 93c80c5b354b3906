"""What is read for the live viewer is what the page shows, source by source, and bounded."""

from dataclasses import replace

import numpy as np
import pytest

from fixtures.moving_sphere import make_moving_sphere, window_of_three, with_much_motion
from vdpm.errors import InputError, UsageError
from vdpm.structures import PointMap, Reconstruction
from vdpm.viewer.choice import choose_points
from vdpm.viewer.confidence import least_shown
from vdpm.viewer.live.cloud import Cloud, CloudOptions, Loaded, read_sources, shown_times, spread


def read_all(result: Reconstruction, options: CloudOptions | None = None) -> Loaded:
    cloud = Cloud(result, options or CloudOptions())
    for part in read_sources(result, cloud.options):
        cloud.add(part)
    cloud.finish()
    loaded = cloud.loaded()
    assert loaded is not None
    assert loaded.complete
    return loaded


def keys(source: np.ndarray, pixel: np.ndarray) -> set[tuple[int, int]]:
    return set(zip(source.tolist(), pixel.tolist()))


def test_it_is_the_pages_choice() -> None:
    result = make_moving_sphere().reconstruction
    loaded, choice = read_all(result, CloudOptions(max_points=6000)), choose_points(result, max_points=6000)
    assert keys(loaded.still.source, loaded.still.pixel) == keys(choice.still.source, choice.still.pixel)
    for row, time in enumerate(choice.times):
        moving = loaded.moving_at(time).points
        assert keys(moving.source, moving.pixel) == keys(choice.moving.source, choice.moving.pixel)
        order = np.lexsort((moving.pixel, moving.source))
        expected = np.lexsort((choice.moving.pixel, choice.moving.source))
        assert (moving.positions[0, order] == choice.moving.positions[row, expected]).all()
    for percent in (0.0, 20.0, 60.0):
        assert loaded.scale.least[loaded.hidden_below(percent)] == pytest.approx(least_shown(choice, percent))


def test_motion_leads_from_one_time_to_the_next() -> None:
    scene = make_moving_sphere()
    loaded = read_all(scene.reconstruction)
    for time, after in ((0, 1), (3, 4)):
        here, there = loaded.moving_at(time), loaded.moving_at(after).points
        assert np.abs(here.points.positions[0] + here.step - there.positions[0]).max() < 1e-6
        assert here.seconds == pytest.approx(0.5)
    last = loaded.moving_at(4)
    assert np.abs(last.step - loaded.moving_at(3).step).max() < 1e-9
    assert loaded.moving_at(77).points.positions.shape == (1, 0, 3)


def test_something_is_there_after_the_first_source() -> None:
    result = make_moving_sphere(num_frames=9).reconstruction
    cloud, counts, order = Cloud(result, CloudOptions()), [], []
    assert cloud.loaded() is None
    for part in read_sources(result, cloud.options):
        cloud.add(part)
        order.append(part.source)
        loaded = cloud.loaded()
        assert loaded is not None
        counts.append(len(loaded))
    assert order == [0, 8, 4, 2, 6, 1, 3, 5, 7]
    assert counts == sorted(counts)
    assert cloud.loaded() is cloud.loaded(), "the same as long as nothing has come"


def test_memory_does_not_grow_with_the_times() -> None:
    loaded = read_all(with_much_motion(), CloudOptions(max_points=1000))
    positions = sum(part.moving.positions.size // 3 for part in loaded.moving)
    assert 1000 < positions <= 5000
    assert {part.moving.spacing for part in loaded.moving} == {loaded.moving[0].moving.spacing}, "thinned alike"
    assert loaded.moving[0].moving.spacing > loaded.still.spacing


def test_each_map_of_a_source_is_read_once_and_no_other_window() -> None:
    result = make_moving_sphere(num_frames=9).reconstruction
    read, asked = result.maps.read, []

    def watched(target: int | None, source: int) -> PointMap:
        asked.append((target, source))
        return read(target, source)

    watched_maps = replace(result.maps, read=watched, seen_together=window_of_three)
    loaded = read_all(replace(result, maps=watched_maps))
    assert len(asked) == len(set(asked)), "no map twice"
    assert all(target is None or target in window_of_three(source) for target, source in asked)
    assert {*loaded.moving_at(4).points.source.tolist()} <= {3, 4, 5}
    assert len(loaded.moving_at(4).points) > 100


def test_a_long_result_is_thinned_in_frames_and_times() -> None:
    result = make_moving_sphere(num_frames=9, size=(24, 32)).reconstruction
    loaded = read_all(result, CloudOptions(max_sources=4, max_times=5))
    assert sorted(part.source for part in loaded.parts) == [0, 3, 5, 8]
    assert {part.times for part in loaded.parts} == {(0, 2, 4, 6, 8)}


def test_where_few_times_are_kept_every_frame_is_known_at_its_own() -> None:
    scene = make_moving_sphere(num_frames=6, targets=(1, 4))
    options = CloudOptions()
    assert shown_times(scene.reconstruction, options) == (0, 1, 2, 3, 4, 5)
    loaded = read_all(scene.reconstruction)
    assert [part.times for part in loaded.moving] == [(0, 1, 4), (1, 4), (1, 2, 4), (1, 3, 4), (1, 4), (1, 4, 5)]
    assert {*loaded.moving_at(3).points.source.tolist()} == {3}
    assert {*loaded.moving_at(4).points.source.tolist()} == {0, 1, 2, 3, 4, 5}
    points = loaded.moving_at(3).points
    own = scene.reconstruction.maps.time_variant(3).points.flatten(0, 1).numpy()
    assert (points.positions[0] == own[points.pixel]).all()


def test_without_times_every_frame_is_at_its_own() -> None:
    loaded = read_all(make_moving_sphere(targets=()).reconstruction)
    assert loaded.moving == ()
    assert len(loaded.still) > 5000


def test_nothing_left_and_numbers_out_of_range() -> None:
    result = make_moving_sphere(num_frames=2, size=(16, 16)).reconstruction
    with pytest.raises(InputError, match="--min-confidence"):
        read_all(result, CloudOptions(min_confidence=1000.0))
    for wrong in ({"max_points": 0}, {"max_sources": 0}, {"max_times": 0}, {"min_confidence": 0.5}):
        with pytest.raises(UsageError):
            CloudOptions(**wrong)


@pytest.mark.parametrize(("count", "first"), [(1, 0), (2, 1), (7, 3), (48, 0)])
def test_sources_are_read_far_apart(count: int, first: int) -> None:
    order = spread(count, first)
    assert sorted(order) == list(range(count))
    assert order[0] == first

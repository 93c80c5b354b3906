"""The page holds the right points: moving ones at every time, others once, none from padding or edges."""

from dataclasses import replace

import numpy as np
import pytest

from fixtures.moving_sphere import make_moving_sphere, window_of_three, with_much_motion
from vdpm.errors import InputError, UsageError
from vdpm.geometry.image_transform import ImageTransform
from vdpm.viewer.choice import choose_points


def test_what_moves_is_kept_at_every_time_and_the_rest_once() -> None:
    scene = make_moving_sphere()
    choice = choose_points(scene.reconstruction)
    truth = scene.moving.flatten(1).numpy()
    assert choice.times == (0, 1, 2, 3, 4)
    assert choice.still.positions.shape == (1, len(choice.still), 3)
    assert choice.moving.positions.shape == (5, len(choice.moving), 3)
    assert len(choice.still) > 5000
    assert len(choice.moving) > 500
    for points, expected in ((choice.still, 0.002), (choice.moving, 0.99)):
        share = truth[points.source, points.pixel].mean()
        assert share <= expected if expected < 0.5 else share >= expected


def test_positions_are_those_of_the_maps() -> None:
    result = make_moving_sphere().reconstruction
    choice = choose_points(result)
    for row, time in enumerate(choice.times):
        for n in (0, len(choice.moving) // 2, len(choice.moving) - 1):
            source, pixel = int(choice.moving.source[n]), int(choice.moving.pixel[n])
            expected = result.maps.at(time, source).points.flatten(0, 1)[pixel].numpy()
            assert (choice.moving.positions[row, n] == expected).all()
    n = len(choice.still) // 3
    own = result.maps.time_variant(int(choice.still.source[n])).points.flatten(0, 1)
    assert (choice.still.positions[0, n] == own[int(choice.still.pixel[n])].numpy()).all()
    colors = result.frames[int(choice.still.source[n])].flatten(0, 1)[int(choice.still.pixel[n])]
    assert (choice.still.colors[n] == colors.numpy()).all()


def test_the_budget_holds_and_every_frame_has_its_share() -> None:
    result = make_moving_sphere().reconstruction
    choice = choose_points(result, max_points=2000)
    assert 800 < len(choice) <= 2000
    assert choice.still.spacing == 3
    assert len(choice.moving) * len(choice.times) <= 5 * 2000
    counts = np.bincount(choice.still.source, minlength=5)
    assert counts.min() > 0.5 * counts.max()


def test_moving_points_are_thinned_where_there_are_too_many_positions() -> None:
    choice = choose_points(with_much_motion(), max_points=1000)
    assert 150 < len(choice.moving) <= 5000 / 24
    assert choice.moving.spacing > 1.2 * choice.still.spacing


def test_padding_edges_and_unsure_points_are_left_out() -> None:
    result = make_moving_sphere().reconstruction
    padded = replace(result, transform=ImageTransform.fit_pad((24, 64), (48, 64)))
    choice = choose_points(padded)
    rows = np.concatenate([choice.still.pixel, choice.moving.pixel]) // 64
    content = np.nonzero(padded.content.any(dim=1).numpy())[0]
    assert (rows.min(), rows.max()) == (content.min(), content.max())
    with pytest.raises(InputError, match="--min-confidence"):
        choose_points(result, min_confidence=1000.0)


def test_no_point_hangs_between_the_sphere_and_the_wall() -> None:
    result = make_moving_sphere(num_frames=2).reconstruction
    maps = result.maps
    own = maps.time_variant(0).points.clone()
    z = own[..., 2]
    edge = int((z[24, 1:] - z[24, :-1]).abs().argmax())
    own[24, edge] = (own[24, edge] + own[24, edge + 1]) / 2
    smeared = replace(maps, read=lambda t, s: maps.read(t, s)._replace(points=own) if s == 0 else maps.read(t, s))
    choice = choose_points(replace(result, maps=smeared))
    for points in (choice.still, choice.moving):
        assert not ((points.source == 0) & (points.pixel == 24 * 64 + edge)).any()


def test_without_times_every_frame_is_at_its_own() -> None:
    choice = choose_points(make_moving_sphere(targets=()).reconstruction)
    assert choice.times == ()
    assert len(choice.moving) == 0
    assert len(choice.still) > 5000


def test_far_points_do_not_make_the_box_large() -> None:
    result = make_moving_sphere().reconstruction
    maps = result.maps
    points = maps.time_variant(0).points.clone()
    points[3:8, 5:16] *= 1e4
    far = replace(maps, read=lambda t, s: maps.read(t, s)._replace(points=points) if s == 0 else maps.read(t, s))
    choice = choose_points(replace(result, maps=far))
    assert choice.left_out >= 20
    assert (choice.high - choice.low).max() < 30


def test_long_results_are_thinned_in_time() -> None:
    choice = choose_points(make_moving_sphere(num_frames=9, size=(16, 24)).reconstruction, max_frames=4)
    assert choice.times == choice.sources == (0, 3, 5, 8)


def test_a_clip_of_several_windows() -> None:
    """Times that the network did not see beside a frame, and times that are thinned away, do not stand in the way."""
    result = make_moving_sphere(num_frames=9).reconstruction
    windowed = replace(result, maps=replace(result.maps, seen_together=window_of_three))
    choice = choose_points(windowed, max_frames=5)
    assert choice.times == (0, 2, 4, 6, 8)
    assert len(choice.moving) > 300


@pytest.mark.parametrize("wrong", [{"max_points": 0}, {"max_frames": 0}, {"max_frames": 65}])
def test_numbers_out_of_range(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        choose_points(make_moving_sphere(num_frames=2, size=(16, 16)).reconstruction, **wrong)

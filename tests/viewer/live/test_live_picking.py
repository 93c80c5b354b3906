"""Clicks mean the point that is seen there, and two results meet in one world."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fixtures.moving_sphere import MovingSphere, make_moving_sphere
from vdpm.archive import save
from vdpm.data.snippet_folder import write_snippet
from vdpm.errors import InputError, UsageError
from vdpm.structures import PointMap, Reconstruction, Snippet
from vdpm.viewer.choice import choose_points, patch_sides
from vdpm.viewer.live.clock import Clock
from vdpm.viewer.live.compare import Counterpart, brought_beside, read_counterpart, truth_as_result
from vdpm.viewer.live.frame_panel import Said, understood
from vdpm.viewer.live.picking import Candidates, nearest_on_ray, pick_pixel, pixel_center


@pytest.fixture(scope="module")
def sphere() -> MovingSphere:
    return make_moving_sphere()


def candidates(result: Reconstruction) -> Candidates:
    points = choose_points(result).still
    sides = patch_sides(result, points, points.positions[0])
    return Candidates(points.positions[0].astype(np.float64), points.source, points.pixel, sides)


def test_a_ray_means_the_first_point_it_meets(sphere: MovingSphere) -> None:
    found = candidates(sphere.reconstruction)
    draws = np.random.default_rng(1)
    for number in draws.integers(0, len(found.positions), 20):
        toward = found.positions[number] / np.linalg.norm(found.positions[number])
        met = nearest_on_ray(found, np.zeros(3), toward)
        assert met is not None
        assert np.linalg.norm(found.positions[met] - found.positions[number]) < 3 * found.side[number]
    near = Candidates(np.array([[0.0, 0, 5], [0.001, 0, 2], [0, 0, 8]]), np.arange(3), np.arange(3), np.full(3, 0.01))
    assert nearest_on_ray(near, np.zeros(3), np.array([0.0, 0, 1])) == 1
    assert nearest_on_ray(near, np.zeros(3), np.array([0.0, 0, -1])) is None
    assert nearest_on_ray(near, np.zeros(3), np.array([1.0, 0, 0])) is None


def test_a_followed_pixel_goes_where_the_sphere_goes(sphere: MovingSphere) -> None:
    y, x = (int(value) for value in sphere.moving[2].nonzero().double().mean(dim=0))
    pick = pick_pixel(sphere.reconstruction, 2, pixel_center(y * 64 + x, 64))
    start = sphere.reconstruction.maps.time_variant(2).points[y, x]
    for row, time in enumerate(pick.track.targets):
        expected = sphere.at_time(start, 2, time).numpy()
        assert np.abs(pick.positions[row] - expected).max() < 0.02
    assert pick.visible[2]
    assert np.abs(pick.pixels[2] - [x + 0.5, y + 0.5]).max() < 1e-3
    with pytest.raises(UsageError):
        pick_pixel(sphere.reconstruction, 2, (900.0, 1.0))


def test_what_the_panel_says_is_checked() -> None:
    size = (48, 64)
    assert understood('{"what": "pick", "xy": [63.5, 0]}', size) == Said("pick", (63.5, 0.0))
    assert understood('{"what": "hover", "xy": null}', size) == Said("hover")
    assert understood('{"what": "key", "name": "space"}', size) == Said("key", None, "space")
    assert understood('{"what": "view", "name": "depth"}', size) == Said("view", view="depth")
    assert understood('{"what": "point", "xy": [0.25, 0.999]}', size) == Said("point", (0.25, 0.999))
    assert understood('{"what": "point", "xy": null}', size) == Said("point")
    assert understood(f'{{"what": "tab", "name": "{24 * "a"}", "xy": [390, 844]}}', size) == Said(
        "tab", (390.0, 844.0), 24 * "a"
    )
    for wrong in (
        b"\x00\x01",
        "",
        "[]",
        "{" * 3000,
        "[" * 3000,
        '{"what": "pick"}',
        '{"what": "pick", "xy": [64, 1]}',
        '{"what": "point", "xy": [1, 0.5]}',
        '{"what": "pick", "xy": [1, 48.0]}',
        '{"what": "pick", "xy": [-0.1, 1]}',
        '{"what": "pick", "xy": [NaN, 1]}',
        '{"what": "pick", "xy": [true, 1]}',
        '{"what": "pick", "xy": ["1", 1]}',
        '{"what": "pick", "xy": [1, 2, 3]}',
        '{"what": "view", "name": "../x"}',
        '{"what": "key", "name": 3}',
        '{"what": "key", "name": "' + "x" * 5000 + '"}',
        '{"what": "shutdown"}',
        '{"what": "tab", "name": "aaaaaaaaaaaaaaaaaaaaaaaa"}',
        '{"what": "tab", "name": "AAAAAAAAAAAAAAAAAAAAAAAA", "xy": [390, 844]}',
        '{"what": "tab", "name": "aaaaaaaaaaaaaaaaaaaaaaaa", "xy": [390, Infinity]}',
    ):
        assert understood(wrong, size) is None, wrong


def test_the_clock_plays_by_the_videos_times() -> None:
    clock = Clock(np.array([0.0, 0.1, 0.5, 0.6]))
    assert clock.row == 0
    clock.advance(1.0, True, now=10.0)
    assert clock.advance(1.0, True, now=10.3)
    assert clock.row == 1, "not evenly: 0.3 s are before the third time"
    assert clock.wait(2.0) == pytest.approx(0.1)
    clock.advance(2.0, True, now=10.41)
    assert clock.row == 2
    assert clock.advance(1.0, True, now=20.0)
    assert clock.row == 0, "from the beginning"
    clock.go_to(2)
    clock.advance(1.0, False, now=30.0)
    assert not clock.advance(1.0, False, now=40.0)
    assert clock.row == 3
    clock.go_to(-5)
    assert clock.row == 0
    clock.hold()
    clock.advance(1.0, True, now=100.0)
    assert clock.row == 0, "no time passes while it is held"


def transformed(result: Reconstruction, scale: float, turn: torch.Tensor, shift: torch.Tensor) -> Reconstruction:
    """The same scene in another world and unit."""

    def read(target: int | None, source: int) -> PointMap:
        found = result.maps.read(target, source)
        return found._replace(points=scale * (found.points @ turn.T + shift))

    c2w = result.cameras.c2w.clone()
    c2w[:, :3, :3] = turn @ c2w[:, :3, :3]
    c2w[:, :3, 3] = scale * (c2w[:, :3, 3] @ turn.T + shift)
    return replace(result, cameras=replace(result.cameras, c2w=c2w), maps=replace(result.maps, read=read), name="other")


def test_another_world_and_unit_are_undone(sphere: MovingSphere) -> None:
    result = sphere.reconstruction
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(2))).Q
    turn = turn * turn.det()
    other = transformed(result, 3.7, turn, torch.tensor([0.4, -1.0, 2.0]))
    back = brought_beside(other, result)
    assert (back.cameras.c2w - result.cameras.c2w).abs().max() < 1e-4
    assert (back.maps.at(4, 1).points - result.maps.at(4, 1).points).abs().max() < 1e-3
    assert Counterpart.fits(result, back)
    points = choose_points(result).moving
    assert Counterpart(back).distance(points, 0).max() < 1e-3


def test_results_of_different_times_cannot_be_compared(sphere: MovingSphere) -> None:
    later = replace(sphere.reconstruction, timestamps=sphere.reconstruction.timestamps + 100)
    with pytest.raises(UsageError, match="beside each other"):
        brought_beside(later, sphere.reconstruction)


def snippet(sphere: MovingSphere) -> Snippet:
    """The truth of the scene, twice as large, one corner of which is not known."""
    result, frames = sphere.reconstruction, range(5)
    valid = torch.ones(5, 48, 64, dtype=torch.bool)
    valid[:, :8, :8] = False
    c2w = result.cameras.c2w.clone()
    c2w[:, :3, 3] *= 2
    points = torch.stack([2 * result.maps.time_variant(frame).points for frame in frames])
    points[:, 0, 0] = torch.nan
    return Snippet(
        images=result.frames.permute(0, 3, 1, 2).float() / 255,
        timestamps=result.timestamps,
        c2w=c2w,
        intrinsics=result.cameras.intrinsics,
        points=points,
        targets=torch.arange(5),
        target_points=torch.stack(
            [torch.stack([2 * result.maps.at(time, frame).points for frame in frames]) for time in frames]
        ),
        valid=valid,
        dynamic=sphere.moving,
    )


def test_a_truth_stands_beside_a_result(sphere: MovingSphere, tmp_path: Path) -> None:
    result = sphere.reconstruction
    write_snippet(tmp_path / "truth", replace(snippet(sphere), points=snippet(sphere).points.nan_to_num()))
    truth, is_truth = read_counterpart(tmp_path / "truth", result)
    assert is_truth
    beside = brought_beside(truth, result)
    gap = Counterpart(beside).distance(choose_points(result).still, None)
    unknown = np.isnan(gap)
    assert 0.005 < unknown.mean() < 0.03, "where the truth is not known nothing is said"
    # The corner that is not known counts on one side alone when the unit is found.
    assert gap[~unknown].max() < 0.1
    assert (beside.frames == result.frames).all()
    assert truth_as_result(snippet(sphere), "t").maps.time_variant(0).points.isfinite().all()
    save(result, tmp_path / "result")
    again, is_truth = read_counterpart(tmp_path / "result", result)
    assert not is_truth
    assert len(again) == 5
    for wrong in ("nowhere", "nowhere.npz", "truth"):
        with pytest.raises(InputError):
            read_counterpart(Path(wrong), result)

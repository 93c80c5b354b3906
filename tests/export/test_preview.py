"""The preview shows what the result says, at any shape and for any choice of times."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fixtures.moving_sphere import make_moving_sphere
from fixtures.sky import with_sky
from vdpm.export.colors import INFERNO, VIRIDIS, colorize, motion_colors
from vdpm.export.preview import _clouds, _motion_rows, draw_preview, write_preview
from vdpm.export.views import Viewpoint, draw_cloud, draw_top_view
from vdpm.geometry.image_transform import ImageTransform
from vdpm.motion import depth, depth_edges
from vdpm.structures import evenly


def test_colour_maps_end_where_matplotlibs_do() -> None:
    for color_map, ends in ((VIRIDIS, ((68, 1, 84), (253, 231, 37))), (INFERNO, ((0, 0, 4), (252, 255, 164)))):
        found = colorize(np.array([-1.0, 0.0, 1.0, 2.0]), color_map).astype(int)
        assert np.abs(found[[1, 2]] - np.array(ends)).max() <= 5
        assert (found[0] == found[1]).all()
        assert (found[3] == found[2]).all()


def test_colour_maps_grow_lighter() -> None:
    for color_map in (VIRIDIS, INFERNO):
        lightness = colorize(np.linspace(0, 1, 50), color_map) @ np.array([0.299, 0.587, 0.114])
        assert (np.diff(lightness) > 0).all()


def test_rest_is_white_and_opposite_motions_differ() -> None:
    rest, right, left, far = motion_colors(np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [5.0, 0, 0]]), 1.0).astype(int)
    assert (rest == 255).all()
    assert np.abs(right - left).max() > 150
    assert (right == far).all()


def test_motion_shows_where_the_sphere_moves() -> None:
    scene = make_moving_sphere(num_frames=3, size=(48, 64))
    (row,) = _motion_rows(scene.reconstruction, [0, 2])
    for frame, cell in zip((0, 2), row.cells):
        moving = scene.moving[frame].numpy()
        assert (cell[~moving] > 250).all(), "what stands still is white"
        # To the right is red.
        assert (cell[moving][:, 0].astype(int) - cell[moving][:, 1] > 100).mean() > 0.9
    assert not _motion_rows(make_moving_sphere(num_frames=3, size=(16, 16), targets=()).reconstruction, [0])


@pytest.mark.parametrize(
    ("size", "num_frames", "targets"),
    [((48, 64), 9, None), ((64, 24), 4, None), ((24, 96), 2, (1,)), ((32, 32), 1, (0,)), ((32, 48), 3, ())],
)
def test_any_shape_and_choice(size: tuple[int, int], num_frames: int, targets: tuple[int, ...] | None) -> None:
    result = make_moving_sphere(num_frames=num_frames, size=size, targets=targets).reconstruction
    picture = draw_preview(result)
    assert 700 < picture.width < 2200
    assert 600 < picture.height < 2000
    background = np.asarray(picture)[:, :10]
    assert (background == 255).all(), "nothing reaches into the margin"


def test_padding_is_not_shown() -> None:
    result = make_moving_sphere(num_frames=2, size=(48, 64)).reconstruction
    padded = replace(result, transform=ImageTransform.fit_pad((24, 64), (48, 64)))
    assert draw_preview(padded).height < draw_preview(result).height


def test_wild_points_do_not_break_the_drawing() -> None:
    result = make_moving_sphere(num_frames=2, size=(24, 32)).reconstruction
    points = result.maps.read(None, 0).points.clone()
    points[0, 0] = torch.tensor([1e5, -1e5, 1e5])
    points[0, 1] = torch.tensor([0.0, 0.0, -3.0])
    maps = result.maps
    wild = replace(maps, read=lambda t, s: maps.read(t, s)._replace(points=points))
    draw_preview(replace(result, maps=wild))


def test_sky_and_edges_are_not_among_the_points() -> None:
    rec = with_sky(make_moving_sphere().reconstruction)
    [(points, colors)] = _clouds(rec, [0], [0])
    own = rec.maps.time_variant(0).points.double().numpy()
    edges = depth_edges(depth(rec, 0)).numpy()
    assert edges[12:].sum() > 64, "more than the border of the sky: the sphere's outline"
    assert len(points) == len(colors)
    shown = {tuple(point) for point in points}
    for hidden in (own[:12].reshape(-1, 3), own[edges]):
        assert not shown & {tuple(point) for point in hidden}
    assert {tuple(point) for point in own[30:][~edges[30:]]} <= shown


def test_frames_are_spread_with_both_ends() -> None:
    assert evenly(range(17), 6) == [0, 3, 6, 10, 13, 16]
    assert evenly([2, 5], 6) == [2, 5]


def test_the_file_is_a_png(tmp_path: Path) -> None:
    write_preview(make_moving_sphere(num_frames=2, size=(24, 32)).reconstruction, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def cameras(*places: tuple[float, float, float]) -> np.ndarray:
    c2w = np.tile(np.eye(4), (len(places), 1, 1))
    c2w[:, :3, 3] = places
    return c2w


def test_from_above_right_is_right_and_far_is_up() -> None:
    points = np.array([[-2.0, 0, 2], [-2, 0, 6], [2, 0, 2], [2, 0, 6]]).repeat(50, axis=0)
    colors = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200], [0, 0, 0]], dtype=np.uint8).repeat(50, axis=0)
    picture, scale = draw_top_view(points, colors, cameras((0, 0, 0)), 0.5, (200, 200))
    pixels = np.asarray(picture).astype(int)

    def place(channel: int) -> np.ndarray:
        others = [c for c in range(3) if c != channel]
        pure = pixels[..., channel] - pixels[..., others].max(axis=-1)
        return np.argwhere(pure > 40).mean(axis=0)

    red, green, blue = place(0), place(1), place(2)
    assert green[0] < red[0] - 50
    assert blue[1] > red[1] + 50
    assert abs((red[0] - green[0]) - 4 * scale) < 4
    assert abs((blue[1] - red[1]) - 4 * scale) < 4


def test_in_the_cloud_near_hides_far() -> None:
    y, x = (values.ravel() for values in np.mgrid[-1:1:40j, -1:1:40j])
    wall = np.stack([x, y, np.full_like(x, 3)], axis=1)
    patch = np.stack([x * 0.3, y * 0.3, np.full_like(x, 2)], axis=1)
    points = np.concatenate([patch, wall])
    colors = np.array([[200, 0, 0]] * len(patch) + [[0, 0, 200]] * len(wall), dtype=np.uint8)
    view = Viewpoint.beside(points, (200, 200), yaw=0.0, pitch=0.0)
    picture = draw_cloud(points, colors, cameras((9, 0, 0)), 0.5, view, network_width=40)
    middle = np.asarray(picture)[95:105, 95:105].reshape(-1, 3).astype(int)
    assert (middle[:, 0] > 150).all()
    assert (middle[:, 2] < 50).all()

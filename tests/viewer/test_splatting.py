"""Points are drawn where the camera sees them, and what is near hides what is far."""

import numpy as np

from vdpm.viewer.splatting import View, draw_points

BLACK = (0, 0, 0)


def view(size: tuple[int, int] = (60, 80), focal: float = 50.0) -> View:
    return View(np.eye(4), np.array([focal, focal]), np.array([size[1] / 2, size[0] / 2]), size)


def wall(z: float, half: float, step: float = 0.02) -> np.ndarray:
    y, x = (values.ravel() for values in np.mgrid[-half:half:step, -half:half:step])
    return np.stack([x, y, np.full_like(x, z)], axis=1)


def test_a_point_is_at_its_pixel_and_as_wide_as_asked() -> None:
    point, color = np.array([[0.5, -0.3, 2.0]]), np.array([[250, 10, 20]], dtype=np.uint8)
    picture = draw_points(view(), point, color, np.array([0.24]), BLACK)
    assert picture.shape == (60, 80, 3)
    rows, columns = np.nonzero(picture[..., 0] > 100)
    assert abs(columns.mean() + 0.5 - (0.5 / 2 * 50 + 40)) < 0.3
    assert abs(rows.mean() + 0.5 - (-0.3 / 2 * 50 + 30)) < 0.3
    # 0.24 units at distance 2 are 6 pixels across.
    assert 5 <= np.ptp(columns) + 1 <= 7
    assert abs((picture[..., 0] / 250).sum() - np.pi * 9) < 6


def test_near_hides_far_whatever_the_order() -> None:
    near, far = wall(2.0, 0.3), wall(3.0, 1.5)
    for order in (1, -1):
        points = np.concatenate([near, far][::order])
        colors = np.concatenate(
            [np.tile(np.array([c], dtype=np.uint8), (len(w), 1)) for w, c in ((near, (200, 0, 0)), (far, (0, 0, 200)))][
                ::order
            ]
        )
        picture = draw_points(view(), points, colors, np.full(len(points), 0.04), BLACK).astype(int)
        assert (picture[24:36, 34:46, 0] > 150).all()
        assert (picture[24:36, 34:46, 2] < 60).all()
        assert (picture[10:14, 20:60, 2] > 150).all()


def test_behind_the_camera_and_beside_the_picture_nothing_is_drawn() -> None:
    points = np.array([[0, 0, -2.0], [0, 0, 0.0], [100, 0, 1.0], [np.nan, 0, 1], [0, 1e30, 1]])
    picture = draw_points(view(), points, np.full((5, 3), 255, dtype=np.uint8), np.full(5, 0.1), (7, 8, 9))
    assert (picture == [7, 8, 9]).all()
    nothing = draw_points(view(), np.zeros((0, 3)), np.zeros((0, 3), dtype=np.uint8), np.zeros(0), (7, 8, 9))
    assert (nothing == [7, 8, 9]).all()


def test_a_wall_has_no_holes() -> None:
    points = wall(2.0, 2.0, step=0.05)
    picture = draw_points(
        view(), points, np.full((len(points), 3), 200, dtype=np.uint8), np.full(len(points), 0.075), BLACK
    )
    assert picture.min() > 100

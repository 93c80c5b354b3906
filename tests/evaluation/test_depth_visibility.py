"""Which moved points are seen: a wall with a block before it, worked out by hand."""

import torch
from torch import Tensor

from vdpm.evaluation.visibility import seen

K = torch.tensor([[4.0, 0, 2], [0, 4, 1], [0, 0, 1]])
"""Of a picture of 2 x 4 pixels."""


def at(*points: tuple[float, float, float]) -> Tensor:
    """The points in a map of one row, [1, 1, 1, points, 3]."""
    return torch.tensor([[[points]]], dtype=torch.float32)


def surface(depth: float) -> Tensor:
    x, y = torch.meshgrid(torch.arange(4) + 0.5, torch.arange(2) + 0.5, indexing="xy")
    return torch.stack([(x - 2) / 4 * depth, (y - 1) / 4 * depth, torch.full_like(x, depth)], -1)


def seen_in(points: Tensor, own: Tensor, valid: Tensor | None = None) -> list[bool]:
    # Frame 1 of two is the target; the point comes from frame 0.
    frames = torch.stack([own, own])
    masks = None if valid is None else torch.stack([valid, valid])
    wide = points.expand(1, 1, 2, -1, 3)[..., [0] * 4, :]
    found = seen(wide, frames, masks, torch.eye(4).repeat(2, 1, 1), K.repeat(2, 1, 1), [1], [0])
    return [bool(found[0, 0, 0, 0])]


def test_a_point_on_before_and_behind_a_wall() -> None:
    wall = surface(4.0)
    for z, expected in ((4.0, True), (2.0, True), (4.19, True), (4.21, False), (-1.0, False)):
        assert seen_in(at((0.1, 0.1, z)), wall) == [expected], z


def test_out_of_the_picture_and_before_nothing() -> None:
    wall = surface(4.0)
    # x / z * 4 + 2 is 4 at the right edge: the first position outside.
    assert seen_in(at((1.99, 0, 4)), wall) == [True]
    assert seen_in(at((2.0, 0, 4)), wall) == [False]
    nothing = torch.zeros(2, 4, dtype=torch.bool)
    assert seen_in(at((0.1, 0.1, 50.0)), wall, nothing) == [True]


def test_a_pixel_is_seen_at_its_own_time() -> None:
    wall = surface(4.0)
    behind = at((0.1, 0.1, 9.0)).expand(1, 1, 2, 4, 3)
    eye, lenses = torch.eye(4).repeat(2, 1, 1), K.repeat(2, 1, 1)
    assert seen(behind, torch.stack([wall, wall]), None, eye, lenses, [0], [0]).all()
    assert not seen(behind, torch.stack([wall, wall]), None, eye, lenses, [1], [0]).any()

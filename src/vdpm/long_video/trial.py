"""A walk through a room with known truth, and windows made of truth with noise, jumps in scale and outliers.

No network takes part: what the alignment gets wrong here is its own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.geometry.alignment import Similarity
from vdpm.geometry.pinhole import pixel_grid
from vdpm.geometry.rigid import invert_rigid, rigid, rotation_vector_to_matrix, transform_points
from vdpm.long_video.observations import WindowMaps
from vdpm.long_video.windows import Window
from vdpm.structures import Cameras, PointMap


@dataclass(frozen=True, eq=False)
class Walk:
    """True points of each pixel at its own time, and true cameras; the world is the camera of frame 0; metres.

    ``on_ball``: pixels that show the ball, whose centre is ``ball`` at each time.
    """

    points: Float[Tensor, "frames height width 3"]
    cameras: Cameras
    on_ball: Bool[Tensor, "frames height width"]
    ball: Float[Tensor, "frames 3"]

    def at(self, target: int, source: int) -> Float[Tensor, "height width 3"]:
        """Where the pixels of ``source`` are at the time of ``target``; the ball does not turn."""
        return self.points[source] + self.on_ball[source, ..., None] * (self.ball[target] - self.ball[source])


def walk_through_room(
    num_frames: int, size: tuple[int, int] = (32, 56), laps: float = 1.0, focal: float = 0.8, aside: float = 0.5
) -> Walk:
    """A camera goes round a room of 14 x 10 x 4 metres on an ellipse, looking ahead and a little to the wall.

    Exact: rays meet the room's walls in closed form. A ball of a metre across swings through the middle, so that some
    pixels move. ``laps``: rounds taken; after a whole one the camera sees the same place again. ``focal``: in widths.
    ``aside``: radians from straight ahead at which it looks, to the wall; below 0 into the room.
    """
    height, width = size
    angle = 2 * math.pi * laps * torch.arange(num_frames, dtype=torch.float64) / num_frames
    centre = torch.stack((4.5 * angle.sin(), 0.3 * (3 * angle).sin(), 2.5 * (1 - angle.cos()) - 2.5), dim=-1)
    ahead = torch.stack((4.5 * angle.cos(), 0 * angle, 2.5 * angle.sin()), dim=-1)
    yaw = torch.atan2(ahead[:, 0], ahead[:, 2]) + aside + 0.15 * (5 * angle).sin()
    turn = torch.stack((0.1 * (4 * angle).sin(), yaw, 0 * yaw), dim=-1)
    up = torch.zeros_like(turn)
    up[:, 1] = turn[:, 1]
    nod = torch.zeros_like(turn)
    nod[:, 0] = turn[:, 0]
    c2room = rigid(rotation_vector_to_matrix(up) @ rotation_vector_to_matrix(nod), centre)
    k = torch.tensor([[focal * width, 0, width / 2], [0, focal * width, height / 2], [0, 0, 1]], dtype=torch.float64)
    pixels = pixel_grid(height, width, dtype=torch.float64)
    rays = torch.cat(((pixels - k[:2, 2]) / k[0, 0], torch.ones(height, width, 1, dtype=torch.float64)), dim=-1)
    way = torch.einsum("nij,hwj->nhwi", c2room[:, :3, :3], rays)
    start = centre[:, None, None]
    half = torch.tensor([7.0, 2.0, 5.0], dtype=torch.float64)
    # The nearest wall ahead; pillars in relief on the walls, so that no wall is a plane alone.
    distance = ((way.sign() * half - start) / torch.where(way == 0, 1e-9, way)).amin(-1)
    wall = start + distance[..., None] * way
    relief = 0.12 * torch.sin(3 * wall[..., 0]) * torch.cos(2 * wall[..., 1]) * torch.sin(2.5 * wall[..., 2])
    distance = distance * (1 - relief.abs())
    ball = torch.stack((1.5 * (9 * angle).sin(), 0.5 * (7 * angle).cos(), 0.8 * (8 * angle).cos()), dim=-1)
    toward = start - ball[:, None, None]
    a, b, c = way.square().sum(-1), (way * toward).sum(-1), toward.square().sum(-1) - 0.25
    root = (b.square() - a * c).clamp(min=0).sqrt()
    near = (-b - root) / a
    on_ball = (b.square() > a * c) & (near > 0.05) & (near < distance)
    distance = torch.where(on_ball, near, distance)
    to_first = invert_rigid(c2room[0])
    points = transform_points(to_first[None], start + distance[..., None] * way)
    cameras = Cameras(to_first @ c2room, k.repeat(num_frames, 1, 1), size)
    return Walk(points, cameras, on_ball, transform_points(to_first[None], ball))


def disturbed_windows(
    walk: Walk,
    windows: Sequence[Window],
    generator: torch.Generator,
    *,
    noise: float = 0.02,
    camera_noise: float = 0.01,
    bend: float = 0.0,
    outliers: float = 0.0,
    outlier_points: float = 0.0,
) -> tuple[list[WindowMaps], list[Similarity], list[int]]:
    """What a network might say of ``windows``: maps, the true similarities window -> world, and which are outliers.

    ``noise``: of each point, Gaussian, as a share of its distance from its camera. ``camera_noise``: of the cameras'
    rotations (radians) and centres (share of the mean distance). ``bend``: a smooth error, the same for all frames of
    a window: points are pushed by a random quadratic in their position, of that share of their distance, as networks
    do. Scales jump by up to a factor 2 from window to window. ``outlier_points``: share of the pixels that lie
    anywhere. ``outliers``: share of the windows that are wrong as a whole, rounded.
    """
    bad = torch.randperm(len(windows), generator=generator)[: round(outliers * len(windows))].tolist()
    maps, truths = [], []

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    for number, window in enumerate(windows):
        rows = list(window.frames)
        c2w = walk.cameras.c2w[rows]
        to_window = invert_rigid(c2w[0])
        local = to_window @ c2w
        points = transform_points(to_window[None], walk.points[rows])
        reach = (points - local[:, None, None, :3, 3]).norm(dim=-1, keepdim=True)
        unit = reach.mean()

        coefficients = normal(4, 3)
        if number in bad:
            # As wrong as a network that took the clip for another: bent out of shape, each frame in its own way.
            points = torch.stack([_bent(frame, 0.5, normal(4, 3), unit) for frame in points])
            local = torch.cat((local[:1], local[1:] @ rigid(rotation_vector_to_matrix(0.5 * normal(len(rows) - 1, 3)),
                                                            0.3 * unit * normal(len(rows) - 1, 3))))  # fmt: skip
        elif bend:
            points = _bent(points, bend, coefficients, unit)
            moved = _bent(local[:, :3, 3], bend, coefficients, unit)
            local = rigid(local[:, :3, :3], moved - moved[:1])
            points = points - moved[0]
        points = points + noise * reach * normal(*points.shape)
        if outlier_points:
            wild = torch.rand(*points.shape[:-1], 1, generator=generator, dtype=torch.float64) < outlier_points
            points = torch.where(wild, 2 * unit * normal(*points.shape), points)
        shaken = rigid(
            rotation_vector_to_matrix(camera_noise * normal(len(rows), 3)), camera_noise * unit * normal(len(rows), 3)
        )
        local = torch.cat((local[:1], (local @ shaken)[1:]))
        scale = (2.0 ** (2 * torch.rand((), generator=generator, dtype=torch.float64) - 1)) / unit
        local = rigid(local[:, :3, :3], scale * local[:, :3, 3])
        maps.append(_maps(rows, scale * points, Cameras(local, walk.cameras.intrinsics[rows], walk.cameras.size)))
        truths.append(Similarity(1 / scale, c2w[0, :3, :3], c2w[0, :3, 3]))
    return maps, truths, sorted(bad)


def _bent(at: Tensor, by: float, coefficients: Tensor, unit: Tensor) -> Tensor:
    """Points pushed by a quadratic in their position over ``unit``."""
    x = (at / unit).clamp(-3, 3)
    quadratic = torch.stack((x[..., 0] ** 2, x[..., 0] * x[..., 2], x[..., 2] ** 2, x[..., 1] * x[..., 2]), -1)
    return at + by * unit * (quadratic @ coefficients)


def _maps(frames: list[int], points: Tensor, cameras: Cameras) -> WindowMaps:
    row = {frame: number for number, frame in enumerate(frames)}

    def read(frame: int) -> PointMap:
        return PointMap(points[row[frame]], torch.ones(points.shape[1:3], dtype=points.dtype))

    return WindowMaps(tuple(frames), cameras, read)

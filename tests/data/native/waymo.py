"""Waymo's files: a drive as a TFRecord file of frames in protobuf's wire format, written from the truth of a clip.

The lidar on the roof has a pose of its own for every cell, chosen here so that each cell's ray ends in a point of the
truth; a second lidar, in front, sees nothing of it. The world is metres away from its origin by thousands.
"""

import math
import struct
import zlib
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from native.kubric import _rigid_between, field, record, varint
from native.scenes import FRAMES, HEIGHT, WIDTH, pictures
from vdpm.geometry.rigid import rigid, rotation_vector_to_matrix, transform_points
from vdpm.structures import Snippet
from vdpm.synthetic import generate, held_out_seeds
from vdpm.synthetic.families import FAMILIES

FRONT, OTHER, TOP = 1, 3, 1
START = 1543251275_000_000
STEP = 100_057
"""Microseconds."""
ROWS, COLUMNS = 48, 80
QUANTUM = 1e-3
"""Poses of cells are float32, thousands of metres from the origin."""
ON_CAR = rigid(
    rotation_vector_to_matrix(torch.tensor([0.02, -0.05, 0.1], dtype=torch.float64)),
    torch.tensor([1.54, -0.02, 2.1], dtype=torch.float64),
)
"""The camera on the car, Waymo's axes: x forward, y left, z up."""
LIDAR_YAW, LIDAR_PLACE = 2.58, (1.43, 0.0, 2.18)
ZONE = slice(0, 10)
"""Columns of the picture whose points lie in a zone without labels."""


@dataclass(frozen=True)
class Drive:
    """What a drive's file holds of the truth. ``hit``: pixels with a point; ``known``: [targets frames h w]."""

    hit: Tensor
    known: Tensor


@cache
def driving_clip(size: tuple[int, int] = (HEIGHT, WIDTH), frames: int = FRAMES) -> Snippet:
    """Things that slide and turn about the vertical, as boxes can follow."""
    motions = replace(
        FAMILIES["rigid"].motions, **dict.fromkeys(("hop", "drop", "roll", "slide", "spin", "top"), 0.0), straight=1.0
    )
    config = replace(
        FAMILIES["rigid"],
        **{"num_frames": frames, "height": size[0], "width": size[1], "frame_stride": (1, 1)},
        **{"room_weight": 0.0, "tabletop_weight": 0.0, "open_weight": 0.5, "street_weight": 0.5},
        motions=replace(motions, collision_share=0.0),
    )
    return generate(held_out_seeds(1, start=84), config).clip(0)


@cache
def world() -> Tensor:
    """From the world of the clip to one whose z is up: the axis that everything turns about."""
    axes = []
    truth = driving_clip()
    for number in moving(truth):
        turn = _motions(truth, number)[-1, :3, :3]
        axis = torch.stack((turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]))
        if float(axis.norm()) > 0.05:
            axes.append(axis / axis.norm() * -axis[1].sign())
    up = torch.stack(axes).mean(0)
    up = up / up.norm()
    forward = torch.tensor([0.3, 0, 1], dtype=torch.float64)
    forward = forward - up * (forward @ up)
    x = forward / forward.norm()
    return rigid(
        torch.stack((x, torch.linalg.cross(up, x), up)), torch.tensor([4512.3, -2871.6, 31.2], dtype=torch.float64)
    )


def moving(truth: Snippet) -> list[int]:
    assert truth.instances is not None
    moves = ((truth.target_points - truth.points).norm(dim=-1).amax(0) > 1e-4) & truth.valid
    return [n for n in truth.instances.unique().tolist() if n and bool(moves[truth.instances == n].any())]


def write_waymo(
    path: Path,
    truth: Snippet,
    distortion: tuple[float, ...] = (0.0,) * 5,
    taken: Tensor | None = None,
    without: tuple[int, int] | None = None,
    quality: int = 95,
    every: int = 2,
    grid: tuple[int, int] = (ROWS, COLUMNS),
) -> Drive:
    """Every second pixel (or ``every``-th) has a point; the lidar on the roof has a ``grid`` of cells.

    ``taken`` [h w 2]: where the pixels lie in the picture as the lens shows it. ``without``: a moving thing (by its
    place among them) has no label in this frame. The first one's points come as second projections.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    count = truth.num_frames
    things = moving(truth)
    assert truth.instances is not None
    motions = {n: world() @ _motions(truth, n) @ torch.linalg.inv(world()) for n in things}
    row, column = torch.meshgrid(*(torch.arange(side) for side in truth.size), indexing="ij")
    every_box = [[(n, _box(truth, truth.instances == n, motions[n], time)) for n in things] for time in range(count)]
    hit = truth.valid & ((row + column) % every == 0) & ~_in_foreign_box(truth, every_box)
    known = hit.expand(count, -1, -1, -1).clone()
    known[..., ZONE] = False
    boxes: list[list[tuple[str, np.ndarray]]] = [[] for _ in range(count)]
    for place, thing in enumerate(things):
        where = truth.instances == thing
        for time in range(count):
            if without == (place, time):
                known[time, where] = False
            else:
                boxes[time].append((f"object-{thing}", every_box[time][place][1]))
    own = torch.eye(count, dtype=torch.bool)[:, :, None, None]
    records = [
        record(_frame(truth, time, hit[time], boxes[time], distortion, taken, things[0], quality, grid))
        for time in range(count)
    ]
    path.write_bytes(b"".join(records))
    return Drive(hit, torch.where(own, hit, known))


def number(index: int, value: int) -> bytes:
    return varint(index << 3) + varint(value & (2**64 - 1))


def doubles(index: int, *values: float) -> bytes:
    """One by one, as proto2 has them unless told otherwise."""
    return b"".join(varint(index << 3 | 1) + struct.pack("<d", value) for value in values)


def transform(index: int, matrix: Tensor) -> bytes:
    return field(index, doubles(1, *matrix.flatten().tolist()))


def matrix(values: np.ndarray) -> bytes:
    """MatrixFloat or MatrixInt32, compressed."""
    if values.dtype.kind == "f":
        data = field(1, values.astype("<f4").tobytes())
    else:
        data = field(1, b"".join(varint(value & (2**64 - 1)) for value in values.ravel().tolist()))
    return zlib.compress(data + field(2, b"".join(number(1, side) for side in values.shape)))


def lidar_calibration(name: int, extrinsic: Tensor, beams: np.ndarray | None, low: float, high: float) -> bytes:
    given = b"" if beams is None else doubles(2, *beams.tolist())
    return field(3, number(1, name) + given + doubles(3, low) + doubles(4, high) + transform(5, extrinsic))


def lidar(name: int, image: np.ndarray, seen: np.ndarray, poses: np.ndarray | None = None) -> bytes:
    content = field(2, matrix(image)) + field(3, matrix(seen))
    return field(5, number(1, name) + field(2, content + (b"" if poses is None else field(4, matrix(poses)))))


def label(name: str, box: np.ndarray) -> bytes:
    """center, then length, width, height, heading."""
    x, y, z, length, width, height, heading = box.tolist()
    content = doubles(1, x) + doubles(2, y) + doubles(3, z) + doubles(4, width) + doubles(5, length)
    content += doubles(6, height) + doubles(7, heading)
    return field(6, field(1, content) + number(3, 1) + field(4, name.encode()))


def car(time: int) -> Tensor:
    """The frame's pose, upright: not where any picture was taken."""
    yaw = 0.4 + 0.03 * time
    turn = rotation_vector_to_matrix(torch.tensor([0, 0, yaw], dtype=torch.float64))
    return rigid(turn, world()[:3, 3] + torch.tensor([0.5 * time, 0.2 * time, -1.9], dtype=torch.float64))


def _frame(
    truth: Snippet,
    time: int,
    hit: Tensor,
    boxes: list[tuple[str, np.ndarray]],
    distortion: tuple[float, ...],
    taken: Tensor | None,
    first_thing: int,
    quality: int,
    grid: tuple[int, int],
) -> bytes:
    k = truth.intrinsics[time].double()
    numbers = (float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]), *distortion)
    other = field(2, number(1, OTHER) + doubles(2, 1.0, 1.0, 0.0, 0.0, *(0.0,) * 5) + transform(3, torch.eye(4)))
    camera = (
        number(1, FRONT)
        + doubles(2, *numbers)
        + transform(3, ON_CAR)
        + number(4, truth.size[1])
        + number(5, truth.size[0])
    )
    mounted = rigid(
        rotation_vector_to_matrix(torch.tensor([0, 0, LIDAR_YAW], dtype=torch.float64)),
        torch.tensor(LIDAR_PLACE, dtype=torch.float64),
    )
    beams = np.sort(
        np.concatenate((np.linspace(-0.31, -0.02, grid[0] // 2), np.linspace(-0.015, 0.04, grid[0] - grid[0] // 2)))
    )
    context = field(1, b"segment") + other + field(2, camera)
    context += lidar_calibration(TOP, mounted, beams, -0.31, 0.04)
    context += lidar_calibration(2, torch.eye(4, dtype=torch.float64), None, -1.5, 0.5)
    # Waymo's cameras look along x with y to the left and z up.
    to_opencv = torch.tensor([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
    pose = world() @ truth.c2w[time].double() @ to_opencv @ torch.linalg.inv(ON_CAR)
    stream = BytesIO()
    Image.fromarray(pictures(truth)[time].numpy()).save(stream, format="JPEG", quality=quality)
    image = number(1, FRONT) + field(2, stream.getvalue()) + transform(3, pose)
    assert truth.instances is not None
    rows, columns = (part.numpy() for part in hit.nonzero().T)
    points = transform_points(world(), truth.points[time][hit].double()).numpy()
    pixels = np.stack((columns, rows), -1) if taken is None else taken[hit].floor().long().numpy()
    in_zone = np.where((columns >= ZONE.start) & (columns < ZONE.stop), 1.0, -1.0)
    as_second = (truth.instances[time][hit] == first_thing).numpy()
    sweep = _sweep(points, pixels, in_zone, as_second, beams, mounted.numpy(), pose.numpy(), grid[1])
    nothing = np.full((4, 6, 4), -1.0, np.float32), np.zeros((4, 6, 6), np.int32)
    content = field(1, context) + number(2, START + time * STEP) + transform(3, car(time))
    content += field(4, number(1, OTHER) + field(2, b"")) + field(4, image)
    content += lidar(TOP, *sweep) + lidar(2, *nothing)
    return content + b"".join(label(*one) for one in [*boxes, ("somewhere", np.array([40.0, 0, 0, 2, 1, 1, 0]))])


def _sweep(
    points: np.ndarray,
    pixels: np.ndarray,
    in_zone: np.ndarray,
    as_second: np.ndarray,
    beams: np.ndarray,
    mounted: np.ndarray,
    pose: np.ndarray,
    columns: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Range image, projections and poses: the points in cells from the first on, then some that must not be taken."""
    count = len(points)
    assert count + 60 < len(beams) * columns
    image = np.full((len(beams), columns, 4), -1.0, np.float32)
    seen, poses = np.zeros((len(beams), columns, 6), np.int32), np.zeros((len(beams), columns, 6), np.float32)
    # Behind the first 40, in the same pixels; then points that only the other camera sees.
    eye = (pose @ ON_CAR.numpy())[:3, 3]
    behind = eye + 1.2 * (points[:40] - eye)
    points = np.concatenate((points, behind, points[:20] * 0.5 + eye * 0.5))
    pixels = np.concatenate((pixels, pixels[:40], pixels[:20]))
    in_zone = np.concatenate((in_zone, in_zone[:60]))
    for cell, point in enumerate(points):
        row, column = divmod(cell, columns)
        tilt, middle = beams[::-1][row], (column + 0.5) / columns
        # The left edge of the image looks back, its middle ahead, its right edge back again, whatever the mounting.
        azimuth = math.pi - 2 * math.pi * middle
        reach = 5.0 + 0.01 * cell
        level = np.array([math.cos(azimuth), math.sin(azimuth), 0]) * math.cos(tilt) + np.array([0, 0, math.sin(tilt)])
        # ``level`` is along the car's axes, since the mounting only turns about z.
        from_car = mounted[:3, 3] + np.float32(reach) * level
        roll, pitch, yaw = (
            np.float32(0.01 * (row % 5)),
            np.float32(-0.02 + 0.001 * column),
            np.float32(0.4 + 0.002 * row),
        )
        turn = _about(2, float(yaw)) @ _about(1, float(pitch)) @ _about(0, float(roll))
        poses[row, column] = (roll, pitch, yaw, *(point - turn @ from_car))
        image[row, column] = (reach, 0.1, 0.2, in_zone[cell])
        front = (FRONT, *pixels[cell])
        if cell >= count + 40:
            seen[row, column] = (OTHER, 1, 1, 0, 0, 0)
        elif cell < count and as_second[cell]:
            seen[row, column] = (OTHER, 7, 9, *front)
        else:
            seen[row, column] = (*front, OTHER, 3, 2)
    image[-1, -1] = (0.0, 0, 0, -1)
    seen[-1, -1] = (FRONT, 2, 2, 0, 0, 0)
    return image, seen, poses


def _about(axis: int, angle: float) -> np.ndarray:
    """Right-handed rotation about an axis, by its textbook matrix."""
    c, s = math.cos(angle), math.sin(angle)
    return np.array(
        {0: [[1, 0, 0], [0, c, -s], [0, s, c]], 1: [[c, 0, s], [0, 1, 0], [-s, 0, c]]}.get(
            axis, [[c, -s, 0], [s, c, 0], [0, 0, 1]]
        )
    )


def _motions(truth: Snippet, thing: int) -> Tensor:
    """[frames 4 4], in the clip's world, from the first frame."""
    assert truth.instances is not None
    there = truth.target_points[:, truth.instances == thing].double()
    return torch.stack([_rigid_between(there[0], at) for at in there])


def _in_foreign_box(truth: Snippet, boxes: list[list[tuple[int, np.ndarray]]]) -> Tensor:
    """[frames h w], what lies in the box of a thing that it is no part of, such as the street under a car."""
    assert truth.instances is not None
    foreign = torch.zeros_like(truth.valid)
    for time, things in enumerate(boxes):
        points = transform_points(torch.linalg.inv(car(time)) @ world(), truth.points[time].double())
        for thing, (x, y, z, length, width, height, heading) in things:
            ahead, left = points[..., 0] - x, points[..., 1] - y
            along = math.cos(heading) * ahead + math.sin(heading) * left
            across = -math.sin(heading) * ahead + math.cos(heading) * left
            local = torch.stack((along / length, across / width, (points[..., 2] - z) / height), -1)
            foreign[time] |= (local.abs().amax(-1) < 0.51) & (truth.instances[time] != thing)
    return foreign


def _box(truth: Snippet, where: Tensor, motions: Tensor, time: int) -> np.ndarray:
    """Around the thing's points, upright in the vehicle's frame, with a heading that turns as the thing does."""
    points = transform_points(world(), truth.target_points[0][where].double())
    heading = 0.7
    turn = rotation_vector_to_matrix(torch.tensor([0, 0, heading], dtype=torch.float64))
    local = points @ turn
    low, high = local.amin(0) - 0.02, local.amax(0) + 0.02
    at_start = rigid(turn, turn @ ((low + high) / 2))
    here = torch.linalg.inv(car(time)) @ motions[time] @ at_start
    assert float((here[2, :3] - torch.tensor([0, 0, 1], dtype=torch.float64)).abs().max()) < 1e-3, "it does not stand"
    return np.array([*here[:3, 3].tolist(), *(high - low).tolist(), math.atan2(here[1, 0], here[0, 0])])

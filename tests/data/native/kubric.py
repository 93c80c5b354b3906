"""Kubric's files: a folder as Kubric writes it, and a TFRecord file as TFDS stores MOVi."""

import json
import struct
import zlib
from dataclasses import dataclass, replace
from io import BytesIO
from itertools import product
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from native.scenes import WORLD, c2w_in_files, clip, pictures
from vdpm.data.readers.tfrecord import masked_crc
from vdpm.geometry.pinhole import unproject
from vdpm.geometry.rigid import matrix_to_quaternion, rigid, transform_points
from vdpm.structures import Snippet

SENSOR_WIDTH = 32.0
DOME = 15.0
"""Distance of the dome that stands where the scene has sky: Kubric's scenes are closed."""


@dataclass(frozen=True)
class Scene:
    """What the files hold: positions and quaternions (wxyz) of OpenGL cameras, boxes [instances frames 8 3],
    numbers of instances, and coordinates in the boxes, 0 to 1."""

    truth: Snippet
    positions: np.ndarray
    quaternions: np.ndarray
    focal: float
    boxes: np.ndarray
    instances: np.ndarray
    coordinates: np.ndarray
    distance: np.ndarray


def domed(truth: Snippet) -> Snippet:
    """The clip with a surface that stands still in place of the sky."""
    ones = torch.ones_like(truth.points[..., 0])
    rays = unproject(ones, truth.intrinsics)
    there = transform_points(truth.c2w, DOME * rays / rays.norm(dim=-1, keepdim=True))
    sky = ~truth.valid[..., None]
    points = torch.where(sky, there, truth.points)
    moved = torch.where(sky, there, truth.target_points)
    return replace(truth, points=points, target_points=moved, valid=torch.ones_like(truth.valid), sky=None)


def kubric_scene(truth: Snippet) -> Scene:
    """Boxes from the motion of each moving object, which is rigid; what stands is background."""
    assert truth.instances is not None
    world = transform_points(WORLD, truth.target_points.double())
    moves = (truth.target_points - truth.points).norm(dim=-1).amax(0) > 1e-4
    numbers = [n for n in truth.instances.unique().tolist() if n and bool(moves[truth.instances == n].any())]
    instances, coordinates = torch.zeros_like(truth.instances), torch.zeros(*truth.instances.shape, 3).double()
    corners = torch.tensor(list(product((-0.5, 0.5), repeat=3)), dtype=torch.float64)
    boxes = []
    for label, number in enumerate(numbers, 1):
        where = truth.instances == number
        there = world[:, where]
        motion = torch.stack([_rigid_between(there[0], at) for at in there])
        off = (transform_points(motion, there[0].expand_as(there)) - there).norm(dim=-1)
        assert float(off.max()) < 1e-4, "this object does not move as one"
        low, high = there[0].amin(0) - 0.01, there[0].amax(0) + 0.01
        at_start = (low + high) / 2 + corners * (high - low)
        boxes.append(transform_points(motion, at_start.expand(len(motion), 8, 3)))
        instances[where] = label
        coordinates[where] = (there[0] - low) / (high - low)
    c2w = c2w_in_files(truth)
    opengl = c2w @ torch.diag(torch.tensor([1.0, -1, -1, 1], dtype=torch.float64))
    distance = (transform_points(WORLD, truth.points.double()) - c2w[:, None, None, :3, 3]).norm(dim=-1)
    return Scene(
        truth=truth,
        positions=c2w[:, :3, 3].numpy(),
        quaternions=matrix_to_quaternion(opengl[:, :3, :3])[:, [3, 0, 1, 2]].numpy(),
        focal=float(truth.intrinsics[0, 0, 0]) / truth.size[1] * SENSOR_WIDTH,
        boxes=torch.stack(boxes).numpy(),
        instances=instances.numpy().astype(np.uint8),
        coordinates=np.round(coordinates.numpy() * 65535).astype(np.uint16),
        distance=distance.numpy(),
    )


def write_kubric_folder(folder: Path, scene: Scene) -> Path:
    folder.mkdir(parents=True)
    for index, picture in enumerate(pictures(scene.truth).numpy()):
        opaque = np.concatenate((picture, np.full_like(picture[..., :1], 255)), axis=-1)
        distance = np.where(scene.truth.valid[index].numpy(), scene.distance[index], 1e10).astype(np.float32)
        Image.fromarray(opaque).save(folder / f"rgba_{index:05d}.png")
        Image.fromarray(distance).save(folder / f"depth_{index:05d}.tiff")
        segments = Image.fromarray(scene.instances[index]).convert("P")
        segments.putdata(scene.instances[index].ravel().tolist())
        segments.save(folder / f"segmentation_{index:05d}.png")
        (folder / f"object_coordinates_{index:05d}.png").write_bytes(png(scene.coordinates[index]))
    camera = {"focal_length": scene.focal, "sensor_width": SENSOR_WIDTH}
    camera |= {"positions": scene.positions.tolist(), "quaternions": scene.quaternions.tolist()}
    instances = [{"bboxes_3d": boxes.tolist(), "is_dynamic": False} for boxes in scene.boxes]
    (folder / "metadata.json").write_text(json.dumps({"camera": camera, "instances": instances}))
    return folder


def write_movi(path: Path, scenes: list[Scene]) -> float:
    """Returns the step of stored distances."""
    path.parent.mkdir(parents=True, exist_ok=True)
    records, quantum = [], 0.0
    for scene in scenes:
        low, high = float(np.float32(scene.distance.min())), float(np.float32(scene.distance.max()))
        stored = np.round((scene.distance - low) / (high - low) * 65535).astype(np.uint16)
        quantum = max(quantum, (high - low) / 65535)
        features = {
            "video": [encoded(picture) for picture in pictures(scene.truth).numpy()],
            "depth": [png(one[..., None]) for one in stored],
            "segmentations": [encoded(one) for one in scene.instances],
            "object_coordinates": [png(one) for one in scene.coordinates],
            "metadata/depth_range": np.array([low, high], np.float32),
            "metadata/num_frames": [len(stored)],
            "camera/focal_length": np.array([scene.focal], np.float32),
            "camera/sensor_width": np.array([SENSOR_WIDTH], np.float32),
            "camera/positions": scene.positions.ravel().astype(np.float32),
            "camera/quaternions": scene.quaternions.ravel().astype(np.float32),
            "instances/bboxes_3d": scene.boxes.ravel().astype(np.float32),
        }
        records.append(record(example(features)))
    path.write_bytes(b"".join(records))
    return quantum


def closed_scene() -> Scene:
    return kubric_scene(domed(clip()))


def png(values: np.ndarray) -> bytes:
    """[h w 1 or 3], 16 bit, big-endian; every second row with the filter that subtracts the row above."""
    height, width, channels = values.shape
    raw = values.astype(">u2").tobytes()
    stride = width * channels * 2
    rows = [np.frombuffer(raw[y * stride : (y + 1) * stride], np.uint8) for y in range(height)]
    lines = [
        b"\0" + row.tobytes() if y % 2 == 0 else b"\2" + (row - rows[y - 1]).tobytes() for y, row in enumerate(rows)
    ]
    head = struct.pack(">IIBBBBB", width, height, 16, 2 if channels == 3 else 0, 0, 0, 0)
    parts = [(b"IHDR", head), (b"IDAT", zlib.compress(b"".join(lines))), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def encoded(picture: np.ndarray) -> bytes:
    stream = BytesIO()
    Image.fromarray(picture).save(stream, format="PNG")
    return stream.getvalue()


def record(message: bytes) -> bytes:
    length = struct.pack("<Q", len(message))
    return length + struct.pack("<I", masked_crc(length)) + message + struct.pack("<I", 0)


def example(features: dict) -> bytes:
    """tf.train.Example: whole numbers one by one, floats packed, as protobuf allows both."""
    entries = b""
    for name, value in features.items():
        if isinstance(value, np.ndarray):
            feature = field(2, field(1, value.astype("<f4").tobytes()))
        elif isinstance(value[0], bytes):
            feature = field(1, b"".join(field(1, one) for one in value))
        else:
            feature = field(3, b"".join(b"\x08" + varint(one) for one in value))
        entries += field(1, field(1, name.encode()) + field(2, feature))
    return field(1, entries)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def _rigid_between(here: Tensor, there: Tensor) -> Tensor:
    """Kabsch: the rigid motion from points to points."""
    a, b = here - here.mean(0), there - there.mean(0)
    u, _, v = torch.linalg.svd(b.T @ a)
    rotation = u @ torch.diag(torch.tensor([1.0, 1, float(torch.det(u @ v).sign())], dtype=torch.float64)) @ v
    return rigid(rotation, there.mean(0) - rotation @ here.mean(0))

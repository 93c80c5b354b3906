"""RGB-D recordings: TUM's and Bonn's files, and those of 7-Scenes."""

from pathlib import Path

import numpy as np
from PIL import Image

from native.scenes import c2w_in_files, depth, pictures
from vdpm.geometry.rigid import matrix_to_quaternion
from vdpm.structures import Snippet

START = 1311868164.3631
"""Seconds since 1970, as in the recordings: float32 would round these to two minutes."""
STEP = 1 / 30
DEPTH_QUANTUM = 1 / 5000


def calibration(truth: Snippet) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy, the first pixel's centre at 0."""
    k = truth.intrinsics[0].double()
    return float(k[0, 0]), float(k[1, 1]), float(k[0, 2]) - 0.5, float(k[1, 2]) - 0.5


def write_tum(folder: Path, truth: Snippet, depth_lag: float = 0.007, poses_per_frame: int = 3) -> Path:
    """Depth comes ``depth_lag`` seconds after its colours, poses at a higher rate, those between frames far away."""
    (folder / "rgb").mkdir(parents=True)
    (folder / "depth").mkdir()
    z = np.round(depth(truth).numpy() * 5000).astype(np.uint16)
    c2w = c2w_in_files(truth)
    quaternions = matrix_to_quaternion(c2w[:, :3, :3])
    colours, depths, poses = ["# color images"], ["# depth maps"], ["# timestamp tx ty tz qx qy qz qw"]
    for index, picture in enumerate(pictures(truth).numpy()):
        time = START + index * STEP
        Image.fromarray(picture).save(folder / "rgb" / f"{time:.6f}.png")
        colours.append(f"{time:.6f} rgb/{time:.6f}.png")
        later = time + depth_lag
        Image.fromarray(z[index]).save(folder / "depth" / f"{later:.6f}.png")
        depths.append(f"{later:.6f} depth/{later:.6f}.png")
        for part in range(poses_per_frame):
            far = 5.0 * (part > 0)
            numbers = [*(c2w[index, :3, 3] + far).tolist(), *quaternions[index].tolist()]
            poses.append(f"{time + part * STEP / poses_per_frame:.6f} " + " ".join(f"{n:.7f}" for n in numbers))
    (folder / "rgb.txt").write_text("\n".join(colours) + "\n")
    (folder / "depth.txt").write_text("\n".join(depths) + "\n")
    (folder / "groundtruth.txt").write_text("\n".join(poses) + "\n")
    return folder


PLANE = np.array([0.3, -0.2, 1.0]), 2.0
"""Normal n and distance d: points X with n X = d."""


def write_bent(folder: Path, camera: tuple[float, ...], size: tuple[int, int] = (480, 640), frames: int = 2) -> Path:
    """TUM's files of a slanted plane as a lens shows it that bends; ``camera``: fx, fy, cx, cy, k1, k2, p1, p2, k3."""
    for name in ("rgb", "depth"):
        (folder / name).mkdir(parents=True)
    fx, fy, cx, cy = camera[:4]
    row, column = np.mgrid[: size[0], : size[1]].astype(np.float64)
    taken = np.stack(((column - cx) / fx, (row - cy) / fy), -1)
    rays = taken
    # What the lens does to the ray of a pixel, taken back.
    for _ in range(200):
        rays = rays + (taken - bent(rays, camera[4:]))
    assert np.abs(bent(rays, camera[4:]) - taken).max() < 1e-9
    for index in range(frames):
        time = f"{START + index * STEP:.6f}"
        Image.fromarray(np.round(plane_colours(rays)).astype(np.uint8)).save(folder / "rgb" / f"{time}.png")
        depth = np.round(plane_depth(rays) / DEPTH_QUANTUM).astype(np.uint16)
        Image.fromarray(depth).save(folder / "depth" / f"{time}.png")
        for name in ("rgb", "depth"):
            with (folder / f"{name}.txt").open("a") as stream:
                stream.write(f"{time} {name}/{time}.png\n")
        with (folder / "groundtruth.txt").open("a") as stream:
            stream.write(f"{time} 0 0 0 0 0 0 1\n")
    return folder


def bent(rays: np.ndarray, distortion: tuple[float, ...]) -> np.ndarray:
    """OpenCV's model on the plane at depth 1, number by number."""
    k1, k2, p1, p2, k3 = distortion
    x, y = rays[..., 0], rays[..., 1]
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
    along_x = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    along_y = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    return np.stack((along_x, along_y), -1)


def plane_depth(rays: np.ndarray) -> np.ndarray:
    """z in metres of the plane's point on each ray (x, y)."""
    normal, distance = PLANE
    return distance / (rays @ normal[:2] + normal[2])


def plane_colours(rays: np.ndarray) -> np.ndarray:
    """The plane is painted so that colour tells the ray."""
    x, y = rays[..., 0], rays[..., 1]
    return np.stack((128 + 150 * x, 128 + 150 * y, 128 + 80 * (x - y)), -1)


def write_seven_scenes(folder: Path, truth: Snippet) -> Path:
    folder.mkdir(parents=True)
    np.savetxt(folder / "camera-intrinsics.txt", truth.intrinsics[0].double().numpy())
    z = np.round(depth(truth).numpy() * 1000).astype(np.uint16)
    z[z == 0] = 65535
    for index, picture in enumerate(pictures(truth).numpy()):
        stem = f"frame-{index:06d}"
        Image.fromarray(picture).save(folder / f"{stem}.color.png")
        Image.fromarray(z[index]).save(folder / f"{stem}.depth.png")
        np.savetxt(folder / f"{stem}.pose.txt", c2w_in_files(truth)[index].numpy())
    return folder

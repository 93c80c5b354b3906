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

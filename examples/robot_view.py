"""A video as a robot wants it: at every frame the time, the camera's pose and lens, depth, and what moves.

    python examples/robot_view.py clip.mp4 --metres 2.5 -o robot

Poses are in a world with x forward, y left and z up (ROS, REP 103) whose origin is the first camera; depth and lens are
those of the video's own pixels. ``--metres`` is the length of one unit of the result, measured on something of known
size: a video alone does not tell it. Written are trajectory.txt (TUM: seconds x y z qx qy qz qw, of the camera's
optical frame) and depth/00000.png (16 bit, millimetres, 0 where unsure or beyond 65 m); printed is the nearest thing
that moves.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import vdpm
from vdpm.geometry.rigid import matrix_to_quaternion

ROS_FROM_OPENCV = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""x forward is OpenCV's z, y left its -x, z up its -y."""


@dataclass(frozen=True, eq=False)
class RobotView:
    """One frame. ``pose``: optical frame (x right, y down, z forward) to world (x forward, y left, z up), metres.

    ``intrinsics``: 3 x 3, pixels of the video. ``depth``: metres, nan where unsure. ``moving``: pixels that move in the
    world while the video lasts.
    """

    seconds: float
    pose: torch.Tensor
    intrinsics: torch.Tensor
    depth: torch.Tensor
    moving: torch.Tensor


def views(result: vdpm.Reconstruction, metres: float, min_confidence: float) -> Iterator[RobotView]:
    """Frame after frame, one in memory at a time. ``metres``: length of the result's unit."""
    to_video = result.transform
    for frame in result.maps.sources:
        pose = ROS_FROM_OPENCV @ result.cameras.c2w[frame].float()
        pose[:3, 3] *= metres
        sure = result.maps.time_variant(frame).confidence >= min_confidence
        maps = torch.stack([vdpm.depth(result, frame) * metres, sure.float()])
        depth, known = to_video.restore(maps, mode="nearest")
        moving = to_video.restore(vdpm.motion_mask(result, frame)[None], mode="nearest", fill=0)[0]
        yield RobotView(
            seconds=float(result.timestamps[frame]),
            pose=pose,
            intrinsics=to_video.intrinsics_to_source(result.cameras.intrinsics[frame]),
            depth=torch.where(known > 0, depth, torch.nan),
            moving=moving,
        )


def nearest_mover(view: RobotView) -> tuple[float, torch.Tensor] | None:
    """Distance from the camera and place in the world of the nearest thing that moves; None where nothing does.

    The nearest 5 % of the moving pixels are left out: some are wrong.
    """
    rows, columns = torch.nonzero(view.moving & view.depth.isfinite(), as_tuple=True)
    if len(rows) < 20:
        return None
    pixels = torch.stack([columns + 0.5, rows + 0.5, torch.ones(len(rows))])
    rays = torch.linalg.inv(view.intrinsics) @ pixels
    points = rays * view.depth[rows, columns]
    distance = points.norm(dim=0)
    chosen = int(distance.argsort()[len(distance) // 20])
    return float(distance[chosen]), view.pose[:3, :3] @ points[:, chosen] + view.pose[:3, 3]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, help="a video, or a folder written by vdpm reconstruct")
    parser.add_argument("-o", "--output", type=Path, default=Path("robot"))
    parser.add_argument("--metres", type=float, default=1.0, help="length of one unit of the result")
    parser.add_argument("--min-confidence", type=float, default=1.5, help="below it depth is unknown")
    arguments = parser.parse_args()
    if not 0 < arguments.metres < float("inf"):
        parser.error(f"--metres {arguments.metres:g} must be above 0, the length of one unit of the result")
    saved = (arguments.video / "reconstruction.json").exists()
    try:
        result = vdpm.load(arguments.video) if saved else vdpm.reconstruct(arguments.video, progress=True)
    except vdpm.VDPMError as error:
        parser.exit(error.exit_code, f"{parser.prog}: error: {error}\n")

    (arguments.output / "depth").mkdir(parents=True, exist_ok=True)
    lines = ["# seconds x y z qx qy qz qw: camera's optical frame in a world of x forward, y left, z up; metres"]
    for number, view in enumerate(views(result, arguments.metres, arguments.min_confidence)):
        turn = matrix_to_quaternion(view.pose[:3, :3]).tolist()
        place = view.pose[:3, 3].tolist()
        lines.append(" ".join(f"{value:.6f}" for value in (view.seconds, *place, *turn)))
        millimetres = (1000 * view.depth).nan_to_num(0).round()
        # What 16 bits cannot say is unknown, and no wall at 65.5 m.
        millimetres = torch.where((millimetres > 0) & (millimetres <= 65535), millimetres, 0)
        Image.fromarray(millimetres.numpy().astype(np.uint16)).save(arguments.output / "depth" / f"{number:05d}.png")
        found = nearest_mover(view)
        said = "nothing moves"
        if found is not None:
            said = f"something moves {found[0]:.2f} m away, at ({', '.join(f'{v:.2f}' for v in found[1].tolist())})"
        print(f"{view.seconds:.2f} s: {said}")
    (arguments.output / "trajectory.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

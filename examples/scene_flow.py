"""How everything in a video moves, in 3D and free of the camera's motion, as arrays and as a picture.

    python examples/scene_flow.py clip.mp4 -o flow.npz

flow.npz then holds, for each frame but the last: ``points`` [frames - 1, height, width, 3] where its pixels are,
``flow`` of the same shape how far they move until the next frame, ``moving`` [frames - 1, height, width], and
``seconds`` between the two. flow.webp shows them, white is rest.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import vdpm
from vdpm.export.colors import motion_colors

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("video", type=Path, help="a video, or a folder written by vdpm reconstruct")
parser.add_argument("-o", "--output", type=Path, default=Path("flow.npz"))
arguments = parser.parse_args()
if not arguments.output.parent.is_dir():
    parser.error(f"{arguments.output}: there is no folder {arguments.output.parent}; make it first")

saved = (arguments.video / "reconstruction.json").exists()
try:
    result = vdpm.load(arguments.video) if saved else vdpm.reconstruct(arguments.video, progress=True)
except vdpm.VDPMError as error:
    parser.exit(error.exit_code, f"{parser.prog}: error: {error}\n")

frames = range(len(result) - 1)
points = np.stack([result.maps.time_variant(frame).points.numpy() for frame in frames])
flow = np.stack([vdpm.scene_flow(result, source=frame, start=frame, end=frame + 1).numpy() for frame in frames])
moving = np.stack([vdpm.motion_mask(result, source=frame).numpy() for frame in frames])
seconds = np.diff(result.timestamps.numpy())
np.savez_compressed(arguments.output, points=points, flow=flow, moving=moving, seconds=seconds)

full = max(float(np.quantile(np.linalg.norm(flow, axis=-1), 0.98)), 1e-6)
pictures = [Image.fromarray(motion_colors(values, full)) for values in flow]
pictures[0].save(arguments.output.with_suffix(".webp"), save_all=True, append_images=pictures[1:], duration=150, loop=0)

speed = np.linalg.norm(flow, axis=-1) / seconds[:, None, None]
print(
    f"{moving.mean():.1%} of the pixels move, half of those faster than {np.median(speed[moving]):.3f} units a second"
    if moving.any()
    else "nothing moves"
)

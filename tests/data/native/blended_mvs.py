"""BlendedMVS's files."""

from pathlib import Path

import numpy as np
from PIL import Image

from native.scenes import c2w_in_files, depth, pictures
from vdpm.geometry.rigid import invert_rigid
from vdpm.structures import Snippet


def write_blended_mvs(folder: Path, truth: Snippet) -> Path:
    """Every second depth map is big-endian."""
    for name in ("blended_images", "cams", "rendered_depth_maps"):
        (folder / name).mkdir(parents=True)
    w2c, z = invert_rigid(c2w_in_files(truth)).numpy(), depth(truth).numpy()
    for index, picture in enumerate(pictures(truth).numpy()):
        Image.fromarray(picture).save(folder / "blended_images" / f"{index:08d}.jpg", quality=95)
        height, width = z[index].shape
        order, sign = (("<f4", -1.0), (">f4", 1.0))[index % 2]
        head = f"Pf\n{width} {height}\n{sign}\n".encode()
        pixels = np.flipud(z[index]).astype(order).tobytes()
        (folder / "rendered_depth_maps" / f"{index:08d}.pfm").write_bytes(head + pixels)
        k = truth.intrinsics[index].double().numpy()
        k[:2, 2] -= 0.5
        lines = ["extrinsic", *(" ".join(map(repr, row)) for row in w2c[index].tolist()), ""]
        lines += ["intrinsic", *(" ".join(map(repr, row)) for row in k.tolist()), "", "0.5 0.01 128 20.0"]
        (folder / "cams" / f"{index:08d}_cam.txt").write_text("\n".join(lines))
    return folder

"""ScanNet++'s files, of a pinhole camera or as a lens sees them."""

from pathlib import Path

import numpy as np
from PIL import Image

from native.scenes import c2w_in_files, depth, pictures
from vdpm.geometry.rigid import invert_rigid, matrix_to_quaternion
from vdpm.structures import Snippet


def write_scannetpp(
    scene: Path, truth: Snippet, model: str = "PINHOLE", distortion: tuple[float, ...] = (), every: int = 10
) -> Path:
    """Every tenth frame of the film, as its authors sample it. Frame 1 has a mask over its top left corner."""
    folder = scene / "iphone"
    for name in ("rgb", "rgb_masks", "colmap", "render_depth"):
        (folder / name).mkdir(parents=True)
    height, width = truth.size
    k = truth.intrinsics[0].double()
    parameters = [float(k[0, 0]), float(k[1, 1]), float(k[0, 2]), float(k[1, 2]), *distortion]
    camera = f"1 {model} {width} {height} " + " ".join(map(repr, parameters))
    (folder / "colmap" / "cameras.txt").write_text(f"# Camera list\n{camera}\n")
    w2c = invert_rigid(c2w_in_files(truth))
    quaternions = matrix_to_quaternion(w2c[:, :3, :3])[:, [3, 0, 1, 2]]
    lines = ["# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME"]
    z = np.round(depth(truth).numpy() * 1000).astype(np.uint16)
    for index, picture in enumerate(pictures(truth).numpy()):
        stem = f"frame_{index * every:06d}"
        Image.fromarray(picture).save(folder / "rgb" / f"{stem}.jpg", quality=95)
        Image.fromarray(z[index]).save(folder / "render_depth" / f"{stem}.png")
        mask = np.full((height, width), 255, np.uint8)
        mask[:4, :6] = 254 if index == 1 else 255
        Image.fromarray(mask).save(folder / "rgb_masks" / f"{stem}.png")
        numbers = [*quaternions[index].tolist(), *w2c[index, :3, 3].tolist()]
        lines += [f"{index + 1} " + " ".join(map(repr, numbers)) + f" 1 {stem}.jpg"]
        lines += ["" if index % 2 else "10.5 20.5 -1 11.0 12.0 7 1 2 3"]
    (folder / "colmap" / "images.txt").write_text("\n".join(lines) + "\n")
    return scene

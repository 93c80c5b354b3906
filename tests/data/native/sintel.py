"""MPI Sintel's files."""

from pathlib import Path

import numpy as np
from PIL import Image

from native.scenes import c2w_in_files, depth, pictures
from vdpm.geometry.rigid import invert_rigid
from vdpm.structures import Snippet

SKY = 1e6
"""Sintel's sky has a depth."""


def write_sintel(root: Path, truth: Snippet, name: str = "alley_2") -> Path:
    folders = [root / "training" / kind / name for kind in ("final", "depth", "camdata_left")]
    for folder in folders:
        folder.mkdir(parents=True)
    images, depths, cameras = folders
    w2c = invert_rigid(c2w_in_files(truth)).numpy()
    z = np.where(truth.valid.numpy(), depth(truth).numpy(), SKY).astype("<f4")
    tag = np.float32(202021.25).tobytes()
    for index, picture in enumerate(pictures(truth).numpy()):
        stem = f"frame_{index + 1:04d}"
        Image.fromarray(picture).save(images / f"{stem}.png")
        height, width = z[index].shape
        (depths / f"{stem}.dpt").write_bytes(tag + np.array([width, height], "<i4").tobytes() + z[index].tobytes())
        k = truth.intrinsics[index].numpy().astype("<f8")
        k[:2, 2] -= 0.5
        (cameras / f"{stem}.cam").write_bytes(tag + k.tobytes() + w2c[index, :3].astype("<f8").tobytes())
    return root

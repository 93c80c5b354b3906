"""PointOdyssey's files, with tracks that a reader must not take among those it must."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from native.scenes import WORLD, c2w_in_files, depth, pictures
from vdpm.geometry.pinhole import project
from vdpm.geometry.rigid import invert_rigid, transform_points
from vdpm.structures import Snippet

STEP = 3
"""Tracks start at every third pixel."""
DEPTH_QUANTUM = 1000 / 65535
SMOKE = (slice(20, 24), slice(30, 40))
"""Where the depth is that of nothing."""


def write_pointodyssey(
    folder: Path, truth: Snippet, first_release: bool = False, compressed: bool = True, step: int = STEP
) -> Tensor:
    """Returns which points the tracks hold, [targets frames h w]. Pictures are JPEG, hence not exact."""
    (folder / "rgbs").mkdir(parents=True)
    (folder / "depths").mkdir()
    count = truth.num_frames
    z = depth(truth).numpy()
    z[:, *SMOKE] = 900.0
    for index, picture in enumerate(pictures(truth).numpy()):
        Image.fromarray(picture).save(folder / "rgbs" / f"rgb_{index:05d}.jpg", quality=95)
        stored = np.round(z[index] / 1000 * 65535).astype(np.uint16)
        Image.fromarray(stored).save(folder / "depths" / f"depth_{index:05d}.png")
    w2c, known = invert_rigid(c2w_in_files(truth)), torch.zeros(count, *truth.valid.shape, dtype=torch.bool)
    points, visible, valid = [], [], []
    for source in range(count):
        rows, columns = truth.valid[source].nonzero().T
        chosen = (rows % step == source % step) & (columns % step == 0)
        rows, columns = rows[chosen], columns[chosen]
        tracks = transform_points(WORLD, truth.target_points[:, source, rows, columns].double())
        seen = torch.zeros(count, len(rows), dtype=torch.bool)
        seen[source] = True
        there = torch.ones(count, len(rows), dtype=torch.bool)
        # Some end before the last frame.
        there[count - 1, ::7] = source == count - 1
        known[:, source, rows, columns] = there
        for behind in (1.0, 1.4):
            # Farther along the same ray, at first as a track that is seen and so must lose to the one in front.
            away = c2w_in_files(truth)[source, :3, 3]
            points.append(away + behind * (tracks - away))
            visible.append(seen)
            valid.append(there)
    # Seen in frame 0 in the middle, but nowhere near what the camera shows there; then not finite; then hidden.
    stray = torch.zeros(count, 3, 3, dtype=torch.float64)
    stray[:, 1] = torch.nan
    points.append(stray)
    shown = torch.ones(count, 3, dtype=torch.bool)
    shown[:, 2] = False
    visible.append(shown)
    valid.append(torch.ones(count, 3, dtype=torch.bool))
    trajs_3d, visibs, valids = torch.cat(points, 1), torch.cat(visible, 1), torch.cat(valid, 1)
    trajs_2d, _ = project(transform_points(w2c, trajs_3d), truth.intrinsics.double())
    trajs_2d[:, -3:] = torch.tensor([33.7, 13.2])
    names = {"trajs_2d": trajs_2d.numpy().astype(np.float32), "trajs_3d": trajs_3d.numpy().astype(np.float32)}
    names |= {"intrinsics": truth.intrinsics.numpy(), "extrinsics": w2c.numpy()}
    if first_release:
        kinds = torch.where(valids, visibs.long(), 2).numpy().astype(np.uint8)
        np.savez(folder / "annotations.npz", visibilities=kinds, **names)
    else:
        save = np.savez_compressed if compressed else np.savez
        save(folder / "anno.npz", visibs=visibs.numpy(), valids=valids.numpy(), **names)
    known[..., SMOKE[0], SMOKE[1]] = False
    return known

"""Motion mask, track visibility and correspondence of the bundled clip's result against its exact truth.

    vdpm demo -o demo_out
    python benchmarks/demo_motion.py demo_out

All with default options. A true point is visible in a frame when it projects inside it and lies within 2 % of the
depth of the true surface there; a pixel truly moves when its point moves by more than 1 % of its distance.
"""

import argparse
from pathlib import Path

import torch
from torch import Tensor

import vdpm
from vdpm.cli.demo import BUNDLED
from vdpm.geometry.pinhole import pixel_grid, project
from vdpm.geometry.rigid import invert_rigid, transform_points
from vdpm.structures import Reconstruction, Snippet
from vdpm.synthetic.demo_clip import load_ground_truth

TOLERANCE = 0.02
LEAST_MOTION = 0.01
TARGETS = (1, 3, 6, 11)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="result of vdpm demo")
    result, truth = vdpm.load(parser.parse_args().folder), load_ground_truth(BUNDLED / "truth.npz")
    mask(result, truth)
    height, width = result.size
    grid = pixel_grid(height, width)
    queries = grid[2::4, 2::4].reshape(-1, 2)
    found = vdpm.tracks(result, 0, queries, TARGETS)
    print(
        "\n| frame | visible: right | precision | recall | match error, px | same place | valid share | valid error |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for row, target in enumerate(TARGETS):
        where, seen = true_match(truth, target)
        visible = seen[2::4, 2::4].reshape(-1)
        said = found.visible[row]
        pixels, valid, _ = vdpm.correspondence(result, 0, target)
        error = (pixels - where).norm(dim=-1)
        still = (grid - where).norm(dim=-1)
        numbers = (
            (said == visible).float().mean(),
            (said & visible).sum() / said.sum(),
            (said & visible).sum() / visible.sum(),
            error[seen].median(),
            still[seen].median(),
            (valid & seen).sum() / seen.sum(),
            error[valid & seen].median(),
        )
        print(f"| {target} | " + " | ".join(f"{float(number):.2f}" for number in numbers) + " |")


def mask(result: Reconstruction, truth: Snippet) -> None:
    """Marked pixels of all frames against those that truly move."""
    distance = (truth.points - truth.c2w[:, None, None, :3, 3]).norm(dim=-1)
    distance = torch.maximum(distance, truth.points.norm(dim=-1))
    moved = (truth.target_points - truth.points).norm(dim=-1).amax(0)
    true = (moved > LEAST_MOTION * distance) & truth.valid
    said = torch.stack([vdpm.motion_mask(result, frame) for frame in range(len(result))]) & truth.valid
    both = (said & true).sum()
    print(f"motion mask: {said.float().mean():.0%} marked, {true.float().mean():.0%} move, ", end="")
    print(
        f"precision {both / said.sum():.2f}, recall {both / true.sum():.2f}, overlap {both / (said | true).sum():.2f}"
    )


def true_match(truth: Snippet, target: int) -> tuple[Tensor, Tensor]:
    """Where the pixels of frame 0 truly are in frame ``target`` [h, w, 2], and whether they are seen there."""
    height, width = truth.size
    row = truth.targets.tolist().index(target)
    camera = transform_points(invert_rigid(truth.c2w[target]), truth.target_points[row, 0])
    where, depth = project(camera, truth.intrinsics[target])
    x, y = where[..., 0], where[..., 1]
    inside = (depth > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height) & truth.valid[0]
    surface = transform_points(invert_rigid(truth.c2w[target]), truth.points[target])[..., 2]
    there = surface[y.clamp(0, height - 1).long(), x.clamp(0, width - 1).long()]
    return where, inside & ((there - depth).abs() < TOLERANCE * depth)


if __name__ == "__main__":
    main()

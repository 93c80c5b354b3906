"""Is drift the alignment's or the network's? python benchmarks/long_limit.py --out DIR [--frames 300] [--seeds 6,7]

For clips that ``long_clip`` has taken through the network (the same DIR, frames, seeds, size, model): all runs and
strided windows aligned, as usual, then with the lens and then with all cameras held at the truth, so that windows can
only be put as they fit best with that. Printed for each: ATE, median distance in pixels of a sampled point from its
own pixel in the camera found, median spread of the points of one pixel between its windows over their distance, and
focal length over the true one. Where the true cameras fit the windows worse than those found, no weighing of these
windows leads to the truth. Then what the windows themselves say: lens, turn and way of the camera over their frames.
"""

import argparse
from pathlib import Path

import torch
from long_clip import Bank, Clock
from long_truth import Truth, long_truth
from torch import Tensor

from vdpm.archive import StoredWindow
from vdpm.evaluation.trajectory import trajectory_errors
from vdpm.geometry.alignment import Similarity
from vdpm.geometry.pinhole import intrinsics_from_focal, pixel_grid, project
from vdpm.geometry.rigid import invert_rigid, rotation_angle, transform_points
from vdpm.long_reconstruct import window_maps
from vdpm.long_video.alignment import Alignment, align
from vdpm.long_video.observations import Observations, observe
from vdpm.long_video.priors import Priors
from vdpm.long_video.windows import WindowConfig, plan_windows, with_times
from vdpm.network_choice import load_network


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--seeds", default="6,7")
    parser.add_argument("--size", default="168x112")
    parser.add_argument("--model", default="vdpm-small")
    options = parser.parse_args()
    torch.set_num_threads(1)
    width, height = map(int, options.size.split("x"))
    network = load_network(options.model, torch.device("cpu"), "auto")
    print(f"{'':<36}{'ATE':>9}{'pixels':>9}{'spread':>9}{'focal':>9}")
    for seed in map(int, options.seeds.split(",")):
        truth = long_truth(options.frames, seed, (height, width), "cpu", options.out)
        folder = options.out / f"{options.frames}_{seed}_{options.size}_{network.fingerprint()[:12]}"
        bank = Bank(folder, network, truth, Clock(float("inf")))
        windows = plan_windows(options.frames, WindowConfig(loops="none"))
        stored = [bank.get(window) for window in with_times(windows, truth.times, truth.starts)]
        seen = observe(window_maps(stored), truth.video.transform.content_mask(), options.frames)
        lens = true_intrinsics(truth)
        poses = Priors(intrinsics=lens, pose_frames=tuple(range(options.frames)), c2w=truth.c2w.double())
        for name, priors in (("aligned", None), ("lens known", Priors(intrinsics=lens)), ("all cameras known", poses)):
            found = align(seen, priors=priors)
            ate = trajectory_errors(found.cameras.c2w.double(), truth.c2w.double()).ate / truth.unit
            pixels, spread = disagreement(seen, found)
            focal = float(found.cameras.intrinsics[:, 0, 0].mean() / lens[0, 0])
            print(f"{f'scene {seed}, {name}':<36}{ate:9.4f}{pixels:9.2f}{spread:9.4f}{focal:9.3f}", flush=True)
        own_errors([one for one, window in zip(stored, windows) if window.kind == "run"], truth, float(lens[0, 0]))


def true_intrinsics(truth: Truth) -> Tensor:
    """From the true points of the first frame and their pixels."""
    points = transform_points(invert_rigid(truth.c2w[0]), truth.points[0]).double()[truth.valid[0]]
    height, width = truth.video.size
    offset = (pixel_grid(height, width, dtype=torch.float64) - torch.tensor([width / 2, height / 2]))[truth.valid[0]]
    ratio = points[:, :2] / points[:, 2:]
    focal = (offset * ratio).sum() / ratio.square().sum()
    return intrinsics_from_focal(focal, focal, truth.video.size)


def disagreement(seen: Observations, found: Alignment) -> tuple[float, float]:
    """Median distance in pixels of points from their own pixels; median spread between windows, a share of distance."""
    c2w, intrinsics = found.cameras.c2w.double()[seen.frame], found.cameras.intrinsics.double()[seen.frame]
    points = Similarity(*(part[seen.window] for part in found.windows)).apply(seen.points)
    pixels, _ = project(transform_points(invert_rigid(c2w), points), intrinsics)
    off = (pixels - seen.pixels).norm(dim=-1)
    count = torch.zeros(seen.num_frames, dtype=points.dtype).index_add(0, seen.frame, torch.ones(len(points)).double())
    mean = torch.zeros(seen.num_frames, *points.shape[1:], dtype=points.dtype).index_add(0, seen.frame, points)
    away = points - mean[seen.frame] / count[seen.frame][:, None, None]
    share = away.norm(dim=-1) / (points - c2w[:, None, :3, 3]).norm(dim=-1)
    return float(off.median()), float(share[count[seen.frame] > 1].median())


def own_errors(runs: list[StoredWindow], truth: Truth, focal: float) -> None:
    """Of single runs: focal length over the true one; error of the camera's turn from first to last frame in degrees,
    and of the direction of its way, in its first camera.
    """
    lens, turns, ways = [], [], []
    for run in runs:
        lens.append(float(run.cameras.intrinsics[:, 0, 0].mean()) / focal)
        first, last = run.frames[0], run.frames[-1]
        own = invert_rigid(run.cameras.c2w[0].double()) @ run.cameras.c2w[-1].double()
        true = invert_rigid(truth.c2w[first].double()) @ truth.c2w[last].double()
        turns.append(float(rotation_angle(own[:3, :3].T @ true[:3, :3])))
        cosine = torch.nn.functional.cosine_similarity(own[:3, 3], true[:3, 3], dim=0)
        ways.append(float(cosine.clamp(-1, 1).arccos()))
    median = torch.tensor([lens, turns, ways]).median(dim=1).values
    turn, way = (median[1:] * 180 / torch.pi).tolist()
    print(
        f"  runs, medians: focal length {median[0]:.3f} of the true; turn off by {turn:.2f} degrees, way by {way:.1f}"
    )


if __name__ == "__main__":
    main()

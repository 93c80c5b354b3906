"""What each part of the alignment of windows is worth: python benchmarks/long_video.py [--frames 300] [--seeds 3]

Windows are made from truth (a walk once round a room, ``vdpm.long_video.trial``) with noise, jumps in scale, a smooth
bend for each window as networks have it, 5 % of wild points, and 10 % of the windows wrong as a whole. Printed for each
method: ATE over the noise floor (the windows' own cameras, each window put where it truly belongs), rotation error of
steps, share of frames shown by a believed window, seconds.
"""

import argparse
import time
from collections.abc import Sequence

import torch

from vdpm.evaluation.trajectory import trajectory_errors
from vdpm.geometry.alignment import Similarity
from vdpm.long_video.alignment import Alignment, Method, align
from vdpm.long_video.joining import REPAIRS, join_windows
from vdpm.long_video.observations import Observations, WindowMaps, observe
from vdpm.long_video.priors import KnownDistance, Priors
from vdpm.long_video.trial import Walk, disturbed_windows, walk_through_room
from vdpm.long_video.windows import Loops, Window, WindowConfig, loop_window, plan_windows

SIZE = (32, 56)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--noise", type=float, default=0.02, help="of points, as a share of their distance")
    parser.add_argument("--bend", type=float, default=0.01, help="smooth error of each window")
    parser.add_argument("--laps", type=float, default=1.0, help="rounds of the room")
    parser.add_argument("--outliers", type=float, default=0.1, help="share of windows that are wrong")
    options = parser.parse_args()
    torch.set_num_threads(1)
    walk = walk_through_room(options.frames, SIZE, laps=options.laps)
    rows: dict[str, list[list[float]]] = {}
    for seed in range(options.seeds):
        for name, values in ablation(walk, seed, options.noise, options.bend, options.outliers).items():
            rows.setdefault(name, []).append(values)
    print(f"{options.frames} frames, {options.seeds} draws; medians")
    print(f"{'method':<34}{'ATE, m':>9}{'/ floor':>9}{'RPE, deg':>10}{'believed':>10}{'windows':>9}{'seconds':>9}")
    for name, values in rows.items():
        ate, ratio, rotation, believed, windows, seconds = torch.tensor(values).median(dim=0).values.tolist()
        print(f"{name:<34}{ate:9.3f}{ratio:9.2f}{rotation:10.2f}{believed:10.3f}{windows:9.0f}{seconds:9.1f}")
    print()
    known_lens_and_length(walk, options.noise, options.bend)


def ablation(walk: Walk, seed: int, noise: float, bend: float, outliers: float) -> dict[str, list[float]]:
    """One row a method; every method sees the same windows as far as it uses them."""
    generator = torch.Generator().manual_seed(seed)
    count, config = len(walk.cameras), WindowConfig()
    plan = plan_windows(count, config)
    closing = [loop_window(a, b, count, config) for a, b in ((4, count - 5), (12, count - 13))]
    windows = [*plan, *closing]
    disturbance = {"noise": noise, "bend": bend, "outlier_points": 0.05}
    maps, truths, _ = disturbed_windows(walk, windows, generator, outliers=outliers, **disturbance)
    runs = [k for k, window in enumerate(windows) if window.kind == "run"]
    ties = [k for k, window in enumerate(windows) if window.kind != "loop"]

    def row(kept: Sequence[int], method: Method, repairs: int = 0, loops: Loops = "none") -> list[float]:
        def make(new: list[Window], first: int, doing: str) -> list[tuple[WindowMaps, Similarity]]:
            if all(window in windows for window in new):
                return [(maps[k], truths[k]) for k in map(windows.index, new)]
            return list(zip(*disturbed_windows(walk, new, generator, outliers=outliers, **disturbance)[:2]))

        def aligned(
            made: list[tuple[WindowMaps, Similarity]], start: Alignment | None
        ) -> tuple[Observations, Alignment]:
            seen = observe([window for window, _ in made], torch.ones(SIZE, dtype=torch.bool), count)
            return seen, align(seen, method=method, start=start)

        begin = time.perf_counter()
        planned = [windows[k] for k in kept]
        joined = join_windows(planned, count, WindowConfig(loops=loops), make, aligned, repairs=repairs)
        seconds = time.perf_counter() - begin
        errors = trajectory_errors(joined.found.cameras.c2w, walk.cameras.c2w)
        believed = 1 - len(joined.found.doubtful_frames()) / count
        ratio = errors.ate / floor(*zip(*joined.made), walk)
        return [errors.ate, ratio, errors.rpe_rotation, believed, len(joined.made), seconds]

    everything = list(range(len(windows)))
    return {
        "chain": row(runs, "chain"),
        "tree": row(runs, "tree"),
        "tree + optimisation": row(runs, "adjust"),
        "  the same by Adam, 300 steps": row(runs, "adam"),
        "tree + optimisation + repairs": row(runs, "adjust", repairs=REPAIRS),
        "+ strided windows": row(ties, "adjust", repairs=REPAIRS),
        "+ loops, their places told": row(everything, "adjust", repairs=REPAIRS),
        "+ loops found by geometry": row(ties, "adjust", REPAIRS, "geometry"),
    }


def floor(maps: Sequence[WindowMaps], truths: Sequence[Similarity], walk: Walk) -> float:
    """Root mean square error of the cameras of windows put where they belong; wrong windows (beyond 1 m) left out."""
    errors = []
    for window, truth in zip(maps, truths):
        off = truth.apply(window.cameras.c2w[:, :3, 3]) - walk.cameras.centers[list(window.frames)]
        if float(off.norm(dim=-1).median()) < 1:
            errors.append(off.square().sum(-1))
    return float(torch.cat(errors).mean().sqrt())


def known_lens_and_length(walk: Walk, noise: float, bend: float) -> None:
    """Focal lengths told 10 % wrong by the network, with and without the true ones known; a known distance."""
    count = len(walk.cameras)
    config = WindowConfig()
    windows: list[Window] = plan_windows(count, config, loops=[(4, count - 5), (12, count - 13)])
    maps, _, _ = disturbed_windows(walk, windows, torch.Generator().manual_seed(9), noise=noise, bend=bend)
    for window in maps:
        window.cameras.intrinsics[:, [0, 1], [0, 1]] *= 1.1
    seen = observe(maps, torch.ones(SIZE, dtype=torch.bool), count)
    true = float(walk.cameras.intrinsics[0, 0, 0])
    centres = walk.cameras.centers
    length = float((centres[0] - centres[count // 2]).norm())
    known = {
        "nothing known": Priors(),
        "focal length known": Priors(intrinsics=walk.cameras.intrinsics[0]),
        "distance known": Priors(distance=KnownDistance(0, count // 2, length)),
        "every tenth pose known": Priors(
            pose_frames=tuple(range(0, count, 10)), c2w=walk.cameras.c2w[list(range(0, count, 10))]
        ),
    }
    print(f"{'known':<34}{'ATE, m':>9}{'focal error':>13}{'scale error':>13}")
    for name, priors in known.items():
        found = align(seen, priors=priors)
        errors = trajectory_errors(found.cameras.c2w, walk.cameras.c2w)
        focal = abs(float(found.cameras.intrinsics[:, 0, 0].mean()) / true - 1)
        spread = found.cameras.centers - found.cameras.centers.mean(0)
        scale = float(spread.norm() / (centres - centres.mean(0)).norm()) - 1
        told = f"{100 * scale:+.2f} %" if found.known_scale else "free"
        print(f"{name:<34}{errors.ate:9.3f}{100 * focal:11.2f} %{told:>13}")


if __name__ == "__main__":
    main()

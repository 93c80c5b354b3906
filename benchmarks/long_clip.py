"""A long clip of our own scenes through a network, against its truth: python benchmarks/long_clip.py [--frames 300]

A camera orbits while things move. Windows of 16 frames in one world, compared with single windows of 20 frames, each
aligned with the truth by itself, and with windows chained naively. ATE of cameras after one similarity; AbsRel of
depths after one scale; EPE of the pixels of frame 0 (of each single window's first) at later times, after the
similarity of the cameras' path. Lengths are over the mean distance of the scene from the first camera.
"""

import argparse
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from vdpm.evaluation.trajectory import trajectory_errors
from vdpm.geometry.alignment import umeyama, unit_mean_distance
from vdpm.geometry.image_transform import ImageTransform
from vdpm.geometry.rigid import invert_rigid, transform_points
from vdpm.long_video.alignment import align
from vdpm.long_video.observations import WindowMaps, observe
from vdpm.long_video.windows import WindowConfig, plan_windows
from vdpm.model import VDPM
from vdpm.motion import depth
from vdpm.reconstruct import reconstruct
from vdpm.structures import Reconstruction, Snippet, Video
from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.generator import SceneGenerator, held_out_seeds

SINGLE = 20
OTHER_CAMERAS = (
    "still_camera_weight", "handheld_weight", "dolly_weight", "pan_weight", "follow_weight", "walk_weight",
    "truck_weight", "crane_weight", "drone_weight", "dolly_zoom_weight",
)  # fmt: skip


@dataclass(frozen=True)
class Errors:
    ate: float
    abs_rel: float
    epe: float

    def line(self, name: str) -> str:
        return f"{name:<42}{self.ate:9.4f}{self.abs_rel:9.4f}{self.epe:9.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--seed", type=int, default=3, help="of the held-out scene")
    parser.add_argument("--model", default="vdpm-small")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--no-strided", action="store_true")
    options = parser.parse_args()
    clip = long_clip(options.frames, options.seed, options.device)
    video = video_of(clip, 0, options.frames)
    network = VDPM.from_pretrained(options.model, device=torch.device(options.device)).eval()
    config = WindowConfig(strided=not options.no_strided)
    print(f"{options.frames} frames of 224 x 128, scene {options.seed}, {options.model} on {options.device}")
    print(f"{'':<42}{'ATE':>9}{'AbsRel':>9}{'EPE':>9}")
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        kept = [frame for frame in clip.targets.tolist() if frame % SINGLE]
        result = reconstruct(video, model=network, windows=config, targets=kept, output=Path(folder) / "out")
        seconds = time.perf_counter() - begin
        print(errors_of(result, clip, 0).line("windows in one world"))
        made_by = result.provenance
    singles = []
    for start in range(0, options.frames - SINGLE + 1, SINGLE):
        part = video_of(clip, start, start + SINGLE)
        targets = [k - start for k in clip.targets.tolist() if start <= k < start + SINGLE]
        alone = reconstruct(part, model=network, targets=targets or "none")
        singles.append(errors_of(alone, clip, start))
    means = [sum(getattr(e, name) for e in singles) / len(singles) for name in ("ate", "abs_rel", "epe")]
    print(Errors(*means).line(f"{len(singles)} single windows of {SINGLE}, mean"))
    print(f"{'windows chained naively':<42}{chained(video, clip, network):9.4f}")
    taken = made_by["seconds"]
    print(f"{seconds:.0f} s: network {taken['windows']:.1f}, alignment {taken['align']:.1f}; {made_by['windows']}")


def long_clip(frames: int, seed: int, device: str) -> Snippet:
    """One held-out scene; targets every tenth of the clip, and the middle of every single window."""
    weights = dict.fromkeys(OTHER_CAMERAS, 0.0)
    config = SceneConfig(
        num_frames=frames,
        height=128,
        width=224,
        baseline=(0.08, 0.08),
        travel=(0.1, 0.3),
        zoom_share=0.0,
        time_step=(1 / 15, 1 / 15),
        uneven_share=0.0,
        field_of_view=(50, 70),
        colour_samples=1,
    )
    targets = torch.tensor([sorted({*range(0, frames, SINGLE), *range(SINGLE // 2, frames, SINGLE)})])
    generator = SceneGenerator(replace(config, **weights), device)  # type: ignore[arg-type]
    return generator(held_out_seeds(1, seed), targets).clip(0).to("cpu")


def video_of(clip: Snippet, first: int, stop: int) -> Video:
    """Frames ``first`` to before ``stop``."""
    frames = (clip.images[first:stop].permute(0, 2, 3, 1) * 255).round().byte()
    return Video(
        frames, clip.timestamps[first:stop].double(), torch.arange(stop - first), ImageTransform.identity(clip.size)
    )


def errors_of(result: Reconstruction, clip: Snippet, start: int) -> Errors:
    """Errors of a result of frames ``start`` and on."""
    count = len(result)
    c2w = clip.c2w[start : start + count]
    unit = float(unit_mean_distance(clip.points[0], clip.valid[0], batch_axes=0))
    similarity = umeyama(result.cameras.c2w[:, :3, 3].double(), c2w[:, :3, 3].double())
    ratios, depths = [], []
    for frame in range(0, count, 3):
        true = transform_points(invert_rigid(clip.c2w[start + frame]), clip.points[start + frame])[..., 2]
        valid = clip.valid[start + frame]
        depths.append((depth(result, frame)[valid], true[valid]))
        ratios.append((depths[-1][1] / depths[-1][0]).median())
    scale = torch.stack(ratios).median()
    abs_rel = torch.stack([((found * scale - true).abs() / true).mean() for found, true in depths]).mean()
    distances: list[Tensor] = []
    for row, target in enumerate(clip.targets.tolist()):
        if start < target < start + count:
            local = target - start
            if local in result.maps.targets:
                found = similarity.apply(result.maps.at(local, 0).points.double())
                distances.append((found - clip.target_points[row, start])[clip.valid[start]].norm(dim=-1).mean())
    epe = float(torch.stack(distances).mean()) / unit if distances else float("nan")
    return Errors(trajectory_errors(result.cameras.c2w, c2w).ate / unit, float(abs_rel), epe)


def chained(video: Video, clip: Snippet, network: VDPM) -> float:
    """ATE of windows chained from one to the next."""
    maps = []
    for window in plan_windows(len(video), WindowConfig(strided=False)):
        part = video_of(clip, window.frames[0], window.frames[-1] + 1)
        alone = reconstruct(part, model=network, targets="none")
        read = alone.maps.time_variant
        maps.append(
            WindowMaps(window.frames, alone.cameras, lambda f, read=read, first=window.frames[0]: read(f - first))
        )
    found = align(observe(maps, torch.ones(clip.size, dtype=torch.bool), len(video)), method="chain")
    unit = float(unit_mean_distance(clip.points[0], clip.valid[0], batch_axes=0))
    return trajectory_errors(found.cameras.c2w, clip.c2w).ate / unit


if __name__ == "__main__":
    main()

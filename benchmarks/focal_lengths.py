"""Focal lengths that a network tells, one across and one down the picture, and what one for both makes of results.

    python benchmarks/focal_lengths.py --out DIR [--clips 24] [--size HEIGHT WIDTH] [--room FOLDER]

Snippets of the held-out families, whose lenses all have one focal length, at the manifest's size or another. Each goes
through the network once, and what that says is kept in DIR, for all estimates and a second run. Then cameras follow
the pictures, as ``vdpm reconstruct`` has it, from both kinds of lens. ``--room``: instead, frames of a 7-Scenes
recording, with its measured lens, poses and depths, seen at once and in windows.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

import vdpm
from vdpm.data.readers.seven_scenes import SevenScenesSequence
from vdpm.evaluation.manifest import load_manifest
from vdpm.evaluation.metrics import depth_errors
from vdpm.evaluation.protocol import Prediction
from vdpm.evaluation.snippet_scores import ProtocolOptions, camera_scores, shape_scores
from vdpm.evaluation.trajectory import trajectory_errors
from vdpm.geometry.camera_recovery import focal_weiszfeld
from vdpm.geometry.pinhole import pixel_grid, square_pixels
from vdpm.geometry.rigid import invert_rigid, transform_points
from vdpm.long_video.one_window import follow_pictures
from vdpm.long_video.windows import WindowConfig
from vdpm.model import VDPM
from vdpm.structures import Cameras, Snippet
from vdpm.synthetic import SceneGenerator
from vdpm.synthetic.families import FAMILIES

PIXELS = ("square", "free")
RATIO = "disagreement of fx and fy"
KINDS = {
    "8 at once, network alone": (8, WindowConfig(sight=False)),
    "8 in windows of 4": (8, WindowConfig(length=4)),
    "20 at once": (20, WindowConfig()),
    "40 in windows": (40, WindowConfig()),
}
"""How many frames of a recording are taken, and how."""
SHOWN = ("fx", "fy", "rotation", "translation", "ate", "p_epe", "abs_rel")


@dataclass(frozen=True, eq=False)
class Seen:
    """A snippet with what the network says of it: cameras, points of all frames at their own times, confidence."""

    truth: Snippet
    cameras: Cameras
    points: Tensor
    confidence: Tensor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=24, help="of each family")
    parser.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--model", default="vdpm-small")
    parser.add_argument("--room", type=Path, help="folder of a 7-Scenes recording")
    options = parser.parse_args()
    model = VDPM.from_pretrained(options.model).eval()
    if options.room is not None:
        room(model, options.room)
        return
    snippets = {family: seen_by(model, family, options.clips, options.size, options.out) for family in FAMILIES}
    columns = {**snippets, "all": [one for each in snippets.values() for one in each]}
    size = columns["all"][0].cameras.size
    print(f"{size[1]} x {size[0]} pixels, {options.clips} snippets of each family\n")
    table([estimate_errors(each) for each in columns.values()], ["estimate, relative error (bias)", *columns])
    both = {pixels: [followed(one, pixels) for one in columns["all"]] for pixels in PIXELS}
    print("\n| after following the pictures | free | square | ratio | smaller in |\n| --- | --- | --- | --- | --- |")
    for error in SHOWN:
        pairs = [(a[error], b[error]) for a, b in zip(both["free"], both["square"])]
        free, square = torch.tensor([pair for pair in pairs if all(map(math.isfinite, pair))]).double().T
        ratio = float((square.clamp(min=1e-9) / free.clamp(min=1e-9)).log().mean().exp())
        smaller = f"{int((square < free).sum())} of {len(free)}"
        print(f"| {error} | {free.mean():.4f} | {square.mean():.4f} | {ratio:.2f} | {smaller} |")
    told = (f"{pixels} {sum(int(row['followed']) for row in rows)}" for pixels, rows in both.items())
    print(f"followed of {len(columns['all'])}: " + ", ".join(told))


def seen_by(model: VDPM, family: str, clips: int, size: Sequence[int] | None, folder: Path) -> list[Seen]:
    """The first ``clips`` snippets of ``family``, through the network now or from ``folder``."""
    manifest = load_manifest(family)
    config = manifest.config if size is None else replace(manifest.config, height=size[0], width=size[1])
    generator, no_times = SceneGenerator(config), torch.zeros(1, 0, dtype=torch.long)
    found = []
    for seed in manifest.seeds(clips):
        path = folder / f"{model.fingerprint()[:12]}_{family}_{config.width}x{config.height}_{int(seed)}.pt"
        truth = generator(seed[None], no_times).clip(0)
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            torch.save(answered(model, truth), path)
        said = torch.load(path, weights_only=True)
        cameras = Cameras(said["c2w"], said["intrinsics"], (config.height, config.width))
        found.append(Seen(truth, cameras, said["points"], said["confidence"]))
    return found


@torch.inference_mode()
def answered(model: VDPM, truth: Snippet) -> dict[str, Tensor]:
    """One run of the network."""
    tokens = model.encode(truth.images[None], reference=0)
    said, maps = model.cameras(tokens), model.time_variant(tokens)
    c2w = invert_rigid(said.c2w[0, 0]) @ said.c2w[0]
    return {"c2w": c2w, "intrinsics": said.intrinsics[0], "points": maps.points[0], "confidence": maps.confidence[0]}


def estimates(one: Seen) -> dict[str, Tensor]:
    """Focal lengths of each frame in one number, by several ways."""
    height, width = one.cameras.size
    fx, fy = one.cameras.intrinsics[:, 0, 0].double(), one.cameras.intrinsics[:, 1, 1].double()
    local = transform_points(one.cameras.w2c, one.points)
    points = focal_weiszfeld(local).double()
    share, corner = width / (width + height), math.hypot(width, height) / 2
    fields = torch.atan(corner / fx), torch.atan(corner / fy)
    return {
        "fx": fx,
        "fy": fy,
        "arithmetic mean": (fx + fy) / 2,
        "geometric mean": (fx * fy).sqrt(),
        "harmonic mean": 2 / (1 / fx + 1 / fy),
        "geometric, by the sides": fx**share * fy ** (1 - share),
        "geometric, by the other side": fx ** (1 - share) * fy**share,
        "mean field of view of the diagonal": corner / torch.tan(sum(fields) / 2),
        "corner's ray": corner / ((width / 2 / fx).square() + (height / 2 / fy).square()).sqrt(),
        "point maps (Weiszfeld)": points,
        "point maps, across alone": along(local, 0),
        "point maps, down alone": along(local, 1),
        "geometric mean and point maps": (fx * fy).sqrt().sqrt() * points.sqrt(),
        "median of fx, fy and point maps": torch.stack((fx, fy, points)).median(dim=0).values,
    }


def along(local: Tensor, axis: int) -> Tensor:
    """The focal length by which points in their own camera lie on their pixels along one axis: the median over pixels
    that are a fifth of the side and more off the middle.
    """
    size = (local.shape[2], local.shape[1])
    place = pixel_grid(local.shape[1], local.shape[2])[..., axis] - size[axis] / 2
    off = place.abs() > 0.2 * size[axis]
    return (place[off] * local[..., 2][:, off] / local[..., axis][:, off]).nanmedian(dim=1).values.double()


def estimate_errors(snippets: Sequence[Seen]) -> dict[str, str]:
    """Mean over snippets of |f / true - 1|, and of log(f / true)."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for one in snippets:
        true = one.truth.intrinsics[:, 0, 0].double()
        assert torch.equal(one.truth.intrinsics[:, 0, 0], one.truth.intrinsics[:, 1, 1]), "our lenses have one"
        found = estimates(one)
        shares = {name: focal / true for name, focal in found.items()} | {RATIO: found["fx"] / found["fy"]}
        for name, share in shares.items():
            rows.setdefault(name, []).append((float((share - 1).abs().mean()), float(share.log().mean())))
    means = {name: torch.tensor(values).mean(dim=0).tolist() for name, values in rows.items()}
    return {name: f"{error:.3f} ({bias:+.3f})" for name, (error, bias) in means.items()}


def table(columns: Sequence[dict[str, str]], heads: Sequence[str]) -> None:
    """In Markdown."""
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}")
    for name in columns[0]:
        print(f"| {name} | {' | '.join(column[name] for column in columns)} |")


@torch.inference_mode()
def followed(one: Seen, pixels: str) -> dict[str, float]:
    """Errors of what ``vdpm reconstruct`` makes of it."""
    before, points, frames = one.cameras, one.points, range(len(one.points))
    if pixels == "square":
        before = replace(before, intrinsics=square_pixels(before.intrinsics))
    pictures = (one.truth.images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8)
    found = follow_pictures(pictures, before, points, one.confidence)
    cameras = before if found is None else found.cameras
    points = points if found is None else found.points(points, points, frames)
    said = Prediction(points, points[:0, None], cameras.c2w, cameras.intrinsics)
    scores = camera_scores(said, one.truth, ProtocolOptions()) | shape_scores(said, one.truth, ProtocolOptions())
    lens = (cameras.intrinsics / one.truth.intrinsics - 1).abs().mean(dim=0)
    return scores | {"fx": float(lens[0, 0]), "fy": float(lens[1, 1]), "followed": found is not None}


def room(model: VDPM, folder: Path) -> None:
    """The real recording at its own pace, at once and in windows."""
    truth = SevenScenesSequence(folder, folder.name)
    print("| frames | | pixels | fx | fy | ATE, mm | AbsRel |\n| --- | --- | --- | --- | --- | --- | --- |")
    for name, (count, windows) in KINDS.items():
        frames = [truth.frame(index) for index in range(min(count, len(truth)))]
        pictures = [frame.image.numpy() for frame in frames]
        for pixels in PIXELS:
            clip = vdpm.video_from_frames(pictures, fps=30, multiple=model.config.patch_size)
            result = vdpm.reconstruct(
                clip, model=model, targets="none", windows=windows, cuts="ignore", pixels=pixels, device="cpu"
            )
            lens = result.transform.intrinsics_to_source(result.cameras.intrinsics).mean(dim=0)
            ate = trajectory_errors(result.cameras.c2w, torch.stack([frame.c2w for frame in frames])).ate
            points = [result.maps.time_variant(k).points for k in range(len(clip))]
            depth = torch.stack([transform_points(w2c, p)[..., 2] for w2c, p in zip(result.cameras.w2c, points)])
            depth = result.transform.restore(depth[:, None])[:, 0]
            known = torch.stack([frame.depth for frame in frames])
            errors = depth_errors(depth, known.float(), torch.stack([frame.valid for frame in frames]))
            path = "still" if math.isnan(ate) else f"{1000 * ate:.1f}"
            print(
                f"| {name} | {result.provenance['cameras']} | {pixels} | {lens[0, 0]:.0f} | {lens[1, 1]:.0f} | "
                f"{path} | {errors.abs_rel:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()

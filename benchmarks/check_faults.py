"""How often vdpm data check finds a fault that was put into sound data, and how often it finds one where none is.

    python benchmarks/check_faults.py --scenes 16

Writes our own scenes as Sintel has them (depth and poses) and as snippet folders (points and motion), each as it is and
with one fault, and counts the clips in which the checker finds anything, and those in which it names the fault. Clips
that a fault leaves as they are, such as wrong motion where nothing moves, count for it nowhere.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

sys.path.append(str(Path(__file__).parents[1] / "tests" / "data"))

from native.scenes import WORLD
from native.sintel import write_sintel

from vdpm.data import write_snippet
from vdpm.data.checks import check_dataset
from vdpm.geometry.pinhole import unproject
from vdpm.geometry.rigid import invert_rigid, transform_points
from vdpm.structures import Snippet
from vdpm.synthetic import SceneConfig, generate, held_out_seeds

FRAMES = 6


@dataclass(frozen=True)
class Fault:
    """``words``: one of them must be in what the checker says for the fault to count as named."""

    dataset: str
    change: Callable[[Snippet], Snippet]
    words: tuple[str, ...]


def with_poses(clip: Snippet, change: Callable[[torch.Tensor], torch.Tensor]) -> Snippet:
    """The same depth, other poses in the files, whose world is not the clip's: points go with their cameras."""
    local = transform_points(invert_rigid(clip.c2w), clip.points)
    c2w = (invert_rigid(WORLD) @ change(WORLD @ clip.c2w.double())).float()
    return replace(clip, c2w=c2w, points=transform_points(c2w, local))


def turned(clip: Snippet, signs: list[float], both_sides: bool) -> Snippet:
    flip = torch.diag(torch.tensor([*signs, 1.0], dtype=torch.float64))
    return with_poses(clip, lambda c2w: flip @ c2w @ flip if both_sides else c2w @ flip)


def further(clip: Snippet, factor: float) -> Snippet:
    """Depth in another unit than poses."""
    eye = clip.c2w[:, None, None, :3, 3]
    return replace(clip, points=eye + factor * (clip.points - eye))


def distance(clip: Snippet) -> Snippet:
    """The distance from the camera where z should be."""
    local = transform_points(invert_rigid(clip.c2w), clip.points)
    far = unproject(local.norm(dim=-1), clip.intrinsics)
    return replace(clip, points=transform_points(clip.c2w, far))


def doubled(clip: Snippet) -> Snippet:
    images = clip.images.clone()
    images[3] = images[2]
    return replace(clip, images=images)


def half_a_pixel(clip: Snippet) -> Snippet:
    k = clip.intrinsics.clone()
    k[:, :2, 2] -= 0.5
    return replace(clip, intrinsics=k)


def has_traces(clip: Snippet, wrong: Snippet) -> bool:
    """Whether anything but rounding tells the clips apart; the second may have been placed elsewhere in the world."""
    size = float(clip.points[clip.valid].norm(dim=-1).mean())
    pairs = [(clip.images, wrong.images, 1.0), (clip.intrinsics, wrong.intrinsics, 1.0), (clip.c2w, wrong.c2w, 1.0)]
    pairs += [(clip.points, wrong.points, size), (clip.target_points, wrong.target_points, size)]
    return any(float((one - two).nan_to_num().abs().max()) > 1e-4 * scale for one, two, scale in pairs)


FAULTS = {
    "none (depth and poses)": Fault("sintel", lambda clip: clip, ()),
    "poses inverted": Fault("sintel", lambda clip: with_poses(clip, invert_rigid), ("inverted",)),
    "OpenGL's axes": Fault("sintel", lambda clip: turned(clip, [1, -1, -1], False), ("OpenGL",)),
    "x mirrored": Fault("sintel", lambda clip: turned(clip, [-1, 1, 1], True), ("x mirrored",)),
    "depth 5 times too small": Fault("sintel", lambda clip: further(clip, 0.2), ("units",)),
    "distance for z": Fault("sintel", distance, ("distance from the camera",)),
    "pictures one frame late": Fault(
        "sintel", lambda clip: replace(clip, images=clip.images.roll(1, 0)), ("off by one",)
    ),
    "a picture doubled": Fault("sintel", doubled, ("doubles",)),
    "none (points and motion)": Fault("snippets", lambda clip: clip, ()),
    "principal point half a pixel off": Fault("snippets", half_a_pixel, ("half a pixel",)),
    "motion of the opposite sign": Fault(
        "snippets",
        lambda clip: replace(clip, target_points=2 * clip.points - clip.target_points),
        ("wrong sign", "motion is wrong"),
    ),
    "motion two frames late": Fault(
        "snippets",
        lambda clip: replace(clip, target_points=clip.target_points.roll(2, 0)),
        ("other times", "belong"),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=16)
    parser.add_argument("--first", type=int, default=600, help="number of the first scene")
    parser.add_argument("--faults", nargs="+", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("-v", "--verbose", action="store_true", help="what is said of each clip")
    parser.add_argument("--size", type=int, nargs=2, default=(96, 128), metavar=("HEIGHT", "WIDTH"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    height, width = arguments.size
    config = SceneConfig(
        num_frames=FRAMES, height=height, width=width, colour_samples=1, still_camera_weight=0.0, uneven_share=0.0
    )
    clips = [generate(held_out_seeds(1, start=arguments.first + k), config).clip(0) for k in range(arguments.scenes)]
    print("| fault | clips in which something is found | named |")
    print("| --- | --- | --- |")
    for name in arguments.faults:
        fault = FAULTS[name]
        found = named = count = 0
        for number, clip in enumerate(clips):
            wrong = fault.change(clip)
            if fault.words and not has_traces(clip, wrong):
                continue
            count += 1
            with tempfile.TemporaryDirectory() as folder:
                if fault.dataset == "sintel":
                    write_sintel(Path(folder), wrong)
                else:
                    write_snippet(Path(folder) / "clip", wrong)
                done = check_dataset(fault.dataset, Path(folder), gap=2, pairs=3, max_corrupt=1.0)
            said = " ".join(finding for _, finding in done.findings)
            if arguments.verbose:
                print(number, said, done.sequences[0].measures)
            found += bool(said)
            named += any(word in said for word in fault.words)
        print(f"| {name} | {found} of {count} | {named if fault.words else '-'} |", flush=True)


if __name__ == "__main__":
    main()

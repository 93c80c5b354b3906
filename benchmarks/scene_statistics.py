"""How near the pictures of our scenes are to those of real videos, in figures that need no network.

python benchmarks/scene_statistics.py /path/to/videos --scenes 48

Frames are resized to --size (area). Figures are means over videos or scenes, with the 10th and 90th percentile:
brightness and contrast (mean and standard deviation of the luma), saturation (HSV), gradient (mean size of the luma's
gradient a pixel), flat (share of pixels with a gradient below 0.01), edges (share above 0.1), slope (of the power
spectrum's logarithm over the logarithm of frequency, 2 to 64 cycles a picture), fine (share of the luma's variance
within 3 x 3 pixels), colours (entropy of a histogram of 8 x 8 x 8 colours, bits), change (mean difference of luma
between neighbouring frames of a scene, or of the frames of a video as they are stored).
"""

import argparse
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from vdpm.synthetic import SceneConfig, generate, held_out_seeds
from vdpm.video import read_video

_LUMA = (0.299, 0.587, 0.114)
_SUFFIXES = {".mp4", ".mov", ".mkv", ".webm", ".avi"}


def statistics(frames: Float[Tensor, "frames 3 height width"]) -> dict[str, float]:
    """The figures of one clip; see the module's docstring."""
    luma = (frames * torch.tensor(_LUMA)[:, None, None]).sum(1)
    across, down = luma[:, 1:, 1:] - luma[:, 1:, :-1], luma[:, 1:, 1:] - luma[:, :-1, 1:]
    gradient = (across.square() + down.square()).sqrt()
    high, low = frames.amax(1), frames.amin(1)
    local = luma - F.avg_pool2d(luma[:, None], 3, stride=1, padding=1, count_include_pad=False)[:, 0]
    cells = (frames * 7.999).long()
    codes = (cells[:, 0] * 64 + cells[:, 1] * 8 + cells[:, 2]).flatten()
    share = torch.bincount(codes, minlength=512) / len(codes)
    return {
        "brightness": float(luma.mean()),
        "contrast": float(luma.flatten(1).std(1).mean()),
        "saturation": float(((high - low) / high.clamp_min(1e-3)).mean()),
        "gradient": float(gradient.mean()),
        "flat": float((gradient < 0.01).float().mean()),
        "edges": float((gradient > 0.1).float().mean()),
        "slope": _slope(luma),
        "fine": float(local.square().mean() / luma.flatten(1).var(1).mean().clamp_min(1e-6)),
        "colours": float(-(share * share.clamp_min(1e-12).log2()).sum()),
        "change": float(luma.diff(dim=0).abs().mean()) if len(luma) > 1 else 0.0,
    }


def _slope(luma: Float[Tensor, "frames height width"]) -> float:
    """Least squares over rings of frequency; a window keeps the picture's borders out."""
    height, width = luma.shape[1:]
    window = torch.hann_window(height, periodic=False)[:, None] * torch.hann_window(width, periodic=False)
    centred = (luma - luma.mean((1, 2), keepdim=True)) * window
    power = torch.fft.fft2(centred).abs().square().mean(0)
    fy, fx = torch.fft.fftfreq(height)[:, None], torch.fft.fftfreq(width)
    radius = (fy.square() + fx.square()).sqrt() * width
    edges = torch.logspace(1, 6, 13, base=2)
    rings = [power[(radius >= a) & (radius < b)].mean() for a, b in pairwise(edges)]
    x, y = (edges[1:] * edges[:-1]).sqrt().log(), torch.stack(rings).clamp_min(1e-12).log()
    x = x - x.mean()
    return float((x * (y - y.mean())).sum() / x.square().sum())


def _table(rows: dict[str, list[dict[str, float]]]) -> str:
    lines = ["| figure | " + " | ".join(f"{name} ({len(values)})" for name, values in rows.items()) + " |"]
    lines.append("| --- " * (len(rows) + 1) + "|")
    for figure in next(iter(rows.values()))[0]:
        cells = []
        for values in rows.values():
            column = torch.tensor([v[figure] for v in values])
            low, high = torch.quantile(column, torch.tensor([0.1, 0.9])).tolist()
            cells.append(f"{float(column.mean()):.3f} ({low:.3f} to {high:.3f})")
        lines.append(f"| {figure} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="folder of videos")
    parser.add_argument("--scenes", type=int, default=48)
    parser.add_argument("--size", type=int, nargs=2, default=(128, 224), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--each", action="store_true", help="a column for each video too")
    args = parser.parse_args()
    files = sorted(p for p in args.videos.iterdir() if p.suffix.lower() in _SUFFIXES)
    if not files:
        parser.error(f"{args.videos} holds no videos ({', '.join(sorted(_SUFFIXES))})")
    size = tuple(args.size)
    rows: dict[str, list[dict[str, float]]] = {"videos": []}
    for file in files:
        frames = read_video(file, size=max(size)).images()
        row = statistics(F.interpolate(frames, size=size, mode="bilinear", antialias=True).clamp(0, 1))
        rows["videos"].append(row)
        if args.each:
            rows[file.stem] = [row]
    config = SceneConfig(num_frames=2, height=size[0], width=size[1])
    rows["scenes"] = []
    for seeds in held_out_seeds(args.scenes).split(4):
        images = generate(seeds, config, targets=torch.zeros(len(seeds), 1, dtype=torch.long)).images
        rows["scenes"] += [statistics(clip) for clip in images]
    print(_table(rows))


if __name__ == "__main__":
    main()

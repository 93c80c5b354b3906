"""How well ``vdpm.sky`` tells sky, on clips of the held-out families, whose sky is known.

    python benchmarks/sky_pixels.py --clips 24

Four frames of each snippet, at the families' own size. Found: the share of a frame's sky that is called sky,
mean over clips that have some (2 % of their pixels at least). Wrong: the share of everything else that is called sky,
in clips with and without sky; most of that are walls that are far and unknown.
"""

import argparse
from dataclasses import replace

import torch

import vdpm
from vdpm.evaluation.manifest import load_manifest
from vdpm.synthetic import SceneGenerator

FRAMES = 4
SOME = 0.02


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=24, help="of each family, the first ones")
    parser.add_argument("--model", default="vdpm-small")
    arguments = parser.parse_args()
    network = vdpm.VDPM.from_pretrained(arguments.model).eval()
    print("| family | clips with sky | found | wrong, beside sky | clips without | wrong there | clips above 1 % |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for family in ("rigid", "articulated", "unseen"):
        manifest = load_manifest(family)
        generator = SceneGenerator(replace(manifest.config, num_frames=FRAMES))
        found, beside, without = [], [], []
        for seed in manifest.seeds(arguments.clips):
            truth = generator(seed[None], torch.zeros(1, 1, dtype=torch.long)).clip(0)
            images = (truth.images.movedim(1, -1) * 255).round().to(torch.uint8)
            video = vdpm.video_from_frames(images, size=max(truth.size), fps=10.0)
            result = vdpm.reconstruct(video, model=network, targets="none")
            said = torch.stack([vdpm.sky(result, frame) for frame in range(FRAMES)])
            sky = truth.sky
            assert sky is not None
            if sky.float().mean() < SOME:
                without.append(said[~sky].float().mean())
                continue
            found.append(said[sky].float().mean())
            beside.append(said[~sky].float().mean())
        alone = torch.tensor(without)
        shares = [f"{torch.tensor(values).mean():.3f}" if values else "" for values in (found, beside, without)]
        print(f"| {family} | {len(found)} | {shares[0]} | {shares[1]} | {len(alone)} | {shares[2]} |", end="")
        print(f" {int((alone > 0.01).sum())} |", flush=True)


if __name__ == "__main__":
    main()

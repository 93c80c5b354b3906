"""A network's answer to snippets of the held-out families, alone and with cameras that follow the pictures.

    python benchmarks/follow_pictures.py --clips 12

Both answers on the same snippets of ten frames, so that columns differ by what following does; means, and the
geometric mean over snippets of each error's ratio. ``vdpm reconstruct`` follows, ``vdpm evaluate`` does not.
"""

import argparse
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from vdpm.evaluation.held_out import NETWORK, score_family
from vdpm.evaluation.manifest import load_manifest
from vdpm.evaluation.protocol import ClipByClip, NetworkPredictor, Prediction
from vdpm.geometry.pinhole import square_pixels
from vdpm.geometry.rigid import invert_rigid
from vdpm.long_video.one_window import follow_pictures
from vdpm.model import VDPM
from vdpm.structures import Cameras
from vdpm.synthetic.families import FAMILIES

SHOWN = ("epe", "epe_moving", "p_epe", "abs_rel", "rotation", "translation", "focal", "ate")


def following(model: VDPM) -> ClipByClip:
    """Answers as ``vdpm reconstruct`` does by default."""

    @torch.inference_mode()
    def predict(images: Tensor, targets: Sequence[int]) -> Prediction:
        tokens = model.encode(images[None], reference=0)
        said, own = model.cameras(tokens), model.time_variant(tokens)
        at_targets = model.decode(tokens, torch.tensor(list(targets))).points[0]
        c2w = invert_rigid(said.c2w[0, 0]) @ said.c2w[0]
        before = Cameras(c2w, square_pixels(said.intrinsics[0]), tuple(images.shape[-2:]))
        pictures = (images.permute(0, 2, 3, 1) * 255).round().to(torch.uint8)
        points = own.points[0]
        found = follow_pictures(pictures, before, points, own.confidence[0])
        if found is None:
            return Prediction(points, at_targets, before.c2w, before.intrinsics)
        frames = range(len(images))
        moved = torch.stack([found.points(one, points, frames) for one in at_targets])
        cameras = found.cameras
        return Prediction(found.points(points, points, frames), moved, cameras.c2w, cameras.intrinsics)

    return ClipByClip(predict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=12, help="of each family")
    parser.add_argument("--model", default="vdpm-small")
    parser.add_argument("--families", nargs="+", choices=list(FAMILIES), default=list(FAMILIES))
    arguments = parser.parse_args()
    model = VDPM.from_pretrained(arguments.model).eval()
    answers = {"alone": NetworkPredictor(model), "followed": following(model)}
    values: dict[str, list[dict[str, float]]] = {name: [] for name in answers}
    for family in arguments.families:
        manifest = load_manifest(family)
        for name, predictor in answers.items():
            values[name] += [s.by[NETWORK] for s in score_family(predictor, manifest, clips=arguments.clips)]
    print("| error | network alone | following the pictures | ratio | smaller in |\n| --- | --- | --- | --- | --- |")
    for error in SHOWN:
        pairs = [(a[error], b[error]) for a, b in zip(values["alone"], values["followed"])]
        pairs = [(a, b) for a, b in pairs if math.isfinite(a) and math.isfinite(b)]
        alone, followed = torch.tensor(pairs, dtype=torch.float64).T
        ratio = float((followed.clamp(min=1e-9) / alone.clamp(min=1e-9)).log().mean().exp())
        smaller = int((followed < alone).sum())
        print(f"| {error} | {alone.mean():.4f} | {followed.mean():.4f} | {ratio:.2f} | {smaller} of {len(pairs)} |")


if __name__ == "__main__":
    main()

"""One of our scenes as files: a video, and its exact ground truth in little space.

The ground truth file (npz, no pickle) holds, besides the frames, the depth of each pixel, the part of the scene it is
on, and where each part is in each frame. Points at any time follow: each part, or triangle of a surface, moves by an
affine map, and a pixel's point moves with it.
"""

import zipfile
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vdpm.errors import InputError
from vdpm.structures import Snippet
from vdpm.synthetic.config import HELD_OUT_START, SceneConfig
from vdpm.synthetic.generator import SceneGenerator
from vdpm.synthetic.looks import MaterialWeights
from vdpm.synthetic.pieces import instance_of_pieces, piece_poses

DEMO_SEED = HELD_OUT_START + 5320
DEMO_CONFIG = SceneConfig(
    num_frames=12,
    height=128,
    width=224,
    colour_samples=5,
    static_share=0.0,
    figure_share=1.0,
    still_camera_weight=0.0,
    pan_weight=0.0,
    density=(0.7, 1.0),
    moving_share=(0.5, 0.9),
    zoom_share=0.0,
    time_step=(1 / 15, 1 / 15),
    uneven_share=0.0,
    material_weights=MaterialWeights(plain=0.0),
    shadow_share=1.0,
    noise_level=(0.002, 0.008),
    field_of_view=(50.0, 70.0),
    baseline=(0.2, 0.7),
)
"""The scene of the bundled clip: things that move, a walking figure, a moving camera, shadows.

The clip is kept as it was made; since then scenes have more kinds of things in them, and the seed makes another one."""

_CLOCK = 90_000
_KEYS = (
    "images",
    "timestamps",
    "c2w",
    "intrinsics",
    "depth",
    "parts",
    "instance_of",
    "rotation",
    "position",
    "dynamic",
)


def write_clip(seed: int, config: SceneConfig, video: str | Path, truth: str | Path) -> Snippet:
    """Renders the scene of ``seed`` and writes its video (H.264 mp4) and ground truth (npz). Returns it, unbatched."""
    generator = SceneGenerator(config)
    scene = generator.sample(torch.tensor([seed]))
    _, pixels, _ = generator.render(scene, torch.zeros(1, 1, dtype=torch.long))
    snippet = generator([seed])
    grid = (config.height, config.width)
    parts = scene.parts
    frames = (snippet.images[0].permute(0, 2, 3, 1) * 255).round().to(torch.uint8)
    offset = snippet.points[0] - snippet.c2w[0, :, None, None, :3, 3]
    poses = piece_poses(parts)[0]
    kept, row = pixels.pieces[0].unique(return_inverse=True)
    kept = kept.long()
    np.savez_compressed(
        truth,
        images=frames.numpy(),
        timestamps=snippet.timestamps[0].numpy(),
        c2w=snippet.c2w[0].numpy(),
        intrinsics=snippet.intrinsics[0].numpy(),
        depth=((offset * snippet.c2w[0, :, None, None, :3, 2]).sum(-1) * snippet.valid[0]).numpy(),
        parts=row.unflatten(1, grid).to(torch.int16).numpy(),
        instance_of=instance_of_pieces(parts)[0, kept].numpy(),
        rotation=poses[:, kept, :9].unflatten(-1, (3, 3)).numpy(),
        position=poses[:, kept, 9:].numpy(),
        dynamic=np.packbits(snippet.dynamic[0].numpy()),
    )
    _write_video(frames, snippet.timestamps[0], video)
    return snippet.clip(0)


def load_ground_truth(path: str | Path) -> Snippet:
    """The snippet that ``write_clip`` wrote, with all frames as targets. World: the camera of frame 0.

    Raises InputError for a file that is missing, damaged or of another kind.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            data = {key: torch.from_numpy(file[key]) for key in _KEYS if key != "dynamic"}
            shape = tuple(data["depth"].shape)
            count = int(np.prod(shape))
            dynamic = torch.from_numpy(np.unpackbits(file["dynamic"], count=count).astype(bool)).view(shape)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; give the ground truth that belongs to the clip") from None
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path}: not the ground truth of a clip, or damaged ({error}); fetch or make it anew"
        ) from None
    frames = len(data["depth"])
    points = _points(data["depth"], data["c2w"], data["intrinsics"])
    part = data["parts"].long()
    frame = torch.arange(frames)[:, None, None]
    rotation, position = data["rotation"], data["position"]
    inverse = torch.linalg.inv(rotation)
    material = (inverse[frame, part] * (points - position[frame, part])[..., None, :]).sum(-1)
    moved = [
        (rotation[target, part] * material[..., None, :]).sum(-1) + position[target, part] for target in range(frames)
    ]
    # A pixel's own time is taken from its depth, so that P and Q agree to the bit there.
    target_points = torch.stack(moved)
    target_points[torch.arange(frames), torch.arange(frames)] = points
    valid = data["depth"] > 0
    return Snippet(
        images=data["images"].permute(0, 3, 1, 2).float() / 255,
        timestamps=data["timestamps"],
        c2w=data["c2w"],
        intrinsics=data["intrinsics"],
        points=points * valid[..., None],
        targets=torch.arange(frames),
        target_points=target_points * valid[..., None],
        valid=valid,
        dynamic=dynamic,
        instances=data["instance_of"][part],
    )


def _points(
    depth: Float[Tensor, "frames height width"],
    c2w: Float[Tensor, "frames 4 4"],
    intrinsics: Float[Tensor, "frames 3 3"],
) -> Float[Tensor, "frames height width 3"]:
    """Depth -> world points."""
    height, width = depth.shape[1:]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    focal, centre = intrinsics[:, 0, 0, None, None], intrinsics[:, :2, 2, None, None]
    camera = torch.stack([(x - centre[:, 0]) / focal * depth, (y - centre[:, 1]) / focal * depth, depth], -1)
    return (c2w[:, None, None, :3, :3] * camera[..., None, :]).sum(-1) + c2w[:, None, None, :3, 3]


def _write_video(
    frames: UInt8[Tensor, "frames height width 3"], timestamps: Float[Tensor, "frames"], path: str | Path
) -> None:
    step = float(timestamps.diff().mean()) if len(timestamps) > 1 else 1.0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(1 / step).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        stream.options = {"crf": "10", "preset": "slow"}
        stream.codec_context.time_base = Fraction(1, _CLOCK)
        for picture, time in zip(frames.numpy(), timestamps.tolist()):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round(time * _CLOCK), Fraction(1, _CLOCK)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def main() -> None:
    """Makes the bundled clip: python -m vdpm.synthetic.demo_clip."""
    folder = Path(__file__).resolve().parents[1] / "demo"
    folder.mkdir(exist_ok=True)
    write_clip(DEMO_SEED, DEMO_CONFIG, folder / "clip.mp4", folder / "truth.npz")


if __name__ == "__main__":
    main()

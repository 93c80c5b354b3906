"""What the network makes of one training clip, beside the truth, as one picture."""

import math

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vdpm.geometry.rigid import invert_rigid
from vdpm.model.vdpm import VDPMOutput
from vdpm.structures import Snippet

GAP = 2
"""Pixels between the tiles."""


def picture(
    snippet: Snippet, output: VDPMOutput, clip: int = 0, most_frames: int = 8
) -> UInt8[Tensor, "height width 3"]:
    """One column a frame; rows: frame, true and predicted nearness, true and predicted motion to the first target.

    ``snippet`` is in unit scale. Nearness is the inverse depth in the true camera of the frame, white at the nearest
    percent of the true one. Motion (Q - P) has its direction in the reference camera as hue and its length as
    saturation, both rows on one scale. Pixels without truth are dark in the rows of truth.
    """
    frames = min(snippet.num_frames, most_frames)
    valid = snippet.valid[clip, :frames]
    at_target = valid if snippet.target_valid is None else snippet.target_valid[clip, 0, :frames]
    w2c = invert_rigid(snippet.c2w[clip, :frames])
    true, ours = snippet.points[clip, :frames], output.time_variant.points[clip, :frames].detach()
    near = [_nearness(points, w2c) for points in (true, ours)]
    seen = near[0][valid]
    brightest = torch.quantile(seen[:: 1 + len(seen) // 100_000], 0.99) if len(seen) else near[0].new_ones(())
    motion = [
        snippet.target_points[clip, 0, :frames] - true,
        output.decoded.points[clip, 0, :frames].detach() - ours,
    ]
    length = motion[0].norm(dim=-1)[at_target]
    fastest = length.max().clamp(min=0.05) if len(length) else near[0].new_tensor(0.05)
    rows = [
        snippet.images[clip, :frames].permute(0, 2, 3, 1),
        *[(value / brightest).clamp(0, 1)[..., None].expand(-1, -1, -1, 3) for value in near],
        *[motion_colours(value, fastest) for value in motion],
    ]
    for row, known in ((1, valid), (3, at_target)):
        rows[row] = rows[row] * torch.where(known[..., None], 1.0, 0.15)
    tiles = torch.nn.functional.pad(torch.stack(rows).cpu(), (0, 0, 0, GAP, 0, GAP), value=1.0)
    sheet = tiles.permute(0, 2, 1, 3, 4).flatten(0, 1).flatten(1, 2)[:-GAP, :-GAP]
    return (sheet * 255).round().clamp(0, 255).to(torch.uint8)


def motion_colours(motion: Float[Tensor, "*shape 3"], fastest: Float[Tensor, ""]) -> Float[Tensor, "*shape 3"]:
    """Motion (x right, y down) as RGB: white at rest, hue by direction, saturation by length up to ``fastest``."""
    length = (motion.norm(dim=-1, keepdim=True) / fastest).clamp(0, 1)
    angle = torch.atan2(motion[..., 1], motion[..., 0])[..., None]
    turns = torch.tensor([0.0, 2 * math.pi / 3, 4 * math.pi / 3], device=motion.device)
    return 1 - length * (0.5 - 0.5 * torch.cos(angle - turns))


def _nearness(points: Float[Tensor, "frames h w 3"], w2c: Float[Tensor, "frames 4 4"]) -> Float[Tensor, "frames h w"]:
    depth = (points * w2c[:, None, None, 2, :3]).sum(-1) + w2c[:, None, None, 2, 3]
    return torch.where(depth > 1e-3, 1 / depth.clamp(min=1e-3), torch.zeros_like(depth))

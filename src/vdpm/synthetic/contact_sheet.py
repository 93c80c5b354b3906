"""Pictures of snippets to look at: frames, depth, motion, and point maps at their own and at one common time."""

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from vdpm.structures import Snippet

_RAMP = (
    (0.19, 0.07, 0.23),
    (0.27, 0.52, 0.97),
    (0.11, 0.89, 0.71),
    (0.74, 0.96, 0.22),
    (0.98, 0.6, 0.17),
    (0.48, 0.02, 0.01),
)
_MARGIN = 4


def depth_maps(snippet: Snippet) -> Float[Tensor, "*batch frames height width"]:
    """Depth along each frame's own optical axis, in the snippet's unit; 0 where not valid."""
    offset = snippet.points - snippet.c2w[..., None, None, :3, 3]
    forward = snippet.c2w[..., None, None, :3, 2]
    return (offset * forward).sum(-1) * snippet.valid


def contact_sheet(snippet: Snippet, frames: int = 4) -> UInt8[Tensor, "rows columns 3"]:
    """One picture of a batch of clips, two clips a row.

    Of each clip it shows up to ``frames`` frames; below each its depth (near is dark red), how far its points are from
    their place at the target time (bright is far), and its points at its own time (P) and at the target time (Q), with
    positions as colours. The target is the snippet's last one.
    """
    snippet = snippet.to("cpu")
    if snippet.images.dim() == 4:
        snippet = _with_batch(snippet)
    chosen = torch.linspace(0, snippet.num_frames - 1, min(frames, snippet.num_frames)).round().long()
    clips = []
    for clip in range(len(snippet.images)):
        valid, points = snippet.valid[clip, chosen], snippet.points[clip, chosen]
        moved = snippet.target_points[clip, -1, chosen]
        depth = depth_maps(snippet)[clip, chosen]
        inverse = torch.where(valid, 1 / depth.clamp_min(1e-6), 0.0)
        distance = points.norm(dim=-1)[valid].mean()
        motion = ((moved - points).norm(dim=-1) / (0.25 * distance)).sqrt().clamp(0, 1)
        rows = [
            snippet.images[clip, chosen].permute(0, 2, 3, 1),
            _colour(_stretch(inverse, valid), valid),
            _colour(motion, valid),
            _position_colour(points, points, valid),
            _position_colour(moved, points, valid),
        ]
        clips.append(_tile([_tile(list(row), 1) for row in rows], 0))
    if len(clips) > 1 and len(clips) % 2:
        clips.append(torch.ones_like(clips[0]))
    sheet = _tile([_tile(clips[i : i + 2], 1, 3 * _MARGIN) for i in range(0, len(clips), 2)], 0, 3 * _MARGIN)
    return (sheet * 255).round().to(torch.uint8)


def _with_batch(snippet: Snippet) -> Snippet:
    tensors: dict[str, Any] = {name: value[None] for name, value in vars(snippet).items() if isinstance(value, Tensor)}
    return replace(snippet, **tensors)


def _tile(pictures: list[Tensor], axis: int, margin: int = _MARGIN) -> Tensor:
    """Pictures [h, w, 3] side by side (axis 1) or below each other (axis 0) with a white margin between."""
    shape = list(pictures[0].shape)
    shape[axis] = margin
    gap = torch.ones(shape)
    row = [piece for picture in pictures for piece in (picture, gap)]
    return torch.cat(row[:-1], axis)


def _stretch(value: Tensor, valid: Bool[Tensor, "*shape"]) -> Tensor:
    """Values to [0, 1] by the valid ones' 2nd and 98th percentiles."""
    chosen = value[valid]
    if not len(chosen):
        return torch.zeros_like(value)
    low, high = torch.quantile(chosen[:: max(1, len(chosen) // 100_000)], torch.tensor([0.02, 0.98]))
    return ((value - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)


def _colour(value: Tensor, valid: Bool[Tensor, "*shape"]) -> Tensor:
    ramp = torch.tensor(_RAMP)
    place = value.clamp(0, 1) * (len(ramp) - 1)
    below = place.floor().long().clamp_max(len(ramp) - 2)
    colour = torch.lerp(ramp[below], ramp[below + 1], (place - below)[..., None])
    return torch.where(valid[..., None], colour, torch.full_like(colour, 0.5))


def _position_colour(points: Tensor, like: Tensor, valid: Tensor) -> Tensor:
    """Positions as colours, on the scale of ``like``, with bands that make small differences visible."""
    channels = []
    for axis in range(3):
        low, high = like[..., axis][valid].min(), like[..., axis][valid].max()
        unit = (points[..., axis] - low) / (high - low).clamp_min(1e-6)
        channels.append(0.75 * unit.clamp(0, 1) + 0.25 * (0.5 + 0.5 * torch.sin(unit * 60)))
    return torch.where(valid[..., None], torch.stack(channels, -1), 0.5)

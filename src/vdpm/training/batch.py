"""From a snippet with ground truth to what the network sees and the loss compares: unit scale, masks, colours
changed.
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.geometry.alignment import unit_mean_distance
from vdpm.structures import Snippet

# Points further than this many mean distances are left out of the loss: they are horizon, and would drown the rest.
FARTHEST = 12.0

TRACK_DENSITY = 1 / 32
"""Tracks for each moving pixel of a clip that ``thin_out`` leaves sparse truth."""


def to_unit_scale(snippet: Snippet) -> Snippet:
    """The snippet scaled so that its valid points P_i(t_i, pi_0) have mean distance 1 from the reference camera.

    Points beyond ``FARTHEST`` lose their ``valid`` mark; ``target_valid`` is always given afterwards. Points without
    ground truth, which may be NaN in data sets, become 0: masked out, they would still make gradients NaN.
    """
    scale = unit_mean_distance(snippet.points, snippet.valid)
    c2w = snippet.c2w.clone()
    c2w[..., :3, 3] /= scale[..., None, None]
    points = snippet.points / scale[..., None, None, None, None]
    target_points = snippet.target_points / scale[..., None, None, None, None, None]
    valid = snippet.valid & (points.norm(dim=-1) < FARTHEST)
    at_target = target_points.norm(dim=-1) < FARTHEST
    target_valid = at_target & valid.unsqueeze(-4)
    if snippet.target_valid is not None:
        target_valid = target_valid & snippet.target_valid
    nowhere = points.new_zeros(())
    return replace(
        snippet,
        points=torch.where(valid[..., None], points, nowhere),
        target_points=torch.where(target_valid[..., None], target_points, nowhere),
        c2w=c2w,
        valid=valid,
        target_valid=target_valid,
    )


def reference_first(snippet: Snippet) -> Snippet:
    """The same clips with the reference frame moved to the front, targets renumbered; losses do not see the order.

    The paper's network takes frame 0 for the reference. Ours takes any frame for it, with the same result; the order
    matters where shapes and numbers must not change from step to step, as in a recorded graph.
    """
    count, reference = snippet.num_frames, snippet.reference
    if reference == 0:
        return snippet

    def moved(value: Tensor, axis: int) -> Tensor:
        # Slices, not an index tensor: nothing to copy to the device.
        parts = [value.narrow(axis, reference, 1), value.narrow(axis, 0, reference)]
        return torch.cat([*parts, value.narrow(axis, reference + 1, count - reference - 1)], axis)

    axes = Snippet.FRAME_AXES.items()
    values = {name: moved(value, axis) for name, axis in axes if (value := getattr(snippet, name)) is not None}
    # Frames before the reference move back by one place.
    targets = snippet.targets + (snippet.targets < reference)
    targets = torch.where(snippet.targets == reference, torch.zeros_like(targets), targets)
    return replace(snippet, **values, targets=targets, reference=0)


def thin_out(snippet: Snippet, share: float, generator: torch.Generator) -> Snippet:
    """Of the clips of a batch in which something moves, ``share`` keep ground truth on tracks of moving objects alone.

    Tracks begin at random pixels, ``TRACK_DENSITY`` of those that move; as in data sets of point tracks, such as
    PointOdyssey, everything else has none. The other clips stay as they are. ``generator`` lives on the images' device.
    """
    assert snippet.target_valid is not None
    moves = snippet.dynamic & snippet.valid
    drawn = torch.rand(len(moves), generator=generator, device=moves.device) < share
    thinned = (drawn & moves.flatten(1).any(1))[:, None, None, None]
    tracked = moves & (torch.rand(moves.shape, generator=generator, device=moves.device) < TRACK_DENSITY)
    kept = tracked | ~thinned
    return replace(snippet, valid=snippet.valid & kept, target_valid=snippet.target_valid & kept[:, None])


def change_colours(
    images: Float[Tensor, "batch frames 3 height width"], generator: torch.Generator
) -> Float[Tensor, "batch frames 3 height width"]:
    """Random brightness, contrast, saturation, colour balance and mixing of channels, one draw a clip; some clips grey.

    ``generator`` lives on the images' device. The result stays in [0, 1].
    """
    batch, device = images.shape[0], images.device

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(batch, *shape, generator=generator, device=device) * (high - low) + low

    grey = draw(0.0, 1.0, 1, 1, 1, 1) < 0.05
    saturation = torch.where(grey, 0.0, draw(0.4, 1.4, 1, 1, 1, 1))
    gain = draw(0.75, 1.3, 1, 1, 1, 1) * draw(0.88, 1.12, 1, 3, 1, 1)
    gamma = draw(0.8, 1.25, 1, 1, 1, 1)
    contrast = draw(0.7, 1.25, 1, 1, 1, 1)
    # A random order of the channels in a third of the clips: colours of things carry no geometry.
    order = torch.rand(batch, 3, generator=generator, device=device).argsort(dim=1)
    kept = torch.arange(3, device=device).expand(batch, 3)
    order = torch.where(draw(0.0, 1.0, 1) < 0.33, order, kept)

    images = images.gather(2, order[:, None, :, None, None].expand_as(images))
    luma = images.mean(dim=2, keepdim=True)
    images = luma + (images - luma) * saturation
    mean = images.mean(dim=(1, 2, 3, 4), keepdim=True)
    images = (mean + (images - mean) * contrast) * gain
    return images.clamp(1e-4, 1.0).pow(gamma)

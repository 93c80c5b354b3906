"""Tracks of chosen pixels through the world, and when they are seen."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Num
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.motion.views import depth, in_view, project_to
from vdpm.structures import Reconstruction, Tracks

EDGE = 0.05
"""Pixels whose depth, or motion, differs by more than this share of the depth are of two surfaces and are not mixed.
A surface seen at 60 degrees changes by under 1 % from pixel to pixel in a usual video."""
SURFACE_TOLERANCE = 0.02
"""Difference in depth, as a share of it, up to which a sure point (large confidence) lies on the surface seen."""
MAJORITY = 5
"""Of 3 x 3 pixels. With any one of them enough, a point up to a pixel behind an edge would pass for visible; with the
middle one alone, a projection that is a little off would hide points."""
DOUBT = 8.0
"""How much the tolerance grows with doubt: times 1 + DOUBT / confidence, so 9-fold where confidence is 1. Under the
confidence-weighted loss the expected error goes as 1 / confidence; vdpm-small says 1 to 4 and errs by 10 %."""


def tracks(
    reconstruction: Reconstruction,
    source: int,
    queries: Num[Tensor, "tracks 2"] | Num[np.ndarray, "tracks 2"] | Sequence[Sequence[float | int]],
    targets: tuple[int, ...] | None = None,
) -> Tracks:
    """World positions of pixels of ``source`` at the times of ``targets`` (all kept ones by default), and visibility.

    ``queries`` are positions (x, y) in pixels of the network's image, centres at +0.5
    (``reconstruction.transform.points_to_output`` makes them of positions in the video). A track starts at P_i(t_i),
    sampled bilinearly among those of the four nearest pixels that lie at the nearest one's depth, and adds the flow of
    those that also move as it does, so that no track floats between two surfaces.

    A track is visible in its own frame. In another frame j it is when its projection is on a pixel that shows the
    video, in front of the camera, and its depth agrees with the frame's own surface P_j(t_j) at that pixel, or at most
    of the 3 x 3 around it, to 2 % (sure points) up to 18 % (confidence 1) of the depth. Where frame j is not among the
    result's sources, its surface is taken from the sources that are there, each at t_j: an occluder that none of them
    sees is then missed.

    Raises UsageError for queries outside of the image, and for a source or target that the result does not keep.
    """
    maps = reconstruction.maps
    targets = maps.targets if targets is None else tuple(targets)
    height, width = reconstruction.size
    queries = torch.as_tensor(queries, dtype=torch.float32)
    if queries.ndim != 2 or queries.shape[1] != 2:
        raise UsageError(f"queries of shape {list(queries.shape)} must be [tracks, 2]: x and y of each pixel")
    outside = (
        (queries < 0).any(dim=-1) | (queries[:, 0] > width) | (queries[:, 1] > height) | queries.isnan().any(dim=-1)
    )
    if bool(outside.any()):
        worst = queries[outside][0].tolist()
        raise UsageError(f"query {worst} is outside of the image of {width} x {height} pixels")

    own = maps.time_variant(source).points.flatten(0, 1)
    index, weights = _four_nearest(queries, reconstruction.size)
    weights = weights * (reconstruction.content.flatten()[index] + 1e-6)  # padding counts only where all is padding
    anchor = weights.argmax(dim=-1, keepdim=True)
    near = depth(reconstruction, source).flatten()[index]
    limit = EDGE * near.gather(1, anchor).abs()
    weights = weights * ((near - near.gather(1, anchor)).abs() <= limit)
    start = ((weights / weights.sum(dim=-1, keepdim=True))[..., None] * own[index]).sum(dim=1)

    points, pixels, visible, confidence = [], [], [], []
    for target in targets:
        moved = maps.at(target, source)
        flow = moved.points.flatten(0, 1)[index] - own[index]
        differs = (flow - flow.take_along_dim(anchor[..., None], dim=1)).norm(dim=-1)
        share = weights * (differs <= limit)
        share = share / share.sum(dim=-1, keepdim=True)
        points.append(start + (share[..., None] * flow).sum(dim=1))
        confidence.append((share * moved.confidence.flatten()[index]).sum(dim=1))
        where, z = project_to(reconstruction, points[-1], target)
        pixels.append(where)
        if target == source:
            x, y = queries.long().unbind(-1)
            visible.append(reconstruction.content[y.clamp(max=height - 1), x.clamp(max=width - 1)])
        else:
            seen = in_view(reconstruction, where, z)
            visible.append(seen & _on_surface(reconstruction, target, where, z, confidence[-1]))

    count = len(queries)
    return Tracks(
        source=source,
        queries=queries,
        targets=targets,
        points=torch.stack(points) if points else queries.new_zeros(0, count, 3),
        pixels=torch.stack(pixels) if pixels else queries.new_zeros(0, count, 2),
        visible=torch.stack(visible) if visible else torch.zeros(0, count, dtype=torch.bool),
        confidence=torch.stack(confidence) if confidence else queries.new_zeros(0, count),
    )


def _four_nearest(
    queries: Float[Tensor, "n 2"], size: tuple[int, int]
) -> tuple[Int[Tensor, "n 4"], Float[Tensor, "n 4"]]:
    """Flat indices of the four pixels around each position, and bilinear weights."""
    height, width = size
    corner = (queries - 0.5).floor()
    fraction = queries - 0.5 - corner
    index, weights = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            x = (corner[:, 0].long() + dx).clamp(0, width - 1)
            y = (corner[:, 1].long() + dy).clamp(0, height - 1)
            index.append(y * width + x)
            weights.append((fraction[:, 0] - 1 + dx).abs() * (fraction[:, 1] - 1 + dy).abs())
    return torch.stack(index, dim=-1), torch.stack(weights, dim=-1)


def _on_surface(
    reconstruction: Reconstruction,
    frame: int,
    pixels: Float[Tensor, "n 2"],
    z: Float[Tensor, "n"],
    confidence: Float[Tensor, "n"],
) -> Bool[Tensor, "n"]:
    """Whether depth ``z`` at ``pixels`` is that of the surface which ``frame`` sees there."""
    height, width = reconstruction.size
    if frame in reconstruction.maps.sources:
        surface = depth(reconstruction, frame)
        sure = reconstruction.maps.time_variant(frame).confidence
    else:
        surface, sure = _splatted_surface(reconstruction, frame)
    surface = torch.where(reconstruction.content, surface, torch.inf)
    x = pixels[:, 0].clamp(0, width - 1).long()
    y = pixels[:, 1].clamp(0, height - 1).long()
    centre = torch.zeros_like(z, dtype=torch.bool)
    agreeing = torch.zeros_like(z, dtype=torch.int64)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            at = (y + dy).clamp(0, height - 1), (x + dx).clamp(0, width - 1)
            tolerance = SURFACE_TOLERANCE * (1 + DOUBT / torch.minimum(confidence, sure[at]))
            agrees = (surface[at] - z).abs() <= tolerance * z
            agreeing += agrees
            if dy == dx == 0:
                centre = agrees
    return centre | (agreeing >= MAJORITY)


def _splatted_surface(
    reconstruction: Reconstruction, frame: int
) -> tuple[Float[Tensor, "height width"], Float[Tensor, "height width"]]:
    """Depth in camera ``frame`` of the nearest point of any kept source at that time (infinite: none), and confidence.

    Each point covers the four pixels around it, so that a surface which the camera comes closer to has few holes.
    """
    height, width = reconstruction.size
    surface = torch.full((height * width,), torch.inf)
    sure = torch.ones(height * width)
    for source in reconstruction.maps.sources:
        points, confidence = reconstruction.maps.at(frame, source)
        pixels, z = project_to(reconstruction, points, frame)
        seen = in_view(reconstruction, pixels, z) & reconstruction.content
        x, y = (pixels[seen] - 0.5).floor().long().unbind(-1)
        for dy in (0, 1):
            for dx in (0, 1):
                index = (y + dy).clamp(0, height - 1) * width + (x + dx).clamp(0, width - 1)
                surface.scatter_reduce_(0, index, z[seen], "amin")
                nearest = z[seen] <= surface[index]
                sure[index[nearest]] = confidence[seen][nearest]
    return surface.view(height, width), sure.view(height, width)

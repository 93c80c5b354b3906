"""The whole scene at one time, from the pixels of all frames."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.geometry.pinhole import pixel_grid
from vdpm.motion.sky import sky, sky_distance
from vdpm.motion.views import depth, depth_edges
from vdpm.structures import PointCloud, Reconstruction


def fuse(
    reconstruction: Reconstruction,
    target: int | None,
    *,
    sources: tuple[int, ...] | None = None,
    min_confidence: float = 1.0,
    drop_percent: float = 0.0,
    drop_sky: bool = False,
    drop_edges: bool = False,
    stride: int | None = None,
    voxel: float | None = None,
    max_points: int = 4_000_000,
) -> PointCloud:
    """The pixels of ``sources`` (all kept ones) at the time of frame ``target``, as one coloured cloud in the world.

    ``target`` None takes each frame at its own time instead, which needs no targets and suits still scenes.
    ``min_confidence`` drops pixels below it, ``drop_percent`` that share of the least sure pixels of each map,
    ``drop_sky`` those that ``motion.sky`` takes for sky, ``drop_edges`` those on edges of depth, most of which hang in
    the air.
    ``stride`` takes every so-manieth pixel in x and y; by default the smallest that gives at most ``max_points``.
    ``voxel`` keeps the surest point in each cube of that side, in the result's unit.

    Memory: about 60 bytes a point taken; maps are read one at a time. Raises UsageError for options out of range and
    for a source or target that the result does not keep.
    """
    sources = reconstruction.maps.sources if sources is None else tuple(sources)
    height, width = reconstruction.size
    if not sources:
        raise UsageError("fusing takes at least one source")
    if not 0 <= drop_percent < 100:
        raise UsageError(f"drop_percent {drop_percent} must be at least 0 and below 100")
    if voxel is not None and not voxel > 0:
        raise UsageError(f"voxel {voxel} must be above 0, a length in the result's unit")
    if max_points < 1 or (stride is not None and stride < 1):
        raise UsageError("stride and max_points must be at least 1")
    if stride is None:
        stride = math.ceil(math.sqrt(max(1.0, len(sources) * height * width / max_points)))
    pixels = pixel_grid(height, width)[::stride, ::stride]
    content = reconstruction.content[::stride, ::stride]
    beyond = sky_distance(reconstruction) if drop_sky else math.inf

    parts = []
    for source in sources:
        maps = reconstruction.maps
        points, confidence = maps.time_variant(source) if target is None else maps.at(target, source)
        confidence = confidence[::stride, ::stride]
        kept = content & (confidence >= min_confidence) & _surest(confidence, content, drop_percent)
        if drop_sky:
            kept &= ~sky(reconstruction, source, beyond=beyond)[::stride, ::stride]
        if drop_edges:
            kept &= ~depth_edges(depth(reconstruction, source))[::stride, ::stride]
        part = PointCloud(
            points=points[::stride, ::stride][kept],
            colors=reconstruction.frames[source, ::stride, ::stride][kept],
            confidence=confidence[kept],
            source=torch.full((int(kept.sum()),), source),
            pixels=pixels[kept],
        )
        parts.append(part if voxel is None else _thin(part, voxel))
    cloud = PointCloud(
        points=torch.cat([part.points for part in parts]),
        colors=torch.cat([part.colors for part in parts]),
        confidence=torch.cat([part.confidence for part in parts]),
        source=torch.cat([part.source for part in parts]),
        pixels=torch.cat([part.pixels for part in parts]),
    )
    return cloud if voxel is None else _thin(cloud, voxel)


def _surest(
    confidence: Float[Tensor, "height width"], content: Bool[Tensor, "height width"], drop_percent: float
) -> Bool[Tensor, "height width"]:
    """All but ``drop_percent`` of the pixels with content, the least sure ones dropped; equally sure ones all stay."""
    count = int(content.sum())
    rank = math.floor(count * drop_percent / 100)
    if rank == 0:
        return content
    return confidence >= confidence[content].kthvalue(rank + 1).values


def _thin(cloud: PointCloud, voxel: float) -> PointCloud:
    """The surest point of each cube of side ``voxel``."""
    if len(cloud) == 0:
        return cloud
    cell = (cloud.points.double() / voxel).floor()
    if float(cell.abs().max()) >= 2**20:
        raise UsageError(f"voxel {voxel} is too small for a cloud that reaches {float(cloud.points.abs().max()):.3g}")
    cell = cell.long() + 2**20
    key = (cell[:, 0] << 42) + (cell[:, 1] << 21) + cell[:, 2]
    order = cloud.confidence.argsort(descending=True, stable=True)
    order = order[key[order].argsort(stable=True)]
    first = torch.ones(len(order), dtype=torch.bool)
    first[1:] = key[order][1:] != key[order][:-1]
    # In the order of the pixels, so that the result does not depend on how the cubes are numbered.
    return cloud.select(order[first].sort().values)

"""Pixels of two frames that show the same point of the scene."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.geometry.nearest import coarse, coarse_stride, descend, flat_index
from vdpm.motion.views import project_to
from vdpm.structures import Reconstruction, told


class Correspondence(NamedTuple):
    """For each pixel of frame a: the position (x, y) in frame b (centres at +0.5), and whether one was found.

    ``distance``: how far apart the two points are in the world at the common time. Where ``valid`` is False the point
    is hidden, out of view or inconsistent in b, and ``pixels`` is merely the nearest.
    """

    pixels: Float[Tensor, "height width 2"]
    valid: Bool[Tensor, "height width"]
    distance: Float[Tensor, "height width"]

    def __repr__(self) -> str:
        return told(self)


def correspondence(
    reconstruction: Reconstruction, a: int, b: int, target: int | None = None, tolerance: float = 0.02
) -> Correspondence:
    """Pixel u of frame ``a`` matches v of ``b`` when P_a(t_j)(u) = P_b(t_j)(v), Sec. 3.1; j is ``target``, or b.

    Both maps show the same time, so moving things match too. The nearest point of b in 3D is searched for from two
    starts, a coarse grid over b and (when j is b) the projection into camera b, then refined to a fraction of a pixel
    along the surface. Valid: within ``tolerance`` of the point's distance from camera b.

    Raises UsageError for frames or a target that the result does not keep.
    """
    if not tolerance > 0:
        raise UsageError(f"tolerance {tolerance} must be above 0, a share of the distance from the camera")
    target = b if target is None else target
    height, width = reconstruction.size
    points = reconstruction.maps.at(target, a).points.flatten(0, 1)
    surface = reconstruction.maps.at(target, b).points
    content = reconstruction.content
    # Padding is no candidate. Finite, since differences of infinities are not numbers.
    surface = torch.where(content[..., None], surface, 1e6)

    stride = coarse_stride(surface)
    starts = [coarse(points, surface, stride)]
    if target == b:
        pixels, z = project_to(reconstruction, points.view(height, width, 3), b)
        inside = torch.where(z[..., None] > 0, pixels, 0).flatten(0, 1)
        starts.append(flat_index(inside.floor().clamp(-1, max(height, width)).long(), (height, width)))
    found = torch.stack([descend(points, surface, start, stride) for start in starts])
    flat = surface.flatten(0, 1)
    best = (flat[found] - points).norm(dim=-1).argmin(dim=0)
    index = found.gather(0, best[None])[0]

    offset, distance = _along_surface(points, surface, index)
    pixels = torch.stack([index % width, index // width], dim=-1) + 0.5 + offset
    reach = (points - reconstruction.cameras.centers[b].float()).norm(dim=-1)
    valid = (distance <= tolerance * reach) & content.flatten()
    return Correspondence(
        pixels=pixels.view(height, width, 2), valid=valid.view(height, width), distance=distance.view(height, width)
    )


def _along_surface(
    points: Float[Tensor, "n 3"], surface: Float[Tensor, "h w 3"], index: Int[Tensor, "n"]
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n"]]:
    """Offset in pixels, at most a half, that brings the surface at ``index`` nearest to the point; distance left.

    The surface is taken as the plane through the pixel and its nearer neighbour in x and in y, which across an edge is
    the one on the same side.
    """
    width = surface.shape[1]
    centre = torch.stack([index % width, index // width], dim=-1)
    flat = surface.flatten(0, 1)
    here = flat[index]
    tangents = []
    for step in (torch.tensor([1, 0]), torch.tensor([0, 1])):
        ahead = flat[flat_index(centre + step, surface.shape[:2])] - here
        behind = here - flat[flat_index(centre - step, surface.shape[:2])]
        lengths = ahead.norm(dim=-1), behind.norm(dim=-1)
        # At the image's border one of the two is 0: the neighbour is the pixel itself.
        use_ahead = (lengths[1] == 0) | ((lengths[0] <= lengths[1]) & (lengths[0] > 0))
        tangents.append(torch.where(use_ahead[:, None], ahead, behind))
    basis = torch.stack(tangents, dim=-1)
    residual = points - here
    normal = basis.mT @ basis
    # Damped, so that a pixel whose neighbours coincide with it stays where it is.
    damping = 1e-6 * normal.diagonal(dim1=-2, dim2=-1).sum(-1) + 1e-20
    normal = normal + damping[:, None, None] * torch.eye(2)
    offset = torch.linalg.solve(normal, (basis.mT @ residual[..., None]))[..., 0].clamp(-0.5, 0.5)
    return offset, (residual - (basis @ offset[..., None])[..., 0]).norm(dim=-1)

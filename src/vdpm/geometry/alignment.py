"""Bringing point sets into one frame and one unit: weighted Umeyama, and division by the mean distance."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.geometry.rigid import rigid


class Similarity(NamedTuple):
    """x -> scale * rotation @ x + translation, source -> target."""

    scale: Float[Tensor, "*batch"]
    rotation: Float[Tensor, "*batch 3 3"]
    translation: Float[Tensor, "*batch 3"]

    def apply(self, points: Float[Tensor, "... 3"]) -> Float[Tensor, "... 3"]:
        """Points [*batch, *any, 3] of the source -> in the target."""
        inner = [1] * max(0, points.ndim - 1 - self.scale.ndim)
        batch = self.scale.shape
        matrix = (self.scale[..., None, None] * self.rotation).reshape(*batch, *inner, 3, 3)
        x, y, z = points[..., :1], points[..., 1:2], points[..., 2:]
        turned = x * matrix[..., 0] + y * matrix[..., 1] + z * matrix[..., 2]
        return turned + self.translation.reshape(*batch, *inner, 3)

    def matrix(self) -> Float[Tensor, "*batch 4 4"]:
        """The 4 x 4 matrix, source -> target; rigid only where the scale is 1."""
        return rigid(self.scale[..., None, None] * self.rotation, self.translation)


def umeyama(
    source: Float[Tensor, "*batch n 3"],
    target: Float[Tensor, "*batch n 3"],
    weights: Float[Tensor, "*batch n"] | None = None,
    with_scale: bool = True,
) -> Similarity:
    """The similarity (rigid motion without ``with_scale``) that minimises the weighted squared distance to ``target``.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991. Never a
    reflection. Points of weight 0 are left out, be they finite or not. Raises UsageError when fewer than 3 points are
    left, when they lie on one line or at one spot (the rotation is then open), and for weights that are negative or
    not finite.
    """
    if source.shape != target.shape:
        raise UsageError(f"umeyama needs as many source as target points, got {[*source.shape]} and {[*target.shape]}")
    kind = source.dtype, source.device
    # In float64, so that points far from the origin keep their digits; on the CPU where the device has no float64.
    home = torch.device("cpu") if source.device.type == "mps" else source.device
    source, target = source.to(home, torch.float64), target.to(home, torch.float64)
    if weights is None:
        weights = torch.ones(source.shape[:-1], dtype=torch.float64, device=home)
    weights = weights.to(home, torch.float64)
    if not bool(((weights >= 0) & weights.isfinite()).all()):
        raise UsageError("umeyama needs weights that are finite and not negative")
    used = weights[..., None] > 0
    source, target = torch.where(used, source, 0.0), torch.where(used, target, 0.0)
    if source.shape[-2] < 3 or int(used[..., 0].sum(-1).min()) < 3:
        raise UsageError("umeyama needs at least 3 points of weight above 0")
    if not bool(source.isfinite().all() & target.isfinite().all()):
        raise UsageError("umeyama got points that are not finite; give them weight 0")

    reach = source.abs().amax((-1, -2)) * target.abs().amax((-1, -2))
    share = (weights / weights.sum(-1, keepdim=True))[..., None]
    source_mean, target_mean = (share * source).sum(-2, keepdim=True), (share * target).sum(-2, keepdim=True)
    source, target = source - source_mean, target - target_mean
    covariance = (share * target).transpose(-1, -2) @ source
    u, singular, vt = torch.linalg.svd(covariance)
    if bool((singular[..., 1] <= _noise(singular[..., 0], reach, kind[0])).any()):
        raise UsageError("umeyama cannot find the rotation: the points lie on one line or at one spot")
    sign = torch.ones_like(singular)
    sign[..., 2] = torch.where(torch.linalg.det(u) * torch.linalg.det(vt) < 0, -1.0, 1.0)
    rotation = (u * sign[..., None, :]) @ vt
    if with_scale:
        scale = (singular * sign).sum(-1) / (share * source.square()).sum((-1, -2))
    else:
        scale = torch.ones_like(singular[..., 0])
    translation = target_mean[..., 0, :] - scale[..., None] * (rotation @ source_mean[..., 0, :, None])[..., 0]
    dtype, device = kind
    return Similarity(scale.to(device, dtype), rotation.to(device, dtype), translation.to(device, dtype))


def _noise(largest: Tensor, reach: Tensor, dtype: torch.dtype) -> Tensor:
    """How large a singular value rounding alone makes: that of the points (of size ``reach``), then that of the SVD."""
    return torch.maximum((4 * torch.finfo(dtype).eps) ** 2 * reach, 16 * torch.finfo(torch.float64).eps * largest)


def unit_mean_distance(
    points: Float[Tensor, "... 3"], valid: Bool[Tensor, "..."] | None = None, batch_axes: int = 1
) -> Float[Tensor, "*batch"]:
    """The mean distance of valid points from the origin, one number for each entry of the first ``batch_axes`` axes.

    Divide points and camera translations by it. It is 1 where no point is valid. Invalid points may be NaN.
    """
    if valid is None:
        valid = torch.ones_like(points[..., 0], dtype=torch.bool)
    # Zeros under the norm would make its gradient NaN, so invalid points become ones first.
    norm = torch.where(valid[..., None], points, torch.ones_like(points)).norm(dim=-1)
    total = torch.where(valid, norm, torch.zeros_like(norm)).flatten(batch_axes).sum(-1)
    count = valid.flatten(batch_axes).sum(-1)
    mean = total / count.clamp(min=1)
    return torch.where(mean > 0, mean, torch.ones_like(mean))

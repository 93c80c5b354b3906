"""Cameras from point maps: focal length by Weiszfeld, pose by PnP or by Umeyama. A check on cameras found otherwise."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.geometry.alignment import umeyama
from vdpm.geometry.pinhole import pixel_grid, project
from vdpm.geometry.rigid import invert_rigid, rigid, rotation_vector_to_matrix, transform_points

_WIDEST_RAY = 5.0
"""Largest distance from the optical axis over depth. A point near the camera plane would outweigh all others."""

_SCORED_POINTS = 1000
"""Points that score a hypothesis; all points take part in the refinement."""


def focal_weiszfeld(
    points: Float[Tensor, "*batch height width 3"],
    valid: Bool[Tensor, "*batch height width"] | None = None,
    iterations: int = 20,
) -> Float[Tensor, "*batch"]:
    """Focal length in pixels of a point map in its own camera: square pixels, principal point at the image's centre.

    The geometric median of DUSt3R (Sec. 3.3), by Weiszfeld: minimises the sum of distances, not of their squares,
    between pixels and f * (x / z, y / z), so that outliers weigh little. Points that are not finite, not in front of
    the camera, or farther off its axis than any pinhole camera sees (79 degrees) do not count. Raises UsageError when
    no point off the axis is left.
    """
    height, width = points.shape[-3:-1]
    centre = points.new_tensor((width / 2, height / 2))
    pixels = pixel_grid(height, width, device=points.device, dtype=points.dtype) - centre
    off_axis = points[..., :2].norm(dim=-1)
    used = points.isfinite().all(-1) & (points[..., 2] > 0) & (off_axis <= _WIDEST_RAY * points[..., 2])
    if valid is not None:
        used = used & valid
    safe = torch.where(used[..., None], points, points.new_tensor((0.0, 0.0, 1.0)))
    rays = (safe[..., :2] / safe[..., 2:]).flatten(-3, -2)
    pixels = (pixels * used[..., None]).flatten(-3, -2)
    along, square = (rays * pixels).sum(-1), rays.square().sum(-1)
    if not bool((square.sum(-1) > 0).all()):
        raise UsageError(
            "the focal length cannot be found: no valid point lies off the optical axis, in front of the camera"
        )
    focal = along.sum(-1) / square.sum(-1)
    smallest = 1e-6 * max(height, width)
    for _ in range(iterations):
        distance = (pixels - focal[..., None, None] * rays).norm(dim=-1).clamp(min=smallest)
        focal = (along / distance).sum(-1) / (square / distance).sum(-1)
    return focal


def pose_umeyama(
    points_world: Float[Tensor, "*batch n 3"],
    points_camera: Float[Tensor, "*batch n 3"],
    weights: Float[Tensor, "*batch n"] | None = None,
) -> Float[Tensor, "*batch 4 4"]:
    """c2w from the same points in the camera and in the world, in one unit. Raises UsageError as ``umeyama`` does."""
    return umeyama(points_camera, points_world, weights, with_scale=False).matrix()


def pose_pnp(
    points_world: Float[Tensor, "n 3"],
    pixels: Float[Tensor, "n 2"],
    intrinsics: Float[Tensor, "3 3"],
    weights: Float[Tensor, "n"] | None = None,
    *,
    threshold: float = 4.0,
    hypotheses: int = 128,
    iterations: int = 20,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "4 4"]:
    """w2c (world to camera) of the camera that sees ``points_world`` at ``pixels`` (x, y).

    RANSAC over the exact poses of three points (Grunert's equations as in Haralick et al., "Review and analysis of
    solutions of the three point perspective pose estimation problem", IJCV 1994; planes are no special case), then
    Levenberg-Marquardt on all points with Cauchy weights. ``threshold``: reprojection error in pixels at which a point
    begins to be an outlier. Points of weight 0, or not finite, do not count. ``generator`` makes the draws (default:
    seed 0, on the CPU).
    Raises UsageError with fewer than 4 points, and when no pose puts them in front of the camera.
    """
    if weights is None:
        weights = torch.ones_like(points_world[:, 0])
    used = (weights > 0) & points_world.isfinite().all(-1) & pixels.isfinite().all(-1)
    if int(used.sum()) < 4:
        raise UsageError(f"a pose needs at least 4 points of weight above 0, got {int(used.sum())}")
    # float64: the coefficients of the quartic cancel. On the CPU, as the draws and the eigenvalues are.
    points, seen, weight = (tensor[used].detach().cpu().double() for tensor in (points_world, pixels, weights))
    k = intrinsics.detach().cpu().double()
    generator = generator or torch.Generator().manual_seed(0)

    draws = torch.stack([_draw(weight, 3, generator) for _ in range(hypotheses)])
    homogeneous = torch.cat((seen, torch.ones_like(seen[:, :1])), dim=-1)
    bearings = torch.linalg.solve(k, homogeneous.T).T
    bearings = bearings / bearings.norm(dim=-1, keepdim=True)
    candidates = _poses_of_three_points(points[draws], bearings[draws])
    if candidates.shape[0] == 0:
        raise UsageError("no pose found: the points lie on one line or do not fit the intrinsics")
    scored = _draw(weight, min(_SCORED_POINTS, weight.shape[0]), generator)
    cost = _cauchy_cost(candidates, points[scored], seen[scored], torch.ones_like(weight[scored]), k, threshold)
    best = candidates[cost.argmin()]
    # Gross outliers go first, and points beside the camera's centre, which swing so widely with the pose that they
    # drown all others.
    error, in_camera, in_front = _residuals(best, points, seen, k)
    near = in_front & (error.norm(dim=-1) < 10 * threshold) & (in_camera[:, 2] > 0.1 * in_camera[:, 2].median())
    kept = near if int(near.sum()) >= 4 else torch.ones_like(near)
    pose = _refine(best, points[kept], seen[kept], weight[kept] / weight.max(), k, threshold, iterations)
    if not bool((transform_points(pose, points)[:, 2] > 0).any()):
        raise UsageError("no pose found that puts the points in front of the camera")
    return pose.to(points_world.device, points_world.dtype)


def _draw(weight: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` different indices, heavier ones more likely (exponential keys of Efraimidis and Spirakis)."""
    keys = torch.empty_like(weight).exponential_(generator=generator) / weight
    return keys.topk(count, largest=False).indices


def _poses_of_three_points(points: Tensor, bearings: Tensor) -> Tensor:
    """w2c [m, 4, 4] of all real solutions for triples [k, 3, 3] of world points and unit bearings in the camera."""
    a2, b2, c2 = ((points[:, i] - points[:, j]).square().sum(-1) for i, j in ((1, 2), (0, 2), (0, 1)))
    cos_a, cos_b, cos_g = ((bearings[:, i] * bearings[:, j]).sum(-1) for i, j in ((1, 2), (0, 2), (0, 1)))
    # Distances s1, s2 = u s1, s3 = v s1 along the bearings; v solves a quartic (Haralick et al., Eq. 9).
    q, r = (a2 - c2) / b2, (a2 + c2) / b2
    a_b, c_b = a2 / b2, c2 / b2
    coefficients = torch.stack(
        (
            (1 + q) ** 2 - 4 * a_b * cos_g**2,
            4 * (-q * (1 + q) * cos_b + 2 * a_b * cos_g**2 * cos_b - (1 - r) * cos_a * cos_g),
            2
            * (
                q**2
                - 1
                + 2 * q**2 * cos_b**2
                + 2 * (1 - c_b) * cos_a**2
                - 4 * r * cos_a * cos_b * cos_g
                + 2 * (1 - a_b) * cos_g**2
            ),
            4 * (q * (1 - q) * cos_b - (1 - r) * cos_a * cos_g + 2 * c_b * cos_a**2 * cos_b),
            (q - 1) ** 2 - 4 * c_b * cos_a**2,
        ),
        dim=-1,
    )
    roots = _real_roots(coefficients)
    v, triple = roots.flatten(), torch.arange(points.shape[0]).repeat_interleave(4)
    q, cos_a, cos_b, cos_g, b2 = (value[triple] for value in (q, cos_a, cos_b, cos_g, b2))
    u = ((q - 1) * v**2 - 2 * q * cos_b * v + 1 + q) / (2 * (cos_g - v * cos_a))
    s1 = (b2 / (1 + v**2 - 2 * v * cos_b)).sqrt()
    distance = torch.stack((s1, u * s1, v * s1), dim=-1)
    good = (distance.isfinite() & (distance > 0)).all(-1)
    in_camera = distance[good, :, None] * bearings[triple[good]]
    in_world = points[triple[good]]
    return rigid(*_rigid_of_triangles(in_world, in_camera))


def _real_roots(coefficients: Tensor) -> Tensor:
    """Roots [k, 4] of quartics with ``coefficients`` [k, 5], constant first; NaN where a root is not real."""
    leading = coefficients[:, 4:]
    companion = torch.zeros(coefficients.shape[0], 4, 4, dtype=coefficients.dtype)
    companion[:, 1:, :3] = torch.eye(3, dtype=coefficients.dtype)
    companion[:, :, 3] = -coefficients[:, :4] / torch.where(
        leading.abs() < 1e-12, torch.full_like(leading, 1e-12), leading
    )
    companion = torch.where(companion.isfinite(), companion, 0.0)
    roots = torch.linalg.eigvals(companion)
    # Double roots come out as a pair with a small imaginary part.
    real = roots.imag.abs() < 1e-4 * (1 + roots.real.abs())
    return torch.where(real, roots.real, torch.nan)


def _rigid_of_triangles(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation and translation between congruent triangles [m, 3, 3], by their edges."""
    frames = []
    for corners in (source, target):
        first = corners[:, 1] - corners[:, 0]
        normal = torch.linalg.cross(first, corners[:, 2] - corners[:, 0])
        first, normal = torch.nn.functional.normalize(first, dim=-1), torch.nn.functional.normalize(normal, dim=-1)
        frames.append(torch.stack((first, torch.linalg.cross(normal, first), normal), dim=-1))
    rotation = frames[1] @ frames[0].transpose(-1, -2)
    return rotation, target.mean(1) - (rotation @ source.mean(1)[..., None])[..., 0]


def _residuals(w2c: Tensor, points: Tensor, pixels: Tensor, k: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Reprojection errors [..., n, 2] in pixels, points in the camera, and which of these lie in front of it."""
    in_camera = transform_points(w2c, points.expand(*w2c.shape[:-2], *points.shape))
    projected, depth = project(in_camera, k.expand(*w2c.shape[:-2], 3, 3))
    return projected - pixels, in_camera, depth > 0


def _cauchy_cost(w2c: Tensor, points: Tensor, pixels: Tensor, weight: Tensor, k: Tensor, threshold: float) -> Tensor:
    """Sum over points of weight * log(1 + (error / threshold)^2); behind the camera counts as 100 thresholds away."""
    error, _, in_front = _residuals(w2c, points, pixels, k)
    square = error.square().sum(-1) / threshold**2
    square = torch.where(in_front & square.isfinite(), square.clamp(max=1e4), 1e4)
    return (weight * torch.log1p(square)).sum(-1)


def _refine(
    pose: Tensor, points: Tensor, pixels: Tensor, weight: Tensor, k: Tensor, threshold: float, iterations: int
) -> Tensor:
    """Levenberg-Marquardt on the Cauchy cost over motions applied after ``pose``."""
    damping = 1e-4
    cost = _cauchy_cost(pose, points, pixels, weight, k, threshold)
    for _ in range(iterations):
        error, in_camera, in_front = _residuals(pose, points, pixels, k)
        robust = weight * in_front / (1 + error.square().sum(-1) / threshold**2)
        jacobian = _projection_jacobian(in_camera, k)
        jacobian = torch.where(in_front[:, None, None], jacobian, 0.0).flatten(0, 1)
        error = torch.where(in_front[:, None], error, 0.0).flatten()
        weighted = jacobian * robust.repeat_interleave(2)[:, None]
        normal, gradient = weighted.T @ jacobian, weighted.T @ error
        damped = normal + damping * torch.diag(normal.diagonal() + 1e-12)
        step = -torch.linalg.solve(damped, gradient)
        proposal = rigid(rotation_vector_to_matrix(step[:3]), step[3:]) @ pose
        proposed = _cauchy_cost(proposal, points, pixels, weight, k, threshold)
        if proposed < cost:
            gain = float(cost - proposed)
            pose, cost, damping = proposal, proposed, max(damping / 10, 1e-12)
            if gain <= 1e-14 * float(cost):
                break
        else:
            damping *= 10
            if damping > 1e8:
                break
    return pose


def _projection_jacobian(in_camera: Tensor, k: Tensor) -> Tensor:
    """d pixel / d (rotation vector, translation) [n, 2, 6] for a motion applied to points in the camera."""
    x, y, z = in_camera.unbind(-1)
    z = torch.where(z.abs() < 1e-12, torch.full_like(z, 1e-12), z)
    zero = torch.zeros_like(x)
    by_point = torch.stack(
        (
            torch.stack((k[0, 0] / z, k[0, 1] / z, -(k[0, 0] * x + k[0, 1] * y) / z**2), dim=-1),
            torch.stack((zero, k[1, 1] / z, -k[1, 1] * y / z**2), dim=-1),
        ),
        dim=-2,
    )
    # d (w x p) / d w = -[p]_x
    by_rotation = torch.stack(
        (
            torch.stack((zero, z, -y), dim=-1),
            torch.stack((-z, zero, x), dim=-1),
            torch.stack((y, -x, zero), dim=-1),
        ),
        dim=-2,
    )
    return torch.cat((by_point @ by_rotation, by_point), dim=-1)


def reprojection_error(
    points_world: Float[Tensor, "*batch n 3"],
    pixels: Float[Tensor, "*batch n 2"],
    c2w: Float[Tensor, "*batch 4 4"],
    intrinsics: Float[Tensor, "*batch 3 3"],
) -> Float[Tensor, "*batch n"]:
    """Distance in pixels between ``pixels`` and where the camera sees ``points_world``; infinite behind the camera."""
    projected, depth = project(transform_points(invert_rigid(c2w), points_world), intrinsics)
    distance = (projected - pixels).norm(dim=-1)
    return torch.where(depth > 0, distance, torch.full_like(distance, torch.inf))

"""All windows and cameras at once: the bundle adjustment of Sec. 4.2.

Unknown are a similarity S_w for each window, a pose T_i (camera to world) for each frame, a depth d_u for each sampled
pixel, and one focal length or one a frame. A point p that window w gives for pixel u of frame i lies in camera i at

    q = T_i^-1 S_w p,    residual r = (q_x - x_u q_z,  q_y - y_u q_z,  q_z - d_u) / (s_w |p - c|),

with (x_u, y_u, 1) the pixel's ray under the focal length, s_w the scale of S_w and c where the window itself puts the
camera. This is DUSt3R's global alignment, |S p - T d ray|, in shares of a point's distance as its window says it:
errors of point maps grow with the distance, a cost in world units would shrink the world, and one in pixels or in
shares of q_z would push cameras away and make lenses long. The best d_u is a weighted mean in closed form, and
each frame's pose meets only the windows that hold the frame, so Gauss-Newton eliminates depths, then poses, and solves
for 7 numbers a window (Levenberg-Marquardt; iterated weights of Geman and McClure for points and for windows). What
a window's camera head says of a frame counts as a few points do.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.geometry.alignment import Similarity
from vdpm.geometry.rigid import (
    cross_matrix,
    invert_rigid,
    rigid,
    rotation_matrix_to_vector,
    rotation_vector_to_matrix,
)
from vdpm.long_video.observations import Observations
from vdpm.long_video.state import LENS, AdjustmentConfig, State, moved

NEAREST = 1e-3
"""Depths below this share of the entry's median count as behind the camera, and not at all."""

LENS_DOUBT = 0.05
"""Least error of a network's focal lengths that is reckoned with, as a share, however well its windows agree: where the
points leave the lens open (a camera that hardly moves), its word must hold."""


@dataclass(frozen=True, eq=False)
class _Residuals:
    """``image``: x and y of r; ``unit``: 1 / (s_w |p - c|); ``q``: points in their cameras, with ``z`` their depth;
    ``camera``: rotation and centre of the window's camera against the frame's, the latter over ``middle``. ``lens``:
    logarithm of the focal length over what the windows say of it.
    """

    image: Tensor
    unit: Tensor
    z: Tensor
    q: Tensor
    in_front: Tensor
    camera: Tensor
    lens: Tensor
    centre: Tensor
    middle: Tensor
    to_camera: Similarity


@dataclass(frozen=True, eq=False)
class _Weights:
    point: Tensor
    camera: Tensor
    lens: Tensor
    entry: Tensor
    window: Tensor
    sigma: Tensor


@dataclass(frozen=True, eq=False)
class _Normal:
    ff: Tensor
    fw: Tensor
    ww: Tensor
    f: Tensor
    w: Tensor
    fg: Tensor
    wg: Tensor
    gg: Tensor
    g: Tensor


class System:
    """The normal equations of all entries. Frames have 6 unknowns (7 with a focal length each), windows 7."""

    def __init__(self, seen: Observations, config: AdjustmentConfig, fixed: Tensor) -> None:
        self.seen, self.config, self.fixed = seen, config, fixed
        self.reach = (seen.points - seen.c2w[:, None, :3, 3]).norm(dim=-1)
        self.typical = self.reach.median(dim=1).values.clamp(min=1e-9)
        self.reach = torch.maximum(self.reach, NEAREST * self.typical[:, None])
        # Rows of pixels: entry x sample, grouped by frame. Pairs of entries that share a frame meet through its depths.
        order: dict[int, list[int]] = {}
        for entry, frame in enumerate(seen.frame.tolist()):
            order.setdefault(frame, []).append(entry)
        pairs = [(a, b) for entries in order.values() for a in entries for b in entries]
        self.pairs = torch.tensor(pairs, device=seen.points.device).T
        self.own = 7 if config.focal == "per-frame" else 6
        focal = seen.intrinsics[:, 0, 0].log()
        self.lens_spread = 1.5 * float((focal - focal.median()).abs().median())

    def residuals(self, state: State) -> _Residuals:
        seen = self.seen
        w2c = invert_rigid(state.c2w)[seen.frame]
        scale = state.windows.scale[seen.window]
        rotation = w2c[:, :3, :3] @ state.windows.rotation[seen.window]
        shift = (w2c[:, :3, :3] @ state.windows.translation[seen.window][..., None])[..., 0] + w2c[:, :3, 3]
        to_camera = Similarity(scale, rotation, shift)
        q = to_camera.apply(seen.points)
        z = q[..., 2]
        unit = 1 / (scale[:, None] * self.reach)
        middle = scale * self.typical
        in_front = z * unit > NEAREST
        image = unit[..., None] * (q[..., :2] - self._rays(state)[seen.frame] * z[..., None])
        off = rotation @ seen.c2w[:, :3, :3]
        centre = to_camera.apply(seen.c2w[:, None, :3, 3])[:, 0]
        camera = torch.cat((rotation_matrix_to_vector(off), centre / middle[:, None]), dim=-1)
        return _Residuals(image, unit, z, q, in_front, camera, state.log_focal[seen.frame], centre, middle, to_camera)

    def weights(self, found: _Residuals) -> _Weights:
        """Geman and McClure's weights of points, and of windows by the median error of their points."""
        seen, config = self.seen, self.config
        base = seen.weights * found.in_front
        # Each window against the mean of the others, where there are any, so that a lone good one is not outvoted
        # by its own share of the mean.
        entry = torch.ones(len(seen.frame), dtype=base.dtype, device=base.device)
        window = torch.ones(seen.num_windows, dtype=base.dtype, device=base.device)
        point = base
        sigma = base.new_tensor(1.0)
        for _ in range(3):
            error = self._errors(found, point)
            middle = torch.where(found.in_front, error, error.amax()).median(dim=1).values
            by_window = _group_median(middle, seen.window, seen.num_windows)
            usual = by_window.median().clamp(min=config.finest)
            window = 1 / (1 + (by_window / (3 * usual)).pow(4))
            entry = window[seen.window] / (1 + (middle / (4 * usual)).pow(4))
            # Beside outliers, windows differ in how good they are: those with larger errors count less, as variances.
            entry = entry * (usual / torch.maximum(by_window, usual)).square()[seen.window]
            sigma = config.scale * error[found.in_front].median().clamp(min=config.finest)
            point = base * entry[:, None] / (1 + (error / sigma).square()).square()
        size = found.camera.norm(dim=-1)
        camera_sigma = config.scale * size.median().clamp(min=2 * config.finest)
        camera = config.cameras * entry / (1 + (size / camera_sigma).square()).square()
        camera = camera * seen.weights.mean() * (sigma / camera_sigma).square()
        lens_sigma = config.scale * max(self.lens_spread, LENS_DOUBT)
        lens = config.lens * entry * seen.weights.mean() * (sigma / lens_sigma).square()
        return _Weights(point, camera, lens, entry, window, sigma)

    def cost(self, found: _Residuals, weights: _Weights) -> float:
        """``squares`` as a number."""
        return float(self.squares(found, weights))

    def squares(self, found: _Residuals, weights: _Weights) -> Float[Tensor, ""]:
        """Weighted squares with the weights held."""
        depth = found.unit * (found.z - self._depths(found, weights.point)[self.seen.frame])
        square = found.image.square().sum(-1) + depth.square()
        # Points that went behind the camera cost what the worst cost that does not.
        square = torch.where(found.in_front, square, 1.0)
        head = weights.camera * found.camera.square().sum(-1) + weights.lens * found.lens.square()
        return (weights.point * square).sum() + head.sum()

    def normal_equations(self, state: State, found: _Residuals, weights: _Weights) -> _Normal:
        seen, own = self.seen, self.own
        q, p, to_camera = found.q, seen.points, found.to_camera
        weight = torch.where(found.in_front, weights.point, 0.0)
        rays = self._rays(state)[seen.frame]
        zero, one = torch.zeros_like(found.z), torch.ones_like(found.z)
        by_q = found.unit[..., None, None] * torch.stack(
            (
                torch.stack((one, zero, -rays[..., 0]), -1),
                torch.stack((zero, one, -rays[..., 1]), -1),
                torch.stack((zero, zero, one), -1),
            ),
            -2,
        )
        depths = self._depths(found, weight)[seen.frame]
        residual = torch.cat((found.image, (found.unit * (found.z - depths))[..., None]), dim=-1)
        # T_i <- T_i exp(xi): q moves by -(t + w x q). S_w <- S_w exp(xi): q moves by s R (t + w x p + l p), and the
        # unit shrinks by l.
        j_frame = torch.cat((-by_q, by_q @ cross_matrix(q)), dim=-1)
        inner = by_q @ (to_camera.scale[:, None, None] * to_camera.rotation)[:, None]
        j_window = torch.cat((inner, -inner @ cross_matrix(p), inner @ p[..., None] - residual[..., None]), dim=-1)
        j_focal = torch.cat((rays * (found.unit * found.z)[..., None], zero[..., None]), dim=-1)
        if own == 7:
            j_frame = torch.cat((j_frame, j_focal[..., None]), dim=-1)
        free = (~self.fixed)[seen.frame].to(p.dtype)
        j_frame = torch.cat((j_frame[..., :6] * free[:, None, None, None], j_frame[..., 6:]), dim=-1)

        frames, windows = seen.num_frames, seen.num_windows
        heavy = weight[..., None, None]
        wf, ww = (j_frame * heavy).flatten(1, 2), (j_window * heavy).flatten(1, 2)
        flat_f, flat_w, flat_r = j_frame.flatten(1, 2), j_window.flatten(1, 2), residual.flatten(1, 2)
        ff_entry, fw_entry, ww_entry = wf.mT @ flat_f, wf.mT @ flat_w, ww.mT @ flat_w
        f_entry, w_entry = (wf.mT @ flat_r[..., None])[..., 0], (ww.mT @ flat_r[..., None])[..., 0]
        g_entry = weight[..., None] * j_focal[..., :2]
        fg_entry = torch.einsum("eksf,eks->ef", j_frame[:, :, :2], g_entry)
        wg_entry = torch.einsum("eksf,eks->ef", j_window[:, :, :2], g_entry)
        gg = (g_entry * j_focal[..., :2]).sum() + weights.lens.sum()
        g = (g_entry * found.image).sum() + (weights.lens * found.lens).sum()
        if own == 7:
            ff_entry[:, 6, 6] += weights.lens
            f_entry[:, 6] += weights.lens * found.lens

        # The camera head's word: rotation by the left, centre over the entry's median depth.
        c = seen.c2w[:, :3, 3]
        matrix = to_camera.scale[:, None, None] * to_camera.rotation / found.middle[:, None, None]
        eye = torch.eye(3, dtype=p.dtype, device=p.device).expand(len(p), 3, 3)
        none = torch.zeros_like(eye)
        by_frame = (
            torch.cat(
                (
                    torch.cat((none, -eye), -1),
                    torch.cat((-eye, cross_matrix(found.centre)), -1) / found.middle[:, None, None],
                ),
                -2,
            )
            * free[:, None, None]
        )
        if own == 7:
            by_frame = torch.cat((by_frame, torch.zeros_like(by_frame[..., :1])), dim=-1)
        by_window = torch.cat(
            (
                torch.cat((none, to_camera.rotation, none[..., :1]), -1),
                torch.cat((matrix, -matrix @ cross_matrix(c), matrix @ c[..., None]), -1),
            ),
            -2,
        )
        camera = weights.camera[:, None, None]
        ff_entry = ff_entry + (camera * by_frame).mT @ by_frame
        fw_entry = fw_entry + (camera * by_frame).mT @ by_window
        ww_entry = ww_entry + (camera * by_window).mT @ by_window
        f_entry = f_entry + ((camera * by_frame).mT @ found.camera[..., None])[..., 0]
        w_entry = w_entry + ((camera * by_window).mT @ found.camera[..., None])[..., 0]

        # Depths eliminated: what the third residual loses to the mean over the windows of its frame.
        total = self._sum_frames(weight * found.unit.square()).clamp(min=1e-30)
        heavy_f = (weight * found.unit)[..., None] * j_frame[:, :, 2]
        heavy_w = (weight * found.unit)[..., None] * j_window[:, :, 2]
        sum_f = self._sum_frames(heavy_f)
        share_w = heavy_w / total[seen.frame][..., None]
        ff = _sum(ff_entry, seen.frame, frames) - torch.einsum("fka,fkb->fab", sum_f / total[..., None], sum_f)
        fw_entry = fw_entry - torch.einsum("eka,ekb->eab", sum_f[seen.frame], share_w)
        a, b = self.pairs
        ww_pair = -torch.einsum("pka,pkb->pab", heavy_w[a], share_w[b])
        ww_matrix = torch.zeros(windows * windows, 7, 7, dtype=p.dtype, device=p.device)
        ww_matrix.index_add_(0, seen.window[a] * windows + seen.window[b], ww_pair)
        ww_matrix.index_add_(0, seen.window * (windows + 1), ww_entry)
        return _Normal(
            ff=ff,
            fw=fw_entry,
            ww=ww_matrix.view(windows, windows, 7, 7),
            f=_sum(f_entry, seen.frame, frames),
            w=_sum(w_entry, seen.window, windows),
            fg=_sum(fg_entry, seen.frame, frames),
            wg=_sum(wg_entry, seen.window, windows),
            gg=gg,
            g=g,
        )

    def step(self, state: State, normal: _Normal, damping: float) -> State:
        """Solves for windows (and the shared focal length) with the frames eliminated, then for the frames."""
        seen, own, windows = self.seen, self.own, self.seen.num_windows
        ff = _damped(normal.ff, damping)
        shared = self.config.focal == "shared"
        columns = 7 * windows + shared
        # H_ff^-1 times what couples each frame to its windows and to the shared focal length.
        solved_fw = torch.linalg.solve(ff[seen.frame], normal.fw)
        solved_f = torch.linalg.solve(ff, normal.f[..., None])[..., 0]
        solved_g = torch.linalg.solve(ff, normal.fg[..., None])[..., 0]
        ww = normal.ww.clone()
        diagonal = torch.arange(windows, device=ww.device)
        ww[diagonal, diagonal] = _damped(ww[diagonal, diagonal], damping)
        a, b = self.pairs
        coupled = torch.einsum("pfa,pfb->pab", normal.fw[a], solved_fw[b])
        ww.view(-1, 7, 7).index_add_(0, seen.window[a] * windows + seen.window[b], -coupled)
        lhs = torch.zeros(columns, columns, dtype=ww.dtype, device=ww.device)
        lhs[: 7 * windows, : 7 * windows] = ww.permute(0, 2, 1, 3).reshape(7 * windows, 7 * windows)
        rhs = torch.zeros(columns, dtype=ww.dtype, device=ww.device)
        down = torch.einsum("efa,ef->ea", normal.fw, solved_f[seen.frame])
        rhs[: 7 * windows] = (normal.w - _sum(down, seen.window, windows)).flatten()
        if shared:
            across = torch.einsum("efa,ef->ea", normal.fw, solved_g[seen.frame])
            column = (normal.wg - _sum(across, seen.window, windows)).flatten()
            lhs[:-1, -1] = lhs[-1, :-1] = column
            lhs[-1, -1] = normal.gg * (1 + damping) - (normal.fg * solved_g).sum() + 1e-12
            rhs[-1] = normal.g - (normal.fg * solved_f).sum()
        lhs = (lhs + lhs.T) / 2
        update = -torch.linalg.solve(lhs + 1e-12 * lhs.diagonal().abs().mean() * torch.eye(columns).to(lhs), rhs)
        by_window = update[: 7 * windows].view(windows, 7)
        by_frame = -solved_f - _sum(
            torch.einsum("efa,ea->ef", solved_fw, by_window[seen.window]), seen.frame, seen.num_frames
        )
        log_focal = state.log_focal
        if shared:
            by_frame = by_frame - solved_g * update[-1]
            log_focal = log_focal + update[-1]
        if own == 7:
            log_focal = log_focal + by_frame[:, 6]
        return replace(
            state,
            windows=moved(state.windows, by_window),
            c2w=state.c2w @ rigid(rotation_vector_to_matrix(by_frame[:, 3:6]), by_frame[:, :3]),
            log_focal=log_focal.clamp(-LENS, LENS),
        )

    def _rays(self, state: State) -> Tensor:
        """(x / z, y / z) of every sampled pixel of every frame."""
        k = state.intrinsics
        focal = torch.stack((k[:, 0, 0], k[:, 1, 1]), dim=-1) * state.log_focal.exp()[:, None]
        return (self.seen.pixels - k[:, None, :2, 2]) / focal[:, None]

    def _errors(self, found: _Residuals, point: Tensor) -> Tensor:
        """Size of each point's residual, its depth against that of the other windows of its frame."""
        heavy = point * found.unit.square()
        total = self._sum_frames(heavy)[self.seen.frame]
        summed = self._sum_frames(heavy * found.z)[self.seen.frame]
        others = total - heavy
        alone = others < 1e-9 * total + 1e-30
        mean = (summed - heavy * found.z) / torch.where(alone, torch.ones_like(others), others)
        # Against a few others with the same noise the difference is larger than against the truth.
        share = torch.sqrt(others / total.clamp(min=1e-30))
        depth = torch.where(alone, torch.zeros_like(mean), found.unit * (found.z - mean) * share)
        return (found.image.square().sum(-1) + depth.square()).sqrt()

    def _depths(self, found: _Residuals, weight: Tensor) -> Tensor:
        """The best depth of each sampled pixel, [frames, samples]."""
        heavy = weight * found.unit.square()
        return self._sum_frames(heavy * found.z) / self._sum_frames(heavy).clamp(min=1e-30)

    def _sum_frames(self, values: Tensor) -> Tensor:
        return _sum(values, self.seen.frame, self.seen.num_frames)


def _sum(values: Tensor, index: Tensor, count: int) -> Tensor:
    return torch.zeros(count, *values.shape[1:], dtype=values.dtype, device=values.device).index_add(0, index, values)


def _group_median(values: Tensor, index: Tensor, count: int) -> Tensor:
    return torch.stack([values[index == group].median() for group in range(count)])


def _damped(blocks: Tensor, damping: float) -> Tensor:
    """Marquardt's damping, and a little more where a block is empty (a frame that is fixed, or that nobody sees)."""
    diagonal = blocks.diagonal(dim1=-2, dim2=-1)
    floor = 1e-9 * diagonal.amax(-1, keepdim=True) + 1e-9
    return blocks + torch.diag_embed(damping * diagonal + floor)

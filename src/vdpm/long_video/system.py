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
from typing import NamedTuple

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
from vdpm.long_video.elimination import BlockSystem
from vdpm.long_video.motions import LENS_COLUMN, RIGHT, THIRD, by_motion, moves
from vdpm.long_video.observations import Observations
from vdpm.long_video.state import LENS, AdjustmentConfig, State, moved

NEAREST = 1e-3
"""Depths below this share of the entry's median count as behind the camera, and not at all."""

PART, PART_ON_DEVICE = 96, 2048
"""Entries (frames of windows) whose derivatives are in memory at once; on a device more, where each call costs."""

LENS_DOUBT = 0.05
"""Least error of a network's focal lengths that is reckoned with, as a share, however well its windows agree: where the
points leave the lens open (a camera that hardly moves), its word must hold."""


@dataclass(frozen=True, eq=False)
class _Residuals:
    """``image``: x^2 + y^2 of r; ``unit``: 1 / (s_w |p - c|); ``q``: points in their cameras, with ``z`` their depth;
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
    """J^T W J of frames (f), windows (w) and the shared focal length (g), J^T W r behind one letter. ``fw``: of each
    entry's frame and window; ``ww``: of the pairs of windows that meet.
    """

    ff: Tensor
    fw: Tensor
    ww: Tensor
    f: Tensor
    w: Tensor
    fg: Tensor
    wg: Tensor
    gg: Tensor
    g: Tensor


class _Part(NamedTuple):
    """All entries of some frames. ``rows``: of ``frames``, for each entry; ``pairs``: of entries that share a frame,
    as places in the part, with the ``block`` of their windows.
    """

    entries: Tensor
    frames: Tensor
    rows: Tensor
    pairs: Tensor
    block: Tensor


class System:
    """The normal equations of all entries. Frames have 6 unknowns (7 with a focal length each), windows 7."""

    def __init__(self, seen: Observations, config: AdjustmentConfig, fixed: Tensor) -> None:
        self.seen, self.config, self.fixed = seen, config, fixed
        self.reach = (seen.points - seen.c2w[:, None, :3, 3]).norm(dim=-1)
        self.typical = self.reach.median(dim=1).values.clamp(min=1e-9)
        self.reach = torch.maximum(self.reach, NEAREST * self.typical[:, None])
        self._meet(PART if seen.points.device.type == "cpu" else PART_ON_DEVICE)
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
        (x, y, z), (across, down) = q.unbind(-1), self._rays(state)[seen.frame].unbind(-1)
        z = z.contiguous()
        unit = 1 / (scale[:, None] * self.reach)
        middle = scale * self.typical
        in_front = z * unit > NEAREST
        image = unit.square() * ((x - across * z).square() + (y - down * z).square())
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
        square = found.image + depth.square()
        # Points that went behind the camera cost what the worst cost that does not.
        square = torch.where(found.in_front, square, 1.0)
        head = weights.camera * found.camera.square().sum(-1) + weights.lens * found.lens.square()
        return (weights.point * square).sum() + head.sum()

    def normal_equations(self, state: State, found: _Residuals, weights: _Weights) -> _Normal:
        """A part of the entries at a time: derivatives of all their points at once would be the most of all memory."""
        seen, own, like = self.seen, self.own, self.seen.points
        frames, windows, entries = seen.num_frames, seen.num_windows, len(seen.frame)
        head = self._heads(found, weights)
        ff, fw = like.new_zeros(frames, own, own), like.new_zeros(entries, own, 7)
        ww, w = like.new_zeros(len(self.meeting), 7, 7), like.new_zeros(windows, 7)
        f, fg, wg = like.new_zeros(frames, own), like.new_zeros(frames, own), like.new_zeros(windows, 7)
        gg, g = like.new_zeros(()), like.new_zeros(())
        rays = self._rays(state)
        of_frame, of_window = slice(0, own), slice(7, 14)
        motions = moves(found.to_camera, ~self.fixed[seen.frame], own_lens=own == 7)
        for part in self.parts:
            window, frame, motion = seen.window[part.entries], seen.frame[part.entries], motions[part.entries]
            weight = torch.where(found.in_front[part.entries], weights.point[part.entries], 0.0)
            unit, z = found.unit[part.entries], found.z[part.entries]
            heavy = weight * unit.square()
            total = _sum(heavy, part.rows, len(part.frames)).clamp(min=1e-30)
            depth = (_sum(heavy * z, part.rows, len(part.frames)) / total)[part.rows]
            columns = by_motion(found.q[part.entries], rays[frame], unit, depth, weight.sqrt())
            flat = columns.flatten(2)
            products = motion.mT @ (flat @ flat.mT) @ motion + head[part.entries]
            # Depths eliminated: what the third residual loses to the mean over the windows of its frame.
            lost = (heavy / total[part.rows]).sqrt()[:, None] * columns[:, THIRD, 2]
            third = motion[:, THIRD, :14]
            a, b = part.pairs
            between = third[a].mT @ (lost[a] @ lost[b].mT) @ third[b]
            ff.index_add_(0, frame, products[:, of_frame, of_frame])
            ff.index_add_(0, frame[a], -between[:, of_frame, of_frame])
            fw[part.entries] = products[:, of_frame, of_window]
            fw.index_add_(0, part.entries[b], -between[:, of_frame, of_window])
            ww.index_add_(0, part.block, -between[:, of_window, of_window])
            ww.index_add_(0, self.alone[window], products[:, of_window, of_window])
            f.index_add_(0, frame, products[:, of_frame, RIGHT])
            w.index_add_(0, window, products[:, of_window, RIGHT])
            fg.index_add_(0, frame, products[:, of_frame, LENS_COLUMN])
            wg.index_add_(0, window, products[:, of_window, LENS_COLUMN])
            gg += products[:, LENS_COLUMN, LENS_COLUMN].sum()
            g += products[:, LENS_COLUMN, RIGHT].sum()
        return _Normal(ff, fw, ww, f, w, fg, wg, gg, g)

    def _heads(self, found: _Residuals, weights: _Weights) -> Float[Tensor, "entries 16 16"]:
        """The products of what camera heads say: rotation by the left, centre over the entry's median depth, lens."""
        seen, count = self.seen, len(self.seen.frame)
        rotation, middle = found.to_camera.rotation, found.middle[:, None, None]
        matrix, c = found.to_camera.scale[:, None, None] * rotation / middle, seen.c2w[:, :3, 3]
        free = (~self.fixed)[seen.frame].to(c.dtype)[:, None, None]
        eye = torch.eye(3, dtype=c.dtype, device=c.device).expand(count, 3, 3)
        jacobian = c.new_zeros(count, 7, 16)
        jacobian[:, :3, 3:6] = -eye * free
        jacobian[:, 3:6, :3] = -eye / middle * free
        jacobian[:, 3:6, 3:6] = cross_matrix(found.centre) / middle * free
        jacobian[:, :3, 10:13] = rotation
        jacobian[:, 3:6, 7:10] = matrix
        jacobian[:, 3:6, 10:13] = -matrix @ cross_matrix(c)
        jacobian[:, 3:6, 13] = (matrix @ c[..., None])[..., 0] - found.camera[:, 3:]
        jacobian[:, 6, LENS_COLUMN] = 1
        if self.own == 7:
            jacobian[:, 6, 6] = 1
        jacobian[:, :6, RIGHT], jacobian[:, 6, RIGHT] = found.camera, found.lens
        weight = torch.cat((weights.camera[:, None].expand(-1, 6), weights.lens[:, None]), dim=1)
        return (weight[..., None] * jacobian).mT @ jacobian

    def step(self, state: State, normal: _Normal, damping: float) -> State:
        """Solves for windows (and the shared focal length) with the frames eliminated, then for the frames."""
        seen, windows = self.seen, self.seen.num_windows
        ff = _damped(normal.ff, damping)
        # H_ff^-1 times what couples each frame to its windows and to the shared focal length.
        solved_fw = torch.linalg.solve(ff[seen.frame], normal.fw)
        solved_f, solved_g = torch.linalg.solve(ff, torch.stack((normal.f, normal.fg), dim=-1)).unbind(-1)
        ww = normal.ww.clone()
        ww[self.alone] = _damped(ww[self.alone], damping)
        for part in self.parts:
            a, b = part.entries[part.pairs]
            ww.index_add_(0, part.block, -normal.fw[a].mT @ solved_fw[b])
        # Rounding of 1e-12 of the diagonal, where nothing else holds the world in its place.
        ww[self.alone] += 1e-12 * ww[self.alone].diagonal(dim1=-2, dim2=-1).mean() * torch.eye(7).to(ww)

        def down(solved: Tensor) -> Tensor:
            return _sum((normal.fw.mT @ solved[seen.frame][..., None])[..., 0], seen.window, windows)

        shared = self.config.focal == "shared"
        column = (normal.wg - down(solved_g))[..., None][..., : int(shared)]
        corner = normal.gg * (1 + damping) - (normal.fg * solved_g).sum() + 1e-12
        right = normal.g - (normal.fg * solved_f).sum()
        dense = corner.expand(int(shared), int(shared)), right.expand(int(shared))
        by_window, by_lens = self.blocks.solve(ww, normal.w - down(solved_f), column, *dense)
        moves = (solved_fw @ by_window[seen.window][..., None])[..., 0]
        by_frame = -solved_f + _sum(moves, seen.frame, seen.num_frames)
        by_window, log_focal = -by_window, state.log_focal
        if shared:
            by_frame = by_frame + solved_g * by_lens
            log_focal = log_focal - by_lens
        if self.own == 7:
            log_focal = log_focal + by_frame[:, 6]
        return replace(
            state,
            windows=moved(state.windows, by_window),
            c2w=state.c2w @ rigid(rotation_vector_to_matrix(by_frame[:, 3:6]), by_frame[:, :3]),
            log_focal=log_focal.clamp(-LENS, LENS),
        )

    def _meet(self, most: int) -> None:
        """Which windows meet: those that share a frame. ``parts`` are of at most so many entries, or of one frame."""
        seen = self.seen
        device = seen.points.device
        of_frame: dict[int, list[int]] = {}
        window = seen.window.tolist()
        for entry, frame in enumerate(seen.frame.tolist()):
            of_frame.setdefault(frame, []).append(entry)
        meeting: dict[tuple[int, int], int] = {}
        for entries in of_frame.values():
            for a in entries:
                for b in entries:
                    meeting.setdefault((window[a], window[b]), len(meeting))
        self.parts: list[_Part] = []
        frames = sorted(of_frame)
        while frames:
            entries, rows, pairs, blocks, taken = [], [], [], [], 0
            for frame in frames:
                new = of_frame[frame]
                if taken and len(entries) + len(new) > most:
                    break
                places = range(len(entries), len(entries) + len(new))
                pairs += [(a, b) for a in places for b in places]
                blocks += [meeting[window[a], window[b]] for a in new for b in new]
                entries += new
                rows += [taken] * len(new)
                taken += 1
            part = _Part(*map(torch.tensor, (entries, frames[:taken], rows, list(zip(*pairs)), blocks)))
            self.parts.append(_Part(*(table.to(device) for table in part)))
            frames = frames[taken:]
        alone = [meeting.setdefault((k, k), len(meeting)) for k in range(seen.num_windows)]
        self.alone, self.meeting = torch.tensor(alone, device=device), torch.tensor(list(meeting))
        first = torch.full((seen.num_windows,), seen.num_frames).to(seen.frame)
        last = torch.zeros_like(first)
        first = first.scatter_reduce(0, seen.window, seen.frame, "amin")
        last = last.scatter_reduce(0, seen.window, seen.frame, "amax")
        self.blocks = BlockSystem(self.meeting, (last - first).tolist(), 7)

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
        return (found.image + depth.square()).sqrt()

    def _depths(self, found: _Residuals, weight: Tensor) -> Tensor:
        """The best depth of each sampled pixel, [frames, samples]."""
        heavy = weight * found.unit.square()
        return self._sum_frames(heavy * found.z) / self._sum_frames(heavy).clamp(min=1e-30)

    def _sum_frames(self, values: Tensor) -> Tensor:
        return _sum(values, self.seen.frame, self.seen.num_frames)


def _sum(values: Tensor, index: Tensor, count: int) -> Tensor:
    return torch.zeros(count, *values.shape[1:], dtype=values.dtype, device=values.device).index_add(0, index, values)


def _group_median(values: Tensor, index: Tensor, count: int) -> Tensor:
    """The lower median of each group; 0 for one without values."""
    order = values.argsort()
    order = order[index[order].argsort(stable=True)]
    number = torch.bincount(index, minlength=count)
    middle = number.cumsum(0) - number + (number - 1).clamp(min=0) // 2
    return torch.where(number > 0, values[order][middle.clamp(max=len(values) - 1)], 0.0)


def _damped(blocks: Tensor, damping: float) -> Tensor:
    """Marquardt's damping, and a little more where a block is empty (a frame that is fixed, or that nobody sees)."""
    diagonal = blocks.diagonal(dim1=-2, dim2=-1)
    floor = 1e-9 * diagonal.amax(-1, keepdim=True) + 1e-9
    return blocks + torch.diag_embed(damping * diagonal + floor)

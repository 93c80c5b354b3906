"""Cameras by what the pictures themselves show: patches of one frame found again in others, and adjusted for.

Windows of a network agree with each other and may all be wrong alike: a camera that turns and moves a tenth less than
it did leaves no contradiction between them. The pictures tell: what stands still lies, in a frame some way on, a
pixel or two from where it should. So the sampled pixels of each frame are looked for in frames after it, from where the
alignment has them, and poses, the lens and the pixels' depths are moved until they meet what was found. Depths stay
near those of the windows, which hold the scale; steps from frame to frame stay near the alignment's where pictures tell
nothing. What moves by itself is an outlier among what stands still.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from vdpm.geometry.pinhole import project
from vdpm.geometry.rigid import (
    cross_matrix,
    invert_rigid,
    rigid,
    rotation_matrix_to_vector,
    rotation_vector_to_matrix,
    transform_points,
)
from vdpm.long_video.elimination import BlockSystem
from vdpm.long_video.patches import LEVELS, blurred, grey, match_patches

AHEAD = (2, 5, 10, 16)
"""Frames after each in which its pixels are looked for."""
ALIKE = 0.9
"""Correlation from which a patch counts as found."""
ASTRAY = 8.0
"""Pixels from the guess beyond which it does not."""
EDGE = 4.0
"""Pixels from the edge of what shows the video within which nothing is looked for: padding has an edge that stands
still."""
FINEST = 0.15
"""Pixels below which no error of a match is told from noise."""
DEPTH = 0.3
"""Error of the windows' depths that is reckoned with, as a share. It is 4 to 6 %, but pixels of a frame err alike, and
so do frames, so that many samples weigh as few. On four scenes 0.15 to 0.6 did better than 0.05, and 2 worse."""
LENS = 0.01
"""The same of the alignment's focal length, of which pictures of a short stretch tell little."""
TURN, STEP, STILL = 0.005, 0.2, 0.001
"""The same of its steps from frame to frame: radians, share of the step, share of the distance of what is seen."""
ROUNDS = 15
TOGETHER = 32
"""Frames whose pixels are matched, and whose derivatives are in memory, at once."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What is adjusted. ``depth``: of ``pixels`` (x, y), the same in every frame; 0 where none is known."""

    c2w: Float[Tensor, "frames 4 4"]
    intrinsics: Float[Tensor, "frames 3 3"]
    depth: Float[Tensor, "frames samples"]
    pixels: Float[Tensor, "samples 2"]

    def world(self) -> Float[Tensor, "frames samples 3"]:
        """The pixels' points."""
        return transform_points(self.c2w, self.local(torch.arange(len(self.c2w))))

    def local(self, rows: Tensor) -> Float[Tensor, "rows samples 3"]:
        """The points of some frames' pixels in their own cameras."""
        k, z = self.intrinsics[rows], self.depth[rows][..., None]
        focal = k[:, [0, 1], [0, 1]]
        return torch.cat(((self.pixels - k[:, None, :2, 2]) / focal[:, None] * z, z), dim=-1)

    def moved(self, poses: Tensor, focal: Tensor, depth: Tensor) -> "Scene":
        """By small steps of poses [frames, 6] from the right, and of the logarithms of focal lengths and depths."""
        k = self.intrinsics.clone()
        k[:, [0, 1], [0, 1]] *= focal.exp()
        c2w = self.c2w @ rigid(rotation_vector_to_matrix(poses[:, 3:]), poses[:, :3])
        return replace(self, c2w=c2w, intrinsics=k, depth=self.depth * depth.exp())


class Sighted(NamedTuple):
    """``scene``; ``found``: share of pixels that were found again; ``before``, ``after``: median pixels that these lie
    off.
    """

    scene: Scene
    found: float
    before: float
    after: float


class _Matched(NamedTuple):
    places: Float[Tensor, "frames ahead samples 2"]
    sureness: Float[Tensor, "frames ahead samples 2 2"]


class _Seen(NamedTuple):
    """Of the pixels of some frames: their points ``q`` in their own cameras and ``x`` in the ``others``, ``off`` by so
    many pixels from where they were found, ``size`` in the directions that are sure.
    """

    others: Tensor
    q: Tensor
    x: Tensor
    relative: Tensor
    place: Tensor
    off: Tensor
    size: Tensor


def follow_sight(
    pictures: UInt8[Tensor, "frames height width 3"],
    scene: Scene,
    *,
    fixed: Bool[Tensor, "frames"],
    lens_fixed: bool = False,
    content: Bool[Tensor, "height width"] | None = None,
) -> Sighted:
    """``scene`` moved to where its pixels are found again in ``pictures``. Poses of ``fixed`` frames stay (at least
    one), and so does the lens with ``lens_fixed``. ``content``: where pictures show the video, if not everywhere.
    """
    sight = _Sight(scene, fixed, lens_fixed)
    matched = sight.matched(pictures, content)
    sure = matched.sureness.diagonal(dim1=-2, dim2=-1).sum(-1) > 0
    errors = sight.errors(scene, matched)
    before = now = float(errors[sure].median()) if bool(sure.any()) else 0.0
    here, damping = scene, 1e-4
    for _ in range(ROUNDS if bool(sure.any()) else 0):
        scale = max(FINEST, 1.5 * float(errors[sure].median()))
        cost = sight.cost(here, errors, scale)
        proposal = sight.step(here, matched, scale, damping)
        errors_there = sight.errors(proposal, matched)
        there = sight.cost(proposal, errors_there, scale)
        if not there < cost:
            damping *= 10
            continue
        here, errors, damping = proposal, errors_there, max(damping / 10, 1e-8)
        now = float(errors[sure].median())
        if cost - there < 3e-4 * cost:
            break
    asked = float(sight.within[:, 1:].sum()) * scene.depth.shape[1]
    return Sighted(here, float(sure.sum()) / max(asked, 1.0), before, now)


class _Sight:
    """Least squares over poses, a factor of all focal lengths, and depths, which are eliminated."""

    def __init__(self, start: Scene, fixed: Tensor, lens_fixed: bool) -> None:
        self.start, self.free, self.lens_fixed = start, (~fixed).to(start.c2w), lens_fixed
        self.known = start.depth > 0
        count = len(start.c2w)
        ahead = torch.tensor((0, *AHEAD))
        self.others = torch.arange(count)[:, None] + ahead
        self.within = self.others < count
        self.others = self.others.clamp(max=count - 1)
        self.steps = invert_rigid(start.c2w[:-1]) @ start.c2w[1:]
        middle = torch.where(self.known, start.depth, torch.nan).nanmedian(dim=1).values.nan_to_num(1.0)
        self.length = (STEP * self.steps[:, :3, 3].norm(dim=-1) + STILL * middle[:-1]).clamp(min=1e-9)
        apart = sorted({int(b - a) for a in ahead for b in ahead} | {-1, 0, 1})
        pairs = [(a, a + step) for a in range(count) for step in apart if 0 <= a + step < count]
        self.place = torch.full((count, 2 * apart[-1] + 1), -1)
        first, second = torch.tensor(pairs).T
        self.place[first, second - first + apart[-1]] = torch.arange(len(pairs))
        self.reach, self.pairs = apart[-1], len(pairs)
        self.blocks = BlockSystem(torch.tensor(pairs), [0] * count, 6)

    def matched(
        self, pictures: UInt8[Tensor, "frames height width 3"], content: Bool[Tensor, "height width"] | None
    ) -> _Matched:
        """Looks for all pixels, from where the start has them."""
        count, samples = self.known.shape
        places = torch.zeros(count, len(AHEAD), samples, 2)
        sureness = torch.zeros(count, len(AHEAD), samples, 2, 2)
        shown = torch.ones(pictures.shape[1:3], dtype=torch.bool) if content is None else content
        y, x = (shown.any(axis).nonzero()[:, 0] for axis in (1, 0))
        low, high = torch.stack((x[0], y[0])) + EDGE, torch.stack((x[-1], y[-1])) + 1 - EDGE
        inside = ((self.start.pixels > low) & (self.start.pixels < high)).all(-1)
        for rows in torch.arange(count).split(TOGETHER):
            first, last = int(rows[0]), min(count, int(rows[-1]) + 1 + AHEAD[-1])
            sharp = grey(pictures[first:last])
            soft = [blurred(sharp, sigma) for sigma, _ in LEVELS]
            guess = self._seen(self.start, rows).place.float()
            for number, ahead in enumerate(AHEAD):
                kept = rows[rows + ahead < count]
                if not len(kept):
                    continue
                begin = found = guess[: len(kept), number]
                for picture, (_, half) in zip(soft, LEVELS):
                    looked = match_patches(
                        picture[kept - first], picture[kept - first + ahead], self.start.pixels.float(), found, half
                    )
                    found = looked.places
                good = (looked.alike > ALIKE) & ((found - begin).norm(dim=-1) < ASTRAY) & self.known[kept]
                good &= inside & ((found > low) & (found < high)).all(-1)
                places[kept, number] = torch.where(good[..., None], found, 0.0)
                sureness[kept, number] = torch.where(good[..., None, None], looked.sureness, 0.0)
        return _Matched(places, sureness)

    def errors(self, scene: Scene, matched: _Matched) -> Float[Tensor, "frames ahead samples"]:
        """Pixels off, in the directions that are sure."""
        parts = torch.arange(len(scene.c2w)).split(TOGETHER)
        return torch.cat([self._seen(scene, rows, matched).size for rows in parts])

    def cost(self, scene: Scene, errors: Tensor, scale: float) -> float:
        """Geman and McClure's of the errors, and what leaving the start costs."""
        lens, turn, shift, depth = self._away(scene)
        image = (errors.square() / (errors.square() + 4 * scale**2)).sum() * 4
        return float(image + lens.square() + turn.square().sum() + shift.square().sum() + depth.square().sum())

    def step(self, scene: Scene, matched: _Matched, scale: float, damping: float) -> Scene:
        """One step of Gauss and Newton."""
        count, samples, ahead = *self.known.shape, len(AHEAD)
        like = scene.c2w
        lens, turn, shift, depth = self._away(scene)
        blocks, rhs = like.new_zeros(self.pairs, 6, 6), like.new_zeros(count, 6)
        column, corner, corner_rhs = like.new_zeros(count, 6), 1 / LENS**2 * like.new_ones(()), lens / LENS
        lines, pivots = [], []
        width = 6 * (ahead + 1) + 1
        for rows in torch.arange(count).split(TOGETHER):
            seen = self._seen(scene, rows, matched)
            jacobian, by_depth = self._derivatives(scene, seen)
            weight = (
                matched.sureness[rows].to(like)
                / (scale * (1 + (seen.size / (2 * scale)).square()))[..., None, None].square()
            )
            heavy = weight @ jacobian
            products = heavy.flatten(2, 3).mT @ jacobian.flatten(2, 3)
            # All of a frame: its own pose, those ahead, the lens, the right hand side.
            whole = like.new_zeros(len(rows), width + 1, width + 1)
            line = like.new_zeros(len(rows), samples, width + 1)
            along = (heavy.mT @ by_depth[..., None])[..., 0]
            for number in range(ahead):
                here = torch.tensor([*range(6), *range(6 * number + 6, 6 * number + 12), width - 1, width])
                whole[:, here[:, None], here] += products[:, number]
                line[..., here] += along[:, number]
            pivot = (by_depth[..., None, :] @ weight @ by_depth[..., None])[..., 0, 0].sum(1) + 1 / DEPTH**2
            line[..., -1] += depth[rows] / DEPTH
            whole -= (line / pivot[..., None]).mT @ line
            lines.append(line)
            pivots.append(pivot)
            frames = self.others[rows]
            free = self.free[frames] * self.within[rows]
            for a in range(ahead + 1):
                mine = slice(6 * a, 6 * a + 6)
                rhs.index_add_(0, frames[:, a], free[:, a, None] * whole[:, mine, -1])
                column.index_add_(0, frames[:, a], free[:, a, None] * whole[:, mine, -2])
                for b in range(ahead + 1):
                    both = (free[:, a] * free[:, b])[:, None, None]
                    at = self.place[frames[:, a], frames[:, b] - frames[:, a] + self.reach]
                    blocks.index_add_(0, at.clamp(min=0), both * whole[:, mine, 6 * b : 6 * b + 6])
            corner, corner_rhs = corner + whole[:, -2, -2].sum(), corner_rhs + whole[:, -2, -1].sum()
        self._hold_steps(scene, turn, shift, blocks, rhs)
        own = self.place[torch.arange(count), self.reach]
        diagonal = blocks[own].diagonal(dim1=-2, dim2=-1)
        floor = 1e-9 * diagonal.amax(-1, keepdim=True) + 1e-6
        blocks[own] += torch.diag_embed(damping * diagonal + floor + (1 - self.free)[:, None])
        dense = 0 if self.lens_fixed else 1
        poses, focal = self.blocks.solve(
            blocks, rhs, column[..., None][..., :dense], corner.expand(dense, dense), corner_rhs.expand(dense)
        )
        poses, focal = -poses, -focal.sum()
        log_depth = []
        for rows, line, pivot in zip(torch.arange(count).split(TOGETHER), lines, pivots):
            by_frame = (
                poses[self.others[rows]] * (self.free[self.others[rows]] * self.within[rows])[..., None]
            ).flatten(1)
            moves = torch.cat((by_frame, focal.expand(len(rows), 1), like.new_ones(len(rows), 1)), dim=1)
            log_depth.append(-(line @ moves[..., None])[..., 0] / pivot)
        return scene.moved(poses, focal, torch.cat(log_depth))

    def _seen(self, scene: Scene, rows: Tensor, matched: _Matched | None = None) -> _Seen:
        q, others = scene.local(rows), self.others[rows, 1:]
        relative = invert_rigid(scene.c2w)[others] @ scene.c2w[rows][:, None]
        x = transform_points(relative, q[:, None].expand(-1, len(AHEAD), -1, -1))
        # What has come behind a camera is out of every picture.
        before = torch.cat((x[..., :2], x[..., 2:].clamp(min=1e-6)), dim=-1)
        place, _ = project(before, scene.intrinsics[others])
        if matched is None:
            return _Seen(others, q, x, relative, place, place, place[..., 0])
        off = place - matched.places[rows]
        size = (off[..., None, :] @ matched.sureness[rows].to(off) @ off[..., None])[..., 0, 0].clamp(min=0).sqrt()
        return _Seen(others, q, x, relative, place, off, size)

    def _derivatives(self, scene: Scene, seen: _Seen) -> tuple[Tensor, Tensor]:
        """Of the places by own pose, other pose, lens, with the residual behind, [frames, ahead, samples, 2, 14], and
        by the depth.
        """
        k = scene.intrinsics[seen.others][:, :, None]
        focal, x = k[..., [0, 1], [0, 1]], seen.x
        near = 1 / x[..., 2:].clamp(min=1e-6)
        by_x = torch.cat(
            (torch.diag_embed((focal * near).expand_as(seen.off)), (-focal * x[..., :2] * near**2)[..., None]), -1
        )
        by_q = by_x @ seen.relative[:, :, None, :3, :3]
        q = seen.q[:, None].expand_as(x)
        sideways = torch.cat((q[..., :2], torch.zeros_like(q[..., :1])), dim=-1)
        by_lens = (seen.place - k[..., :2, 2]) - (by_q @ sideways[..., None])[..., 0]
        columns = (
            by_q,
            -by_q @ cross_matrix(q),
            -by_x,
            by_x @ cross_matrix(x),
            by_lens[..., None],
            seen.off[..., None],
        )
        return torch.cat(columns, dim=-1), (by_q @ q[..., None])[..., 0]

    def _away(self, scene: Scene) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """How far from the start, over what is reckoned with: lens, turns and lengths of steps, depths."""
        steps = invert_rigid(scene.c2w[:-1]) @ scene.c2w[1:]
        turn = rotation_matrix_to_vector(self.steps[:, :3, :3].mT @ steps[:, :3, :3]) / TURN
        shift = (steps[:, :3, 3] - self.steps[:, :3, 3]) / self.length[:, None]
        lens = (scene.intrinsics[0, 0, 0] / self.start.intrinsics[0, 0, 0]).log() / LENS
        depth = torch.where(self.known, scene.depth / self.start.depth.clamp(min=1e-30), 1.0).log() / DEPTH
        return lens, turn, shift, depth

    def _hold_steps(self, scene: Scene, turn: Tensor, shift: Tensor, blocks: Tensor, rhs: Tensor) -> None:
        """Adds what holds each frame's step to the next."""
        steps = invert_rigid(scene.c2w[:-1]) @ scene.c2w[1:]
        rotation, eye = steps[:, :3, :3], torch.eye(3).to(steps).expand(len(steps), 3, 3)
        none = torch.zeros_like(eye)
        before = torch.cat((torch.cat((-eye, cross_matrix(steps[:, :3, 3])), -1) / self.length[:, None, None],
                            torch.cat((none, -rotation.mT), -1) / TURN), -2)  # fmt: skip
        after = torch.cat((torch.cat((rotation, none), -1) / self.length[:, None, None],
                           torch.cat((none, eye), -1) / TURN), -2)  # fmt: skip
        first = torch.arange(len(steps))
        sides = ((first, before * self.free[:-1, None, None]), (first + 1, after * self.free[1:, None, None]))
        away = torch.cat((shift, turn), dim=-1)[..., None]
        for a, by_a in sides:
            rhs.index_add_(0, a, (by_a.mT @ away)[..., 0])
            for b, by_b in sides:
                blocks.index_add_(0, self.place[a, b - a + self.reach], by_a.mT @ by_b)

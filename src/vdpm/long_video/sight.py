"""Cameras by what the pictures themselves show: patches of one frame found again in others, and adjusted for.

Windows of a network agree with each other and may all be wrong alike: a camera that turns and moves a tenth less than
it did leaves no contradiction between them. The pictures tell: what stands still lies, in a frame some way on, a
pixel or two from where it should. So the sampled pixels of each frame are looked for in frames after it, from where the
alignment has them, and poses, the lens and the pixels' depths are moved until they meet what was found. Depths stay
near those of the windows, which hold the scale; steps from frame to frame stay near the alignment's where pictures tell
nothing. What moves by itself is an outlier among what stands still.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vdpm.geometry.rigid import cross_matrix, invert_rigid, rotation_matrix_to_vector
from vdpm.long_video.elimination import BlockSystem
from vdpm.long_video.sightings import TOGETHER, Search, Sightings
from vdpm.long_video.still_scene import Scene, Seen

STAGES = ((2, 5, 10, 16), (30, 60, 120))
"""Frames after each in which its pixels are looked for: near ones first, since those far off are found from where
these have the cameras."""
AHEAD = tuple(far for stage in STAGES for far in stage)
LEAST = 1.0
"""Errors of matches, over what is reckoned with, below which none counts less."""
DEPTH = 1.0
"""Error of the windows' depths that is reckoned with, as a share. It is 4 to 6 %, but pixels of a frame err alike, and
so do frames, so that many samples weigh as few."""
LENS = 0.01
"""The same of the alignment's focal length, of which pictures of a short stretch tell little."""
TURN, STEP, STILL = 0.005, 0.5, 0.001
"""The same of its steps from frame to frame: radians, share of the step, share of the distance of what is seen."""
ROUNDS = 15
FOLLOWED_BYTES, SEARCHED_BYTES = 200e3, 4e6
"""Memory for each frame of a clip, and for each of those whose pixels are looked for at once. Clips of 100, 300 and
1,000 frames took 141, 187 and 309 MB."""


def sight_bytes(num_frames: int) -> float:
    """Memory of following the pictures of a clip, which does not grow with their size."""
    return FOLLOWED_BYTES * num_frames + SEARCHED_BYTES * min(num_frames, TOGETHER)


class Sighted(NamedTuple):
    """``scene``; ``found``: share of pixels that were found again in the nearest frames; ``before``, ``after``: how far
    those found lie off, median, over what is reckoned with. ``again``: pixels that were found in any frame.
    """

    scene: Scene
    found: float
    before: float
    after: float
    again: Bool[Tensor, "frames samples"]


def follow_sight(
    pictures: UInt8[Tensor, "frames height width 3"],
    scene: Scene,
    *,
    fixed: Bool[Tensor, "frames"],
    lens_fixed: bool = False,
    content: Bool[Tensor, "height width"] | None = None,
    rival: Scene | None = None,
) -> Sighted:
    """``scene`` moved to where its pixels are found again in ``pictures``. Poses of ``fixed`` frames stay (at least
    one), and so does the lens with ``lens_fixed``. ``content``: where pictures show the video, if not everywhere.
    ``rival``: the scene that ``before`` is measured on, if not the one that is moved.
    """
    sight, search = _Sight(scene, fixed, lens_fixed), Search(pictures, scene, AHEAD, content)
    here, found = scene, search.found
    for stage in STAGES:
        search.look(here, stage)
        if bool(found.sure.any()):
            here = sight.solved(here, found)
    if not bool(found.sure.any()):
        return Sighted(scene, 0.0, 0.0, 0.0, found.sure.any(1))
    before, after = (float(sight.errors(one, found)[found.sure].median()) for one in (rival or scene, here))
    near = len(STAGES[0])
    asked = float(sight.within[:, 1 : near + 1].sum()) * scene.depth.shape[1]
    return Sighted(here, float(found.sure[:, :near].sum()) / asked, before, after, found.sure.any(1))


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

    def solved(self, scene: Scene, found: Sightings) -> Scene:
        """From ``scene`` on to where its pixels are found."""
        sure, damping = found.sure, 1e-4
        errors = self.errors(scene, found)
        for _ in range(ROUNDS):
            scales = _scales(errors, sure)
            cost = self.cost(scene, errors, scales)
            proposal = self.step(scene, found, scales, damping)
            errors_there = self.errors(proposal, found)
            there = self.cost(proposal, errors_there, scales)
            if not there < cost:
                damping *= 10
                continue
            scene, errors, damping = proposal, errors_there, max(damping / 10, 1e-8)
            if cost - there < 3e-4 * cost:
                break
        return scene

    def errors(self, scene: Scene, found: Sightings) -> Float[Tensor, "frames ahead samples"]:
        """Distance from where pixels were found, over what is reckoned with."""
        errors = torch.zeros_like(found.places[..., 0], dtype=scene.c2w.dtype)
        for rows in torch.arange(len(scene.c2w)).split(TOGETHER):
            used, others = self._used(found, rows)
            errors[rows[:, None], used] = _off(found, rows, used, scene.seen(rows, others))[1]
        return errors

    def _used(self, found: Sightings, rows: Int[Tensor, "rows"]) -> tuple[Int[Tensor, "used"], Tensor]:
        """Which of ``AHEAD`` anything of some frames was found in, and the frames that these are, [rows, used]."""
        sure = Sightings(found.places[rows], found.sureness[rows]).sure
        used = sure.any(2).any(0).nonzero()[:, 0]
        return used, self.others[rows[:, None], used + 1]

    def cost(self, scene: Scene, errors: Tensor, scales: Tensor) -> float:
        """Geman and McClure's of the errors, and what leaving the start costs."""
        lens, turn, shift, depth = self._away(scene)
        image = (errors.square() / (errors.square() + 4 * scales[:, None].square())).sum() * 4
        return float(image + lens.square() + turn.square().sum() + shift.square().sum() + depth.square().sum())

    def step(self, scene: Scene, found: Sightings, scales: Tensor, damping: float) -> Scene:
        """One step of Gauss and Newton."""
        count, ahead = len(self.known), len(AHEAD)
        like = scene.c2w
        lens, turn, shift, depth = self._away(scene)
        blocks, rhs = like.new_zeros(self.pairs, 6, 6), like.new_zeros(count, 6)
        column, corner, corner_rhs = like.new_zeros(count, 6), 1 / LENS**2 * like.new_ones(()), lens / LENS
        lines, pivots = [], []
        width = 6 * (ahead + 1) + 1
        for rows in torch.arange(count).split(TOGETHER):
            used, others = self._used(found, rows)
            seen, limit = scene.seen(rows, others), scales[used, None]
            off, size = _off(found, rows, used, seen)
            jacobian, by_depth = self._derivatives(scene, others, seen, off)
            softened = limit * (1 + (size / (2 * limit)).square())
            weight = found.sureness[rows[:, None], used].to(like) / softened[..., None, None].square()
            heavy = weight @ jacobian
            products = heavy.flatten(2, 3).mT @ jacobian.flatten(2, 3)
            # All of a frame: its own pose, those ahead, the lens, the right hand side.
            whole = like.new_zeros(len(rows), width + 1, width + 1)
            for number, far in enumerate(used.tolist()):
                here = torch.tensor([*range(6), *range(6 * far + 6, 6 * far + 12), width - 1, width])
                whole[:, here[:, None], here] += products[:, number]
            weighed = weight @ by_depth[..., None]
            along = (weighed.mT @ jacobian)[..., 0, :]
            line = like.new_zeros(*depth[rows].shape, width + 1)
            line[..., :6], line[..., -2:] = along[..., :6].sum(1), along[..., 12:].sum(1)
            line[..., 6:-2].unflatten(-1, (ahead, 6))[:, :, used] = along[..., 6:12].transpose(1, 2)
            pivot = (by_depth * weighed[..., 0]).sum(1).sum(-1) + 1 / DEPTH**2
            line[..., -1] += depth[rows] / DEPTH
            whole -= (line / pivot[..., None]).mT @ line
            lines.append(line.float())
            pivots.append(pivot)
            frames = self.others[rows]
            free = self.free[frames] * self.within[rows]
            of_poses = whole[:, : width - 1].unflatten(1, (-1, 6)) * free[..., None, None]
            rhs.index_add_(0, frames.flatten(), of_poses[..., -1].flatten(0, 1))
            column.index_add_(0, frames.flatten(), of_poses[..., -2].flatten(0, 1))
            both = of_poses[..., : width - 1].unflatten(3, (-1, 6)).transpose(2, 3) * free[:, None, :, None, None]
            at = self.place[frames[:, :, None], frames[:, None] - frames[:, :, None] + self.reach]
            blocks.index_add_(0, at.clamp(min=0).flatten(), both.flatten(0, 2))
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
            log_depth.append(-(line.to(like) @ moves[..., None])[..., 0] / pivot)
        return scene.moved(poses, focal, torch.cat(log_depth))

    def _derivatives(self, scene: Scene, others: Tensor, seen: Seen, off: Tensor) -> tuple[Tensor, Tensor]:
        """Of the places by own pose, other pose, lens, with the residual behind, [frames, used, samples, 2, 14], and
        by the depth.
        """
        x = seen.x
        by_x = scene.by_point(x, others)
        by_q = (by_x.flatten(2, 3) @ seen.relative[..., :3, :3]).view_as(by_x)
        q = seen.q[:, None].expand_as(x)
        sideways = torch.cat((q[..., :2], torch.zeros_like(q[..., :1])), dim=-1)
        centre = scene.intrinsics[others][:, :, None, :2, 2]
        by_lens = (seen.place - centre) - (by_q @ sideways[..., None])[..., 0]
        # What turns by a small w moves by w x p, and r . (w x p) = (p x r) . w.
        turned, turned_there = torch.linalg.cross(q[..., None, :], by_q), torch.linalg.cross(x[..., None, :], by_x)
        columns = (by_q, turned, -by_x, -turned_there, by_lens[..., None], off[..., None])
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


def _off(found: Sightings, rows: Tensor, used: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
    """By how many pixels those of some frames lie from where they were found in the frames ``used``, and that over what
    is reckoned with.
    """
    off = seen.place - found.places[rows[:, None], used]
    sureness = found.sureness[rows[:, None], used].to(off)
    size = (off[..., None, :] @ sureness @ off[..., None])[..., 0, 0].clamp(min=0).sqrt()
    return off, size


def _scales(errors: Tensor, sure: Tensor) -> Float[Tensor, "ahead"]:
    """Errors from which a match counts less: those of far frames are larger."""
    middle = torch.where(sure, errors, torch.nan).transpose(0, 1).flatten(1).nanmedian(dim=1).values
    return (1.5 * middle.nan_to_num(0.0)).clamp(min=LEAST)

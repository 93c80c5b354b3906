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
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from vdpm.geometry.rigid import cross_matrix, invert_rigid, rotation_matrix_to_vector
from vdpm.long_video.elimination import BlockSystem
from vdpm.long_video.sighted_places import Line, SightedPlaces
from vdpm.long_video.sightings import TOGETHER, Search, Sightings
from vdpm.long_video.still_scene import Scene

STAGES = ((2, 5, 10, 16), (30, 45, 60, 120))
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
"""Memory for each frame of a clip, and for each of those whose pixels are looked for at once. Clips of 200 and
1,000 frames took 97 and 286 MB."""


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
    search, looked = Search(pictures, scene, AHEAD, content), 0
    here, found = scene, search.found
    for stage in STAGES:
        search.look(here, stage)
        looked += len(stage)
        sight = _Sight(scene, found, AHEAD[:looked], fixed, lens_fixed)
        if bool(found.sure.any()):
            here = sight.solved(here)
    if not bool(found.sure.any()):
        return Sighted(scene, 0.0, 0.0, 0.0, found.sure.any(1))
    before, after = (float(sight.errors(one)[found.sure].median()) for one in (rival or scene, here))
    near = len(STAGES[0])
    asked = float(sight.within[:, :near].sum()) * scene.depth.shape[1]
    return Sighted(here, float(found.sure[:, :near].sum()) / asked, before, after, found.sure.any(1))


class _Sight:
    """Least squares over poses, a factor of all focal lengths, and depths, which are eliminated. ``ahead``: those of
    the frames ahead in which something may have been found.
    """

    def __init__(self, start: Scene, found: Sightings, ahead: tuple[int, ...], fixed: Tensor, lens_fixed: bool) -> None:
        self.start, self.free, self.lens_fixed = start, (~fixed).to(start.c2w), lens_fixed
        self.known = start.depth > 0
        count = len(start.c2w)
        others = torch.arange(count)[:, None] + torch.tensor(ahead)
        self.within = others < count
        others = others.clamp(max=count - 1)
        self.sure = found.sure[:, : len(ahead)]
        self.parts = [SightedPlaces.of(found, rows, others) for rows in torch.arange(count).split(TOGETHER)]
        self.steps = invert_rigid(start.c2w[:-1]) @ start.c2w[1:]
        middle = torch.where(self.known, start.depth, torch.nan).nanmedian(dim=1).values.nan_to_num(1.0)
        self.length = (STEP * self.steps[:, :3, 3].norm(dim=-1) + STILL * middle[:-1]).clamp(min=1e-9)
        apart = sorted({b - a for a in (0, *ahead) for b in (0, *ahead)} | {-1, 0, 1})
        pairs = [(a, a + step) for a in range(count) for step in apart if 0 <= a + step < count]
        self.place = torch.full((count, 2 * apart[-1] + 1), -1)
        first, second = torch.tensor(pairs).T
        self.place[first, second - first + apart[-1]] = torch.arange(len(pairs))
        self.reach, self.pairs = apart[-1], len(pairs)
        self.blocks = BlockSystem(torch.tensor(pairs), [0] * count, 6)

    def solved(self, scene: Scene) -> Scene:
        """From ``scene`` on to where its pixels are found."""
        damping, errors = 1e-4, self.errors(scene)
        for _ in range(ROUNDS):
            scales = _scales(errors, self.sure)
            cost = self.cost(scene, errors, scales)
            proposal = self.step(scene, scales, damping)
            errors_there = self.errors(proposal)
            there = self.cost(proposal, errors_there, scales)
            if not there < cost:
                damping *= 10
                continue
            scene, errors, damping = proposal, errors_there, max(damping / 10, 1e-8)
            if cost - there < 3e-4 * cost:
                break
        return scene

    def errors(self, scene: Scene) -> Float[Tensor, "frames ahead samples"]:
        """Distance from where pixels were found, over what is reckoned with."""
        errors = torch.zeros(self.sure.shape)
        for part in self.parts:
            errors[part.rows[:, None], part.used] = part.off(scene)
        return errors

    def cost(self, scene: Scene, errors: Tensor, scales: Tensor) -> float:
        """Geman and McClure's of the errors, and what leaving the start costs."""
        lens, turn, shift, depth = self._away(scene)
        squares = errors.square()
        image = (squares / (squares + 4 * scales[:, None].square())).sum(dtype=turn.dtype) * 4
        return float(image + lens.square() + turn.square().sum() + shift.square().sum() + depth.square().sum())

    def step(self, scene: Scene, scales: Tensor, damping: float) -> Scene:
        """One step of Gauss and Newton."""
        count, like = len(self.known), scene.c2w
        lens, turn, shift, depth = self._away(scene)
        blocks, rhs = like.new_zeros(self.pairs, 6, 6), like.new_zeros(count, 6)
        column, corner, corner_rhs = like.new_zeros(count, 6), 1 / LENS**2 * like.new_ones(()), lens / LENS
        eliminated = []
        for part in self.parts:
            # Of all pairs of a frame with others, the lens, and the right hand side, with the depths eliminated.
            whole, line, pivot = _without_depths(part.line(scene, scales), depth[part.rows])
            own = part.turned(scene)
            eliminated.append((line, pivot, own))
            # From motions between two frames to those of either: the own pose comes first.
            frames = torch.cat((part.rows[:, None], part.others), dim=1)
            free = self.free[frames]
            free[:, 1:] *= self.within[part.rows][:, part.used]
            used = len(part.used)
            by_pose = like.new_zeros(len(frames), used, 6, used + 1, 6)
            by_pose[:, :, :, 0] = own
            by_pose[:, range(used), :, range(1, used + 1)] = -torch.eye(6).to(like)
            by_pose = (by_pose * free[:, None, None, :, None]).flatten(3, 4).flatten(1, 2)
            of_poses = (by_pose.mT @ whole[:, :-2]).unflatten(1, (-1, 6))
            rhs.index_add_(0, frames.flatten(), of_poses[..., -1].flatten(0, 1))
            column.index_add_(0, frames.flatten(), of_poses[..., -2].flatten(0, 1))
            both = (of_poses[..., :-2] @ by_pose[:, None]).unflatten(3, (-1, 6)).transpose(2, 3)
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
        poses, focal = -poses * self.free[:, None], -focal.sum()
        log_depth = []
        for part, (line, pivot, own) in zip(self.parts, eliminated):
            motion = (own @ poses[part.rows][:, None, :, None])[..., 0] - poses[part.others]
            ones = like.new_ones(len(motion), 1)
            moves = torch.cat((motion.flatten(1), focal * ones, ones), dim=1)
            log_depth.append(-(moves.to(line)[:, None] @ line)[:, 0] / pivot)
        return scene.moved(poses, focal, torch.cat(log_depth).to(like))

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


def _without_depths(line: Line, depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Normal equations of some frames' pairs, the lens and the right hand side, what couples them to the depths,
    [frames, 6 x used + 2, samples], and the depths' own. ``depth``: by how far they have left the start.
    """
    by_motion, by_depth = line
    frames, used = by_motion.shape[:2]
    along = (by_motion * by_depth[:, :, None]).sum(3)
    coupled = torch.cat((along[:, :, :6].flatten(1, 2), along[:, :, 6:].sum(1)), dim=1)
    coupled[:, -1] += depth / DEPTH
    pivot = by_depth.square().sum((1, 2)) + 1 / DEPTH**2
    rows = by_motion.flatten(3).double()
    products = rows @ rows.mT
    whole = products.new_zeros(frames, 6 * used + 2, 6 * used + 2)
    for number in range(used):
        here = torch.tensor([*range(6 * number, 6 * number + 6), 6 * used, 6 * used + 1])
        whole[:, here[:, None], here] += products[:, number]
    exact = coupled.double()
    whole -= (exact / pivot.double()[:, None]) @ exact.mT
    return whole, coupled, pivot


def _scales(errors: Tensor, sure: Tensor) -> Float[Tensor, "ahead"]:
    """Errors from which a match counts less: those of far frames are larger."""
    middle = torch.where(sure, errors, torch.nan).transpose(0, 1).flatten(1).nanmedian(dim=1).values
    return (1.5 * middle.nan_to_num(0.0)).clamp(min=LEAST)

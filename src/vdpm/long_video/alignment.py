"""Windows -> one world: where each lies, cameras of all frames, and which windows are not to be believed."""

import time
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.geometry.alignment import Similarity
from vdpm.geometry.pinhole import project
from vdpm.geometry.rigid import invert_rigid, matrix_to_quaternion, quaternion_to_matrix, rigid, transform_points
from vdpm.long_video.adjustment import adjust
from vdpm.long_video.gradient import adjust_by_adam
from vdpm.long_video.initial import Edges, chain, fit_edges, fit_windows, place, spanning_tree
from vdpm.long_video.observations import Observations
from vdpm.long_video.priors import Priors, into_known_world
from vdpm.long_video.sight import Sighted, follow_sight
from vdpm.long_video.state import AdjustmentConfig, State
from vdpm.long_video.steps import follow_steps
from vdpm.long_video.still_scene import Scene
from vdpm.structures import Cameras

BELIEVED = 0.3
"""Weight from which a window, or what a window says of a frame, is believed."""

SIGHTED = 0.1
"""Least share of the sampled pixels that must be found again for pictures to lead."""
STILL = 2.0
"""Median error of what is found again, over what is reckoned with, beyond which it does not stand still. It is 1.2
where noise is all: 0.7 to 1.3 in clips of which much stands still, 1.6 in three that animals or children fill."""
UNSURE = 0.45
"""Confidence, over the mean of the clip, below which a pixel is not followed: sky, and what is far off or has no
texture. Networks give it a depth that it does not have, and compression lets it stand still while the camera turns."""
FEWEST = 8
"""Pixels of a frame that must be found again for it to be scaled by them."""
BORNE = 1.5
"""Most by which the windows' points may come to lie farther from their own pixels than before (and a pixel more): at
true cameras they do so by a fifth. Where pictures show little but what moves, cameras would run away with it."""

Method = Literal["chain", "tree", "adjust", "adam"]


@dataclass(frozen=True, eq=False)
class Alignment:
    """``windows``: each window's world -> the common one. ``cameras``: of all frames, in the common world, which is the
    camera of the reference frame. ``window_weight``: 1 where a window fits with the rest, near 0 where it is wrong.
    ``frame_weight``: the same of each frame's surest window; where it is below ``BELIEVED`` the frame's pose is drawn
    between its neighbours'. ``known_scale``: lengths are in the user's unit. ``seconds``: of the solver.
    """

    windows: Similarity
    cameras: Cameras
    window_weight: Float[Tensor, "windows"]
    frame_weight: Float[Tensor, "frames"]
    known_scale: bool
    seconds: float

    def cpu(self) -> "Alignment":
        """The same on the processor."""
        windows = Similarity(*(part.cpu() for part in self.windows))
        cameras = Cameras(self.cameras.c2w.cpu(), self.cameras.intrinsics.cpu(), self.cameras.size)
        return replace(
            self,
            windows=windows,
            cameras=cameras,
            window_weight=self.window_weight.cpu(),
            frame_weight=self.frame_weight.cpu(),
        )

    def doubtful_windows(self) -> list[int]:
        """Windows that are not believed."""
        return (self.window_weight < BELIEVED).nonzero()[:, 0].tolist()

    def doubtful_frames(self) -> list[int]:
        """Frames that no believed window shows."""
        return (self.frame_weight < BELIEVED).nonzero()[:, 0].tolist()


def align(
    seen: Observations,
    *,
    reference: int = 0,
    priors: Priors | None = None,
    method: Method = "adjust",
    config: AdjustmentConfig | None = None,
    start: Alignment | None = None,
) -> Alignment:
    """Brings all windows of ``seen`` into one world.

    ``method``: "chain" goes from each window to the next by plain least squares, "tree" takes robust pairs along a
    maximum spanning tree, "adjust" (the default) starts there and optimises over everything (``adjustment``),
    "adam" does so by gradient steps. ``start``: of the first windows, found without the others: the rest is placed
    by these, and what is far from fitting with them has no weight.
    Raises UsageError for priors that do not fit and for windows that share no frames with the rest.
    """
    priors = priors or Priors()
    priors.check(seen.num_frames)
    lone = seen.num_windows == 1
    edges = None if lone else fit_edges(seen, robust=method != "chain")
    windows = _one_window(seen) if edges is None else _placed(edges, seen.num_windows, method, start)
    believed = _believed(edges, seen)
    intrinsics = _intrinsics(seen, priors)
    if start is None:
        c2w = _cameras_of_windows(seen, windows, believed)
        state = State(windows, c2w, torch.zeros_like(c2w[:, 0, 0]), intrinsics)
    else:
        c2w = start.cameras.c2w.to(seen.points)
        lens = start.cameras.intrinsics.to(seen.points)[:, 0, 0] / intrinsics[:, 0, 0]
        state = State(windows, c2w, lens.log(), intrinsics)

    fixed = torch.zeros(seen.num_frames, dtype=torch.bool, device=c2w.device)
    if priors.c2w is not None:
        state = _in_known_world(state, priors)
        fixed[list(priors.pose_frames)] = True
    window_weight, entry_weight, seconds = believed, believed[seen.window], 0.0
    if method in ("adjust", "adam"):
        config = config or AdjustmentConfig()
        focal = "fixed" if priors.intrinsics is not None else "shared" if priors.shared_focal else "per-frame"
        solve = adjust if method == "adjust" else adjust_by_adam
        adjusted = solve(seen, state, replace(config, focal=focal), fixed=fixed)
        state, seconds = adjusted.state, adjusted.seconds
        window_weight, entry_weight = adjusted.window_weight, adjusted.entry_weight
    frame_weight = torch.zeros_like(c2w[:, 0, 0]).scatter_reduce(0, seen.frame, entry_weight, "amax")
    frame_weight = torch.where(fixed, torch.ones_like(frame_weight), frame_weight)
    path = _interpolated(state.c2w, frame_weight >= BELIEVED)
    if method in ("adjust", "adam"):
        path = follow_steps(seen, state.windows, path, entry_weight, fixed)
    return _referred(seen, replace(state, c2w=path), reference, priors, window_weight, frame_weight, seconds)


def sharpen(
    seen: Observations,
    found: Alignment,
    pictures: UInt8[Tensor, "frames height width 3"],
    *,
    reference: int = 0,
    priors: Priors | None = None,
    content: Bool[Tensor, "height width"] | None = None,
    rival: Cameras | None = None,
) -> Alignment | None:
    """``found`` with cameras that the pictures themselves bear out (``sight``), and windows put where these have their
    points. ``content``: where pictures show the video, if not everywhere. ``rival``: of a lone window, cameras that
    must be further from what the pictures show, if not those of ``found``. On the processor. None where too few
    pixels are found again, where what is found does not stand still, where cameras come no nearer to it, and where the
    windows' points do not bear it.
    """
    priors, begin = priors or Priors(), time.perf_counter()
    seen, found = seen.to("cpu"), found.cpu()
    c2w, intrinsics = found.cameras.c2w.double(), found.cameras.intrinsics.double()
    fixed = torch.zeros(seen.num_frames, dtype=torch.bool)
    # In the world of the reference; known poses lie there as they are known, up to its place and scale.
    fixed[[reference, *priors.pose_frames]] = True
    scene = _scene(seen, found, c2w, intrinsics)
    beside = None
    if rival is not None:
        as_told = replace(found, windows=_one_window(seen))
        beside = _scene(seen, as_told, rival.c2w.double(), rival.intrinsics.double())
    sighted = follow_sight(
        pictures, scene, fixed=fixed, lens_fixed=priors.intrinsics is not None, content=content, rival=beside
    )
    if sighted.found < SIGHTED or not sighted.after < min(STILL, sighted.before):
        return None
    before = _off_pixels(seen, found.windows, found.window_weight, c2w, intrinsics)
    scene = _scaled(scene, sighted)
    windows = fit_windows(seen, found.windows, scene.world(), scene.depth)
    if _off_pixels(seen, windows, found.window_weight, scene.c2w, scene.intrinsics) > BORNE * before + 1:
        return None
    state = State(windows, scene.c2w, torch.zeros_like(c2w[:, 0, 0]), scene.intrinsics)
    seconds = found.seconds + time.perf_counter() - begin
    return _referred(seen, state, reference, priors, found.window_weight, found.frame_weight, seconds)


def _scene(seen: Observations, found: Alignment, c2w: Tensor, intrinsics: Tensor) -> Scene:
    """Cameras, and the depth and slope of each frame's pixels as the mean of the windows that are believed; 0 where
    none is known.
    """
    points = Similarity(*(part[seen.window] for part in found.windows)).apply(seen.points)
    depth = transform_points(invert_rigid(c2w)[seen.frame], points)[..., 2]
    believed = found.window_weight[seen.window, None] * (found.window_weight[seen.window, None] >= BELIEVED)
    believed = believed * (depth > 0)
    weight = seen.weights * believed

    def summed(values: Tensor) -> Tensor:
        return values.new_zeros(seen.num_frames, *values.shape[1:]).index_add(0, seen.frame, values)

    total = summed(weight)
    known = total > 1e-6
    share = torch.where(known, 1 / total.clamp(min=1e-12), 0.0)
    followed = total > UNSURE * summed(believed)
    slope = share[..., None] * summed(weight[..., None] * seen.slope)
    return Scene(c2w, intrinsics, share * summed(weight * depth), seen.pixels, slope, followed & known)


def _scaled(scene: Scene, sighted: Sighted) -> Scene:
    """The cameras of ``sighted``; depths of ``scene``, each frame's scaled as those of its pixels were that were found.

    Depths of single pixels that the camera hardly moves past are of little worth there, and windows keep their shape:
    put where these depths have them, maps carried one picture into another less well in all of six real clips.
    """
    scale = (sighted.scene.depth / scene.depth.clamp(min=1e-30)).log()
    scale = torch.where(sighted.again, scale, torch.nan)
    by_frame = torch.where(sighted.again.sum(1) < FEWEST, scale.nanmedian(), scale.nanmedian(dim=1).values)
    return replace(sighted.scene, depth=scene.depth * by_frame[:, None].exp())


def _off_pixels(seen: Observations, windows: Similarity, belief: Tensor, c2w: Tensor, intrinsics: Tensor) -> float:
    """Median distance of the points of believed windows from their own pixels."""
    points = Similarity(*(part[seen.window] for part in windows)).apply(seen.points)
    places, _ = project(transform_points(invert_rigid(c2w)[seen.frame], points), intrinsics[seen.frame])
    believed = belief[seen.window] >= min(BELIEVED, float(belief.max()))
    return float((places - seen.pixels).norm(dim=-1)[believed].median())


def _placed(edges: Edges, num_windows: int, method: Method, start: Alignment | None) -> Similarity:
    if method == "chain":
        return place(edges, chain(edges, num_windows), num_windows)
    if start is None:
        return place(edges, spanning_tree(edges, num_windows), num_windows)
    tree = spanning_tree(edges, num_windows, len(start.windows.scale))
    return place(edges, tree, num_windows, start.windows)


def _one_window(seen: Observations) -> Similarity:
    eye = torch.eye(3, dtype=torch.float64, device=seen.points.device)[None]
    return Similarity(torch.ones_like(eye[:, 0, 0]), eye, torch.zeros_like(eye[:, 0]))


def _believed(edges: Edges | None, seen: Observations) -> Float[Tensor, "windows"]:
    """For each window the largest share of points in which it agrees with another."""
    if edges is None:
        return torch.ones(seen.num_windows, dtype=torch.float64, device=seen.points.device)
    agreeing = torch.zeros(seen.num_windows, dtype=edges.agreeing.dtype, device=edges.agreeing.device)
    for ends in (edges.a, edges.b):
        agreeing = agreeing.scatter_reduce(0, ends, edges.agreeing, "amax")
    return agreeing


def _cameras_of_windows(seen: Observations, windows: Similarity, believed: Tensor) -> Float[Tensor, "frames 4 4"]:
    """Each frame's camera as the window says that is believed most, in the common world."""
    c2w = torch.eye(4, dtype=seen.points.dtype, device=seen.points.device).repeat(seen.num_frames, 1, 1)
    # By frame, the most believed last.
    order = believed[seen.window].argsort(stable=True)
    order = order[seen.frame[order].argsort(stable=True)]
    frames, number = seen.frame.unique(return_counts=True)
    best = order[number.cumsum(0) - 1]
    window = seen.window[best]
    centre = Similarity(*(part[window] for part in windows)).apply(seen.c2w[best, :3, 3])
    c2w[frames] = rigid(windows.rotation[window] @ seen.c2w[best, :3, :3], centre)
    return c2w


def _intrinsics(seen: Observations, priors: Priors) -> Float[Tensor, "frames 3 3"]:
    """Those known; else the median over windows, of all frames or of each."""
    if priors.intrinsics is not None:
        return priors.intrinsics.to(seen.points).expand(seen.num_frames, 3, 3).clone()
    if priors.shared_focal:
        return seen.intrinsics.median(dim=0).values.repeat(seen.num_frames, 1, 1)
    return torch.stack([seen.intrinsics[seen.frame == frame].median(dim=0).values for frame in range(seen.num_frames)])


def _in_known_world(state: State, priors: Priors) -> State:
    """Moved so that frames of known pose lie about there, then put there."""
    assert priors.c2w is not None
    known, frames = priors.c2w.to(state.c2w), list(priors.pose_frames)
    scale, rotation, translation = into_known_world(state.c2w[frames], known)
    moved = _transformed(state, scale, rotation, translation)
    c2w = moved.c2w.clone()
    c2w[frames] = known
    return replace(moved, c2w=c2w)


def _transformed(state: State, scale: Tensor, rotation: Tensor, translation: Tensor) -> State:
    """The whole world moved by x -> scale * rotation @ x + translation."""
    windows = state.windows
    centre = scale * (rotation @ state.c2w[:, :3, 3, None])[..., 0] + translation
    return replace(
        state,
        windows=Similarity(
            scale * windows.scale,
            rotation @ windows.rotation,
            scale * (rotation @ windows.translation[..., None])[..., 0] + translation,
        ),
        c2w=rigid(rotation @ state.c2w[:, :3, :3], centre),
    )


def _referred(
    seen: Observations,
    state: State,
    reference: int,
    priors: Priors,
    window_weight: Tensor,
    frame_weight: Tensor,
    seconds: float,
) -> Alignment:
    """The world is the reference camera; the unit the user's, or that of the window which knows the reference best."""
    to_reference = invert_rigid(state.c2w[reference])
    scale = torch.ones_like(frame_weight[0])
    known = priors.sets_scale_by_poses or priors.distance is not None
    if priors.distance is not None:
        scale = scale * priors.distance.length / _length(seen, state, priors, window_weight)
    elif not known:
        entries = (seen.frame == reference).nonzero()[:, 0]
        best = entries[window_weight[seen.window[entries]].argmax()]
        scale = 1 / state.windows.scale[seen.window[best]]
    state = _transformed(state, scale, to_reference[:3, :3], scale * to_reference[:3, 3])
    return Alignment(
        windows=state.windows,
        cameras=Cameras(state.c2w.float(), state.focal_scaled().float(), seen.size),
        window_weight=window_weight,
        frame_weight=frame_weight,
        known_scale=known,
        seconds=seconds,
    )


def _length(seen: Observations, state: State, priors: Priors, window_weight: Tensor) -> Float[Tensor, ""]:
    """The known distance as it is in ``state``; between pixels, of its marks, by the median of believed windows."""
    known = priors.distance
    assert known is not None
    ends = []
    for mark, frame in enumerate((known.frame_a, known.frame_b)):
        if not known.pixels:
            ends.append(state.c2w[frame, :3, 3])
            continue
        if seen.marks.shape[1] != len(known.pixels):
            raise UsageError("the pixels of the known distance were not looked at; give them to observe as marks")
        entries = (seen.frame == frame).nonzero()[:, 0]
        believed = window_weight[seen.window[entries]]
        entries = entries[believed >= min(BELIEVED, float(believed.max()))]
        points = Similarity(*(part[seen.window[entries]] for part in state.windows)).apply(seen.marks[entries, mark])
        ends.append(points.median(dim=0).values)
    length = (ends[0] - ends[1]).norm()
    if float(length) < 1e-9:
        raise UsageError("the known distance is between points that lie at one place; name others")
    return length


def _interpolated(c2w: Float[Tensor, "frames 4 4"], good: Bool[Tensor, "frames"]) -> Float[Tensor, "frames 4 4"]:
    """Poses of frames that are not good drawn between their good neighbours'; beyond the last, as the last."""
    if bool(good.all()) or not bool(good.any()):
        return c2w
    known = good.nonzero()[:, 0]
    path = c2w.clone()
    quaternions = matrix_to_quaternion(c2w[:, :3, :3])
    for frame in (~good).nonzero()[:, 0].tolist():
        after = int(torch.searchsorted(known, frame))
        a, b = known[max(after - 1, 0)], known[min(after, len(known) - 1)]
        share = 0.0 if a == b else float(frame - a) / float(b - a)
        qa, qb = quaternions[a], quaternions[b]
        qb = torch.where((qa * qb).sum() < 0, -qb, qb)
        rotation = quaternion_to_matrix(torch.lerp(qa, qb, share))
        path[frame] = rigid(rotation, torch.lerp(c2w[a, :3, 3], c2w[b, :3, 3], share))
    return path

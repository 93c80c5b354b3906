"""A long clip of our own scenes with its truth, and the errors of a result of it; used by ``long_clip``."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from long_tracks import Tracked, TrackErrors, in_sight, track_errors
from torch import Tensor

from vdpm.evaluation.trajectory import trajectory_errors
from vdpm.geometry.alignment import unit_mean_distance
from vdpm.geometry.image_transform import ImageTransform
from vdpm.geometry.rigid import invert_rigid, transform_points
from vdpm.structures import PointMap, Video
from vdpm.synthetic.config import SceneConfig
from vdpm.synthetic.generator import SceneGenerator, held_out_seeds

SINGLE = 20
"""Frames of the single windows that a long result is compared with."""
TIMES = (10, 18)
"""Frames after the first of each stretch of ``SINGLE`` at whose times the truth of points is kept."""
DEPTHS_EVERY = 3
"""Frames between two whose depths are compared."""
OTHER_CAMERAS = (
    "still_camera_weight", "handheld_weight", "dolly_weight", "pan_weight", "follow_weight", "walk_weight",
    "truck_weight", "crane_weight", "drone_weight", "dolly_zoom_weight",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Truth:
    """One held-out scene. ``tracked[target, source]``: true points of the pixels of ``source`` at the time of
    ``target``, for the first frame of the clip at all times kept, and for the first of each stretch within it.
    ``unit``: mean distance of the scene from the first camera.
    """

    video: Video
    c2w: Tensor
    points: Tensor
    valid: Tensor
    tracked: dict[tuple[int, int], Tensor]
    unit: float

    @property
    def starts(self) -> list[int]:
        """First frames of the stretches."""
        return list(range(0, len(self.video) - SINGLE + 1, SINGLE))

    @property
    def times(self) -> list[int]:
        """Frames at whose times the truth of points is known."""
        return sorted({target for target, _ in self.tracked})


@dataclass(frozen=True)
class Errors:
    """``ate`` of cameras after one similarity, over the scene's mean distance; ``abs_rel`` of depths after one scale;
    ``epe`` of the first frame's pixels at later times, in its camera, over the mean distance of its points; ``tracks``:
    the same apart for what is in sight and what moves.
    """

    ate: float
    abs_rel: float
    epe: float
    tracks: TrackErrors = field(default_factory=TrackErrors)

    @classmethod
    def mean(cls, several: list["Errors"]) -> "Errors":
        names = ("ate", "abs_rel", "epe")
        values = [[getattr(one, name) for one in several if math.isfinite(getattr(one, name))] for name in names]
        means = (sum(column) / len(column) if column else math.nan for column in values)
        return cls(*means, TrackErrors.mean([one.tracks for one in several]))


@dataclass(frozen=True, eq=False)
class Found:
    """A result: ``c2w`` of frames ``first`` and on, and ``read(target, source)`` as of a reconstruction's maps."""

    first: int
    c2w: Tensor
    read: Callable[[int | None, int], PointMap]


def long_truth(frames: int, seed: int, size: tuple[int, int], device: str, cache: Path) -> Truth:
    """A camera orbits while things move. Kept in ``cache``, which makes a second call fast."""
    config = SceneConfig(
        num_frames=frames,
        height=size[0],
        width=size[1],
        baseline=(0.08, 0.08),
        travel=(0.1, 0.3),
        zoom_share=0.0,
        time_step=(1 / 15, 1 / 15),
        uneven_share=0.0,
        field_of_view=(50, 70),
        colour_samples=1,
    )
    config = replace(config, **dict.fromkeys(OTHER_CAMERAS, 0.0))  # type: ignore[arg-type]
    path = cache / f"truth_{frames}_{seed}_{size[1]}x{size[0]}.pt"
    asked = json.dumps(asdict(config), sort_keys=True)
    if path.exists():
        kept = torch.load(path, weights_only=True)
        if kept.pop("asked") == asked:
            return _truth(**kept)
    starts = range(0, frames - SINGLE + 1, SINGLE)
    times = [start + time for start in starts for time in TIMES]
    clip = SceneGenerator(config, device)(held_out_seeds(1, seed), torch.tensor([times])).clip(0).to("cpu")
    pairs = sorted({(t, s) for t in times for s in starts if s in (0, t // SINGLE * SINGLE)})
    made = {
        "images": (clip.images.permute(0, 2, 3, 1) * 255).round().byte(),
        "timestamps": clip.timestamps,
        "c2w": clip.c2w,
        "points": clip.points,
        "valid": clip.valid,
        "pairs": pairs,
        "tracked": torch.stack([clip.target_points[times.index(t), s] for t, s in pairs]),
    }
    cache.mkdir(parents=True, exist_ok=True)
    torch.save({**made, "asked": asked}, path)
    return _truth(**made)


def _truth(
    images: Tensor,
    timestamps: Tensor,
    c2w: Tensor,
    points: Tensor,
    valid: Tensor,
    pairs: list[tuple[int, int]],
    tracked: Tensor,
) -> Truth:
    size = (images.shape[1], images.shape[2])
    video = Video(images, timestamps.double(), torch.arange(len(images)), ImageTransform.identity(size))
    unit = float(unit_mean_distance(points[0], valid[0], batch_axes=0))
    return Truth(video, c2w, points, valid, dict(zip(map(tuple, pairs), tracked)), unit)


def errors_of(found: Found, truth: Truth, first: int, stop: int) -> Errors:
    """Errors over frames ``first`` to before ``stop``, brought to the truth by themselves."""
    own, true = found.c2w[first - found.first : stop - found.first].double(), truth.c2w[first:stop].double()
    ate = trajectory_errors(own, true).ate / truth.unit
    depths, ratios = [], []
    for frame in range(first, stop, DEPTHS_EVERY):
        valid = truth.valid[frame]
        true_depth = transform_points(invert_rigid(truth.c2w[frame]), truth.points[frame])[..., 2][valid]
        points = found.read(None, frame).points.double()
        depth = transform_points(invert_rigid(own[frame - first]), points)[..., 2][valid]
        depths.append((depth, true_depth.double()))
        ratios.append((true_depth / depth).median())
    scale = torch.stack(ratios).median()
    abs_rel = torch.stack([((depth * scale - true).abs() / true).mean() for depth, true in depths]).mean()
    tracks = _tracking(found, truth, own, first, stop)
    return Errors(ate, float(abs_rel), tracks.epe, tracks)


def tracks_of(truth: Truth, first: int, stop: int) -> Tracked:
    """The valid pixels of ``first`` at the times known before ``stop``, in the camera of ``first``."""
    valid, w2c = truth.valid[first], invert_rigid(truth.c2w[first].double())
    targets = sorted(t for t, source in truth.tracked if source == first and first < t < stop)
    world = [truth.tracked[target, first][valid].double() for target in targets]
    seen = [in_sight(p, truth.c2w[t], truth.points[t], truth.valid[t]) for t, p in zip(targets, world)]
    at_first = transform_points(w2c, truth.points[first][valid].double())
    if not targets:
        return Tracked([], at_first, at_first[:0], valid[:0])
    return Tracked(targets, at_first, transform_points(w2c, torch.stack(world)), torch.stack(seen))


def _tracking(found: Found, truth: Truth, own: Tensor, first: int, stop: int) -> TrackErrors:
    """As the paper's Table 2 has it: the pixels of ``first`` at the times known in the stretch, in its camera."""
    valid, ours = truth.valid[first], invert_rigid(own[0])

    def read(target: int | None) -> Tensor:
        return transform_points(ours, found.read(target, first).points.double())[valid]

    return track_errors(tracks_of(truth, first, stop), read(None), read)

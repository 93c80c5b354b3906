"""A long clip of our own scenes with its truth, and the errors of a result of it; used by ``long_clip``."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
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
    ``epe`` of the first frame's pixels at later times, in its camera, over the mean distance of its points.
    """

    ate: float
    abs_rel: float
    epe: float

    @classmethod
    def mean(cls, several: list["Errors"]) -> "Errors":
        names = ("ate", "abs_rel", "epe")
        values = [[getattr(one, name) for one in several if math.isfinite(getattr(one, name))] for name in names]
        return cls(*(sum(column) / len(column) if column else math.nan for column in values))


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
    return Errors(ate, float(abs_rel), _tracking(found, truth, own, first, stop))


def _tracking(found: Found, truth: Truth, own: Tensor, first: int, stop: int) -> float:
    """EPE of the pixels of ``first`` at the times known in the stretch, as the paper's Table 2 has it: in the camera of
    ``first``, prediction and truth each over the mean distance of that frame's points.
    """
    valid = truth.valid[first]
    ours, theirs = invert_rigid(own[0]), invert_rigid(truth.c2w[first].double())
    at_first = transform_points(ours, found.read(None, first).points.double())[valid]
    true_first = transform_points(theirs, truth.points[first].double())[valid]
    errors = []
    for target in [t for t, source in truth.tracked if source == first and first < t < stop]:
        points = transform_points(ours, found.read(target, first).points.double())[valid]
        true = transform_points(theirs, truth.tracked[target, first].double())[valid]
        difference = points / at_first.norm(dim=-1).mean() - true / true_first.norm(dim=-1).mean()
        errors.append(difference.norm(dim=-1).mean())
    return float(torch.stack(errors).mean()) if errors else math.nan

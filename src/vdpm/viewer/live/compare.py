"""Two results, or a result and the truth, in one world."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.archive import load
from vdpm.data.snippet_folder import SNIPPET_FILE, read_snippet
from vdpm.errors import InputError, UsageError
from vdpm.geometry.image_transform import ImageTransform
from vdpm.geometry.rigid import transform_points
from vdpm.structures import Cameras, DynamicPointMaps, PointMap, Reconstruction, Snippet
from vdpm.viewer.choice import ChosenPoints

KNOWN = 2.0
"""Confidence of what a truth knows; elsewhere it is 1, the least that occurs."""
TRUTH = "truth"


def read_counterpart(path: Path, beside: Reconstruction) -> tuple[Reconstruction, bool]:
    """What stands beside a result, and whether it is a truth: a result folder, a snippet folder, an ``.npz`` with the
    truth of a clip of ours, or the word ``truth`` for that of the bundled clip.

    Raises InputError for anything else.
    """
    if path == Path(TRUTH) and not path.exists():
        bundled = Path(__file__).resolve().parents[2] / "demo" / "truth.npz"
        found = truth_as_result(_read_npz(bundled), "truth of the bundled clip")
        if len(found) != len(beside) or found.size != beside.size:
            raise InputError("--compare truth is for the result of vdpm demo; of other clips give a snippet folder")
        return found, True
    if (path / SNIPPET_FILE).is_file():
        return truth_as_result(read_snippet(path), f"truth {path.name}"), True
    if path.suffix == ".npz":
        return truth_as_result(_read_npz(path), f"truth {path.stem}"), True
    return load(path), False


def _read_npz(path: Path) -> Snippet:
    from vdpm.synthetic.demo_clip import load_ground_truth

    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return load_ground_truth(path)


def truth_as_result(truth: Snippet, name: str) -> Reconstruction:
    """Ground truth in the shape of a result, so that it can be looked at. What it does not know has confidence 1."""

    def sure(known: Tensor) -> Tensor:
        return torch.where(known, KNOWN, 1.0)

    def finite(points: Tensor) -> Tensor:
        return torch.nan_to_num(points, nan=0.0, posinf=0.0, neginf=0.0)

    targets = tuple(truth.targets.tolist())
    known = truth.valid.expand(len(targets), *truth.valid.shape) if truth.target_valid is None else truth.target_valid
    frames = truth.num_frames
    return Reconstruction(
        frames=(truth.images.clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).contiguous(),
        timestamps=truth.timestamps.double(),
        frame_indices=torch.arange(frames),
        cameras=Cameras(truth.c2w.float(), truth.intrinsics.float(), truth.size),
        maps=DynamicPointMaps.from_tensors(
            finite(truth.points),
            sure(truth.valid),
            finite(truth.target_points),
            sure(known),
            num_frames=frames,
            targets=targets,
            sources=tuple(range(frames)),
        ),
        transform=ImageTransform.identity(truth.size),
        reference=truth.reference,
        name=name,
        provenance={"model": "ground truth"},
    )


def brought_beside(other: Reconstruction, first: Reconstruction) -> Reconstruction:
    """``other`` in the world and unit of ``first``: from the camera that ``first`` has for its reference view, with
    lengths divided by the mean distance of what each sees from there.

    Raises UsageError where they have no frame of the video in common that does for it.
    """
    stamp = float(first.timestamps[first.reference])
    gaps = (other.timestamps.double() - stamp).abs()
    frame = int(gaps.argmin())
    if float(gaps[frame]) > 0.02 or frame not in other.maps.sources or first.reference not in first.maps.sources:
        raise UsageError(
            f"the two results cannot be put beside each other: {other.name} has no frame at {stamp:.2f} s, where "
            f"{first.name} has its reference view"
        )
    w2c = other.cameras.w2c[frame].double()
    home = first.cameras.c2w[first.reference].double()
    here = first.cameras.w2c[first.reference].double()
    scale = _distance(first, first.reference, here) / _distance(other, frame, w2c)

    def bring(points: Tensor) -> Tensor:
        return transform_points(home, scale * transform_points(w2c, points.double())).float()

    def read(target: int | None, source: int) -> PointMap:
        found = other.maps.read(target, source)
        return PointMap(bring(found.points), found.confidence)

    c2w = w2c @ other.cameras.c2w.double()
    c2w[:, :3, 3] *= scale
    return replace(
        other,
        cameras=replace(other.cameras, c2w=(home @ c2w).float()),
        maps=replace(other.maps, read=read),
        reference=frame,
    )


def _distance(result: Reconstruction, frame: int, w2c: Float[Tensor, "4 4"]) -> float:
    """Mean distance of what the frame's camera sees."""
    points, confidence = result.maps.time_variant(frame)
    known = result.content & (confidence > 1) if bool((confidence > 1).any()) else result.content
    found = transform_points(w2c, points[known].double()).norm(dim=-1)
    if not len(found) or not float(found.mean()) > 0:
        raise InputError(f"{result.name}: frame {frame} shows no points")
    return float(found.mean())


class Counterpart:
    """The other result, pixel by pixel. ``result``: brought into the same world already."""

    def __init__(self, result: Reconstruction) -> None:
        self.result = result

    @staticmethod
    def fits(a: Reconstruction, b: Reconstruction) -> bool:
        """Whether pixels of one are those of the other: the same frames, equally large."""
        stamps = len(a) == len(b) and bool(((a.timestamps - b.timestamps).abs() < 0.02).all())
        return stamps and a.size == b.size

    def distance(self, points: ChosenPoints, time: int | None) -> Float[np.ndarray, "points"]:
        """How far each point (first row of positions, at ``time``, None its own) is from where the other result has the
        same pixel at that time; NaN where it does not say.
        """
        found = np.full(len(points), np.nan)
        maps = self.result.maps
        for source in np.unique(points.source).tolist():
            target = None if time == source else time
            if source not in maps.sources or not (target is None or target in maps.targets):
                continue
            which = np.flatnonzero(points.source == source)
            there, sure = maps.time_variant(source) if target is None else maps.at(target, source)
            pixel = points.pixel[which]
            gap = np.linalg.norm(there.flatten(0, 1).numpy()[pixel] - points.positions[0][which], axis=1)
            found[which] = np.where(sure.flatten().numpy()[pixel] > 1, gap, np.nan)
        return found

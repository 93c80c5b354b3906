"""SCORE: answers on disk against the truth, clip by clip; arrays to numbers, by the protocols of Tables 1 to 4.

What the literature leaves open is a field of TableOptions with its default; kinds of alignment are not options but
stand beside each other under names of their own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.data.quarantine import CorruptFile, Quarantine
from vdpm.errors import InputError, UsageError
from vdpm.evaluation.answers import MapAnswer, bicubic, load_depth, load_maps, load_path
from vdpm.evaluation.benchmark import Sample
from vdpm.evaluation.clips import Clips, MapTruth
from vdpm.evaluation.depth_alignment import ALIGNMENTS, fit_depth
from vdpm.evaluation.prediction_run import RunPlan, answer_file, asked, kept_pixels, readable
from vdpm.evaluation.snippet_scores import ProtocolOptions, Scores, map_scores, pair_scores
from vdpm.evaluation.track_metrics import TAPVID_SIDE, dynamic_tracks, tapvid3d_errors, world_track_errors
from vdpm.evaluation.trajectory import trajectory_errors
from vdpm.evaluation.visibility import TOLERANCE
from vdpm.geometry.rigid import invert_rigid, transform_points
from vdpm.progress import Report, silent

DEFAULT_ALIGNMENTS = (
    "median",
    "scale_published",
    "scale_lad",
    "scale_lsq",
    "scale_shift_published",
    "scale_shift_lad",
    "scale_shift_lsq",
)


@dataclass(frozen=True)
class TableOptions:
    """Choices that the literature leaves open. ``protocol``: those of the end-point error.

    ``own_pixels``: which pixels of P_i(t_i) count, all with depth ("dense") or those that have tracks too ("tracked").
    ``visibility``: share of the depth by which a point may lie behind a surface and be seen. ``alignments``: of depth,
    by name; ``per_frame`` adds each fitted frame by frame. ``delta``: frames over which RPE is taken; ``pose_scale``:
    Sim(3), else SE(3). ``weights``: how sequences count in means of depth. Raises UsageError for what there is not.
    """

    protocol: ProtocolOptions = field(default_factory=ProtocolOptions)
    own_pixels: Literal["dense", "tracked"] = "dense"
    visibility: float = TOLERANCE
    alignments: tuple[str, ...] = DEFAULT_ALIGNMENTS
    per_frame: bool = False
    delta: int = 1
    pose_scale: bool = True
    weights: Literal["pixels", "sequences"] = "pixels"

    def __post_init__(self) -> None:
        unknown = [name for name in self.alignments if name not in ALIGNMENTS]
        if unknown or not self.alignments:
            raise UsageError(f"no alignment of depth {unknown}; choose from {', '.join(ALIGNMENTS)}")
        if self.delta < 1 or self.visibility < 0:
            raise UsageError(
                f"--delta {self.delta} and --visibility {self.visibility:g}: give 1 or more, and 0 or more"
            )


@dataclass(frozen=True)
class SampleScores:
    """The numbers of one clip. ``weight``: pixels with truth where means of depth count these, else 1. ``corrupt``: why
    its data cannot be read; then there are no scores.
    """

    sample: Sample
    scores: Scores
    weight: float = 1.0
    corrupt: str | None = None


@torch.inference_mode()
def score(
    clips: Clips,
    plan: RunPlan,
    folder: Path,
    options: TableOptions,
    device: torch.device | str = "cpu",
    report: Report = silent,
    quarantine: Quarantine | None = None,
) -> list[SampleScores]:
    """Scores of every clip of the plan, from its file. Raises InputError, one line, for a file that is missing or
    damaged, or made for other truth.

    ``device``: where fits of depth run. Clips whose data cannot be read are counted in the ``quarantine`` and have no
    scores; TooManyCorrupt past its share (without one: at the first).
    """
    found: list[SampleScores] = []
    quarantine = quarantine or Quarantine(max_share=0.0, expected=len(plan.samples))
    report("scoring", 0, len(plan.samples))
    for done, sample in enumerate(plan.samples, 1):
        try:
            found.append(_scored(clips, plan, sample, answer_file(folder, sample), options, device))
            quarantine.count(1, [])
        except CorruptFile as error:
            quarantine.count(1, [(str(error.path), str(error))])
            found.append(SampleScores(sample, {}, corrupt=str(error)))
        report("scoring", done, len(plan.samples))
    return found


def depth_scores(
    predicted: Float[Tensor, "pixels"],
    true: Float[Tensor, "pixels"],
    frame_of: Sequence[int],
    options: TableOptions,
    clip: float | None,
) -> Scores:
    """AbsRel and the share within a factor 1.25 over all pixels of a sequence, for each alignment.

    ``frame_of``: how many pixels each frame has, in order. ``clip``: aligned depth beyond it becomes it. Names are
    ``ALIGNMENT.abs_rel``, and ``ALIGNMENT_per_frame.abs_rel`` where every frame is fitted by itself.
    """
    scores: Scores = {}
    for name in options.alignments:
        aligned = fit_depth(name, predicted, true).apply(predicted)
        scores |= {f"{name}.{key}": value for key, value in _depth_errors(aligned, true, clip).items()}
        if options.per_frame:
            parts = [
                fit_depth(name, p, t).apply(p) for p, t in zip(predicted.split([*frame_of]), true.split([*frame_of]))
            ]
            errors = _depth_errors(torch.cat(parts), true, clip)
            scores |= {f"{name}_per_frame.{key}": value for key, value in errors.items()}
    return scores


def _depth_errors(aligned: Tensor, true: Tensor, clip: float | None) -> Scores:
    if not len(true):
        return {"abs_rel": math.nan, "delta_125": math.nan}
    if clip is not None:
        aligned = aligned.clamp(max=clip)
    # As published: relative error of what is there, then nothing below 1e-5 in ratios.
    abs_rel = ((aligned - true).abs() / true).mean()
    floored = aligned.clamp(min=1e-5)
    within = torch.maximum(floored / true, true / floored) < 1.25
    return {"abs_rel": abs_rel.item(), "delta_125": within.float().mean().item()}


def _scored(
    clips: Clips, plan: RunPlan, sample: Sample, path: Path, options: TableOptions, device: torch.device | str
) -> SampleScores:
    """Raises CorruptFile for data that cannot be read, InputError for an answer that cannot."""
    if not path.is_file():
        # Then it is the data that have to be mended, not the answer.
        readable(clips, sample)
    if plan.table in ("two-view", "tracking"):
        return SampleScores(sample, _of_maps(clips, plan, sample, path, options))
    if plan.table == "video-depth":
        return _of_depth(clips, plan, sample, path, options, device)
    return SampleScores(sample, _of_path(clips, sample, path, options))


def _of_depth(
    clips: Clips, plan: RunPlan, sample: Sample, path: Path, options: TableOptions, device: torch.device | str
) -> SampleScores:
    said = load_depth(path, len(sample.frames))
    benchmark, predicted, true, counts = plan.benchmark, [], [], []
    for index, frame in enumerate(clips.frames(sample)):
        size = (frame.depth.shape[0], frame.depth.shape[1])
        depth = frame.depth.float()
        used = frame.valid & (depth > 0)
        if benchmark.depth_cap is not None:
            used = used & (depth < benchmark.depth_cap)
        predicted.append(bicubic(said[index][None], size)[0][used])
        true.append(depth[used])
        counts.append(int(used.sum()))
    p, t = torch.cat(predicted).to(device), torch.cat(true).to(device)
    weight = float(len(t)) if options.weights == "pixels" else 1.0
    return SampleScores(sample, depth_scores(p, t, counts, options, benchmark.clip), weight)


def _of_path(clips: Clips, sample: Sample, path: Path, options: TableOptions) -> Scores:
    said = load_path(path, len(sample.frames))
    true = torch.stack([frame.c2w.double() for frame in clips.frames(sample)])
    errors = trajectory_errors(said, true, options.delta, options.pose_scale)
    return {"ate": errors.ate, "rpe_translation": errors.rpe_translation, "rpe_rotation": errors.rpe_rotation}


def _of_maps(clips: Clips, plan: RunPlan, sample: Sample, path: Path, options: TableOptions) -> Scores:
    targets, sources = asked(plan.table, sample)
    truth = clips.map_truth(sample, targets, sources)
    answer = load_maps(path, len(sample.frames), len(targets), len(sources), truth.clip.size)
    valid, own_valid = kept_pixels(truth, sample, plan.options.pixels)
    predicted, has_own = answer.at_targets, bool(answer.own_stored.any())
    if options.protocol.own_time == "time_variant" and has_own:
        _check_stored(path, own_valid, answer.own_stored)
        predicted = predicted.clone()
        for column, source in enumerate(sources):
            predicted[targets.index(source), column] = answer.own[column]
    _check_stored(path, valid, answer.stored)
    if options.own_pixels == "tracked":
        others = torch.tensor([[t != s for s in sources] for t in targets])[:, :, None, None]
        valid = valid & ((valid & others).any(0) | others)
    start = truth.clip.points
    # The model's own shape at all times: what its motion is worth, its shape apart.
    still = answer.own.expand_as(predicted)
    if plan.table == "two-view":
        scores = pair_scores(predicted, truth.points, start, valid, options.protocol)
        alone = pair_scores(still, truth.points, start, valid, options.protocol)["moving"] if has_own else math.nan
        return scores | {"moving_own_still": alone}
    true = truth.points[:, 0]
    scores = map_scores(predicted[:, 0], true, start[0], valid[:, 0], options.protocol)
    alone = (
        map_scores(still[:, 0], true, start[0], valid[:, 0], options.protocol)["epe_moving"] if has_own else math.nan
    )
    return (
        scores | {"epe_moving_own_still": alone} | _track_scores(answer, predicted[:, 0], truth, valid[:, 0], options)
    )


def _track_scores(
    answer: MapAnswer,
    predicted: Float[Tensor, "times height width 3"],
    truth: MapTruth,
    valid: Bool[Tensor, "times height width"],
    options: TableOptions,
) -> Scores:
    """The errors of other benchmarks, over pixels that have truth at another time than their own."""
    others = [row for row, target in enumerate(truth.targets) if target != truth.sources[0]]
    tracked = valid[others].any(0)
    p, t, known = predicted[:, tracked], truth.points[:, 0][:, tracked], valid[:, tracked]
    moving = dynamic_tracks(t, known)
    scores: Scores = {}
    for align, suffix in (("median", ""), ("sim3", "_sim3")):
        whole = world_track_errors(p, t, known, align)
        part = world_track_errors(p[:, moving], t[:, moving], known[:, moving], align)
        scores |= {f"world_apd{suffix}": whole.apd, f"world_epe{suffix}": whole.epe}
        scores |= {f"world_apd_dynamic{suffix}": part.apd, f"world_epe_dynamic{suffix}": part.epe}
    if answer.c2w is None or answer.intrinsics is None or answer.visible is None:
        return scores | dict.fromkeys(("tapvid3d_aj", "tapvid3d_apd", "tapvid3d_oa"), math.nan)
    clip = truth.clip
    k = clip.intrinsics[list(truth.targets)]
    focal = (k[:, 0, 0] * k[:, 1, 1]).sqrt() * (TAPVID_SIDE / min(clip.size))
    rows = list(truth.targets)
    errors = tapvid3d_errors(
        transform_points(invert_rigid(answer.c2w[rows]), p),
        transform_points(invert_rigid(clip.c2w[rows]), t),
        answer.visible[:, 0][:, tracked],
        truth.visible(options.visibility)[:, 0][:, tracked],
        known,
        focal,
    )
    return scores | {
        "tapvid3d_aj": errors.average_jaccard,
        "tapvid3d_apd": errors.apd,
        "tapvid3d_oa": errors.occlusion_accuracy,
    }


def _check_stored(path: Path, wanted: Tensor, stored: Tensor) -> None:
    lacking = int((wanted & ~stored).sum())
    if lacking:
        raise InputError(
            f"{path}: lacks {lacking} points that the truth has now; the data have changed, or a family's scenes were "
            "made on another --device; delete it and predict again"
        )

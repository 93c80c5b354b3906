"""One sequence held against itself. Every finding is a line that says what is wrong, where, and what it may be."""

import hashlib
import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.data.checks.carry import READINGS, Carried, carry, land, off_pixels
from vdpm.data.quarantine import Quarantine
from vdpm.data.sequence import DataSequence, Frame
from vdpm.geometry.rigid import invert_rigid, rotation_angle

LARGEST_DISAGREEMENT = 0.03
"""Median relative difference of depth between frames above which no sensor's noise explains it."""
SMALLEST_DOUBT = 0.005
"""Below this, another reading of the data is not asked for."""
CLEARLY_BETTER = 0.5
"""Another reading counts when it halves the disagreement, ..."""
ENOUGH_OVERLAP = 0.2
"""... over at least this share of the pixels, times the share that has depth."""
LARGEST_OFF_PIXEL = 0.25
IN_FRONT = 0.05
"""A point this much nearer than what the target frame sees in its place floats in the air: nothing can hide it."""
LARGEST_FLOATING_SHARE = 0.15
LARGEST_REJECTED_SHARE = 0.1
"""Of points with motion of their own; edges of objects account for a few in a hundred."""
LARGEST_JUMP = 20.0
"""Steps of the camera, in medians of the sequence."""
LARGEST_TURN = math.radians(60)


@dataclass(frozen=True, eq=False)
class View:
    """A pair of frames to look at: pictures, and how the first one's depth (or its points at the second one's time)
    agrees with the second's."""

    title: str
    first: Frame
    second: Frame
    carried: Carried


@dataclass
class SequenceCheck:
    """``measures`` are plain numbers; ``findings`` is empty where all is well."""

    name: str
    num_frames: int
    measures: dict[str, float] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)
    views: list[View] = field(default_factory=list)


def check_sequence(
    sequence: DataSequence, quarantine: Quarantine, pairs: int = 4, gap: int = 5, frames: int = 32
) -> SequenceCheck:
    """Checks all times, the middle ``frames`` frames, and ``pairs`` pairs of them that are ``gap`` apart.

    Frames that cannot be read go to the ``quarantine``. Raises TooManyCorrupt past its share.
    """
    check = SequenceCheck(sequence.name, len(sequence))
    _check_times(sequence.timestamps, check)
    start = max(0, (len(sequence) - frames) // 2)
    read = {}
    for index in range(start, min(len(sequence), start + frames)):
        frame = quarantine.attempt(lambda index=index: sequence.frame(index))  # type: ignore[misc]
        if frame is None:
            check.findings.append(f"frame {index} cannot be read: {list(quarantine.files.values())[-1]}")
        else:
            read[index] = frame
    if len(read) < 2:
        check.findings.append("fewer than two frames can be read, nothing more was checked")
        return check
    _check_pictures(read, check)
    _check_cameras(read, check)
    if not _check_pixels(read, check):
        # Points that miss their own pixels miss all others: what that looks like would name the wrong cause.
        return check
    chosen = _pairs(sorted(read), pairs, gap)
    _check_depth(read, chosen, check)
    if sequence.tracked and not sequence.static:
        _check_motion(sequence, read, chosen, quarantine, check)
    return check


def _check_times(times: Float[Tensor, "frames"], check: SequenceCheck) -> None:
    steps = times.diff()
    if not len(steps):
        return
    usual = float(steps.median())
    check.measures["seconds_between_frames"] = usual
    if bool((steps <= 0).any()):
        check.findings.append(f"frame {int((steps <= 0).nonzero()[0]) + 1} is no later than the one before it")
    for place in (steps > 1.75 * usual).nonzero()[:3, 0].tolist():
        gap = float(steps[place])
        check.findings.append(
            f"{gap:.3f} s lie between frames {place} and {place + 1}, where {usual:.3f} s are usual: "
            f"about {round(gap / usual) - 1} frames are missing"
        )


def _check_pictures(read: dict[int, Frame], check: SequenceCheck) -> None:
    seen: dict[bytes, int] = {}
    doubled = []
    for index, frame in read.items():
        digest = hashlib.sha256(frame.image.contiguous().numpy().tobytes()).digest()
        if digest in seen:
            doubled.append((seen[digest], index))
        seen.setdefault(digest, index)
    check.measures["doubled_frames"] = float(len(doubled))
    if doubled:
        first, second = doubled[0]
        check.findings.append(
            f"{len(doubled)} of {len(read)} frames are doubles, such as {second} of {first}: the very same picture"
        )
    empty = [index for index, frame in read.items() if not bool(frame.valid.any())]
    if empty:
        check.findings.append(f"frame {empty[0]} has no valid depth at all; so have {len(empty) - 1} others")


def _check_cameras(read: dict[int, Frame], check: SequenceCheck) -> None:
    numbers = sorted(read)
    c2w = torch.stack([read[index].c2w.double() for index in numbers])
    steps = invert_rigid(c2w[:-1]) @ c2w[1:]
    travel, turn = steps[:, :3, 3].norm(dim=1), rotation_angle(steps[:, :3, :3])
    usual = float(travel.median())
    check.measures |= {"camera_step": usual, "largest_turn_degrees": math.degrees(float(turn.max()))}
    for kind, jump in (("moves", travel > max(LARGEST_JUMP * usual, 1e-6)), ("turns", turn > LARGEST_TURN)):
        if usual > 0 and bool(jump.any()) and len(numbers) > 3:
            at = numbers[int(jump.nonzero()[0]) + 1]
            check.findings.append(f"the camera {kind} before frame {at} as nowhere else: a jump, or two recordings")


def _check_pixels(read: dict[int, Frame], check: SequenceCheck) -> bool:
    off = torch.stack([off_pixels(frame) for frame in read.values()])
    worst = off[off.norm(dim=1).argmax()]
    check.measures["off_pixel"] = float(worst.norm())
    if float(worst.norm()) > LARGEST_OFF_PIXEL:
        x, y = worst.tolist()
        half = abs(abs(x) - 0.5) < 0.1 and abs(abs(y) - 0.5) < 0.1
        hint = "pixel centres are at +0.5 here, was half a pixel left out?" if half else "points or cameras are wrong"
        check.findings.append(f"points project {x:+.2f}, {y:+.2f} pixels from the pixels they belong to: {hint}")
        return False
    return True


def _check_depth(read: dict[int, Frame], chosen: list[tuple[int, int]], check: SequenceCheck) -> None:
    """Most of a scene stands still, so that the median tells of cameras and depth, not of motion."""
    as_read = [carry(read[a], read[b]) for a, b in chosen]
    disagreement, overlap = _typical(as_read)
    check.measures |= {"depth_disagreement": disagreement, "overlap": overlap}
    worst = max(range(len(chosen)), key=lambda k: (as_read[k].relative, k))
    first, second = chosen[worst]
    title = f"depth of frame {first} in frame {second}"
    check.views.append(View(title, read[first], read[second], as_read[worst]))
    best, best_words = disagreement, ""
    # Where few pixels have depth, few land on another one that has.
    needed = ENOUGH_OVERLAP * sum(float(read[b].valid.double().mean()) for _, b in chosen) / len(chosen)
    for words, reading in READINGS.items():
        other, over = _typical([carry(read[a], read[b], reading) for a, b in chosen])
        check.measures[f"depth_disagreement_{reading}"] = other
        if over >= needed and (other < best or math.isnan(best)):
            best, best_words = other, words
    doubtful = math.isnan(disagreement) or disagreement > SMALLEST_DOUBT
    if best_words and doubtful and not best > CLEARLY_BETTER * disagreement:
        check.findings.append(
            f"depth carries over between frames to {disagreement:.2%} as read, to {best:.2%} otherwise: {best_words}"
        )
    elif math.isnan(disagreement) or disagreement > LARGEST_DISAGREEMENT:
        check.findings.append(
            f"depth does not carry over between frames: off by {disagreement:.2%} (median), worst from frame {first} "
            f"to {second}; poses, intrinsics, depth unit or the pairing of depth and pictures may be wrong"
        )


def _check_motion(
    sequence: DataSequence,
    read: dict[int, Frame],
    chosen: list[tuple[int, int]],
    quarantine: Quarantine,
    check: SequenceCheck,
) -> None:
    """Points at their own time against depth, and at the other frame's time against what that frame sees."""
    own_error, floating, landed, kept, rejected = [], [], [], 0, 0
    for a, b in chosen:
        moved = quarantine.attempt(lambda a=a, b=b: sequence.moved(a, read[a], [a, b]))  # type: ignore[misc]
        start, there = moved or (None, None)
        if start is None or there is None:
            continue
        both = start.valid & read[a].valid.flatten()[start.pixels]
        kept, rejected = kept + int(both.sum()), rejected + start.rejected
        here = read[a].points().view(-1, 3)[start.pixels]
        distance = (here - read[a].c2w[:3, 3]).norm(dim=-1).clamp_min(1e-9)
        own_error.append(((start.points - here).norm(dim=-1) / distance)[both])
        carried = land(*there.maps(read[a]), read[b])
        if bool(carried.seen.any()):
            floating.append(_in_front(carried.error, carried.seen))
            landed.append((floating[-1], a, b, carried))
    if kept + rejected:
        check.measures["rejected_points"] = rejected / (kept + rejected)
        if check.measures["rejected_points"] > LARGEST_REJECTED_SHARE:
            check.findings.append(
                f"{check.measures['rejected_points']:.0%} of the tracked points belie their own frame at its own time: "
                "tracks, boxes or coordinates belong to other frames or cameras"
            )
    errors = torch.cat(own_error) if own_error else torch.zeros(0)
    if len(errors):
        check.measures |= {"own_time_error": float(errors.median()), "own_time_wrong": _share(errors > IN_FRONT)}
        if check.measures["own_time_wrong"] > LARGEST_FLOATING_SHARE:
            check.findings.append(
                f"{check.measures['own_time_wrong']:.0%} of the tracked points lie over {IN_FRONT:.0%} of their "
                "distance from the depth of their own pixel: tracks, boxes or coordinates do not belong to this depth"
            )
    if landed:
        share, a, b, carried = max(landed, key=lambda one: one[:2])
        check.measures["floating_points"] = sum(floating) / len(floating)
        check.views.append(View(f"points of frame {a} moved to the time of frame {b}", read[a], read[b], carried))
        if check.measures["floating_points"] > LARGEST_FLOATING_SHARE:
            check.findings.append(
                f"{check.measures['floating_points']:.0%} of the moved points float in front of what the target frame "
                f"sees, worst from frame {a} to {b} ({share:.0%}): their motion is wrong, or belongs to other times"
            )


def _in_front(error: Float[Tensor, "height width"], seen: Bool[Tensor, "height width"]) -> float:
    """Points behind may be hidden, points in front may not."""
    return _share(error[seen] < -IN_FRONT)


def _share(which: Bool[Tensor, "points"]) -> float:
    return float(which.double().mean())


def _typical(carried: list[Carried]) -> tuple[float, float]:
    """Medians over pairs of the disagreement and the overlap; NaN where nothing overlaps."""
    relative = [one.relative for one in carried if not math.isnan(one.relative)]
    overlap = float(torch.tensor([one.overlap for one in carried]).median())
    return (float(torch.tensor(relative).median()) if relative else math.nan), overlap


def _pairs(numbers: list[int], count: int, gap: int) -> list[tuple[int, int]]:
    """Up to ``count`` pairs of the frames ``numbers``, ``gap`` of them apart, or as far as they go."""
    gap = min(gap, len(numbers) - 1)
    last = len(numbers) - 1 - gap
    starts = sorted({round(k * last / max(1, count - 1)) for k in range(count)})
    return [(numbers[start], numbers[start + gap]) for start in starts]

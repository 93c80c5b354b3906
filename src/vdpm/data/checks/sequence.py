"""One sequence held against itself. Every finding is a line that says what is wrong, where, and what it may be."""

import hashlib
import math

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.data.checks.carry import READINGS, Carried, carry, off_pixels, rescaled
from vdpm.data.checks.found import SequenceCheck, View
from vdpm.data.checks.motion import check_motion
from vdpm.data.checks.pairing import check_pairing
from vdpm.data.checks.readings import chance, rounding, typical_parts
from vdpm.data.frame import Frame
from vdpm.data.quarantine import Quarantine
from vdpm.data.sequence import DataSequence
from vdpm.geometry.rigid import invert_rigid, rotation_angle

LARGEST_DISAGREEMENT = 0.03
"""Relative difference of depth between frames above which no sensor's noise explains it. In a quarter of the picture it
must be smaller: things that move seldom fill more than the rest, and cameras that are wrong are so everywhere."""
LARGEST_CHANCE = 1e-3
"""Another reading counts when it is so unlikely that it explains the data better by chance."""
CLEARLY_BETTER = 0.5
"""Of the disagreement, for readings of data that are wrong as they are read."""
ENOUGH_OVERLAP = 0.2
"""A reading is looked at where this share of the pixels, times the share that has depth, land on others."""
SMALLEST_DOUBT = 0.005
"""Median difference below which other units are not asked for."""
UNITS = (2.0, 5.0, 10.0, 100.0, 1000.0)
"""By which depth and poses of data sets have been found to differ: millimetres, fifths of them, inches no more."""
LARGEST_OFF_PIXEL = 0.25
LARGEST_JUMP = 20.0
"""Steps of the camera, in medians of the sequence."""
LARGEST_TURN = math.radians(60)


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
    check_pairing(read, check)
    if sequence.tracked and not sequence.static:
        check_motion(sequence, read, chosen, quarantine, check)
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
    _check_doubled_depth(read, check)
    empty = [index for index, frame in read.items() if not bool(frame.valid.any())]
    if empty:
        check.findings.append(f"frame {empty[0]} has no valid depth at all; so have {len(empty) - 1} others")


def _check_doubled_depth(read: dict[int, Frame], check: SequenceCheck) -> None:
    """Depth that is the same to the bit though the camera has moved on."""
    seen: dict[bytes, int] = {}
    for index, frame in read.items():
        depth = frame.depth.masked_fill(~frame.valid, 0).contiguous()
        digest = hashlib.sha256(depth.numpy().tobytes()).digest()
        first = seen.setdefault(digest, index)
        same_place = torch.allclose(frame.c2w, read[first].c2w, rtol=0, atol=1e-6)
        if first != index and not same_place and bool(frame.valid.any()):
            check.findings.append(f"frame {index} has the very same depth as frame {first}, from another place")
            return


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
    """Most of a scene stands still, so that most of it tells of cameras and depth, not of motion."""
    as_read = [carry(read[a], read[b]) for a, b in chosen]
    disagreement, overlap = _typical(as_read)
    agreeing = typical_parts(as_read)
    quarter = float(agreeing[len(agreeing) // 4]) if len(agreeing) else disagreement
    check.measures |= {"depth_disagreement": disagreement, "overlap": overlap, "depth_disagreement_quarter": quarter}
    worst = max(range(len(chosen)), key=lambda k: (as_read[k].relative, k))
    first, second = chosen[worst]
    title = f"depth of frame {first} in frame {second}"
    check.views.append(View(title, read[first], read[second], as_read[worst]))
    if meant := _other_reading(read, chosen, as_read, check):
        other, words = meant
        now = "nowhere" if math.isnan(disagreement) else f"to {disagreement:.2%}"
        check.findings.append(f"depth carries over between frames {now} as read, to {other:.2%} {words}")
    elif math.isnan(disagreement) or quarter > LARGEST_DISAGREEMENT:
        check.findings.append(
            f"depth does not carry over between frames: off by {disagreement:.2%} (median), worst from frame {first} "
            f"to {second}; poses, intrinsics, depth unit or the pairing of depth and pictures may be wrong"
        )


def _other_reading(
    read: dict[int, Frame], chosen: list[tuple[int, int]], as_read: list[Carried], check: SequenceCheck
) -> tuple[float, str] | None:
    """The disagreement under the reading that explains the data better than they are read, and what it is; None where
    none does. Adds measures.

    Better is what chance does not explain; or, where depth does not carry over as it is read so that little is seen
    under both, what halves the disagreement.
    """
    disagreement = check.measures["depth_disagreement"]
    readings = [(f"otherwise: {words}", reading, 1.0) for words, reading in READINGS.items()]
    # Poses of a camera that hardly moves are noise, which any unit that makes them small explains better.
    if not disagreement <= SMALLEST_DOUBT:
        words = "if multiplied by {:g}: depth and poses are in different units"
        readings += [(words.format(factor), "", factor) for unit in UNITS for factor in (unit, 1 / unit)]
    # Where few pixels have depth, few land on another one that has.
    needed = ENOUGH_OVERLAP * sum(float(read[b].valid.double().mean()) for _, b in chosen) / len(chosen)
    wrong = math.isnan(disagreement) or check.measures["depth_disagreement_quarter"] > LARGEST_DISAGREEMENT
    rounded = [rounding(read[a]) for a, _ in chosen]
    found: list[tuple[float, float, str]] = []
    for words, reading, factor in readings:
        carried = [carry(rescaled(read[a], factor), rescaled(read[b], factor), reading) for a, b in chosen]
        other, over = _typical(carried)
        if reading:
            check.measures[f"depth_disagreement_{reading}"] = other
        if over < needed or math.isnan(other):
            continue
        likely = 1.0 if other >= disagreement else chance(as_read, carried, rounded) * len(readings)
        if likely < LARGEST_CHANCE or (wrong and not other > CLEARLY_BETTER * disagreement):
            found.append((min(likely, LARGEST_CHANCE), other, words))
    return min(found)[1:] if found else None


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

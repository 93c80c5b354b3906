"""Points at other times: against depth at their own time, and against what the other frame sees at its."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.data.checks.carry import land, nearer_than_all
from vdpm.data.checks.found import SequenceCheck, View
from vdpm.data.frame import Frame, MovedPoints
from vdpm.data.quarantine import Quarantine
from vdpm.data.sequence import DataSequence
from vdpm.geometry.pinhole import pixel_grid, project
from vdpm.geometry.rigid import invert_rigid, transform_points

IN_FRONT = 0.05
"""A point this much nearer than what the target frame sees in its place floats in the air: nothing can hide it."""
LARGEST_FLOATING_SHARE = 0.15
LARGEST_REJECTED_SHARE = 0.1
"""Of points with motion of their own; edges of objects account for a few in a hundred."""
MOVES = 0.02
"""A point moves that goes by more than this share of its distance from one frame of a pair to the other."""
FEWEST_MOVING = 40
LARGEST_ASTRAY_SHARE = 0.3
LARGEST_OFF_PIXEL = 0.25
FEWEST_OFF_PIXEL = 200


def check_motion(
    sequence: DataSequence,
    read: dict[int, Frame],
    chosen: list[tuple[int, int]],
    quarantine: Quarantine,
    check: SequenceCheck,
) -> None:
    """Adds measures and findings for the pairs ``chosen`` of the frames ``read``."""
    own_error, off, landed, kept, rejected = [], [], [], 0, 0
    moving, opposite, astray = [], [], []
    for a, b in chosen:
        moved = quarantine.attempt(lambda a=a, b=b: sequence.moved(a, read[a], [a, b]))  # type: ignore[misc]
        start, there = moved or (None, None)
        if start is None or there is None:
            continue
        both = start.valid & start.of(read[a].valid.flatten())
        kept, rejected = kept + int(both.sum()), rejected + start.rejected
        here = read[a].points_of(start.pixels)
        distance = (here - read[a].c2w[:3, 3]).norm(dim=-1).clamp_min(1e-9)
        own_error.append(((start.points - here).norm(dim=-1) / distance)[both])
        off.append(_off_pixels(start, read[a])[both])
        carried = land(*there.maps(read[a]), read[b])
        if bool(carried.seen.any()):
            landed.append((_share(carried.error[carried.seen] < -IN_FRONT), a, b, carried))
        way = there.points - start.points
        goes = both & there.valid & (way.norm(dim=-1) > MOVES * distance)
        astray.append(((start.points - here).norm(dim=-1) > 0.5 * way.norm(dim=-1))[goes])
        moving.append(nearer_than_all(there.points[goes], read[b], IN_FRONT))
        opposite.append(nearer_than_all((start.points - way)[goes], read[b], IN_FRONT))
    if kept + rejected:
        check.measures["rejected_points"] = rejected / (kept + rejected)
        if check.measures["rejected_points"] > LARGEST_REJECTED_SHARE:
            check.findings.append(
                f"{check.measures['rejected_points']:.0%} of the tracked points belie their own frame at its own time: "
                "tracks, boxes or coordinates belong to other frames or cameras"
            )
    if own_error:
        _check_own_time(torch.cat(own_error), torch.cat(off), torch.cat(astray), check)
    wrong_sign = bool(moving) and _check_sign(torch.cat(moving), torch.cat(opposite), check)
    if landed:
        share, a, b, carried = max(landed, key=lambda one: one[:2])
        check.measures["floating_points"] = sum(one[0] for one in landed) / len(landed)
        check.views.append(View(f"points of frame {a} moved to the time of frame {b}", read[a], read[b], carried))
        if check.measures["floating_points"] > LARGEST_FLOATING_SHARE and not wrong_sign:
            check.findings.append(
                f"{check.measures['floating_points']:.0%} of the moved points float in front of what the target frame "
                f"sees, worst from frame {a} to {b} ({share:.0%}): their motion is wrong, or belongs to other times"
            )


def _check_own_time(
    errors: Float[Tensor, "points"],
    off: Float[Tensor, "points 2"],
    astray: Bool[Tensor, "moving"],
    check: SequenceCheck,
) -> None:
    """``astray``: of the points that move, which lie farther from their own depth than half of their way."""
    if not len(errors):
        return
    check.measures |= {"own_time_error": float(errors.median()), "own_time_wrong": _share(errors > IN_FRONT)}
    if len(astray) >= FEWEST_MOVING:
        check.measures["moving_points_astray"] = _share(astray)
    if check.measures.get("moving_points_astray", 0) > LARGEST_ASTRAY_SHARE:
        check.findings.append(
            f"{check.measures['moving_points_astray']:.0%} of the points that move by themselves are not on the depth "
            "of their own frame at its time: tracks, boxes or coordinates belong to other times"
        )
    elif check.measures["own_time_wrong"] > LARGEST_FLOATING_SHARE:
        check.findings.append(
            f"{check.measures['own_time_wrong']:.0%} of the tracked points lie over {IN_FRONT:.0%} of their "
            "distance from the depth of their own pixel: tracks, boxes or coordinates do not belong to this depth"
        )
    if len(off) < FEWEST_OFF_PIXEL:
        return
    x, y = off.median(dim=0).values.tolist()
    check.measures["tracked_off_pixel"] = (x * x + y * y) ** 0.5
    if check.measures["tracked_off_pixel"] > LARGEST_OFF_PIXEL:
        check.findings.append(
            f"tracked points project {x:+.2f}, {y:+.2f} pixels from the middle of their pixels: pixel centres are at "
            "+0.5 here, half a pixel may be missing in tracks, coordinates or the principal point"
        )


def _check_sign(floating: Float[Tensor, "points"], opposite: Float[Tensor, "points"], check: SequenceCheck) -> bool:
    """Of the points that move by themselves alone, which may be few. NaN: not seen, nothing said. True where it says
    that they should go the opposite way."""
    told, other = floating[~floating.isnan()], opposite[~opposite.isnan()]
    if len(told) < FEWEST_MOVING:
        return False
    check.measures["moving_points_floating"] = share = float(told.mean())
    back = float(other.mean()) if len(other) else 1.0
    wrong = share > LARGEST_FLOATING_SHARE and back < 0.5 * share
    if wrong:
        check.findings.append(
            f"{share:.0%} of the points that move by themselves float in front of what the target frame sees, "
            f"{back:.0%} if they went the opposite way: their motion has the wrong sign"
        )
    elif share > 2 * LARGEST_FLOATING_SHARE:
        check.findings.append(
            f"{share:.0%} of the points that move by themselves float in front of what the target frame sees: "
            "their motion is wrong, or belongs to other times"
        )
    return wrong


def _off_pixels(start: MovedPoints, frame: Frame) -> Float[Tensor, "points 2"]:
    """How far points at their own time project from the middle of the pixels that they belong to."""
    local = transform_points(invert_rigid(frame.c2w.double()), start.points.double())
    pixels, _ = project(local, frame.intrinsics.double())
    centres = pixel_grid(frame.depth.shape[0], frame.depth.shape[1], dtype=torch.float64)
    return pixels - start.of(centres.view(-1, 2))


def _share(which: Bool[Tensor, "points"]) -> float:
    return float(which.double().mean()) if len(which) else 0.0

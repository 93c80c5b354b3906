"""Where moving points go: trails through the times, and arrows to the next one."""

from typing import Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from vdpm.export.colors import INFERNO, VIRIDIS, colorize, motion_colors
from vdpm.viewer.live.cloud import MovingPoints
from vdpm.viewer.live.look import Look, Painter

TrailColor = Literal["time", "speed"]
TRAIL_COLORS: tuple[TrailColor, ...] = get_args(TrailColor)

ARROW = 0.08
"""Of the scene's distance: about the length of the longest arrows, whatever the time from frame to frame."""
SHORTEST = 0.15
"""Of the longest: arrows that would be all head are left out."""
ROUND = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


class Segments(NamedTuple):
    """Pieces of lines, coloured at both ends."""

    points: Float32[np.ndarray, "segments 2 3"]
    colors: UInt8[np.ndarray, "segments 2 3"]


def trails(
    painter: Painter, look: Look, time: int, times: tuple[int, ...], length: int, color: TrailColor, count: int
) -> Segments:
    """The ways of at most ``count`` moving points, spread evenly, over the last ``length`` times up to ``time``; the
    whole way where ``length`` is 0. ``color``: by time, dark is early, or by speed.
    """
    loaded, stamps = painter.loaded, painter.loaded.reconstruction.timestamps.double().numpy()
    last = times.index(time)
    window = times if length == 0 else times[max(0, last - length) : last + 1]
    place = {frame: row / max(1, len(times) - 1) for row, frame in enumerate(times)}
    pieces, colors = [], []
    for part, rows in zip(loaded.moving, _chosen(painter, look, count)):
        along = [row for row, frame in enumerate(part.times) if frame in window]
        if len(rows) == 0 or len(along) < 2:
            continue
        way = part.moving.positions[along][:, rows]
        pieces.append(np.stack([way[:-1], way[1:]], axis=2).reshape(-1, 2, 3))
        if color == "time":
            share = np.array([place[part.times[row]] for row in along])
            ends = np.stack([share[:-1], share[1:]], axis=1)
            painted = colorize(ends, VIRIDIS)[:, None].repeat(len(rows), axis=1)
        else:
            seconds = np.maximum(np.diff(stamps[[part.times[row] for row in along]]), 1e-6)
            speed = np.linalg.norm(np.diff(way, axis=0), axis=2) / seconds[:, None]
            painted = colorize(0.25 + 0.75 * np.clip(speed / painter.full_speed, 0, 1), INFERNO)
            painted = painted[:, :, None].repeat(2, axis=2)
        colors.append(painted.reshape(-1, 2, 3))
    if not pieces:
        return Segments(np.zeros((0, 2, 3), dtype=np.float32), np.zeros((0, 2, 3), dtype=np.uint8))
    return Segments(np.concatenate(pieces).astype(np.float32), np.concatenate(colors))


def _chosen(painter: Painter, look: Look, count: int) -> list[Int[np.ndarray, "points"]]:
    """Of each part of the moving points, the rows that are drawn."""
    parts = [part.moving for part in painter.loaded.moving]
    kept = [np.flatnonzero(painter.shown(points, look)) for points in parts]
    total = sum(map(len, kept))
    step = max(1, -(-total // max(1, count)))
    start, found = 0, []
    for rows in kept:
        # One count over all parts, so that small parts have their share.
        found.append(rows[(-start) % step :: step])
        start += len(rows)
    return found


def arrow_factor(painter: Painter, times: tuple[int, ...]) -> int:
    """How much longer than the motion arrows are drawn, a round number: frames follow each other closely."""
    steps = [np.linalg.norm(painter.loaded.moving_at(time).step, axis=1) for time in times[:-1]]
    moved = np.concatenate(steps) if steps else np.zeros(0)
    longest = float(np.quantile(moved, 0.95)) if len(moved) else 0.0
    wanted = ARROW * painter.reach / max(longest, 1e-9)
    return max((number for number in ROUND if number <= wanted), default=1)


def flow_arrows(
    painter: Painter, moving: MovingPoints, count: int, factor: int
) -> tuple[Float32[np.ndarray, "arrows 2 3"], UInt8[np.ndarray, "arrows 3"]]:
    """Scene flow from this time to the next of at most ``count`` points, ``factor`` times as long. Colour is direction,
    as in the preview; pale is slow.
    """
    lengths = factor * np.linalg.norm(moving.step, axis=1)
    far = np.flatnonzero(lengths > SHORTEST * ARROW * painter.reach)
    far = far[:: max(1, -(-len(far) // max(1, count)))]
    start, way = moving.points.positions[0, far].astype(np.float64), moving.step[far]
    seconds = float(moving.seconds[0]) if len(moving.seconds) else 1.0
    colors = motion_colors(way, max(painter.full_speed * seconds, 1e-9))
    return np.stack([start, start + factor * way], axis=1).astype(np.float32), colors


def path_segments(points: Float[np.ndarray, "times 3"], colors: UInt8[np.ndarray, "times 3"]) -> Segments:
    """A line through points, each with its colour."""
    if len(points) < 2:
        return Segments(np.zeros((0, 2, 3), dtype=np.float32), np.zeros((0, 2, 3), dtype=np.uint8))
    return Segments(
        np.stack([points[:-1], points[1:]], axis=1).astype(np.float32), np.stack([colors[:-1], colors[1:]], axis=1)
    )

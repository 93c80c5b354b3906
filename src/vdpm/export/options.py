"""What an export takes out of a result, and how it turns and scales it."""

import math
from dataclasses import dataclass

from vdpm.errors import UsageError
from vdpm.export.axes import WORLD_AXES, Axes

MAX_SCALE = 1e9
"""From nanometres to light seconds; the formats' float32 has room for more."""
MAX_FRAME_NUMBER = 10**9
"""A video that runs since midnight has six digits; the formats count in 32 bits."""


@dataclass(frozen=True)
class ExportOptions:
    """Options shared by the formats; each takes those that its entry in ``formats`` names. None: the format's own.

    ``scale`` multiplies lengths. ``start``, ``end``: times of the video in seconds, both included; ``frames``: frame
    numbers of the result. ``sources``: the pixels of these frames alone become points. ``min_confidence``,
    ``drop_percent``, ``drop_sky`` and ``drop_edges`` choose points as ``motion.fuse`` does. ``stride`` takes every
    so-manieth pixel in x and y, by default the smallest that gives at most ``max_points``. ``tracks``: how many, at
    most, starting in frame ``track_source``. ``first_frame``: the number of the video's first frame in a program that
    counts frames.
    """

    axes: Axes | None = None
    scale: float = 1.0
    start: float | None = None
    end: float | None = None
    frames: tuple[int, ...] | None = None
    sources: tuple[int, ...] | None = None
    min_confidence: float = 1.0
    drop_percent: float = 10.0
    drop_sky: bool = False
    drop_edges: bool = False
    stride: int | None = None
    max_points: int | None = None
    tracks: int = 1000
    track_source: int | None = None
    first_frame: int = 1

    def __post_init__(self) -> None:
        if self.axes is not None and self.axes not in WORLD_AXES:
            raise UsageError(f"axes {self.axes!r} are unknown; there are {', '.join(WORLD_AXES)}")
        if not 1 / MAX_SCALE <= self.scale <= MAX_SCALE:
            raise UsageError(f"scale {self.scale:g} must be from {1 / MAX_SCALE:g} to {MAX_SCALE:g}")
        if abs(self.first_frame) > MAX_FRAME_NUMBER:
            raise UsageError(f"first_frame {self.first_frame} must be from -{MAX_FRAME_NUMBER} to {MAX_FRAME_NUMBER}")
        if not self.min_confidence >= 0:
            raise UsageError(f"min_confidence {self.min_confidence} must be at least 0; 1 is the least that occurs")
        if not 0 <= self.drop_percent < 100:
            raise UsageError(f"drop_percent {self.drop_percent} must be at least 0 and below 100")
        for name, value in (("stride", self.stride), ("max_points", self.max_points)):
            if value is not None and value < 1:
                raise UsageError(f"{name} {value} must be at least 1")
        if self.tracks < 0:
            raise UsageError(f"tracks {self.tracks} must be at least 0")
        for name, time in (("start", self.start), ("end", self.end)):
            if time is not None and math.isnan(time):
                raise UsageError(f"{name} {time} is no time; give seconds of the video")
        if self.start is not None and self.end is not None and not self.start <= self.end:
            raise UsageError(f"start {self.start} lies after end {self.end}; give seconds of the video")

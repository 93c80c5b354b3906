"""What the controls say."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from vdpm.viewer.live.look import Look
from vdpm.viewer.live.paths import TrailColor

PointsOf = Literal["all frames", "frame shown", "one frame"]
Layout = Literal["side by side", "first", "second", "together"]
POINTS_OF: tuple[PointsOf, ...] = get_args(PointsOf)
LAYOUTS: tuple[Layout, ...] = get_args(Layout)
SPEEDS = (0.1, 0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Settings:
    """``points_of``: the fused cloud; the frame shown, with all its pixels at its own time; or the pixels of frame
    ``source`` at every time. ``size``: of points, a factor. ``trail_length``: times back from the one shown, 0 the
    whole way. ``layout``: of two results.
    """

    playing: bool = False
    speed: float = 1.0
    loop: bool = True
    points_of: PointsOf = "all frames"
    source: int = 0
    look: Look = field(default_factory=Look)
    size: float = 1.0
    trails: bool = False
    trail_length: int = 0
    trail_color: TrailColor = "time"
    trail_count: int = 350
    arrows: bool = False
    arrow_count: int = 400
    cameras: bool = True
    follow: bool = False
    layout: Layout = "side by side"

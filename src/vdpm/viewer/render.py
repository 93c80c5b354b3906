"""Films and sheets of a result without a display: its points from any camera, or depth and motion of its frames."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from vdpm.errors import UsageError
from vdpm.progress import Report, silent
from vdpm.structures import Reconstruction
from vdpm.viewer.camera_moves import Move, along, around, through_the_video
from vdpm.viewer.choice import ChosenPoints, choose_points, content_box, patch_sides
from vdpm.viewer.confidence import least_shown
from vdpm.viewer.film import Picture, counted, write_film, write_sheet
from vdpm.viewer.map_pictures import MapPictures
from vdpm.viewer.splatting import draw_points

SHEET = ".png"
SHEET_TILES = 12
SHORTEST, LONGEST = 4.0, 20.0
"""Seconds of a film where none are asked for: as long as the clip within these."""
WIDE = 9 / 16
FULLER = 1.5
"""Points are drawn larger than what they stand for: discs that cover the squares they stand for."""


@dataclass(frozen=True)
class FilmOptions:
    """What is drawn and from where, see ``vdpm render --help``. ``camera``: a move by name, or a JSON file."""

    show: Literal["points", "depth", "motion"] = "points"
    camera: str | None = None
    seconds: float | None = None
    fps: float = 24.0
    size: int = 1280
    at: int | None = None
    beside: bool = False
    dark: bool = True
    max_points: int = 1_000_000
    min_confidence: float = 1.0
    hide_percent: float = 20.0

    def __post_init__(self) -> None:
        if not 64 <= self.size <= 7680:
            raise UsageError(f"--size {self.size} must be from 64 to 7680 pixels")
        if not 1 <= self.fps <= 120:
            raise UsageError(f"--fps {self.fps:g} must be from 1 to 120")
        if self.seconds is not None and not 0 < self.seconds <= 3600:
            raise UsageError(f"--seconds {self.seconds:g} must be above 0, and 3600 at most")
        if not 0 <= self.hide_percent <= 95:
            raise UsageError(f"--hide {self.hide_percent:g} must be from 0 to 95, a percentage of the points")
        if self.show != "points" and self.camera not in (None, "input"):
            raise UsageError(f"--show {self.show} is what the video's camera sees; leave out --camera {self.camera}")

    @property
    def background(self) -> tuple[int, int, int]:
        return (18, 19, 21) if self.dark else (255, 255, 255)


def render(reconstruction: Reconstruction, path: Path, options: FilmOptions, *, report: Report = silent) -> int:
    """Write a film (.mp4, .webm) or, for .png, a sheet of its pictures; returns how many there are.

    Raises UsageError for options that do not fit the result, InputError for a damaged map or camera path, OutputError
    where the file cannot be written.
    """
    sheet = path.suffix.lower() == SHEET
    times = reconstruction.maps.targets or reconstruction.maps.sources
    if options.at is not None and options.at not in times:
        raise UsageError(f"--at {options.at} is not among the times of this result, {times[0]} to {times[-1]}")
    moments = _moments(reconstruction, options, SHEET_TILES if sheet else None)
    draw = _points(reconstruction, options, report) if options.show == "points" else _maps(reconstruction, options)

    def pictures() -> Iterator[Picture]:
        for share, seconds in moments:
            pixels = draw(share, seconds)
            if options.beside:
                pixels = _beside(reconstruction, seconds, pixels)
            yield Picture(pixels, seconds)

    drawn = counted(pictures(), report, "drawing", len(moments))
    if not sheet:
        return write_film(path, drawn, options.fps)
    write_sheet(path, list(drawn), dark=options.dark)
    return len(moments)


Draw = Callable[[float, float], UInt8[np.ndarray, "height width 3"]]


def _moments(reconstruction: Reconstruction, options: FilmOptions, count: int | None) -> list[tuple[float, float]]:
    """Share of the film and second of the clip of each picture."""
    times = reconstruction.maps.targets or reconstruction.maps.sources
    stamps = reconstruction.timestamps.tolist()
    first, last = (stamps[times[0]], stamps[times[-1]]) if options.at is None else [stamps[options.at]] * 2
    clip = max(stamps) - min(stamps)
    seconds = min(max(clip, SHORTEST), LONGEST) if options.seconds is None else options.seconds
    count = max(1, round(seconds * options.fps)) if count is None else count
    shares = [n / max(1, count - 1) for n in range(count)]
    return [(share, first + share * (last - first)) for share in shares]


def _points(reconstruction: Reconstruction, options: FilmOptions, report: Report) -> Draw:
    choice = choose_points(
        reconstruction,
        max_points=options.max_points,
        max_frames=64,
        min_confidence=options.min_confidence,
        report=report,
    )
    least = least_shown(choice, options.hide_percent)
    still, moving = (points.select(points.confidence >= least) for points in (choice.still, choice.moving))
    stamps = reconstruction.timestamps.double().numpy()[list(choice.times or choice.sources)]
    move = _move(reconstruction, options, np.concatenate([still.positions[0], moving.positions[0]]))
    colors = np.concatenate([still.colors, moving.colors])

    def draw(share: float, seconds: float) -> UInt8[np.ndarray, "height width 3"]:
        moved = _interpolated(moving, stamps, seconds)
        positions = np.concatenate([still.positions[0], moved]).astype(np.float64)
        sides = [patch_sides(reconstruction, still, still.positions[0]), patch_sides(reconstruction, moving, moved)]
        return draw_points(move(share, seconds), positions, colors, FULLER * np.concatenate(sides), options.background)

    return draw


def _interpolated(moving: ChosenPoints, stamps: Float[np.ndarray, "times"], seconds: float) -> np.ndarray:
    """Positions at a moment, straight between the two times around it."""
    if len(moving.positions) < 2:
        return moving.positions[0]
    row = int(np.clip(np.searchsorted(stamps, seconds, side="right") - 1, 0, len(stamps) - 2))
    mix = np.clip((seconds - stamps[row]) / max(stamps[row + 1] - stamps[row], 1e-9), 0, 1).astype(np.float32)
    return (1 - mix) * moving.positions[row] + mix * moving.positions[row + 1]


def _move(reconstruction: Reconstruction, options: FilmOptions, points: np.ndarray) -> Move:
    camera = options.camera or "turntable"
    wide = (round(options.size * WIDE), options.size)
    if camera == "input":
        return through_the_video(reconstruction, content_box(reconstruction), _video_size(reconstruction, options.size))
    if camera in ("turntable", "swing"):
        home = reconstruction.cameras.c2w[reconstruction.reference].double().numpy()
        return around(points.astype(np.float64), home, wide, full=camera == "turntable")
    if Path(camera).suffix.lower() != ".json":
        raise UsageError(f"--camera {camera} is not turntable, swing, input, or a JSON file with a path")
    return along(Path(camera), wide)


def _video_size(reconstruction: Reconstruction, longer: int) -> tuple[int, int]:
    """(height, width) in the shape of the video."""
    left, top, right, bottom = content_box(reconstruction)
    scale = longer / max(right - left, bottom - top)
    return max(2, round((bottom - top) * scale)), max(2, round((right - left) * scale))


def _maps(reconstruction: Reconstruction, options: FilmOptions) -> Draw:
    """Depth, or motion from each time to the next, of the kept frame nearest in time."""
    maps, stamps = reconstruction.maps, reconstruction.timestamps.double().numpy()
    pictures = MapPictures(reconstruction, "depth" if options.show == "depth" else "motion")
    height, width = _video_size(reconstruction, options.size)
    drawn: dict[int, np.ndarray] = {}

    def draw(share: float, seconds: float) -> UInt8[np.ndarray, "height width 3"]:
        frame = min(maps.sources, key=lambda source: abs(stamps[source] - seconds))
        if frame not in drawn:
            picture = Image.fromarray(pictures.draw(frame))
            drawn.clear()
            drawn[frame] = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC))
        return drawn[frame]

    return draw


def _beside(reconstruction: Reconstruction, seconds: float, pixels: np.ndarray) -> UInt8[np.ndarray, "height all 3"]:
    """The video's frame nearest in time to the left of the picture, equally high."""
    stamps = reconstruction.timestamps.double().numpy()
    left, top, right, bottom = content_box(reconstruction)
    frame = reconstruction.frames[int(np.abs(stamps - seconds).argmin()), top:bottom, left:right].numpy()
    height = pixels.shape[0]
    width = max(2, round(frame.shape[1] * height / frame.shape[0]))
    scaled = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC))
    return np.concatenate([scaled, pixels], axis=1)

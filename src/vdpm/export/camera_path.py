"""The cameras of a result as other programs describe them: frame numbers, frames per second, lens and film."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from vdpm.export.axes import Axes, CameraAxes, turn_cameras
from vdpm.export.options import ExportOptions
from vdpm.export.selection import chosen_frames
from vdpm.structures import Reconstruction

FILM_WIDTH = 36.0
"""Width of the film in mm, that of a 35 mm camera. Only focal length over film width shows in a picture."""
DEFAULT_RATE = 24.0
"""Frames per second where a single frame tells none."""
SNAP = 0.05
"""Containers round times to milliseconds; a frame number so near to a whole one is whole."""

UNSTEADY = 0.25
"""Frames by which one of a steady video may lie off its place: rounded times, no more."""
MAX_RATE = 240.0
"""Frames per second that the shortest gap may ask for. Beyond it lie faulty times, not cameras."""


@dataclass(frozen=True, eq=False)
class Lens:
    """Focal lengths, film sizes and shifts in mm, one a frame. Positive shifts move the film right and up."""

    focal: Float[np.ndarray, "frames"]
    width: float
    height: Float[np.ndarray, "frames"]
    shift_x: Float[np.ndarray, "frames"]
    shift_y: Float[np.ndarray, "frames"]


@dataclass(frozen=True, eq=False)
class CameraPath:
    """Cameras of the chosen frames. ``c2w``: a camera of ``camera_axes`` to the world in the export's axes.

    ``seconds``: from the start of the video. ``numbers``: the video's frame numbers at those times, fractional where
    the video's frames are not evenly spaced; ``indices``: the frames' places in the video as whole numbers. Both count
    from ``options.first_frame``. ``rate``: frames per second of the video.

    ``intrinsics`` are in pixels of the network's image, of ``size`` (height, width); ``plate_intrinsics`` in those of
    the video, of ``plate_size``, which has no padding.
    """

    frames: tuple[int, ...]
    seconds: Float[np.ndarray, "frames"]
    numbers: Float[np.ndarray, "frames"]
    indices: Int[np.ndarray, "frames"]
    rate: float
    c2w: Float[np.ndarray, "frames 4 4"]
    intrinsics: Float[np.ndarray, "frames 3 3"]
    size: tuple[int, int]
    plate_intrinsics: Float[np.ndarray, "frames 3 3"]
    plate_size: tuple[int, int]

    @classmethod
    def choose(
        cls, reconstruction: Reconstruction, options: ExportOptions, axes: Axes, camera_axes: CameraAxes
    ) -> "CameraPath":
        """The chosen frames' cameras. UsageError when none is chosen."""
        frames = chosen_frames(reconstruction, options)
        chosen = list(frames)
        rate = source_rate(reconstruction)
        seconds = reconstruction.timestamps.double().numpy()[chosen]
        c2w = reconstruction.cameras.c2w.double().numpy()[chosen]
        intrinsics = reconstruction.cameras.intrinsics.double()[chosen]
        return cls(
            frames=frames,
            seconds=seconds,
            numbers=frame_numbers(seconds, rate, options.first_frame),
            indices=reconstruction.frame_indices.numpy()[chosen] + options.first_frame,
            rate=rate,
            c2w=turn_cameras(c2w, axes, camera_axes, options.scale),
            intrinsics=intrinsics.numpy(),
            size=reconstruction.size,
            plate_intrinsics=reconstruction.transform.intrinsics_to_source(intrinsics).numpy(),
            plate_size=reconstruction.transform.source_size,
        )

    def __len__(self) -> int:
        return len(self.frames)

    def lens(self) -> Lens:
        """Film of ``FILM_WIDTH`` that shows exactly the video's picture through each camera, so that the video itself
        can lie behind the points.
        """
        (height, width), k = self.plate_size, self.plate_intrinsics
        focal = FILM_WIDTH * k[:, 0, 0] / width
        millimetres = focal / k[:, 1, 1]
        return Lens(
            focal=focal,
            width=FILM_WIDTH,
            height=height * millimetres,
            shift_x=(width / 2 - k[:, 0, 2]) * FILM_WIDTH / width,
            shift_y=(k[:, 1, 2] - height / 2) * millimetres,
        )


def source_rate(reconstruction: Reconstruction) -> float:
    """Frames per second of the source video, from the places and times of the frames taken.

    Of a steady video it is that of the whole span, since containers round each time (a gap of 33 ms says 30.3), and
    the usual rate it comes from where one is so near that no frame of the span would be missed by it. Where frames are
    not evenly spaced it is the median, or that of the shortest gap where two frames would else share a number.
    """
    places = reconstruction.frame_indices.double().numpy()
    seconds = reconstruction.timestamps.double().numpy()
    usable = (np.diff(places) > 0) & (np.diff(seconds) > 0)
    if not usable.any():
        return DEFAULT_RATE
    span = float(seconds[-1] - seconds[0])
    rate = float((places[-1] - places[0]) / span) if span > 0 else math.inf
    if not float(np.abs((seconds - seconds[0]) * rate - (places - places[0])).max()) <= UNSTEADY:
        return _uneven_rate(np.diff(places)[usable], np.diff(seconds)[usable])
    usual = min((round(rate), round(1.001 * rate) / 1.001), key=lambda one: abs(one - rate))
    return float(usual) if usual and abs(usual - rate) * span < SNAP else rate


def _uneven_rate(places: Float[np.ndarray, "gaps"], seconds: Float[np.ndarray, "gaps"]) -> float:
    """Of a video whose frames taken lie ``places`` frames and ``seconds`` apart."""
    usual = float(np.median(places / seconds))
    numbers = np.round(np.cumsum([0.0, *seconds]) * usual)
    if (np.diff(numbers) > 0).all():
        return usual
    # Rounded, since differences of seconds are off in their last digits: 24.9999999.
    return max(usual, min(MAX_RATE, round(1 / float(seconds.min()), 3)))


def frame_numbers(seconds: Float[np.ndarray, "n"], rate: float, first_frame: int) -> Float[np.ndarray, "n"]:
    """Seconds of the video -> frame numbers at ``rate``, the first frame being ``first_frame``."""
    numbers = seconds * rate + first_frame
    whole = np.round(numbers)
    return np.where(np.abs(numbers - whole) < SNAP, whole, numbers)

"""The cameras of a result as other programs describe them: frame numbers, frames per second, lens and film."""

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
    """

    frames: tuple[int, ...]
    seconds: Float[np.ndarray, "frames"]
    numbers: Float[np.ndarray, "frames"]
    indices: Int[np.ndarray, "frames"]
    rate: float
    c2w: Float[np.ndarray, "frames 4 4"]
    intrinsics: Float[np.ndarray, "frames 3 3"]
    size: tuple[int, int]

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
        return cls(
            frames=frames,
            seconds=seconds,
            numbers=frame_numbers(seconds, rate, options.first_frame),
            indices=reconstruction.frame_indices.numpy()[chosen] + options.first_frame,
            rate=rate,
            c2w=turn_cameras(c2w, axes, camera_axes, options.scale),
            intrinsics=reconstruction.cameras.intrinsics.double().numpy()[chosen],
            size=reconstruction.size,
        )

    def __len__(self) -> int:
        return len(self.frames)

    def lens(self) -> Lens:
        """Film of ``FILM_WIDTH`` that shows exactly the network's image through each camera."""
        (height, width), k = self.size, self.intrinsics
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
    """Frames per second of the source video, from the places and times of the frames taken; the median."""
    places = np.diff(reconstruction.frame_indices.double().numpy())
    seconds = np.diff(reconstruction.timestamps.double().numpy())
    usable = (places > 0) & (seconds > 0)
    return float(np.median(places[usable] / seconds[usable])) if usable.any() else DEFAULT_RATE


def frame_numbers(seconds: Float[np.ndarray, "n"], rate: float, first_frame: int) -> Float[np.ndarray, "n"]:
    """Seconds of the video -> frame numbers at ``rate``, the first frame being ``first_frame``."""
    numbers = seconds * rate + first_frame
    whole = np.round(numbers)
    return np.where(np.abs(numbers - whole) < SNAP, whole, numbers)

"""A file or a folder of images -> ``Video``: a budget of frames, upright, at the network's size, with true times."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Num, UInt8
from numpy.typing import ArrayLike
from torch import Tensor

from vdpm.errors import InputError, UsageError
from vdpm.geometry.image_transform import ImageTransform, Size
from vdpm.image_files import (
    IMAGE_SUFFIXES,
    ImageFiles,
    check_no_address,
    check_regular,
    images_of_folder,
    images_of_pattern,
    is_folder,
    is_pattern,
)
from vdpm.structures import Video
from vdpm.video_file import VideoFile

DEFAULT_LONG_SIDE = 224
"""Long side of a 16:9 picture when no size is asked for; other shapes get as many pixels."""

DEFAULT_AREA = DEFAULT_LONG_SIDE * 128

DEFAULT_IMAGE_FPS = 24.0
"""Images carry no times. A rate that is usual for films is assumed and said so in ``Video.notes``."""

Source = str | Path | Sequence[str | Path]
Fit = Literal["pad", "crop", "stretch"]


def read_video(
    source: Source,
    *,
    fps: float | int | None = None,
    start: float | int | None = None,
    end: float | int | None = None,
    max_frames: int | None = 16,
    size: int | None = None,
    fit: str = "pad",
    multiple: int = 8,
    image_fps: float | int = DEFAULT_IMAGE_FPS,
) -> Video:
    """Read a video (mp4, mov, mkv, webm, gif, ...), a folder of images in natural order, an image, a pattern of
    image names ("dir/*.color.jpg", natural order too), or a list of images.

    ``start`` and ``end`` (seconds from the first frame, ``end`` left out) cut; ``fps`` then thins to at most that rate;
    ``max_frames`` is the budget: when more frames are left, it takes that many, evenly in time (None: all). ``size`` is
    the long side in pixels (by default as many pixels as 224 x 128), rounded, as the other side is, to ``multiple``.
    ``fit``: ``pad`` keeps everything and the aspect, ``crop`` fills the picture, ``stretch`` fills it and gives up the
    aspect. ``image_fps``: frames a second of images.

    Decodes as a stream: no more than one frame is held at the size of the source. ``Video.notes`` says what was taken
    and what was found. Raises InputError for what cannot be read and UsageError for arguments out of range.
    """
    _check_arguments(fps, start, end, max_frames, size, fit, multiple, image_fps)
    frames_of = _open(source, float(image_fps))
    name = str(source) if isinstance(source, str | Path) else f"list of {len(source)} images"
    for _ in range(2):
        transform = choose_transform(frames_of.size, frames_of.pixel_aspect, size=size, fit=fit, multiple=multiple)
        chosen = choose_frames(frames_of.times, fps=fps, start=start, end=end, max_frames=max_frames, name=name)
        frames = [_fit(picture, transform) for picture in frames_of.frames(chosen)]
        if len(frames) == len(chosen):
            break
        # A frame that its packet promised did not decode: find out which ones do, and choose among those.
        assert isinstance(frames_of, VideoFile)
        frames_of.survey_by_decoding()
    else:
        raise InputError(f"{source}: its frames decode differently each time; convert it, for example to an H.264 mp4")
    times = frames_of.times
    notes = (
        _choice_note(times, chosen),
        *_size_notes(transform),
        *frames_of.notes,
        *frames_of.closing_notes(),
    )
    return Video(
        frames=torch.stack(frames),
        timestamps=torch.tensor([times[index] for index in chosen], dtype=torch.float64),
        frame_indices=torch.tensor(chosen, dtype=torch.long),
        transform=transform,
        name=frames_of.name,
        notes=notes,
    )


def video_from_frames(
    frames: UInt8[np.ndarray, "frames height width 3"]
    | UInt8[Tensor, "frames height width 3"]
    | Sequence[UInt8[np.ndarray, "height width 3"]],
    *,
    fps: float | int | None = None,
    timestamps: Sequence[float | int] | Num[np.ndarray, "frames"] | Num[Tensor, "frames"] | None = None,
    size: int | None = None,
    fit: str = "pad",
    multiple: int = 8,
    name: str = "frames",
    pixel_aspect: float = 1.0,
) -> Video:
    """Pictures in memory, from a camera or another program: all of them, RGB, 8 bit, of one size.

    ``timestamps``: seconds, ascending, by any clock (the video's begin with 0); or ``fps`` of evenly spaced ones.
    ``pixel_aspect``: width over height of a pixel (a video's sample aspect ratio). The rest as for ``read_video``.
    Raises UsageError for what does not fit.
    """
    _check_arguments(fps, None, None, None, size, fit, multiple, DEFAULT_IMAGE_FPS)
    if len(frames) == 0:
        raise UsageError("there are no frames; give at least one")
    pictures = [np.asarray(frame) for frame in frames]
    shapes = {picture.shape for picture in pictures}
    if len(shapes) > 1 or pictures[0].ndim != 3 or pictures[0].shape[2] != 3:
        raise UsageError(f"frames of shape {', '.join(map(str, sorted(shapes)))} must all be (height, width, 3), RGB")
    if any(picture.dtype != np.uint8 for picture in pictures):
        raise UsageError(f"frames of {pictures[0].dtype} must be uint8, 0 to 255")
    if (fps is None) == (timestamps is None):
        raise UsageError("give either fps or timestamps (seconds, one a frame)")
    times = np.arange(len(pictures)) / fps if fps is not None else np.asarray(timestamps, dtype=np.float64)
    if times.shape != (len(pictures),) or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
        raise UsageError(f"timestamps must be {len(pictures)} ascending numbers of seconds, one a frame")
    height, width = pictures[0].shape[:2]
    transform = choose_transform((height, width), size=size, fit=fit, multiple=multiple, pixel_aspect=pixel_aspect)
    return Video(
        frames=torch.stack([_fit(np.ascontiguousarray(picture), transform) for picture in pictures]),
        timestamps=torch.from_numpy(times - times[0]),
        frame_indices=torch.arange(len(pictures)),
        transform=transform,
        name=name,
        notes=(f"took all {len(pictures)} frames, given in memory", *_size_notes(transform)),
    )


def part_of(video: Video, first: int, stop: int, number: int, parts: int) -> Video:
    """Frames ``first`` to before ``stop``, named as part ``number`` (from 0) of ``parts``."""
    return replace(
        video,
        frames=video.frames[first:stop],
        timestamps=video.timestamps[first:stop],
        frame_indices=video.frame_indices[first:stop],
        name=f"{video.name}, scene {number + 1} of {parts}",
        notes=(*video.notes, f"scene {number + 1} of {parts}: frames {first} to {stop - 1} of those taken"),
    )


def choose_frames(
    times: Sequence[float],
    *,
    fps: float | int | None = None,
    start: float | int | None = None,
    end: float | int | None = None,
    max_frames: int | None = None,
    name: str = "video",
) -> list[int]:
    """Indices, ascending, of the frames to take from frames shown at ``times`` (seconds, ascending).

    Takes those with start <= time < end, thins them to at most ``fps`` a second, and of what is left takes
    ``max_frames`` evenly spaced in time. Raises InputError when the range holds no frame.
    """
    seconds = np.asarray(times, dtype=np.float64)
    first, last = start or 0.0, math.inf if end is None else end
    # A microsecond of slack: times are whole ticks, arguments are decimal fractions.
    kept = np.flatnonzero((seconds >= first - 1e-6) & (seconds < last - 1e-6))
    if kept.size == 0:
        span = f"from {first:g} s" + ("" if end is None else f" to {end:g} s")
        raise InputError(f"{name}: has no frame {span}; its frames run from 0 s to {seconds[-1]:.2f} s")
    if fps is not None:
        kept = kept[_thin(seconds[kept], fps)]
    if max_frames is not None and kept.size > max_frames:
        kept = kept[_spread(seconds[kept], max_frames)]
    return [int(index) for index in kept]


def choose_transform(
    source_size: Size, pixel_aspect: float = 1.0, *, size: int | None = None, fit: str = "pad", multiple: int = 8
) -> ImageTransform:
    """How pictures of ``source_size`` (height, width) come to the network's size; see ``read_video``.

    Raises UsageError for a ``size`` below ``multiple``, or a ``pixel_aspect`` that is none.
    """
    _check_size(size, multiple)
    if not (math.isfinite(pixel_aspect) and pixel_aspect > 0):
        raise UsageError(f"pixel_aspect {pixel_aspect:g} must be a finite number above 0 (width over height)")
    height, width = source_size[0], source_size[1] * pixel_aspect
    if size is None:
        aspect = max(height, width) / min(height, width)
        # No more than twice the usual length, however narrow the picture.
        size = round(min(math.sqrt(DEFAULT_AREA * aspect), 2 * DEFAULT_LONG_SIDE))
    if fit == "pad":
        return ImageTransform.long_side(source_size, size, multiple, pixel_aspect)
    scale = size / max(height, width)
    output = (
        max(1, round(height * scale / multiple)) * multiple,
        max(1, round(width * scale / multiple)) * multiple,
    )
    if fit == "crop":
        return ImageTransform.fill_crop(source_size, output, pixel_aspect)
    return ImageTransform.stretch(source_size, output, pixel_aspect)


def _open(source: Source, image_fps: float) -> VideoFile | ImageFiles:
    if isinstance(source, str | Path):
        path = Path(source)
        check_no_address(path)
        if is_pattern(path):
            return ImageFiles(images_of_pattern(path), path.resolve().parent.name, image_fps)
        if is_folder(path):
            return ImageFiles(images_of_folder(path), path.resolve().name, image_fps)
        check_regular(path)
        if path.suffix.lower() in IMAGE_SUFFIXES:
            return ImageFiles([path], path.stem, image_fps)
        return VideoFile(path)
    if not all(isinstance(item, str | Path) for item in source):
        raise UsageError("frames in memory are no files; vdpm.video_from_frames(frames, fps=...) makes a video of them")
    paths = [Path(item) for item in source]
    if not paths:
        raise InputError("the list of images is empty; give at least one image")
    return ImageFiles(paths, paths[0].resolve().parent.name or paths[0].stem, image_fps)


def _fit(picture: np.ndarray, transform: ImageTransform) -> torch.Tensor:
    image = torch.from_numpy(picture).permute(2, 0, 1)
    return transform.apply(image).permute(1, 2, 0).contiguous()


def _thin(times: np.ndarray, fps: float | int) -> np.ndarray:
    """Indices of the first frame in each beat of a clock of ``fps`` that starts with the first frame."""
    beats = np.floor((times - times[0]) * fps + 1e-6)
    return np.unique(beats, return_index=True)[1]


def _nearest(times: np.ndarray, wanted: ArrayLike) -> np.ndarray:
    """For each wanted time, the index of the nearest of ``times`` (ascending); the earlier of two."""
    wanted = np.asarray(wanted)
    after = np.searchsorted(times, wanted).clip(1, max(1, times.size - 1))
    if times.size == 1:
        return np.zeros(wanted.shape, dtype=np.int64)
    return after - (wanted - times[after - 1] <= times[after] - wanted)


def _spread(times: np.ndarray, count: int) -> np.ndarray:
    """``count`` distinct indices of ``times``, as even in time as the times allow."""
    chosen = np.unique(_nearest(times, np.linspace(times[0], times[-1], count) if count > 1 else times[:1]))
    while chosen.size < count:
        # Times were uneven and two ticks fell on one frame: add the frame that is farthest from those taken.
        distance = np.abs(times - times[chosen][_nearest(times[chosen], times)])
        distance[chosen] = -1
        chosen = np.sort(np.append(chosen, distance.argmax()))
    return chosen


def _choice_note(times: Sequence[float], chosen: list[int]) -> str:
    gaps = np.diff([times[index] for index in chosen])
    # Steps of one and of two frames come of an even spread; what differs more, of a video's own uneven times.
    uneven = gaps.size > 0 and gaps.max() > 2.1 * gaps.min()
    apart = f"; {gaps.min():.2f} to {gaps.max():.2f} s apart" if uneven else ""
    if len(chosen) == len(times):
        return f"took all {len(times)} frames{apart}" if len(times) > 1 else "took its only frame"
    listed = [str(index) for index in chosen]
    if len(listed) > 6:
        listed = [*listed[:3], "...", listed[-1]]
    if gaps.size > 0 and not uneven:
        apart = f"; {gaps.mean():.2f} s apart"
    return f"took {len(chosen)} of {len(times)} frames: {', '.join(listed)}{apart}"


def _size_notes(transform: ImageTransform) -> list[str]:
    height, width = transform.source_size
    resized, output = transform.resized_size, transform.output_size
    note = f"resized from {width} x {height} to {resized[1]} x {resized[0]}"
    if resized != output:
        verb = "cropped" if min(transform.offset) < 0 else "padded"
        note += f", {verb} to {output[1]} x {output[0]}"
    return [note] if resized != transform.source_size or resized != output else []


def _check_arguments(
    fps: float | int | None,
    start: float | int | None,
    end: float | int | None,
    max_frames: int | None,
    size: int | None,
    fit: str,
    multiple: int,
    image_fps: float | int,
) -> None:
    for name, rate in (("fps", fps), ("image_fps", image_fps)):
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise UsageError(f"{name} {rate:g} must be a number above 0")
    if start is not None and not (math.isfinite(start) and start >= 0):
        raise UsageError(f"start {start:g} must be a number of seconds, 0 or more")
    if end is not None and not end > (start or 0):
        raise UsageError(f"end {end:g} must lie after start {start or 0:g} (seconds)")
    if max_frames is not None and max_frames < 1:
        raise UsageError(f"max_frames {max_frames} must be at least 1")
    if multiple < 1:
        raise UsageError(f"multiple {multiple} must be at least 1")
    _check_size(size, multiple)
    if fit not in ("pad", "crop", "stretch"):
        raise UsageError(f"fit {fit!r} is unknown; use pad, crop or stretch")


def _check_size(size: int | None, multiple: int) -> None:
    if size is not None and size < multiple:
        raise UsageError(f"size {size} must be at least {multiple}, the multiple of both sides")

"""Frames and true times of a video file, through PyAV (FFmpeg's libraries).

A file is read twice: once for the times of its frames, without decoding, and once for the wanted frames. Frames come
out one at a time, upright, in 8 bit RGB at the size of the source; alpha is laid over white.
"""

import bisect
import math
import statistics
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vdpm.errors import InputError

if TYPE_CHECKING:
    import av
    import av.container

MAX_PIXELS = 64 * 2**20
"""Largest picture that is read, in pixels: twice 8K video. Larger ones are refused before decoding."""

_FORMATS = "mov,mp4,matroska,webm,gif,avi,mpegts,mpeg,mpegvideo,flv,ogg,asf,m4v,h264,hevc,ivf,apng"
"""Demuxers that may open a file. Playlists and scripts of other demuxers can point at other files and hosts."""

_SEEK_GAIN = 12
"""Frames that a jump to a key frame must save; below that, decoding on is as fast."""

_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}


class VideoFile:
    """One video stream of a file. ``times``: seconds from its first frame, one a frame, in the order shown.

    ``size``: (height, width) of the upright picture. ``pixel_aspect``: width over height of its pixels. ``notes``: what
    was found on the way. Raises InputError for files that hold no video that can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.stem
        self.notes: list[str] = []
        self.damaged = False
        self.times: list[float] = []
        self._pts: list[int] | None = []
        self._keys: list[int] = []
        self._expected = 0
        self._declared_seconds: float | None = None
        self._last_seconds = 0.0
        with self._open() as (container, stream):
            self._check_stream(stream)
            self._seekable = container.format.name.startswith(("mov", "matroska")) and stream.codec.name != "gif"
            self._survey_packets(container, stream)
        with self._open() as (container, stream):
            first = next(self._decode(container, stream), None)
            if first is None:
                raise InputError(f"{path}: none of its frames can be decoded; convert it, for example to an H.264 mp4")
            self._inspect(first, stream)
        if not self.times:
            self.survey_by_decoding()

    def survey_by_decoding(self) -> None:
        """Take the times from the decoded frames, where packets carry no times or frames are damaged."""
        self._pts, self.times, self.damaged = None, [], False
        with self._open() as (container, stream):
            step = 1 / float(stream.average_rate or stream.guessed_rate or 25)
            for frame in self._decode(container, stream):
                stamp = frame.pts if frame.pts is not None else frame.dts
                base = frame.time_base
                time = None if stamp is None or base is None else float(stamp * base)
                if self.times and (time is None or time <= self.times[-1]):
                    time = self.times[-1] + step
                self.times.append(time or 0.0)
        self.times = [time - self.times[0] for time in self.times]

    def frames(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Pictures [height, width, 3] of the frames ``indices`` (ascending). Ends early at one that does not decode."""
        import av

        with self._open() as (container, stream):
            if self._pts is None:
                wanted, last = set(indices), indices[-1]
                for position, frame in enumerate(self._decode(container, stream)):
                    if position in wanted:
                        yield self._upright_rgb(frame)
                    if position == last:
                        return
                return
            decoded = self._decode(container, stream)
            next_index = 0
            for index in indices:
                # Frames before the first key frame, as a cut stream has them, can only be reached from the start.
                place = bisect.bisect_right(self._keys, self._pts[index])
                key = self._keys[place - 1] if place else self._pts[0]
                if self._seekable and bisect.bisect_left(self._pts, key) - next_index > _SEEK_GAIN:
                    try:
                        container.seek(key, stream=stream)
                    except av.FFmpegError:
                        return
                    decoded = self._decode(container, stream)
                found = next((frame for frame in decoded if frame.pts is None or frame.pts >= self._pts[index]), None)
                if found is None or found.pts != self._pts[index]:
                    return
                yield self._upright_rgb(found)
                next_index = index + 1

    def closing_notes(self) -> list[str]:
        """What is known of damage once the frames were read."""
        notes = []
        step = statistics.median(b - a for a, b in zip(self.times, self.times[1:])) if len(self.times) > 1 else 0.0
        length = self.times[-1] + max(step, self._last_seconds)
        missing = (self._declared_seconds or 0.0) - length
        if self._expected > len(self.times):
            notes.append(f"the file ends early: {len(self.times)} of {self._expected} frames could be read")
        elif not self._expected and missing > max(0.25, 3 * step) and step > 0:
            about = round((length + missing) / length * len(self.times))
            notes.append(f"the file ends early: {len(self.times)} of about {about} frames could be read")
        elif self.damaged:
            notes.append("damaged parts of the file were skipped")
        return notes

    @contextmanager
    def _open(self) -> Iterator[tuple["av.container.InputContainer", Any]]:
        import av

        try:
            # file: keeps names with a colon from being taken for the name of a protocol.
            container = av.open(
                f"file:{self.path.absolute()}",
                container_options={"format_whitelist": _FORMATS, "protocol_whitelist": "file"},
                metadata_errors="replace",
            )
        except av.EOFError:
            raise InputError(self._without_frames()) from None
        except (av.FFmpegError, OSError) as error:
            raise InputError(self._unreadable(error)) from None
        with container:
            pictures = [stream for stream in container.streams.video if not _is_cover(stream)]
            if not pictures:
                found = "only audio" if container.streams.audio else "no video stream"
                raise InputError(
                    f"{self.path}: holds {found}; give a video (mp4, mov, mkv, webm, gif) or a folder of images"
                )
            stream = pictures[0]
            if stream.codec_context is None:
                raise InputError(f"{self.path}: its codec is unknown here; convert it, for example to an H.264 mp4")
            stream.thread_type = "AUTO"
            yield container, stream

    def _without_frames(self) -> str:
        return f"{self.path}: a video without a single frame; record or convert it again"

    def _unreadable(self, error: Exception) -> str:
        with self.path.open("rb") as file:
            head = file.read(12)
        if head[4:8] == b"ftyp":
            return f"{self.path}: cut off before its index (moov), so nothing of it can be read; copy it again in full"
        reason = getattr(error, "strerror", None) or type(error).__name__
        return (
            f"{self.path}: not a video that can be read ({reason}); "
            "give an mp4, mov, mkv, webm or gif, or a folder of images"
        )

    def _check_stream(self, stream: Any) -> None:
        width, height = stream.codec_context.width, stream.codec_context.height
        if width * height > MAX_PIXELS:
            raise InputError(
                f"{self.path}: its picture of {width} x {height} is above the limit of "
                f"{MAX_PIXELS / 1e6:.0f} million pixels; make it smaller first"
            )

    def _survey_packets(self, container: Any, stream: Any) -> None:
        stamps: list[int | None] = []
        keys: list[int] = []
        packets = dropped = 0
        last = -math.inf
        for packet in self._packets(container, stream):
            if packet.size == 0:
                continue
            packets += 1
            if packet.is_discard or packet.is_corrupt:
                dropped += packet.is_discard
                continue
            stamps.append(packet.pts)
            if packet.pts is not None and packet.pts >= last:
                last, self._last_seconds = packet.pts, float((packet.duration or 0) * stream.time_base)
            if packet.is_keyframe and packet.pts is not None:
                keys.append(packet.pts)
        if packets == 0:
            raise InputError(self._without_frames())
        self._expected = stream.frames - dropped if stream.frames > len(stamps) + dropped else 0
        self._declared_seconds = _declared_seconds(container, stream)
        known = sorted({stamp for stamp in stamps if stamp is not None})
        if len(known) < len(stamps):
            return
        self._pts, self._keys = known, sorted(keys)
        self.times = [float((stamp - known[0]) * stream.time_base) for stamp in known]

    def _inspect(self, first: "av.VideoFrame", stream: Any) -> None:
        self._coded_size = (first.height, first.width)
        self._check_stream(stream)
        self._turn = _display_turn(first)
        swap, flip_x, flip_y = self._turn
        self.size = (first.width, first.height) if swap else (first.height, first.width)
        if any(self._turn):
            self.notes.append(_turn_note(swap, flip_x, flip_y))
        aspect = float(stream.sample_aspect_ratio or 1)
        # Beyond this the flag is broken rather than the picture anamorphic.
        aspect = aspect if 0.2 < aspect < 5 else 1.0
        if abs(aspect - 1) > 1e-3:
            self.notes.append(f"its pixels are {stream.sample_aspect_ratio} wide to high; they were made square")
        self.pixel_aspect = 1 / aspect if swap else aspect
        transfer = _HDR_TRANSFERS.get(int(first.color_trc))
        if transfer:
            self.notes.append(f"its light is coded as HDR ({transfer}), which was not tone-mapped: colours look flat")
        if _has_alpha(first) and _array(first, "rgba")[..., 3].min() < 255:
            self.notes.append("its transparent parts were laid over white")

    def _packets(self, container: Any, stream: Any) -> Iterator[Any]:
        import av

        try:
            yield from container.demux(stream)
        except av.FFmpegError:
            self.damaged = True

    def _decode(self, container: Any, stream: Any) -> Iterator["av.VideoFrame"]:
        """Frames that decode cleanly, from where ``container`` stands on, in the order shown."""
        import av

        for packet in self._packets(container, stream):
            if packet.is_corrupt:
                self.damaged = True
                continue
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self.damaged = True
                continue
            for frame in frames:
                if frame.is_corrupt:
                    self.damaged = True
                else:
                    yield frame

    def _upright_rgb(self, frame: "av.VideoFrame") -> np.ndarray:
        if (frame.height, frame.width) != self._coded_size:
            height, width = self._coded_size
            raise InputError(
                f"{self.path}: its picture changes from {width} x {height} to {frame.width} x {frame.height}; "
                "read a part of one size with --start and --end, or convert it"
            )
        picture = over_white(_array(frame, "rgba")) if _has_alpha(frame) else _array(frame, "rgb24")
        swap, flip_x, flip_y = self._turn
        if swap:
            picture = picture.transpose(1, 0, 2)
        return np.ascontiguousarray(picture[:: -1 if flip_y else 1, :: -1 if flip_x else 1])


def over_white(rgba: np.ndarray) -> np.ndarray:
    """8 bit RGBA [height, width, 4] laid over white, to the nearest of 256 steps."""
    alpha = rgba[..., 3:].astype(np.uint16)
    mixed = rgba[..., :3] * alpha + 255 * (255 - alpha)
    return ((mixed + 127) // 255).astype(np.uint8)


def _array(frame: "av.VideoFrame", pixel_format: str) -> np.ndarray:
    """8 bit pixels by swscale, which heeds the frame's matrix and range.

    Its fast path, the default, darkens 4:2:0 by more than one of 256 steps and differs between processors.
    """
    from av.video.reformatter import Interpolation

    accurate = Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT | Interpolation.BITEXACT
    return frame.to_ndarray(format=pixel_format, interpolation=Interpolation.BILINEAR | accurate)


def _has_alpha(frame: "av.VideoFrame") -> bool:
    return any(component.is_alpha for component in frame.format.components) or frame.format.name == "pal8"


def _is_cover(stream: Any) -> bool:
    """Whether the stream is the cover picture of a piece of music."""
    import av.stream

    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _declared_seconds(container: Any, stream: Any) -> float | None:
    """How long the stream should be. None where the file says so only for streams of other kinds."""
    tag = next((value for key, value in stream.metadata.items() if key.upper().startswith("DURATION")), None)
    if tag is not None:
        hours, minutes, seconds = tag.split(":") if tag.count(":") == 2 else ("0", "0", "0")
        try:
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
        except ValueError:
            return None
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return container.duration / 1e6
    return None


def _display_turn(frame: "av.VideoFrame") -> tuple[bool, bool, bool]:
    """What the display matrix asks for, to the nearest quarter turn: swap x and y, then mirror x, then mirror y.

    The matrix [[a, b, u], [c, d, v], [x, y, w]] shows the pixel (x, y) at (a x + c y, b x + d y) up to a shift
    (libavutil/display.h).
    """
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(bytes(data)[:20], dtype=np.int32).tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def _turn_note(swap: bool, flip_x: bool, flip_y: bool) -> str:
    names = {
        (True, True, False): "turned clockwise by 90 degrees",
        (True, False, True): "turned counterclockwise by 90 degrees",
        (False, True, True): "turned by 180 degrees",
        (False, True, False): "mirrored left to right",
        (False, False, True): "mirrored top to bottom",
        (True, False, False): "mirrored at the diagonal",
        (True, True, True): "mirrored at the other diagonal",
    }
    return f"{names[swap, flip_x, flip_y]}, as the file asks"

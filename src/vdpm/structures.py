"""The plain data of the package: no I/O, no network.

Conventions (``docs/conventions.md`` has the whole page): OpenCV axes (x right, y down, z forward); the world is the
camera of the reference view, pi_0; ``c2w`` and ``w2c`` are 4 x 4 and named for their direction; intrinsics are in
pixels of the image that the network saw, pixel centres at +0.5; ``source`` is the frame whose pixels a map holds,
``target`` the frame whose time it is shown at; timestamps are seconds.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from vdpm.display import show
from vdpm.errors import UsageError
from vdpm.geometry.image_transform import ImageTransform
from vdpm.geometry.rigid import invert_rigid

CONVENTIONS: dict[str, str] = {
    "axes": "OpenCV: x right, y down, z forward",
    "world": "the camera of the reference view (pi_0)",
    "scale": "arbitrary: the network's unit, about the mean distance of the scene's points from the reference camera",
    "c2w": "4 x 4, camera to world; w2c is its inverse",
    "intrinsics": "3 x 3, pixels of the network's image, pixel centres at +0.5",
    "source": "index of the frame whose pixels a map holds (i)",
    "target": "index of the frame whose time a map is shown at (j)",
    "timestamps": "seconds from the start of the source video",
    "P": "time-variant maps P_i(t_i, pi_0)",
    "Q": "time-invariant maps P_i(t_j, pi_0)",
    "confidence": "at least 1, larger is surer",
}


def told(data: Any) -> str:
    """Plain data in one line: of a tensor its numbers' format and its shape."""
    held = data._asdict() if hasattr(data, "_asdict") else vars(data)
    said = (
        f"{name}={str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
        if isinstance(value, Tensor)
        else f"{name}={value!r}"
        for name, value in held.items()
        if value is not None
    )
    return f"{type(data).__name__}({', '.join(said)})"


@dataclass(frozen=True, eq=False)
class Video:
    """Frames of a video as the network sees them, with their true times.

    ``frames``: RGB, 8 bit. ``timestamps``: seconds from the start of the source. ``frame_indices``: where each frame
    stands in the source (0 is its first frame). ``transform`` maps source pixels to pixels of ``frames``.
    ``notes`` tells in plain lines what reading did (frames chosen, rotation applied, damage found).
    """

    frames: UInt8[Tensor, "frames height width 3"]
    timestamps: Float[Tensor, "frames"]
    frame_indices: Int[Tensor, "frames"]
    transform: ImageTransform
    name: str = "video"
    notes: tuple[str, ...] = ()
    __repr__ = told

    def __len__(self) -> int:
        return self.frames.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.frames.shape[1], self.frames.shape[2]

    def images(self) -> Float[Tensor, "frames 3 height width"]:
        """RGB in [0, 1], the network's input."""
        return self.frames.permute(0, 3, 1, 2).float() / 255.0


@dataclass(frozen=True, eq=False)
class Cameras:
    """Pinhole cameras, one a frame. ``c2w``: camera to world; ``intrinsics``: pixels of an image of ``size`` (h, w)."""

    c2w: Float[Tensor, "*batch frames 4 4"]
    intrinsics: Float[Tensor, "*batch frames 3 3"]
    size: tuple[int, int]
    __repr__ = told

    def __len__(self) -> int:
        return self.c2w.shape[-3]

    @property
    def w2c(self) -> Float[Tensor, "*batch frames 4 4"]:
        """World to camera, the inverse of ``c2w``."""
        return invert_rigid(self.c2w)

    @property
    def centers(self) -> Float[Tensor, "*batch frames 3"]:
        """Camera centres in the world."""
        return self.c2w[..., :3, 3]


class PointMap(NamedTuple):
    """One map: the 3D point of each pixel of a source frame, in the world, and how sure it is (>= 1)."""

    points: Float[Tensor, "height width 3"]
    confidence: Float[Tensor, "height width"]

    def __repr__(self) -> str:
        return told(self)


@dataclass(frozen=True, eq=False)
class DynamicPointMaps:
    """Dynamic point maps, Eqs. (1) to (3), for any subset of targets and sources, read one map at a time.

    All N x N maps of a long clip do not fit in memory, so maps are fetched through ``read``: ``read(None, i)`` is
    P_i(t_i, pi_0), ``read(j, i)`` is P_i(t_j, pi_0). ``targets`` and ``sources`` hold frame indices.
    ``seen_together(i)``: the targets that the network saw beside frame i (None: all).
    """

    num_frames: int
    size: tuple[int, int]
    targets: tuple[int, ...]
    sources: tuple[int, ...]
    read: Callable[[int | None, int], PointMap] = field(repr=False)
    seen_together: Callable[[int], tuple[int, ...]] | None = field(default=None, repr=False)

    @classmethod
    def from_tensors(
        cls,
        time_variant: Float[Tensor, "sources height width 3"],
        time_variant_confidence: Float[Tensor, "sources height width"],
        points: Float[Tensor, "targets sources height width 3"],
        confidence: Float[Tensor, "targets sources height width"],
        *,
        num_frames: int,
        targets: tuple[int, ...],
        sources: tuple[int, ...],
    ) -> "DynamicPointMaps":
        """Maps held in memory; ``targets[k]`` is the frame index of row k of ``points``, ``sources`` likewise."""
        row_of_target = {frame: row for row, frame in enumerate(targets)}
        row_of_source = {frame: row for row, frame in enumerate(sources)}

        def read(target: int | None, source: int) -> PointMap:
            column = row_of_source[source]
            if target is None:
                return PointMap(time_variant[column].float(), time_variant_confidence[column].float())
            row = row_of_target[target]
            return PointMap(points[row, column].float(), confidence[row, column].float())

        size = (int(time_variant.shape[1]), int(time_variant.shape[2]))
        return cls(num_frames=num_frames, size=size, targets=targets, sources=sources, read=read)

    def time_variant(self, source: int) -> PointMap:
        """P_i(t_i, pi_0): the pixels of frame ``source`` at their own time. Raises UsageError for a frame not kept."""
        self._check("source", source, self.sources)
        return self.read(None, source)

    def time_invariant(self, target: int, source: int) -> PointMap:
        """P_i(t_j, pi_0): pixels of ``source`` (i) at the time of ``target`` (j). UsageError if it is not kept."""
        self._check("source", source, self.sources)
        self._check("target", target, self.targets)
        return self.read(target, source)

    def at(self, target: int, source: int) -> PointMap:
        """The pixels of ``source`` at the time of ``target``: P where it is the frame's own time, else Q."""
        if target == source:
            return self.time_variant(source)
        return self.time_invariant(target, source)

    def together(self, source: int) -> tuple[int, ...]:
        """Targets whose maps of ``source`` come straight from the network. In a clip of several windows the others are
        reached through points that travel from window to window, and are less sure."""
        return self.targets if self.seen_together is None else self.seen_together(source)

    def _check(self, name: str, frame: int, kept: tuple[int, ...]) -> None:
        if frame not in kept:
            raise UsageError(
                f"{name} {frame} is not in this result, which keeps {_ranges(kept)} of {self.num_frames} frames; "
                f"reconstruct again with --{name}s {frame} or all"
            )


@dataclass(frozen=True, eq=False)
class Tracks:
    """World points of chosen pixels of frame ``source`` at several times.

    ``queries``: pixel positions (x, y) in the source frame, centres at +0.5. ``targets``: frame indices of the times.
    ``points``: world positions. ``visible``: whether the point is seen in the frame of that time. ``confidence``: >= 1.
    """

    source: int
    queries: Float[Tensor, "tracks 2"]
    targets: tuple[int, ...]
    points: Float[Tensor, "targets tracks 3"]
    pixels: Float[Tensor, "targets tracks 2"]
    visible: Bool[Tensor, "targets tracks"]
    confidence: Float[Tensor, "targets tracks"]
    __repr__ = told


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Coloured points in the world. ``source`` and ``pixels`` (x, y; centres at +0.5): the pixel each comes from."""

    points: Float[Tensor, "points 3"]
    colors: UInt8[Tensor, "points 3"]
    confidence: Float[Tensor, "points"]
    source: Int[Tensor, "points"]
    pixels: Float[Tensor, "points 2"]
    __repr__ = told

    def __len__(self) -> int:
        return self.points.shape[0]

    def select(self, which: Tensor) -> "PointCloud":
        """The points that an index or a mask names."""
        return PointCloud(**{name: value[which] for name, value in vars(self).items()})


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What the network says of one video: frames, times, cameras and dynamic point maps, all in the world of pi_0.

    ``frames`` are the network's images (RGB, 8 bit); ``frame_indices`` where they stand in the source video;
    ``transform`` maps source pixels to theirs. ``content`` marks pixels that show the video (False where padded).
    ``provenance`` says what made it: package version, model, hash, options, time taken.
    """

    frames: UInt8[Tensor, "frames height width 3"]
    timestamps: Float[Tensor, "frames"]
    frame_indices: Int[Tensor, "frames"]
    cameras: Cameras
    maps: DynamicPointMaps
    transform: ImageTransform
    reference: int = 0
    name: str = "video"
    provenance: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.frames.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the maps in pixels."""
        return self.frames.shape[1], self.frames.shape[2]

    @property
    def content(self) -> Bool[Tensor, "height width"]:
        """True where a pixel shows the video, False where it was padded."""
        return self.transform.content_mask()

    def __repr__(self) -> str:
        height, width = self.size
        held = f"{len(self)} frames of {width} x {height}, points at {len(self.maps.targets)} times"
        return f"<Reconstruction of {self.name}: {held}, {self.provenance.get('model', 'unknown model')}>"

    def show(self, **options: Any) -> Any:
        """The page to look around in, as a notebook's last line; ``vdpm.notebook.page_view`` has the options."""
        return show("page", self, **options)

    def _repr_html_(self) -> str:
        return show("html", self)


@dataclass(frozen=True, eq=False)
class Snippet:
    """A short clip, or a batch of clips, with ground truth; what data readers, the scene generator and losses share.

    The world is the camera of frame ``reference``. ``targets[k]`` is the frame whose time ``target_points[k]`` shows
    (one list per clip). ``valid`` marks pixels with ground truth at their own time, ``target_valid`` those with ground
    truth at the target's (None: as ``valid``). ``dynamic`` marks pixels whose point moves in the world during the clip.
    ``instances`` numbers the object seen (0: background). ``visible`` marks pixels whose point the target frame sees;
    ``sky`` those known to show nothing at any distance (None: unknown).
    Points, and translations of ``c2w``, are in the data's own unit; ``unit_mean_distance`` in geometry scales them.
    """

    images: Float[Tensor, "*batch frames 3 height width"]
    timestamps: Float[Tensor, "*batch frames"]
    c2w: Float[Tensor, "*batch frames 4 4"]
    intrinsics: Float[Tensor, "*batch frames 3 3"]
    points: Float[Tensor, "*batch frames height width 3"]
    targets: Int[Tensor, "*batch targets"]
    target_points: Float[Tensor, "*batch targets frames height width 3"]
    valid: Bool[Tensor, "*batch frames height width"]
    dynamic: Bool[Tensor, "*batch frames height width"]
    target_valid: Bool[Tensor, "*batch targets frames height width"] | None = None
    instances: Int[Tensor, "*batch frames height width"] | None = None
    visible: Bool[Tensor, "*batch targets frames height width"] | None = None
    sky: Bool[Tensor, "*batch frames height width"] | None = None
    reference: int = 0
    __repr__ = told

    FRAME_AXES: ClassVar[dict[str, int]] = {
        **{"images": -4, "timestamps": -1, "c2w": -3, "intrinsics": -3, "points": -4, "target_points": -4},
        **{"valid": -3, "dynamic": -3, "target_valid": -3, "instances": -3, "visible": -3, "sky": -3},
    }
    """Which axis of each tensor counts the frames, from the end; ``targets`` has none."""
    TARGET_AXES: ClassVar[dict[str, int]] = {"targets": -1, "target_points": -5, "target_valid": -4, "visible": -4}
    """Which axis counts the targets."""

    @property
    def num_frames(self) -> int:
        return self.images.shape[-4]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.images.shape[-2], self.images.shape[-1]

    def clip(self, row: int) -> "Snippet":
        """One clip of a batch, without the batch axis."""
        tensors: dict[str, Any] = {n: value[row] for n, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)

    def to(self, device: torch.device | str) -> "Snippet":
        """The same snippet with all tensors on ``device``."""
        tensors: dict[str, Any] = {n: value.to(device) for n, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)


def evenly(frames: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of ``frames``, evenly spread, the first and the last among them."""
    if len(frames) <= count:
        return list(frames)
    return [frames[round(k * (len(frames) - 1) / (count - 1))] for k in range(count)]


def _ranges(frames: tuple[int, ...]) -> str:
    """'0-4, 9' for (0, 1, 2, 3, 4, 9)."""
    if not frames:
        return "none"
    parts: list[list[int]] = []
    for frame in sorted(frames):
        if parts and frame == parts[-1][1] + 1:
            parts[-1][1] = frame
        else:
            parts.append([frame, frame])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in parts)

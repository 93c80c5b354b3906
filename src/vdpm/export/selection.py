"""What of a result is exported: frames in a range of time, points followed through it, tracks on a grid."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.export.axes import Axes, turn_points
from vdpm.export.options import ExportOptions
from vdpm.geometry.pinhole import pixel_grid
from vdpm.motion import depth, fuse, tracks
from vdpm.progress import Report, silent
from vdpm.structures import PointCloud, Reconstruction, Tracks

MAX_PLACES = 5_000_000
"""Points times times of a moving cloud unless the options say otherwise: 60 MB of positions."""

READING = "reading maps"


def chosen_frames(reconstruction: Reconstruction, options: ExportOptions) -> tuple[int, ...]:
    """Frames of the result within ``start`` to ``end`` and among ``frames``. UsageError when there is none."""
    times = reconstruction.timestamps.tolist()
    start = -math.inf if options.start is None else options.start
    end = math.inf if options.end is None else options.end
    wanted = range(len(times)) if options.frames is None else options.frames
    for frame in wanted:
        if frame >= len(times):
            raise UsageError(f"frame {frame} is not in this result, which has frames 0 to {len(times) - 1}")
    # Half a microsecond: a time typed as printed shall include its frame.
    chosen = tuple(frame for frame in wanted if start - 5e-7 <= times[frame] <= end + 5e-7)
    if not chosen:
        raise UsageError(
            f"no frame lies from {start:g} to {end:g} s; this result goes from {times[0]:.3f} to {times[-1]:.3f} s"
        )
    return chosen


def chosen_times(reconstruction: Reconstruction, options: ExportOptions) -> tuple[int | None, ...]:
    """Kept targets among the chosen frames; (None,), each frame at its own time, for a result that keeps no target.

    Raises UsageError when targets are kept but none of them is chosen, or one is asked for by number and not kept.
    """
    targets = reconstruction.maps.targets
    frames = chosen_frames(reconstruction, options)
    if not targets:
        return (None,)
    missing = [frame for frame in frames if frame not in targets]
    if missing and (options.frames is not None or len(missing) == len(frames)):
        raise UsageError(f"the time of frame {missing[0]} is not kept; reconstruct again with --targets all")
    return tuple(frame for frame in frames if frame in targets)


def chosen_sources(reconstruction: Reconstruction, options: ExportOptions) -> tuple[int, ...]:
    """Kept sources among the chosen frames. UsageError when there is none."""
    frames = chosen_frames(reconstruction, options)
    sources = tuple(frame for frame in frames if frame in reconstruction.maps.sources)
    if not sources:
        raise UsageError(f"frame {frames[0]} is not among the sources of this result; reconstruct with --sources all")
    return sources


def chosen_cloud(
    reconstruction: Reconstruction, target: int | None, options: ExportOptions, max_points: int
) -> PointCloud:
    """All kept sources at the time of ``target``, at most ``max_points`` unless the options say otherwise.

    Raises UsageError when the options leave no point.
    """
    cloud = fuse(
        reconstruction,
        target,
        sources=options.sources,
        min_confidence=options.min_confidence,
        drop_percent=options.drop_percent,
        drop_sky=options.drop_sky,
        drop_edges=options.drop_edges,
        stride=options.stride,
        max_points=options.max_points or max_points,
    )
    if len(cloud) == 0:
        if options.stride is not None and options.stride > 1:
            few, less = f" among every {options.stride} pixels", "--stride or "
        else:
            few, less = "", ""
        if options.drop_sky or options.drop_edges:
            raise UsageError(
                f"no point{few} is left; leave out --drop-sky and --drop-edges, or lower {less}--min-confidence"
            )
        raise UsageError(f"no point{few} has a confidence of {options.min_confidence:g}; lower {less}--min-confidence")
    return cloud


@dataclass(frozen=True, eq=False)
class MovingCloud:
    """The same points of the scene at every chosen time, in the world in ``axes``.

    Chosen by the confidence of P, since a point is the pixel of one frame. ``times``: frame numbers; None stands for
    each source at its own time. ``seconds``: of each time, from the start of the video. ``widths``: side of the patch
    of surface that a point stands for, in the exported unit. Positions are read when asked for (``at``).
    """

    reconstruction: Reconstruction
    times: tuple[int | None, ...]
    seconds: Float[np.ndarray, "times"]
    colors: UInt8[np.ndarray, "points 3"]
    source: Int[np.ndarray, "points"]
    pixel: Int[np.ndarray, "points"]
    widths: Float[np.ndarray, "points"]
    axes: Axes
    scale: float

    @classmethod
    def choose(
        cls, reconstruction: Reconstruction, options: ExportOptions, axes: Axes, max_points: int
    ) -> "MovingCloud":
        """At most ``max_points`` points, and ``MAX_PLACES`` places, unless the options say otherwise.

        Raises UsageError when the options leave none.
        """
        times = chosen_times(reconstruction, options)
        cloud = chosen_cloud(reconstruction, None, options, min(max_points, max(1, MAX_PLACES // len(times))))
        width = reconstruction.size[1]
        x, y = cloud.pixels.long().unbind(-1)
        pixel, focal = y * width + x, reconstruction.cameras.intrinsics[:, 0, 0].double()
        sources = _in_order(cloud.source)
        near = torch.cat([depth(reconstruction, source).flatten()[pixel[cloud.source == source]] for source in sources])
        # Neighbours along a row are one stride apart.
        step = np.diff(np.unique(x.numpy())).min(initial=width)
        return cls(
            reconstruction=reconstruction,
            times=times,
            seconds=reconstruction.timestamps.numpy()[[reconstruction.reference if t is None else t for t in times]],
            colors=cloud.colors.numpy(),
            source=cloud.source.numpy(),
            pixel=pixel.numpy(),
            widths=(near.double().clamp(min=0) / focal[cloud.source] * int(step) * options.scale).float().numpy(),
            axes=axes,
            scale=options.scale,
        )

    def __len__(self) -> int:
        return len(self.pixel)

    def at(
        self, row: int, report: Report = silent
    ) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, "points"]]:
        """Positions and confidence at ``times[row]``; maps are read one at a time."""
        maps, time = self.reconstruction.maps, self.times[row]
        points, confidence = [], []
        sources = _in_order(torch.from_numpy(self.source))
        for done, source in enumerate(sources):
            report(READING, row * len(sources) + done, len(self.times) * len(sources))
            point_map = maps.time_variant(source) if time is None else maps.at(time, source)
            chosen = self.pixel[self.source == source]
            points.append(point_map.points.flatten(0, 1).numpy()[chosen])
            confidence.append(point_map.confidence.flatten().numpy()[chosen])
        report(READING, (row + 1) * len(sources), len(self.times) * len(sources))
        return turn_points(np.concatenate(points), self.axes, self.scale), np.concatenate(confidence)

    def note(self) -> str:
        """How many points at how many times, in one line."""
        if self.times == (None,):
            return f"{len(self):,} points, each frame's at its own time: the result keeps no other times"
        return f"{len(self):,} points at {len(self.times)} time{'s' * (len(self.times) != 1)}"


def _in_order(source: Int[Tensor, "points"]) -> list[int]:
    """The sources of a cloud, whose points lie together, in the order in which they lie."""
    return torch.unique_consecutive(source).tolist()


def grid_tracks(reconstruction: Reconstruction, options: ExportOptions) -> Tracks | None:
    """At most ``options.tracks`` tracks from an even grid over one frame, at all chosen times; None where none is left.

    They start at sure pixels (as ``fuse`` chooses them) of ``options.track_source``, by default the reference frame or
    the first source. None also for a result that keeps no times.
    """
    times = [time for time in chosen_times(reconstruction, options) if time is not None]
    if not options.tracks or not times:
        return None
    sources, source = reconstruction.maps.sources, options.track_source
    if source is None:
        source = reconstruction.reference if reconstruction.reference in sources else sources[0]
    if source not in sources:
        raise UsageError(f"tracks cannot start in frame {source}: the sources are {', '.join(map(str, sources))}")
    start = fuse(
        reconstruction,
        None,
        sources=(source,),
        min_confidence=options.min_confidence,
        drop_percent=options.drop_percent,
        drop_sky=options.drop_sky,
        drop_edges=options.drop_edges,
    )
    height, width = reconstruction.size
    sure = torch.zeros(height, width, dtype=torch.bool)
    x, y = start.pixels.long().unbind(-1)
    sure[y, x] = True
    step = max(1, math.ceil(math.sqrt(len(start) / options.tracks)))
    grid = torch.zeros_like(sure)
    grid[step // 2 :: step, step // 2 :: step] = True
    queries = pixel_grid(height, width)[sure & grid]
    if len(queries) > options.tracks:
        queries = queries[torch.linspace(0, len(queries) - 1, options.tracks).round().long()]
    return tracks(reconstruction, source, queries, tuple(times)) if len(queries) else None

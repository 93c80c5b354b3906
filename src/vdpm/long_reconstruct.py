"""A long video to a reconstruction: window after window to disk, then all of them into one world (Sec. 4.2)."""

import hashlib
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from vdpm.archive import (
    ReconstructionWriter,
    StoredWindow,
    WindowEntry,
    WindowStore,
    check_output,
    hold,
    load,
    store_folder,
)
from vdpm.cost import Forecast, check_alignment, forecast, result_bytes
from vdpm.geometry.pinhole import square_pixels
from vdpm.geometry.rigid import invert_rigid
from vdpm.long_video.alignment import BELIEVED, Alignment, align, sharpen
from vdpm.long_video.joining import Joined, join_windows, most_tied
from vdpm.long_video.likeness import find_loops, thumbnails
from vdpm.long_video.observations import Observations, WindowMaps, observe
from vdpm.long_video.priors import Priors
from vdpm.long_video.windows import Window, WindowConfig, plan_windows, with_times
from vdpm.model import VDPM, Mirrored
from vdpm.progress import Report, silent
from vdpm.provenance import cameras_by, lens_by, made_by, measurements, timed
from vdpm.structures import Cameras, PointMap, Reconstruction, Video

Times = Literal["auto", "all", "none"] | Sequence[int]


@dataclass(frozen=True, eq=False)
class LongPlan:
    """A checked task of several windows: frames in memory, the network on its device, windows and their times.

    ``square``: as in ``clip_reconstruct.Plan``; known intrinsics are kept as they are. On disk windows keep what the
    network said, so that a run may be taken up without it.
    """

    video: Video
    model: VDPM
    model_name: str
    wanted: Times
    sources: tuple[int, ...]
    reference: int
    times_per_step: int
    config: WindowConfig
    priors: Priors = field(default_factory=Priors)
    seconds: dict[str, float] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    square: bool = True

    def __post_init__(self) -> None:
        self.priors.check(len(self.video))
        self.windows.extend(self._windows())

    @property
    def targets(self) -> tuple[int, ...]:
        """Times that the result will keep."""
        return self._kept_times(self.windows)

    def lines(self) -> list[str]:
        """The windows, one a line."""
        lines = [window.line(number) for number, window in enumerate(self.windows)]
        if most := most_tied(self.windows, self.config):
            lines.append(f"      up to {most} more, where the cameras found see a place again")
        return lines

    def bytes_on_disk(self) -> float:
        """Of the result."""
        runs = [window for window in self.windows if window.kind == "run"]
        maps = sum(len(self._shown(w)) + len(w.targets) * len(w.moved) for w in runs)
        return result_bytes(self.video, maps, len(runs))

    def forecast(self, *, trial: bool = False, there: Collection[int] = ()) -> Forecast:
        """Memory and disk of the run; with ``trial`` also its time, from a few frames through the network. ``there``:
        numbers of windows that need not be made (``finished``).
        """
        sizes = [(len(w.frames), len(w.targets), len(w.moved)) for w in self.windows]
        disk, sight = self.bytes_on_disk(), self.config.sight
        told = forecast(self.model, self.video, sizes, disk, sight=sight, trial=trial, there=there)
        maps = sum(frames + targets * moved for frames, targets, moved in sizes)
        return replace(told, disk_underway=result_bytes(self.video, maps, len(sizes)))

    def finished(self, output: str | Path) -> tuple[int, ...] | None:
        """Numbers of the windows that an interrupted run left for one at ``output``; None where there was no such run.

        Raises OutputError where they are another's, and while a run goes on there.
        """
        path = Path(output).resolve()
        if not store_folder(path).is_dir():  # the store would make it
            return None
        with hold(path):
            store = self._store(path, overwrite=False)
            stored = [int(folder.name) for folder in store.windows.iterdir() if folder.name.isdecimal()]

        def there(number: int, window: Window) -> bool:
            # Loops are made after repairs, of which there may have been some.
            places = [place for place in stored if place >= number] if window.kind == "loop" else [number]
            rest = (window.frames, window.targets, window.moved, self._shown(window))
            return any(store.finished(place, *rest) for place in places)

        return tuple(number for number, window in enumerate(self.windows) if there(number, window))

    def check_memory(self, max_memory: float | None) -> None:
        """Raises UsageError where the alignment needs more than ``max_memory`` (GiB; None: any)."""
        followed = len(self.video) if self.config.sight else 0
        check_alignment(self.model, sum(len(window.frames) for window in self.windows), followed, max_memory)

    def run(
        self, output: str | Path | None = None, *, overwrite: bool = False, report: Report = silent
    ) -> Reconstruction:
        """Windows that are not on disk yet, then the alignment, then the result at ``output``.

        Killed, it goes on at the first missing window when it is run again. Without ``output`` the result lies in a
        temporary folder that is removed with the last reference to the result.
        """
        if output is None:
            holder = tempfile.TemporaryDirectory(prefix="vdpm-")
            result = self.run(Path(holder.name) / "result", report=report)
            read = result.maps.read

            def held(target: int | None, source: int, _holder: object = holder) -> PointMap:
                return read(target, source)

            return replace(result, maps=replace(result.maps, read=held))
        with hold(output):
            try:
                return self._run(Path(output), overwrite, report)
            except KeyboardInterrupt as stop:
                raise type(stop)("finished windows are kept, and the same command goes on from them") from None

    def _run(self, output: Path, overwrite: bool, report: Report) -> Reconstruction:
        check_output(output, overwrite)
        device = next(self.model.parameters()).device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        store = self._store(output, overwrite)
        joined = join_windows(
            self.windows,
            len(self.video),
            self.config,
            partial(self._reconstructed, store, report),
            partial(self._align, report),
            timed=self._repairs,
        )
        sharp = None
        if self.config.sight:
            report("following the pictures", 0, 1)
            with timed(self.seconds, "align"):
                seen, found, frames = joined.seen, joined.found, self.video.frames
                shown = self.video.transform.content_mask()
                sharp = sharpen(seen, found, frames, reference=self.reference, priors=self.priors, content=shown)
            joined = replace(joined, found=sharp or found)
            report("following the pictures", 1, 1)
        return self._finish(store, output, overwrite, joined, followed=sharp is not None)

    def _repairs(self, new: list[Window]) -> list[Window]:
        """With their times. All of their frames move: points come from their neighbours and go on to them."""
        timed = with_times(new, self.wanted, self.sources)
        return [replace(window, moved=window.frames if window.targets else ()) for window in timed]

    def _kept_times(self, windows: Sequence[Window | WindowEntry]) -> tuple[int, ...]:
        """Those asked for; some windows have one more, for points to travel through."""
        if not isinstance(self.wanted, str):
            return tuple(sorted({*self.wanted}))
        return tuple(sorted({target for window in windows for target in window.targets}))

    def _windows(self) -> list[Window]:
        loops: list[tuple[int, int]] = []
        count = len(self.video)
        if self.config.finds_loops("likeness"):
            loops = find_loops(thumbnails(self.video.frames), gap=2 * self.config.frames)
        return with_times(plan_windows(count, self.config, loops=loops), self.wanted, self.sources)

    def _shown(self, window: Window) -> tuple[int, ...]:
        """Frames of ``window`` whose maps at their own times the result keeps: sources, and those that points travel
        through.
        """
        return tuple(sorted({*window.frames} & {*self.sources} | {*window.moved}))

    def _store(self, output: Path, overwrite: bool) -> WindowStore:
        return WindowStore(output, identity_of(self.model, self.video), self.video.size, overwrite=overwrite)

    def _reconstructed(
        self, store: WindowStore, report: Report, windows: Sequence[Window], first: int, doing: str
    ) -> list[StoredWindow]:
        """The windows from disk; those missing there are made."""
        stage = f"{doing} windows"
        stored = []
        for done, window in enumerate(windows):
            report(stage, done, len(windows))
            number = first + done
            shown = self._shown(window)
            if not store.finished(number, window.frames, window.targets, window.moved, shown):
                with timed(self.seconds, "windows"):
                    reconstruct_window(self.model, self.video, window, store, number, self.times_per_step, shown)
            stored.append(store.read(number))
        report(stage, len(windows), len(windows))
        return stored

    def _align(
        self, report: Report, stored: Sequence[StoredWindow], start: Alignment | None
    ) -> tuple[Observations, Alignment]:
        report("aligning the windows", 0, 1)
        device = next(self.model.parameters()).device
        with timed(self.seconds, "align"):
            marks = self.priors.distance.pixels if self.priors.distance else ()
            content = self.video.transform.content_mask()
            ratio = self.video.transform.square_ratio if self.square else None
            seen = observe(window_maps(stored, ratio), content, len(self.video), marks=marks)
            # In float64, which MPS lacks; a few megabytes, so the way there costs nothing.
            there = seen.to(device) if device.type == "cuda" else seen
            found = align(there, reference=self.reference, priors=self.priors, start=start).cpu()
        report("aligning the windows", 1, 1)
        return seen, found

    def _finish(
        self, store: WindowStore, output: Path, overwrite: bool, joined: Joined[StoredWindow], followed: bool
    ) -> Reconstruction:
        windows, found = joined.windows, joined.found
        entries = self._entries(windows, found)
        video = self.video
        with ReconstructionWriter(
            output,
            frames=video.frames,
            timestamps=video.timestamps,
            frame_indices=video.frame_indices,
            transform=video.transform,
            sources=self.sources,
            targets=self._kept_times(entries),
            reference=self.reference,
            name=video.name,
            provenance={
                **made_by(self.model, self.model_name, video),
                "cameras": cameras_by(followed),
                "lens": lens_by(self.square, known=self.priors.intrinsics is not None),
                "windows": self._told(windows, found),
            },
            overwrite=overwrite,
            windows=entries,
        ) as writer:
            writer.write_cameras(found.cameras)
            writer.take_windows(store.windows)
            self.seconds["windows"] = sum(window.seconds for window in joined.made)
            writer.finish(measurements(self.seconds, next(self.model.parameters()).device))
        store.tidy(output, [entry.number for entry in entries])
        return load(output)

    def _entries(self, windows: Sequence[Window], found: Alignment) -> list[WindowEntry]:
        """The windows of the result that hold something of it."""
        entries = []
        for number in kept_windows(windows, found):
            window = windows[number]
            if not self._shown(window) and not window.targets:
                continue
            entries.append(
                WindowEntry(
                    number=number,
                    frames=window.frames,
                    targets=window.targets,
                    moved=window.moved,
                    scale=float(found.windows.scale[number]),
                    rotation=tuple(map(tuple, found.windows.rotation[number].tolist())),
                    translation=tuple(found.windows.translation[number].tolist()),
                    weight=min(1.0, max(0.0, float(found.window_weight[number]))),
                    shown=self._shown(window),
                )
            )
        return entries

    def _told(self, windows: list[Window], found: Alignment) -> dict[str, Any]:
        """What the result says of its windows."""
        kinds = {kind: sum(window.kind == kind for window in windows) for kind in ("run", "strided", "loop")}
        return {
            **kinds,
            "length": self.config.frames,
            "overlap": self.config.shared,
            "doubtful windows": found.doubtful_windows(),
            "frames placed between others": found.doubtful_frames(),
            "scale": "the user's unit" if found.known_scale else "arbitrary",
        }


def identity_of(model: VDPM, video: Video) -> dict[str, Any]:
    """What windows on disk are of: windows of other frames or another network are not taken up."""
    return {
        "frames": hashlib.sha256(video.frames.contiguous().numpy().tobytes()).hexdigest(),
        "network": model.fingerprint() + " mirrored" * isinstance(model, Mirrored),
        "dtype": str(next(model.parameters()).dtype),
        "size": list(video.size),
    }


@torch.inference_mode()
def reconstruct_window(
    model: VDPM,
    video: Video,
    window: Window,
    store: WindowStore,
    number: int,
    times_per_step: int = 1,
    shown: tuple[int, ...] | None = None,
) -> None:
    """One window of ``video`` through the network and to disk, as ``number``. Its first frame is its world.

    ``shown``: frames whose maps at their own times a result will keep, all unless told; the alignment needs the others.
    """
    parameter = next(model.parameters())
    begin = time.perf_counter()
    frames = torch.tensor(window.frames)
    images = video.frames[frames].permute(0, 3, 1, 2).to(parameter.device, parameter.dtype) / 255
    tokens = model.encode(images[None])
    predicted = model.cameras(tokens)
    c2w = predicted.c2w[0].cpu().double()
    rows = {frame: row for row, frame in enumerate(window.frames)}

    def time_variant() -> Iterator[PointMap]:
        maps = model.time_variant(tokens)
        yield from map(PointMap, maps.points[0].float().cpu(), maps.confidence[0].float().cpu())

    def at_targets() -> Iterator[tuple[int, Iterator[PointMap]]]:
        moved = tuple(rows[frame] for frame in window.moved)
        for first in range(0, len(window.targets), times_per_step):
            step = window.targets[first : first + times_per_step]
            maps = model.decode(tokens, torch.tensor([rows[target] for target in step]), moved)
            points, confidence = maps.points[0].float().cpu(), maps.confidence[0].float().cpu()
            for row, target in enumerate(step):
                yield target, map(PointMap, points[row], confidence[row])

    store.write(
        number,
        frames=window.frames,
        moved=window.moved,
        shown=window.frames if shown is None else shown,
        cameras=Cameras(invert_rigid(c2w[0]) @ c2w, predicted.intrinsics[0].float().cpu(), video.size),
        time_variant=time_variant(),
        targets=at_targets(),
        seconds=lambda: time.perf_counter() - begin,
    )


def window_maps(stored: Sequence[StoredWindow], ratio: float | None = 1.0) -> list[WindowMaps]:
    """What the alignment reads of windows on disk. ``ratio``: fx / fy of square pixels (``square_ratio``), which the
    cameras then have; None leaves them as the network has them.
    """

    def cameras(window: StoredWindow) -> Cameras:
        said = window.cameras
        return said if ratio is None else replace(said, intrinsics=square_pixels(said.intrinsics, ratio))

    return [WindowMaps(window.frames, cameras(window), partial(window.read, None)) for window in stored]


def kept_windows(windows: Sequence[Window], found: Alignment) -> list[int]:
    """Numbers of the runs that a result holds, in the order of time: those that are believed, and those without which
    a frame would be missing.
    """
    runs = [number for number, window in enumerate(windows) if window.kind == "run"]
    kept = [number for number in runs if float(found.window_weight[number]) >= BELIEVED]
    shown = {frame for number in kept for frame in windows[number].frames}
    for number in runs:
        if not {*windows[number].frames} <= shown:
            kept.append(number)
            shown |= {*windows[number].frames}
    return sorted(kept, key=lambda k: windows[k].frames)

"""Writing a result folder map by map, so that an interrupted run leaves the finished part readable, or nothing.

Files are written beside their place and renamed into it, the manifest last: it never names a file that is not whole.
Everything goes to the hidden folder ``.NAME.partial`` beside ``NAME`` first. A new result moves to ``NAME`` as soon as
it can be read (cameras and P are there) and grows in place from then on. A result that replaces an old one moves there
when it is complete; until then the old one stays.
"""

import importlib.metadata
import io
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from vdpm.archive.folder import check_output, disk_errors, remove_own, retire, write_whole
from vdpm.archive.holding import hold
from vdpm.archive.manifest import (
    CAMERAS_FILE,
    MANIFEST_FILE,
    TIME_VARIANT_FILE,
    Manifest,
    WindowEntry,
    check_derived_name,
    frame_file,
    map_header,
    target_file,
)
from vdpm.archive.reader import MAP_DTYPE, is_result, load, read_manifest
from vdpm.errors import OutputError, UsageError, VDPMError
from vdpm.geometry.image_transform import ImageTransform
from vdpm.structures import Cameras, PointMap, Reconstruction

FLOAT16_MAX = 65504.0


class ReconstructionWriter:
    """Writes a result folder as its parts are made: cameras, then P, then one target after the other, then ``finish``.

    Used as a context manager. Left without ``finish`` (an error, Ctrl-C), a new result stays with the targets that
    were finished, state "partial", or vanishes when nothing can be read yet; an old result under ``overwrite`` stays as
    it was. Raises OutputError in one line when the disk is full or the folder cannot be written; what was finished
    stays. Meanwhile no other run can write to the folder (``hold``).

    ``frames``: the network's images. ``sources``, ``targets``: the frame indices that will be written, sources in the
    order of the maps. ``windows``: of a long clip; their maps come by ``take_windows`` in place of the ``write_``
    methods for P and targets. ``provenance``: plain data; "model" (name), "fingerprint" and "options" are shown by
    ``describe``.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        frames: UInt8[Tensor, "frames height width 3"],
        timestamps: Float[Tensor, "frames"],
        frame_indices: Int[Tensor, "frames"],
        transform: ImageTransform,
        sources: Iterable[int],
        targets: Iterable[int],
        reference: int = 0,
        name: str = "video",
        provenance: dict[str, Any] | None = None,
        overwrite: bool = False,
        windows: Iterable[WindowEntry] = (),
    ) -> None:
        self.folder = Path(folder).resolve()
        self._previous = self.folder.with_name(f".{self.folder.name}.previous")
        self._work = self.folder.with_name(f".{self.folder.name}.partial")
        self._written: set[str] = set()
        self._hold = ExitStack()
        check_output(folder, overwrite)
        with ExitStack() as checking:
            checking.enter_context(hold(self.folder))
            self._recover()
            check_output(folder, overwrite)
            self._manifest = Manifest(
                name=name[:4096],
                size=(int(frames.shape[1]), int(frames.shape[2])),
                timestamps=tuple(timestamps.double().tolist()),
                frame_indices=tuple(frame_indices.tolist()),
                transform=transform,
                reference=reference,
                sources=tuple(sources),
                targets=(),
                targets_wanted=tuple(targets),
                state="partial",
                package_version=_package_version(),
                windows=tuple(windows),
                provenance=dict(provenance or {}),
            )
            self._manifest.dumps()  # refuses what JSON cannot hold before work is spent
            self._hold = checking.pop_all()
        self._replaces = self.folder.exists() and any(self.folder.iterdir())
        try:
            self._begin(frames)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "ReconstructionWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def write_cameras(self, cameras: Cameras) -> None:
        """Cameras of all frames, in pixels of ``frames``."""
        c2w, intrinsics = cameras.c2w.float().cpu(), cameras.intrinsics.float().cpu()
        if len(c2w) != self._manifest.num_frames or tuple(cameras.size) != self._manifest.size:
            raise UsageError(f"{len(c2w)} cameras of size {cameras.size} do not fit the frames of this result")
        if not bool(c2w.isfinite().all() and intrinsics.isfinite().all()):
            raise VDPMError("the cameras are not finite: the weights are damaged, or try --dtype float32")
        rows = [f'"{key}": [\n {_matrices(values)}\n]' for key, values in (("c2w", c2w), ("intrinsics", intrinsics))]
        self._write(CAMERAS_FILE, [("{" + ",\n".join(rows) + "}\n").encode()])
        self._commit()

    def write_time_variant(
        self, points: Float[Tensor, "sources height width 3"], confidence: Float[Tensor, "sources height width"]
    ) -> None:
        """P: the map of each source at its own time, in the world."""
        self._write_maps(TIME_VARIANT_FILE, map(PointMap, points, confidence))
        self._commit()

    def write_target(
        self,
        target: int,
        points: Float[Tensor, "sources height width 3"],
        confidence: Float[Tensor, "sources height width"],
    ) -> None:
        """Q of one target: the map of each source at the time of frame ``target``, in the world."""
        self._write_target(target, map(PointMap, points, confidence))

    def take_windows(self, folder: Path) -> None:
        """Moves ``folder``, which holds a folder of maps for each of the windows announced, into the result."""
        with disk_errors(self.folder):
            os.rename(folder, self._work / "windows")
        self._written.add(TIME_VARIANT_FILE)
        self._manifest = replace(self._manifest, targets=self._manifest.targets_wanted)
        self._commit()

    def finish(self, provenance: dict[str, Any] | None = None) -> Reconstruction:
        """Marks the result complete, puts it in the place of the old one if there was one, and loads it.

        ``provenance`` is added to that given before (the time taken, say). Raises UsageError when parts are missing.
        """
        missing = set(self._manifest.targets_wanted) - set(self._manifest.targets)
        if missing or not self._readable:
            raise UsageError(f"cameras, P or targets {sorted(missing)} were not written before finish")
        self._manifest = replace(
            self._manifest, state="complete", provenance={**self._manifest.provenance, **(provenance or {})}
        )
        self._write(MANIFEST_FILE, [self._manifest.dumps().encode()])
        if self._replaces:
            self._replace()
        return load(self.folder)

    def close(self) -> None:
        """Ends writing; without ``finish`` before it, keeps what is readable at its place and removes the rest."""
        with self._hold:
            if self._work != self.folder:
                # On a failing disk the error that led here is worth more than one from tidying up.
                with suppress(OSError):
                    remove_own(self._work)

    @property
    def _readable(self) -> bool:
        return {CAMERAS_FILE, TIME_VARIANT_FILE} <= self._written

    def _begin(self, frames: Tensor) -> None:
        manifest = self._manifest
        count = (1 + len(manifest.targets_wanted)) * len(manifest.sources) * manifest.size[0] * manifest.size[1]
        if manifest.windows:
            count = 0  # they are on the disk already
        needed = count * 4 * 2 + frames.numel()
        with disk_errors(self._work):
            self._work.parent.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._work.parent).free
            if free < needed:
                raise OutputError(
                    f"{self.folder}: the result takes {needed / 1e6:.0f} MB and the disk has {free / 1e6:.0f} MB free; "
                    "free some, keep fewer --targets or choose another disk"
                )
            if self._work.exists() and not remove_own(self._work):
                raise OutputError(f"{self._work}: left by another run and holds other files; remove it")
            (self._work / "frames").mkdir(parents=True)
            if not manifest.windows:
                (self._work / "maps").mkdir()
        for index, frame in enumerate(frames):
            image = io.BytesIO()
            Image.fromarray(frame.cpu().numpy()).save(image, format="PNG")
            self._write(frame_file(index), [image.getvalue()])

    def _write_target(self, target: int, maps: Iterable[PointMap]) -> None:
        if not self._readable:
            raise UsageError("write_cameras and write_time_variant come before write_target")
        if target not in self._manifest.targets_wanted:
            raise UsageError(f"target {target} is not one of the targets announced: {self._manifest.targets_wanted}")
        self._write_maps(target_file(target), maps)
        done = {*self._manifest.targets, target}
        self._manifest = replace(
            self._manifest, targets=tuple(frame for frame in self._manifest.targets_wanted if frame in done)
        )
        self._commit()

    def _write_maps(self, name: str, maps: Iterable[PointMap]) -> None:
        def content() -> Iterator[bytes]:
            yield map_header(len(self._manifest.sources), self._manifest.size)
            count = 0
            for points, confidence in maps:
                yield encode_map(points, confidence, self._manifest.size)
                count += 1
            if count != len(self._manifest.sources):
                raise UsageError(f"{name} takes a map for each of {len(self._manifest.sources)} sources, got {count}")

        self._write(name, content())

    def _write(self, name: str, content: Iterable[bytes]) -> None:
        path = self._work / name
        with disk_errors(self.folder / name):
            write_whole(path, content)
        self._written.add(name)

    def _commit(self) -> None:
        """Names what is whole in the manifest, and moves a new result to its place once it can be read."""
        if not self._readable:
            return
        self._write(MANIFEST_FILE, [self._manifest.dumps().encode()])
        if self._work != self.folder and not self._replaces:
            with disk_errors(self.folder):
                os.rename(self._work, self.folder)
            self._work = self.folder

    def _replace(self) -> None:
        """Swaps the finished result with the old one, then removes what was the old one's own."""
        with disk_errors(self.folder):
            derived = read_manifest(self.folder).derived
            os.rename(self.folder, self._previous)
            try:
                os.rename(self._work, self.folder)
            except BaseException:
                os.rename(self._previous, self.folder)
                raise
            self._work = self.folder
            retire(self._previous, self.folder, derived)

    def _recover(self) -> None:
        """Undoes a swap that was killed between its two renames, or finishes one killed after them."""
        with disk_errors(self._previous):
            if not self._previous.exists():
                return
            if is_result(self._previous):
                if not self.folder.exists():
                    os.rename(self._previous, self.folder)
                    return
                retire(self._previous, self.folder, read_manifest(self._previous).derived)
            elif not any(self._previous.iterdir()):
                self._previous.rmdir()
            if self._previous.exists():
                raise OutputError(f"{self._previous}: holds files kept from an older result; move them elsewhere")


def save(reconstruction: Reconstruction, folder: Path | str, overwrite: bool = False) -> None:
    """Writes ``reconstruction`` to ``folder``, one map in memory at a time. Raises OutputError as the writer does."""
    maps = reconstruction.maps
    provenance = {key: value for key, value in reconstruction.provenance.items() if key != "state"}
    with ReconstructionWriter(
        folder,
        frames=reconstruction.frames,
        timestamps=reconstruction.timestamps,
        frame_indices=reconstruction.frame_indices,
        transform=reconstruction.transform,
        sources=maps.sources,
        targets=maps.targets,
        reference=reconstruction.reference,
        name=reconstruction.name,
        provenance=provenance,
        overwrite=overwrite,
    ) as writer:
        writer.write_cameras(reconstruction.cameras)
        writer._write_maps(TIME_VARIANT_FILE, (maps.time_variant(source) for source in maps.sources))
        writer._commit()
        for target in maps.targets:
            writer._write_target(target, (maps.time_invariant(target, source) for source in maps.sources))
        writer.finish()


def record_derived(folder: Path | str, names: Iterable[str]) -> None:
    """Notes files made from the result in ``folder`` (preview, clouds), by relative name: overwriting removes them.

    Files not noted are kept when the result is overwritten. Raises InputError for a folder that is no result or a name
    outside it, OutputError when the manifest cannot be written.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    names = {check_derived_name(name, folder / MANIFEST_FILE) for name in names}
    manifest = replace(manifest, derived=tuple(sorted({*manifest.derived, *names})))
    with disk_errors(folder / MANIFEST_FILE):
        write_whole(folder / MANIFEST_FILE, [manifest.dumps().encode()])


def encode_map(points: Tensor, confidence: Tensor, size: tuple[int, int]) -> bytes:
    """One map as float16 bytes, [height, width, 4]."""
    if tuple(points.shape) != (*size, 3) or tuple(confidence.shape) != size:
        raise UsageError(f"a map of {tuple(points.shape)} does not fit frames of {size}")
    # NumPy, on one core: waiting for PyTorch's threads costs more than the work, most of all while a network runs.
    values = np.concatenate(
        [points.float().numpy(force=True), confidence.float().numpy(force=True)[..., None]], axis=-1
    )
    if not np.isfinite(values[..., :3]).all() or np.isnan(values[..., 3]).any():
        raise VDPMError("the network's points are not finite: the weights are damaged, or try --dtype float32")
    values[..., 3] = values[..., 3].clip(min=1)
    return values.clip(-FLOAT16_MAX, FLOAT16_MAX).astype(MAP_DTYPE).tobytes()


def _matrices(values: Tensor) -> str:
    """One matrix a line. The shortest decimal that gives the same float32 back would need 9 digits; these have 17."""
    return ",\n ".join(json.dumps(matrix) for matrix in values.tolist())


def _package_version() -> str:
    try:
        return importlib.metadata.version("vdpm")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"

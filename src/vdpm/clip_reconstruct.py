"""A clip that the network sees at once: encode it, then decode the wanted times, a few at a time."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vdpm.archive import ReconstructionWriter
from vdpm.cost import Forecast, forecast, result_bytes
from vdpm.geometry.pinhole import square_pixels
from vdpm.geometry.rigid import invert_rigid
from vdpm.long_video.one_window import Followed, follow_pictures
from vdpm.map_memory import MapMemory
from vdpm.model import VDPM
from vdpm.model.vdpm import SceneTokens
from vdpm.progress import Report, silent
from vdpm.provenance import cameras_by, lens_by, made_by, measurements, timed
from vdpm.structures import Cameras, PointMap, Reconstruction, Video

LOADING = "loading network and video"


@dataclass(frozen=True, eq=False)
class Plan:
    """A checked task: frames in memory, the network on its device, and the maps wanted, as frame indices.

    ``sight``: cameras, and points with them, follow at the end what the pictures show (``long_video.one_window``).
    ``square``: pixels are, so that lenses have one focal length in place of the camera head's two.
    """

    video: Video
    model: VDPM
    model_name: str
    targets: tuple[int, ...]
    sources: tuple[int, ...]
    reference: int
    targets_per_step: int
    seconds: dict[str, float] = field(default_factory=dict)
    sight: bool = True
    square: bool = True

    def lines(self) -> list[str]:
        """What is done, in words."""
        return [f"   0  one window of {len(self.video)} frames, points at {len(self.targets)} times"]

    def forecast(self, *, trial: bool = False) -> Forecast:
        """Memory and disk of the run, maps written to disk; with ``trial`` also its time."""
        sources, targets = len(self.sources), len(self.targets)
        disk = result_bytes(self.video, (1 + targets) * sources)
        window = (len(self.video), targets, sources)
        return forecast(self.model, self.video, [window], disk, sight=self.sight, trial=trial, aligned=False)

    def run(
        self, output: str | Path | None = None, *, overwrite: bool = False, report: Report = silent
    ) -> Reconstruction:
        """Encode, then decode target after target into ``output``, or into memory where that is None."""
        sink: MapMemory | ReconstructionWriter
        wanted: dict[str, Any] = {
            "sources": self.sources,
            "targets": self.targets,
            "reference": self.reference,
            "provenance": made_by(self.model, self.model_name, self.video),
        }
        if output is None:
            sink = MapMemory(self.video, **wanted)
        else:
            video = self.video
            sink = ReconstructionWriter(
                output,
                frames=video.frames,
                timestamps=video.timestamps,
                frame_indices=video.frame_indices,
                transform=video.transform,
                name=video.name,
                overwrite=overwrite,
                **wanted,
            )
        parameter = next(self.model.parameters())
        if parameter.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(parameter.device)
        with sink:
            # Told as done only here, where nothing that the user asked for can be refused any more.
            report(LOADING, 2, 2)
            with torch.inference_mode():
                followed = self._fill(sink, parameter.device, parameter.dtype, report)
            # Outside of inference mode: what it loads must be usable with gradients.
            said = {"cameras": cameras_by(followed), "lens": lens_by(self.square)}
            return sink.finish({**said, **measurements(self.seconds, parameter.device)})

    def _fill(
        self, sink: MapMemory | ReconstructionWriter, device: torch.device, dtype: torch.dtype, report: Report
    ) -> bool:
        """Cameras, P, then Q target by target; each leaves the device as soon as it is made. True where the cameras
        are those that the pictures bear out.
        """
        report("encoding the frames", 0, 1)
        with timed(self.seconds, "encode"):
            tokens = self.model.encode(self.video.images()[None].to(device, dtype), self.reference)
            cameras = self._cameras(tokens)
        report("encoding the frames", 1, 1)
        with timed(self.seconds, "shape"):
            maps = self.model.time_variant(tokens, None if self.sight else self.sources)
            shape = PointMap(maps.points[0].float().cpu(), maps.confidence[0].float().cpu())
            del maps
        followed = None
        if self.sight:
            report("following the pictures", 0, 1)
            with timed(self.seconds, "follow"):
                followed = self._followed(cameras, shape)
            rows = list(self.sources)
            shape = PointMap(shape.points[rows], shape.confidence[rows])
            report("following the pictures", 1, 1)

        def placed(points: Tensor) -> Tensor:
            return points if followed is None else followed.points(points, shape.points, self.sources)

        sink.write_cameras(cameras if followed is None else followed.cameras)
        sink.write_time_variant(placed(shape.points), shape.confidence)
        with timed(self.seconds, "decode"):
            for begin in range(0, len(self.targets), self.targets_per_step):
                report("decoding times", begin, len(self.targets))
                step = self.targets[begin : begin + self.targets_per_step]
                maps = self.model.decode(tokens, torch.tensor(step), self.sources)
                for row, target in enumerate(step):
                    points, confidence = maps.points[0, row].float().cpu(), maps.confidence[0, row].float().cpu()
                    sink.write_target(target, placed(points), confidence)
        if self.targets:
            report("decoding times", len(self.targets), len(self.targets))
        return followed is not None

    def _followed(self, cameras: Cameras, shape: PointMap) -> Followed | None:
        """What the pictures say of the network's ``cameras`` and the shape it sees."""
        video = self.video
        shown = video.transform.content_mask()
        return follow_pictures(
            video.frames, cameras, shape.points, shape.confidence, reference=self.reference, content=shown
        )

    def _cameras(self, tokens: SceneTokens) -> Cameras:
        """The camera head's cameras, moved so that the reference camera is the world exactly; ``square``."""
        cameras = self.model.cameras(tokens)
        c2w = cameras.c2w[0].cpu().double()
        c2w = invert_rigid(c2w[self.reference]) @ c2w
        intrinsics = cameras.intrinsics[0].float().cpu()
        if self.square:
            intrinsics = square_pixels(intrinsics, self.video.transform.square_ratio)
        return Cameras(c2w=c2w.float(), intrinsics=intrinsics, size=cameras.size)

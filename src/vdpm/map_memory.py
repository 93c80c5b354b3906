"""Maps kept in memory as they are made: what ``ReconstructionWriter`` is for a folder."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from vdpm.archive.writer import FLOAT16_MAX
from vdpm.errors import VDPMError
from vdpm.structures import Cameras, DynamicPointMaps, Reconstruction, Video


class MapMemory:
    """Takes cameras, P and one target after the other, and gives the reconstruction in ``finish``.

    Maps are kept as float16, as in a result folder: 8 bytes a pixel, source and target. The tensors are made on
    construction, outside of inference mode, so that the caller can do anything with them.
    """

    def __init__(
        self,
        video: Video,
        *,
        sources: tuple[int, ...],
        targets: tuple[int, ...],
        reference: int = 0,
        provenance: dict[str, Any] | None = None,
    ) -> None:
        self.video = video
        self.sources = sources
        self.targets = targets
        self.reference = reference
        self.provenance = dict(provenance or {})
        count = (len(targets), len(sources))
        self.time_variant = torch.empty(len(sources), *video.size, 3, dtype=torch.float16)
        self.time_variant_confidence = torch.empty(len(sources), *video.size, dtype=torch.float16)
        self.points = torch.empty(*count, *video.size, 3, dtype=torch.float16)
        self.confidence = torch.empty(*count, *video.size, dtype=torch.float16)
        self.c2w = torch.empty(len(video), 4, 4)
        self.intrinsics = torch.empty(len(video), 3, 3)

    def __enter__(self) -> "MapMemory":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to close; there to be used as the writer is."""

    def write_cameras(self, cameras: Cameras) -> None:
        """Cameras of all frames, in pixels of the video."""
        _store(cameras.c2w, self.c2w)
        _store(cameras.intrinsics, self.intrinsics)

    def write_time_variant(
        self, points: Float[Tensor, "sources height width 3"], confidence: Float[Tensor, "sources height width"]
    ) -> None:
        """P: the map of each source at its own time, in the world."""
        _store(points, self.time_variant)
        _store(confidence, self.time_variant_confidence)

    def write_target(
        self,
        target: int,
        points: Float[Tensor, "sources height width 3"],
        confidence: Float[Tensor, "sources height width"],
    ) -> None:
        """Q of one target: the map of each source at the time of frame ``target``, in the world."""
        row = self.targets.index(target)
        _store(points, self.points[row])
        _store(confidence, self.confidence[row])

    def finish(self, provenance: dict[str, Any] | None = None) -> Reconstruction:
        """The reconstruction; ``provenance`` is added to that given before (the time taken, say)."""
        video = self.video
        maps = DynamicPointMaps.from_tensors(
            self.time_variant,
            self.time_variant_confidence,
            self.points,
            self.confidence,
            num_frames=len(video),
            targets=self.targets,
            sources=self.sources,
        )
        return Reconstruction(
            frames=video.frames,
            timestamps=video.timestamps,
            frame_indices=video.frame_indices,
            cameras=Cameras(self.c2w, self.intrinsics, video.size),
            maps=maps,
            transform=video.transform,
            reference=self.reference,
            name=video.name,
            provenance={**self.provenance, **(provenance or {}), "state": "complete"},
        )


def _store(values: Tensor, place: Tensor) -> None:
    """Copy into ``place``, in its dtype. Raises VDPMError for values that no result may hold."""
    if not bool(values.isfinite().all()):
        raise VDPMError("the network's points are not finite: the weights are damaged, or try --dtype float32")
    place.copy_(values.clamp(-FLOAT16_MAX, FLOAT16_MAX) if place.dtype == torch.float16 else values)

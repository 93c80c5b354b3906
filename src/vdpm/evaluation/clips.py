"""What clips are cut from: sequences of a data set, or a held-out family of our scenes; pictures and truth, alike."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vdpm.data.frame import Frame
from vdpm.data.quarantine import Quarantine
from vdpm.data.readers import open_dataset
from vdpm.data.sequence import DataSequence
from vdpm.errors import InputError, UsageError
from vdpm.evaluation.benchmark import Benchmark, Drawn, Sample, Table, draw
from vdpm.evaluation.manifest import FamilyManifest
from vdpm.evaluation.published_frames import open_bonn_by_index, open_tum_by_pose
from vdpm.evaluation.visibility import TOLERANCE, seen
from vdpm.geometry.rigid import invert_rigid, transform_points
from vdpm.structures import Snippet
from vdpm.synthetic import SceneConfig, SceneGenerator


@dataclass(frozen=True, eq=False)
class MapTruth:
    """Truth of a pair or a snippet. ``clip``: its frames at their own times, in the world of the first, no targets.

    ``points[k, s]``: P_i(t_j) of frame i = ``sources[s]`` at the time of j = ``targets[k]``, ``known`` where there is
    truth, ``told_visible`` where the data say that it is seen then (None: they do not say).
    """

    clip: Snippet
    targets: tuple[int, ...]
    sources: tuple[int, ...]
    points: Float[Tensor, "targets sources height width 3"]
    known: Bool[Tensor, "targets sources height width"]
    told_visible: Bool[Tensor, "targets sources height width"] | None = None

    def visible(self, tolerance: float = TOLERANCE) -> Bool[Tensor, "targets sources height width"]:
        """Whether the points are seen at the time: as the data say, else by the depth of the frame of that time."""
        if self.told_visible is not None:
            return self.told_visible
        clip = self.clip
        return seen(
            self.points, clip.points, clip.valid, clip.c2w, clip.intrinsics, self.targets, self.sources, tolerance
        )


class Clips(ABC):
    """``dataset``: name in files of results. ``metric``: lengths are metres. ``notes``: why figures do not compare."""

    dataset: str
    metric: bool
    notes: tuple[str, ...] = ()

    @abstractmethod
    def drawn(self, benchmark: Benchmark) -> Drawn:
        """The clips of one table. Raises UsageError where there are none."""

    @abstractmethod
    def map_truth(self, sample: Sample, targets: Sequence[int], sources: Sequence[int]) -> MapTruth:
        """Truth of a clip; ``targets`` and ``sources`` count within it. Raises CorruptFile for a damaged file."""

    @abstractmethod
    def frames(self, sample: Sample) -> Iterator[Frame]:
        """The clip's frames one by one, in the data set's own world. Raises CorruptFile for a damaged file."""


class DatasetClips(Clips):
    """Clips of a data set on disk."""

    def __init__(
        self, dataset: str, sequences: Mapping[str, DataSequence], corrupt: Mapping[str, str] | None = None
    ) -> None:
        """``corrupt``: sequences that could not be opened, by the file that is damaged, with the reason."""
        self.dataset, self._corrupt = dataset, dict(corrupt or {})
        self._sequences = dict(sequences)
        self.metric = all(sequence.metric for sequence in self._sequences.values())

    def drawn(self, benchmark: Benchmark) -> Drawn:
        needs_motion = benchmark.table in ("two-view", "tracking")
        usable = {n: len(one) for n, one in self._sequences.items() if one.tracked or not needs_motion}
        if not usable:
            raise UsageError(
                f"{self.dataset} knows nothing of points at other times; it serves video-depth and camera-pose"
            )
        drawn = draw(benchmark, usable)
        missing = {name: "has no tracks" for name in self._sequences if name not in usable}
        return replace(drawn, left_out=drawn.left_out | missing | self._corrupt)

    def map_truth(self, sample: Sample, targets: Sequence[int], sources: Sequence[int]) -> MapTruth:
        sequence = self._sequence(sample)
        clip = sequence.snippet(sample.frames, targets=[])
        shape = (len(targets), len(sources), *clip.size)
        points, known = torch.zeros(*shape, 3), torch.zeros(shape, dtype=torch.bool)
        world = invert_rigid(sequence.frame(sample.frames[0]).c2w.double())
        for column, source in enumerate(sources):
            others = [target for target in targets if target != source and not sequence.static]
            view = sequence.frame(sample.frames[source])
            moved = sequence.moved(sample.frames[source], view, [sample.frames[t] for t in others]) if others else []
            there = dict(zip(others, moved))
            for row, target in enumerate(targets):
                if target not in there:
                    points[row, column], known[row, column] = clip.points[source], clip.valid[source]
                elif (found := there[target]) is not None:
                    in_world, where = found.maps(view)
                    in_world = in_world.masked_fill(~where[..., None], 0)
                    points[row, column] = transform_points(world, in_world).float().masked_fill(~where[..., None], 0)
                    known[row, column] = where
        return MapTruth(clip, tuple(targets), tuple(sources), points, known)

    def frames(self, sample: Sample) -> Iterator[Frame]:
        sequence = self._sequence(sample)
        return (sequence.frame(index) for index in sample.frames)

    def _sequence(self, sample: Sample) -> DataSequence:
        if sample.sequence not in self._sequences:
            raise InputError(
                f"{self.dataset}: the data have no sequence {sample.sequence!r} any more; give all of them"
            )
        return self._sequences[sample.sequence]


class FamilyClips(Clips):
    """Clips of a held-out family, made by the generator; every snippet is a sequence of its own."""

    metric = False

    def __init__(
        self,
        manifest: FamilyManifest,
        config: SceneConfig | None = None,
        device: torch.device | str = "cpu",
        notes: tuple[str, ...] = (),
    ) -> None:
        self.dataset, self.notes = manifest.family, notes
        self._manifest = manifest
        self._generator = SceneGenerator(config or manifest.config, device)
        self._seeds = {f"{manifest.family}_{seed}": seed for seed in manifest.seeds().tolist()}
        self._count = (config or manifest.config).num_frames
        self._snippet = lru_cache(maxsize=1)(self._made)

    def drawn(self, benchmark: Benchmark) -> Drawn:
        """All snippets; pairs are those of the manifest, whatever the benchmark's strides say."""
        if benchmark.table == "two-view":
            margins = [m for m in benchmark.margins if m in self._manifest.pairs]
            if not margins:
                raise UsageError(f"{self.dataset} has pairs of {[*self._manifest.pairs]} frames apart; choose of these")
            pairs = [(name, m) for name in self._seeds for m in margins]
            samples = [Sample(f"{name}.m{m}", name, self._manifest.pairs[m], str(m)) for name, m in pairs]
        else:
            samples = [Sample(name, name, tuple(range(self._count))) for name in self._seeds]
        return Drawn(tuple(samples), {})

    def map_truth(self, sample: Sample, targets: Sequence[int], sources: Sequence[int]) -> MapTruth:
        whole = self._whole(sample)
        assert sample.frames[0] == whole.reference == 0
        frames = torch.tensor(sample.frames, device=whole.points.device)
        parts = {
            name: getattr(whole, name).index_select(axis, frames)
            for name, axis in Snippet.FRAME_AXES.items()
            if name not in Snippet.TARGET_AXES and getattr(whole, name) is not None
        }
        clip = replace(
            whole,
            **parts,
            targets=whole.targets[:0],
            target_points=whole.target_points[:0, frames],
            target_valid=None,
            visible=None,
        )
        rows, columns = (frames[list(chosen)] for chosen in (targets, sources))

        def chosen(maps: Tensor) -> Tensor:
            return maps[rows][:, columns].cpu()

        known = whole.valid.expand(len(whole.targets), -1, -1, -1) if whole.target_valid is None else whole.target_valid
        told = None if whole.visible is None else chosen(whole.visible)
        points = chosen(whole.target_points)
        return MapTruth(clip.to("cpu"), tuple(targets), tuple(sources), points, chosen(known), told)

    def frames(self, sample: Sample) -> Iterator[Frame]:
        clip = self._whole(sample).to("cpu")
        for index in sample.frames:
            points, c2w = clip.points[index].double(), clip.c2w[index].double()
            yield Frame(
                image=(clip.images[index] * 255).round().byte().permute(1, 2, 0),
                depth=transform_points(invert_rigid(c2w), points)[..., 2],
                valid=clip.valid[index],
                c2w=c2w,
                intrinsics=clip.intrinsics[index].double(),
                measured=points,
            )

    def _whole(self, sample: Sample) -> Snippet:
        if sample.sequence not in self._seeds or max(sample.frames) >= self._count:
            raise InputError(f"{self.dataset}: there is no snippet {sample.sequence!r}, or not so long; run again")
        return self._snippet(self._seeds[sample.sequence])

    def _made(self, seed: int) -> Snippet:
        return self._generator(torch.tensor([seed]), torch.arange(self._count)[None]).clip(0)


def open_clips(
    dataset: str,
    root: Path,
    table: Table,
    pairing: str = "time",
    max_corrupt: float = 0.0,
    undistort: bool = False,
) -> DatasetClips:
    """The sequences of ``dataset`` under ``root``. ``pairing``, ``undistort``: see Benchmark.

    Up to the share ``max_corrupt`` of them may be damaged so that they cannot be opened; they are told as left out.
    Raises UsageError for names that there are not, InputError where there are no sequences or files are damaged.
    """
    quarantine = Quarantine(max_share=max_corrupt)
    published = {("bonn", "index"): open_bonn_by_index, ("tum", "pose"): open_tum_by_pose}
    if pairing == "time":
        sequences = open_dataset(dataset, root, quarantine, undistort)
    elif (dataset, pairing) in published and (pairing, table) in (("index", "video-depth"), ("pose", "camera-pose")):
        sequences = published[dataset, pairing](root, quarantine, undistort)
    else:
        raise UsageError(f"--pairing {pairing} is not for {table} on {dataset}; index: Bonn's depth, pose: TUM's poses")
    quarantine.close()
    if not sequences:
        raise InputError(f"{root}: none of its sequences can be read, {next(iter(quarantine.files.values()))}")
    names = {sequence.name: sequence for sequence in sequences}
    if len(names) < len(sequences):
        raise InputError(f"{root}: two sequences of one name; move one away")
    corrupt = {_within(root, path): f"cannot be read ({reason})" for path, reason in quarantine.files.items()}
    return DatasetClips(dataset, names, corrupt)


def _within(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)

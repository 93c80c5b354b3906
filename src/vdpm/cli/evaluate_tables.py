"""``vdpm evaluate TABLE``: the paper's four tables, on data sets and on held-out families, in three steps."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from vdpm.errors import UsageError

if TYPE_CHECKING:
    from vdpm.evaluation.benchmark import Benchmark
    from vdpm.evaluation.clips import Clips
    from vdpm.evaluation.contenders import Contender
    from vdpm.evaluation.prediction_run import AnswerOptions, RunPlan
    from vdpm.evaluation.table_scores import TableOptions

Count = Annotated[int | None, tyro.conf.arg(metavar="N")]


@dataclass(frozen=True)
class TableRun:
    """What all four tables share."""

    table: ClassVar[Literal["two-view", "tracking", "video-depth", "camera-pose"]]

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")]
    """Folder for plan, predictions, scores and tables; a run that was killed goes on here."""
    data: Annotated[Path | None, tyro.conf.arg(metavar="ROOT")] = None
    """Folder of the data set, in its own format."""
    dataset: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None
    """Its kind: kubric, pointodyssey, sintel, bonn, tum, ... (docs/data.md)."""
    family: Literal["rigid", "articulated", "unseen"] | None = None
    """In place of --data: a held-out family of our own scenes."""
    model: str = "vdpm-small"
    """Preset, model folder, file or hub id; oracle, zero-motion or constant-depth; python:MODULE:CLASS; or files,
    for predictions that another program puts into DIR/predictions."""
    pairwise: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Apply the network to pairs of frames and align these, as the paper's DPM; a pairwise network does so unasked."""
    mirror: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Ask the network about the mirrored clip as well and take the mean of both answers."""
    name: Annotated[str | None, tyro.conf.arg(metavar="ROW")] = None
    """How the model is called in the tables."""
    title: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    """Which data set of the paper this is, if not the one of --dataset: Kubric-G, for instance."""
    step: Literal["all", "plan", "predict", "score", "report"] = "all"
    """Do this step alone, with what earlier ones left in DIR; plan only lists the clips."""
    clips: Count = None
    """At most so many clips (for two-view: of each margin), evenly from all."""
    sequences: Annotated[str, tyro.conf.arg(metavar="NAMES")] = "published"
    """Which sequences: those that papers use, all, or names with commas between."""
    first: Count = None
    """First frame that is taken of a sequence; as published where not given."""
    frames: Count = None
    """Frames of a snippet, or at most so many of a sequence; as published where not given."""
    stride: Count = None
    """Frames from one that is taken to the next; as published where not given."""
    per_sequence: Count = None
    """Clips drawn from each sequence."""
    seed: Count = None
    """Of the drawing."""
    size: Count = None
    """Long side, in pixels, of the pictures that the model gets; what it was made for where not given."""
    fit: Literal["pad", "stretch"] = "pad"
    """How pictures come to whole patches."""
    resize: Literal["bilinear", "nearest"] = "bilinear"
    """How the model's point maps come back to the pictures' pixels."""
    pixels: Count = None
    """Keep and score at most so many pixels of each frame; all that have truth where not given."""
    precision: Literal["auto", "float16", "float32"] = "auto"
    """Of predictions on disk; auto: float16 (off by 0.05 % at most), float32 for what is made of the truth."""
    max_disk: Annotated[float, tyro.conf.arg(metavar="GB")] = 20.0
    """Refuse to start where the predictions would take more."""
    max_corrupt: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 0.0
    """Put up with so many clips, and sequences, whose data cannot be read, as a share of all: they are counted, named
    below the tables, and in no mean. At 0 the first one stops the run."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to run."""

    def run(self) -> None:
        from vdpm.data.quarantine import Quarantine
        from vdpm.evaluation.contenders import FILES, refuse_ways_of_asking
        from vdpm.evaluation.prediction_run import keep_plan, make_plan, missing, predict
        from vdpm.evaluation.table_file import read_scores, write_scores
        from vdpm.evaluation.table_report import write_report
        from vdpm.evaluation.table_scores import score
        from vdpm.progress import terminal_progress

        if self.step == "report":
            self._print(write_report([read_scores(self.output)], self.output))
            return
        options = self._options()
        contender: Contender | None = None
        if self.step == "score":
            plan = self._kept_plan()
            clips = self._clips(plan.benchmark)
        else:
            answers, benchmark = self._answers(), self._benchmark()
            clips = self._clips(benchmark)
            if self.model == FILES:
                refuse_ways_of_asking(FILES, pairwise=self.pairwise, mirror=self.mirror)
            else:
                contender = self._contender(answers)
            row = self.name or (contender.name if contender else FILES)
            identity = contender.identity if contender else FILES
            plan = make_plan(clips, benchmark, row, identity, answers, self.clips)
            keep_plan(plan, self.output)
        if self.step == "plan":
            print(f"{self.output / 'plan.json'}: {len(plan.samples)} clips")
            return
        with terminal_progress() as report:
            if self.step in ("all", "predict"):
                there = len(plan.samples) - len(missing(plan, self.output))
                lost = Quarantine(self.max_corrupt, expected=len(plan.samples))
                made = predict(contender, clips, plan, self.output, self.max_disk, report, lost)
                if self.step == "predict":
                    told = f", {lost.failures} cannot be read" if lost.failures else ""
                    print(f"{self.output}: {made} clips predicted, {there} were there{told}")
                    return
            lost = Quarantine(self.max_corrupt, expected=len(plan.samples))
            scored = score(clips, plan, self.output, options, self._device(), report, lost)
        result = write_scores(plan, scored, options, self.output)
        if self.step == "all":
            self._print(write_report([result], self.output))

    def _benchmark(self) -> "Benchmark":
        from vdpm.evaluation.benchmark import load_benchmark

        kind = self.family or self.dataset
        if kind is None or (self.family is None) == (self.data is None or self.dataset is None):
            raise UsageError("which clips? give --data ROOT --dataset NAME, or --family NAME")
        benchmark = load_benchmark(kind, self.table).changed(
            title=self.title or (f"held-out {self.family}" if self.family else None),
            first=self.first,
            frames=self.frames,
            stride=self.stride,
            per_sequence=self.per_sequence,
            seed=self.seed,
            **self._changes(),
        )
        if self.sequences == "published":
            return benchmark
        names = None if self.sequences == "all" else tuple(n.strip() for n in self.sequences.split(",") if n.strip())
        return replace(benchmark, sequences=names)

    def _changes(self) -> dict[str, Any]:
        """What a table's own options change of the benchmark."""
        return {}

    def _options(self) -> "TableOptions":
        from vdpm.evaluation.table_scores import TableOptions

        return TableOptions()

    def _answers(self) -> "AnswerOptions":
        from vdpm.evaluation.contenders import Fit
        from vdpm.evaluation.prediction_run import AnswerOptions

        return AnswerOptions(Fit(self.size, self.fit, self.resize, self._window()), self.pixels, self.precision)

    def _window(self) -> int | None:
        return None

    def _clips(self, benchmark: "Benchmark") -> "Clips":
        from vdpm.evaluation.clips import FamilyClips, open_clips
        from vdpm.evaluation.manifest import load_manifest

        if self.family is not None:
            given = (self.first, self.frames, self.stride, self.per_sequence, self.seed)
            if any(value is not None for value in given) or self.sequences != "published":
                raise UsageError("the clips of a family are those of its manifest; choose how many with --clips")
            if benchmark.undistort:
                raise UsageError("--undistort is for bonn and tum; the scenes of a family have no distortion")
            manifest = load_manifest(self.family)
            return FamilyClips(manifest, device=self._device(), notes=manifest.differences())
        if self.dataset is None or self.data is None:
            raise UsageError("which clips? give --data ROOT --dataset NAME, or --family NAME")
        return open_clips(self.dataset, self.data, self.table, benchmark.pairing, self.max_corrupt, benchmark.undistort)

    def _contender(self, answers: "AnswerOptions") -> "Contender":
        from vdpm.evaluation.contenders import check_task, make_contender

        check_task(self.model, self.table)
        return make_contender(self.model, answers.fit, self.device, pairwise=self.pairwise, mirror=self.mirror)

    def _kept_plan(self) -> "RunPlan":
        """The plan of the folder, with the changes that are asked for and that scoring knows."""
        from vdpm.evaluation.prediction_run import load_plan

        plan = load_plan(self.output)
        if plan.table != self.table or plan.benchmark.dataset != (self.family or self.dataset):
            raise UsageError(
                f"{self.output}: holds {plan.table} on {plan.benchmark.dataset}, not {self.table} on "
                f"{self.family or self.dataset}"
            )
        changes = {key: value for key, value in self._changes().items() if key in ("depth_cap", "clip")}
        return replace(
            plan, benchmark=plan.benchmark.changed(title=self.title, **changes), model=self.name or plan.model
        )

    def _device(self) -> str:
        import torch

        return ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device

    def _print(self, made: list[Any]) -> None:
        print("\n".join(table.markdown() for table in made))
        print(f"{self.output}: scores.json, tables.md, tables.tex")


@dataclass(frozen=True)
class EndPointRun(TableRun):
    """Options of the end-point error."""

    own_time: Literal["time_variant", "decoded"] = "time_variant"
    """What answers for a frame at its own time: its map P, or the decoder asked for that time."""
    moving: float = 0.01
    """A pixel moves where its point has gone farther than this share of the mean distance."""
    horizon: Annotated[float | None, tyro.conf.arg(metavar="DISTANCES")] = None
    """Leave out points farther than this many mean distances."""
    own_pixels: Literal["dense", "tracked"] = "dense"
    """At its own time, score all pixels with depth, or those that are tracked (PointOdyssey)."""
    visibility: float = 0.05
    """A true point up to this share of the depth behind what its frame sees is seen (3D-AJ, OA)."""

    def _options(self) -> "TableOptions":
        from vdpm.evaluation.snippet_scores import ProtocolOptions
        from vdpm.evaluation.table_scores import TableOptions

        protocol = ProtocolOptions(self.own_time, self.moving, self.horizon)
        return TableOptions(protocol=protocol, own_pixels=self.own_pixels, visibility=self.visibility)


@dataclass(frozen=True)
class TwoView(EndPointRun):
    """Table 1: end-point error of P_0(t_0), P_0(t_1), P_1(t_0), P_1(t_1) of pairs of frames."""

    table = "two-view"

    margins: tuple[int, ...] | None = None
    """Frames between the two views; 2 and 8 where not given."""

    def _changes(self) -> dict[str, Any]:
        return {"margins": self.margins}


@dataclass(frozen=True)
class Tracking(EndPointRun):
    """Table 2: end-point error of the pixels of the first frame at all times; WorldTrack's and TAPVid-3D's errors."""

    table = "tracking"


@dataclass(frozen=True)
class SequenceRun(TableRun):
    """Options of whole sequences."""

    pairing: Literal["published", "time", "index", "pose"] = "published"
    """How pictures find depth and poses: by time, or as published code for Bonn's depth (index) and TUM's poses."""
    undistort: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Rid pictures and depth of Bonn and TUM of the lens's distortion, which published evaluations leave as it is."""
    window: Count = None
    """Frames that the network sees together; longer sequences are taken in windows and aligned (Sec. 4.2)."""

    def _changes(self) -> dict[str, Any]:
        return {"pairing": None if self.pairing == "published" else self.pairing, "undistort": self.undistort or None}

    def _window(self) -> int | None:
        return self.window


@dataclass(frozen=True)
class VideoDepth(SequenceRun):
    """Table 3: AbsRel and the share within 1.25 of depth, under every alignment that is in use."""

    table = "video-depth"

    align: tuple[str, ...] = field(default_factory=tuple)
    """Alignments: median, scale_lsq, scale_lad, scale_published, scale_shift_lsq, scale_shift_lad,
    scale_shift_published, none; all but none where not given."""
    per_frame: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also fit every frame by itself."""
    depth_cap: Annotated[float | None, tyro.conf.arg(metavar="DEPTH")] = None
    """True depth from here on is not scored; 70 as published where not given."""
    clip: Annotated[float | None, tyro.conf.arg(metavar="DEPTH")] = None
    """Aligned depth beyond it becomes it; 70 for Sintel, as published, where not given."""
    weights: Literal["pixels", "sequences"] = "pixels"
    """How sequences count in the mean: by their pixels with truth, as published, or alike."""

    def _changes(self) -> dict[str, Any]:
        return super()._changes() | {"depth_cap": self.depth_cap, "clip": self.clip}

    def _options(self) -> "TableOptions":
        from vdpm.evaluation.table_scores import DEFAULT_ALIGNMENTS, TableOptions

        align = self.align or DEFAULT_ALIGNMENTS
        return TableOptions(alignments=align, per_frame=self.per_frame, weights=self.weights)


@dataclass(frozen=True)
class CameraPose(SequenceRun):
    """Table 4: ATE and RPE after a similarity of the whole path."""

    table = "camera-pose"

    delta: Annotated[int, tyro.conf.arg(metavar="FRAMES")] = 1
    """RPE is of the motion over so many frames."""
    align: Literal["sim3", "se3"] = "sim3"
    """Fit the path by a similarity, or by a rigid motion for models that know metres."""

    def _options(self) -> "TableOptions":
        from vdpm.evaluation.table_scores import TableOptions

        return TableOptions(delta=self.delta, pose_scale=self.align == "sim3")


@dataclass(frozen=True)
class Report:
    """Several runs in the same tables: a row for each model."""

    results: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="DIR")]
    """Folders of runs that are scored."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")]
    """Folder for tables.md and tables.tex."""
    differences: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also how much each model differs from the first one of its table, clip by clip."""

    def run(self) -> None:
        from vdpm.evaluation.table_differences import difference_tables
        from vdpm.evaluation.table_file import read_scores
        from vdpm.evaluation.table_report import write_report

        if not self.results:
            raise UsageError("which results? name folders of vdpm evaluate")
        found = [read_scores(folder) for folder in self.results]
        made = write_report(found, self.output, difference_tables(found) if self.differences else ())
        print("\n".join(table.markdown() for table in made))
        print(f"{self.output}: tables.md, tables.tex")

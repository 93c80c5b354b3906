"""Which clips of a data set are scored: rules in committed files, and what they draw from the sequences that are there.

``benchmarks/NAME.json`` says for a data set, table by table, which sequences papers use, which of their frames, and how
pairs and snippets are drawn. What is drawn depends on a sequence's name and length and the seed alone, so that the same
data give the same clips everywhere, and more sequences do not change those of the others.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch

from vdpm.archive.manifest import JsonFields
from vdpm.errors import InputError, UsageError

FOLDER = Path(__file__).parent / "benchmarks"

Table = Literal["two-view", "tracking", "video-depth", "camera-pose"]
TABLES: tuple[Table, ...] = ("two-view", "tracking", "video-depth", "camera-pose")
"""Tables 1 to 4 of the paper."""


@dataclass(frozen=True)
class Benchmark:
    """How the clips of one table are taken from a data set. ``title``: its column in the paper.

    ``sequences``: those that papers use (None: all). Pairs: ``per_sequence`` for each of ``margins``, frames apart;
    snippets: ``per_sequence`` of ``frames`` frames, each ``stride`` from the next; drawn by ``seed``. Whole sequences:
    every ``stride``-th frame from ``first`` on, at most ``frames``. ``pairing``: how pictures find depth or pose, as
    the reader of the data set pairs them ("time") or as published code ("index", "pose": see ``published_frames``).
    ``undistort``: rid pictures and depth of the lens's distortion (Bonn, TUM), which published code leaves as it is.
    ``depth_cap``: true depth from there on is not scored; ``clip``: aligned depth beyond it becomes it.
    """

    dataset: str
    title: str
    table: Table
    sequences: tuple[str, ...] | None = None
    first: int = 0
    frames: int | None = None
    stride: int = 1
    margins: tuple[int, ...] = ()
    per_sequence: int = 1
    seed: int = 0
    pairing: Literal["time", "index", "pose"] = "time"
    undistort: bool = False
    depth_cap: float | None = None
    clip: float | None = None

    def __post_init__(self) -> None:
        counts = (self.frames or 1, self.stride, self.per_sequence, *self.margins)
        if min(counts) < 1 or self.first < 0:
            raise UsageError(f"{self.dataset}, {self.table}: numbers of frames, strides and margins are at least 1")
        if self.table == "two-view" and not self.margins:
            raise UsageError("two-view scores need margins; give --margins 2 8")
        for name in ("depth_cap", "clip"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UsageError(f"{name} is {value:g}; give a depth above 0")

    def changed(self, **values: Any) -> "Benchmark":
        """The same with the ``values`` that are not None. Raises UsageError for what makes no sense."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})

    def to_json(self) -> dict[str, Any]:
        """Plain data for files of results."""
        return asdict(self)


@dataclass(frozen=True)
class Sample:
    """One clip that a model answers by itself. ``name`` is unique and names its file; ``group``: its margin."""

    name: str
    sequence: str
    frames: tuple[int, ...]
    group: str = ""

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "sequence": self.sequence, "frames": list(self.frames), "group": self.group}


@dataclass(frozen=True)
class Drawn:
    """What a benchmark draws, and what it left out: reasons by sequence."""

    samples: tuple[Sample, ...]
    left_out: dict[str, str]

    def digest(self) -> str:
        """Twelve hexadecimal digits that tell this list from any other."""
        text = json.dumps([sample.to_json() for sample in self.samples])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def load_benchmark(dataset: str, table: Table) -> Benchmark:
    """The rule for ``table`` on ``dataset``: its own file's, else the default. Raises InputError for a damaged file."""
    common = _read(FOLDER / "default.json")
    path = FOLDER / f"{dataset}.json"
    own = _read(path) if path.is_file() else {"title": None, "tables": {}}
    values: dict[str, Any] = own["tables"].get(table, common["tables"][table])
    known = {f.name for f in fields(Benchmark)} - {"dataset", "title", "table"}
    if not set(values) <= known:
        raise InputError(f"{path}: {sorted(set(values) - known)} say nothing that a benchmark knows")
    plain: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    return Benchmark(dataset=dataset, title=own["title"] or dataset, table=table, **plain)


def draw(benchmark: Benchmark, lengths: Mapping[str, int]) -> Drawn:
    """The clips of the sequences whose numbers of frames are ``lengths``, in the order of their names.

    Sequences that the benchmark names and that are not there, or too short for its clips, are told in ``left_out``.
    Raises UsageError where nothing is left.
    """
    left_out: dict[str, str] = {}
    wanted = sorted(lengths) if benchmark.sequences is None else list(benchmark.sequences)
    samples: list[Sample] = []
    for name in wanted:
        if name not in lengths:
            left_out[name] = "is not there"
            continue
        found = _clips_of(benchmark, name, lengths[name])
        samples += found
        if not found:
            left_out[name] = f"has {lengths[name]} frames, too few"
    if not samples:
        first, reason = next(iter(left_out.items()), ("nothing", "is there"))
        raise UsageError(
            f"{benchmark.dataset}: no clip for {benchmark.table}; {first} {reason}, and so on for {len(left_out)}; "
            "choose others with --sequences all"
        )
    names = [sample.name for sample in samples]
    assert len(set(names)) == len(names)
    return Drawn(tuple(samples), left_out)


def _clips_of(benchmark: Benchmark, sequence: str, length: int) -> list[Sample]:
    slug = _slug(sequence)
    if benchmark.table == "two-view":
        return [
            Sample(f"{slug}.m{margin}.{start:05d}", sequence, (start, start + margin), str(margin))
            for margin in benchmark.margins
            for start in _starts(benchmark, f"{sequence}/{margin}", length - margin)
        ]
    if benchmark.table == "tracking":
        count, stride = benchmark.frames or 10, benchmark.stride
        return [
            Sample(f"{slug}.{start:05d}", sequence, tuple(range(start, start + count * stride, stride)))
            for start in _starts(benchmark, sequence, length - (count - 1) * stride)
        ]
    frames = range(benchmark.first, length, benchmark.stride)[: benchmark.frames]
    return [Sample(slug, sequence, tuple(frames))] if len(frames) > 1 else []


def _starts(benchmark: Benchmark, words: str, count: int) -> list[int]:
    """``per_sequence`` of the numbers below ``count``, each once, in order."""
    if count < 1:
        return []
    seed = hashlib.sha256(f"{benchmark.seed}/{words}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(seed[:7], "big"))
    return sorted(torch.randperm(count, generator=generator)[: benchmark.per_sequence].tolist())


def _slug(name: str) -> str:
    """A name of a file: what is no letter, digit, dot or dash gives way, and then a hash tells names apart."""
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", name).lstrip(".")[:100]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _read(path: Path) -> dict[str, Any]:
    try:
        content = JsonFields.parse(path.read_text(), path)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}); install vdpm anew") from None
    if content.data.get("format") != "vdpm.benchmark" or content.integer("format_version", 1, 10**6) > 1:
        raise InputError(f"{path}: is no benchmark of format 1; upgrade vdpm")
    return {"title": content.data.get("title"), "tables": content.table("tables")}

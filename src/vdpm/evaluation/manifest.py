"""Which snippets a family is scored on: a JSON file in the package that says everything they are made from.

A manifest holds the whole SceneConfig, so that later defaults cannot change a set without notice, and a fingerprint:
figures of a few of its snippets as the generator made them when the manifest was written. A generator that has changed
since makes other figures, and the scores then say that they cannot be compared.

    python -m vdpm.evaluation.manifest      writes the manifests of all families anew
"""

import hashlib
import json
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdpm.archive.folder import disk_errors, write_whole
from vdpm.archive.manifest import JsonFields
from vdpm.errors import InputError, UsageError
from vdpm.synthetic import SceneConfig, SceneGenerator
from vdpm.synthetic.families import FAMILIES, SNIPPETS, STRIDE, VIDEO_RATE, family_seeds

FOLDER = Path(__file__).parent / "manifests"
MARGINS = (2, 8)
"""Frames of the video between the two views of a pair, Table 1."""

_FORMAT, _VERSION = "vdpm.family", 1
_MAX_BYTES = 1 << 20
_PROBES, _PROBE_SIZE = 8, (16, 24)
_TOLERANCE = 0.02
"""Room for rays that hit an edge on one device and miss it on another; a changed scene is off by far more."""


@dataclass(frozen=True)
class FamilyManifest:
    """One family's snippets. ``config`` has their frames and size; ``pairs``: margin -> the two frames of a snippet.

    ``fingerprint``: figures of the snippets ``probes``, see ``figures_of``. ``notes``: what reading found odd.
    """

    family: str
    config: SceneConfig
    first_seed: int
    count: int
    stride: int
    pairs: dict[int, tuple[int, int]]
    probes: tuple[int, ...]
    fingerprint: tuple[tuple[float, ...], ...]
    notes: tuple[str, ...] = ()

    def seeds(self, count: int | None = None) -> Int[Tensor, "count"]:
        """Seeds of the first ``count`` snippets, all where None. Raises UsageError for more than there are."""
        count = self.count if count is None else count
        if not 1 <= count <= self.count:
            raise UsageError(f"{count} snippets of {self.family}; its manifest has 1 to {self.count}")
        return self.first_seed + torch.arange(count)

    def dumps(self) -> str:
        """The text of the manifest's file."""
        content = {
            "format": _FORMAT,
            "format_version": _VERSION,
            "family": self.family,
            "seeds": {"first": self.first_seed, "count": self.count},
            "frames": self.config.num_frames,
            "size": [self.config.height, self.config.width],
            "stride": self.stride,
            "video_rate": VIDEO_RATE,
            "margins": list(self.pairs),
            "pairs": {str(margin): list(pair) for margin, pair in self.pairs.items()},
            "config": asdict(self.config),
            "fingerprint": {"snippets": list(self.probes), "values": [list(row) for row in self.fingerprint]},
        }
        return json.dumps(content, indent=1) + "\n"

    def digest(self) -> str:
        """Twelve hexadecimal digits that tell this manifest from any other."""
        return hashlib.sha256(self.dumps().encode()).hexdigest()[:12]

    def differences(self, device: torch.device | str = "cpu") -> tuple[str, ...]:
        """What makes scores on today's scenes incomparable with those of the manifest's; empty where nothing does."""
        now = torch.tensor(figures_of(self, device))
        then = torch.tensor(self.fingerprint)
        found = list(self.notes)
        if now.shape != then.shape:
            return (*found, f"{self.family}: manifest was made with another generator: figures are not comparable")
        away = (now - then).abs() > _TOLERANCE * (1 + torch.maximum(now.abs(), then.abs()))
        if bool(away.any()):
            found.append(
                f"{self.family}: manifest was made with another generator ({int(away.any(1).sum())} of "
                f"{len(then)} probed snippets differ): figures are not comparable"
            )
        return tuple(found)


def make_manifest(family: str, count: int = SNIPPETS) -> FamilyManifest:
    """The manifest of a family as its scenes are made now. Raises UsageError for a family that does not exist."""
    seeds = family_seeds(family, count)
    config = FAMILIES[family]
    pairs = {margin: (0, margin // STRIDE) for margin in MARGINS if margin // STRIDE < config.num_frames}
    probes = torch.linspace(0, count - 1, min(count, _PROBES)).round().int().tolist()
    bare = FamilyManifest(family, config, int(seeds[0]), count, STRIDE, pairs, tuple(probes), ())
    return replace(bare, fingerprint=figures_of(bare))


def load_manifest(family: str) -> FamilyManifest:
    """The manifest of ``family`` that the package ships. Raises UsageError for a family that does not exist."""
    if family not in FAMILIES:
        raise UsageError(f"no family {family!r}; there are {', '.join(FAMILIES)}")
    return read_manifest(FOLDER / f"{family}.json")


def read_manifest(path: Path) -> FamilyManifest:
    """Reads a manifest. Raises InputError, one line, for a file that is missing, damaged or of another kind."""
    try:
        with path.open("rb") as stream:
            content = stream.read(_MAX_BYTES + 1)
        text = content.decode()
    except FileNotFoundError:
        raise InputError(f"{path}: no such manifest; python -m vdpm.evaluation.manifest makes them") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a manifest ({error}); make it anew") from None
    if len(content) > _MAX_BYTES:
        raise InputError(f"{path}: larger than {_MAX_BYTES} bytes, which no manifest is")
    data = JsonFields.parse(text, path)
    if data.data.get("format") != _FORMAT or data.integer("format_version", 1, 10**6) > _VERSION:
        raise InputError(f"{path}: not a manifest of format {_FORMAT} {_VERSION}; upgrade vdpm or make it anew")
    config, notes = _config(data.table("config"), path, data.text("family"))
    seeds = JsonFields(data.table("seeds"), path)
    print_of = JsonFields(data.table("fingerprint"), path)
    pairs = JsonFields(data.table("pairs"), path)
    last = config.num_frames - 1
    rows = print_of.data.get("values")
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        raise InputError(f"{path}: 'values' of the fingerprint is not a list of lists of numbers")
    count = seeds.integer("count", 1, 1 << 20)
    probes = print_of.integers("snippets", 0, count - 1, length=len(rows))
    values = tuple(JsonFields({"values": row}, path).numbers("values", length=len(row)) for row in rows)
    if not rows or len({len(row) for row in values}) != 1:
        raise InputError(f"{path}: the fingerprint has no rows, or rows of several lengths")
    margins = data.integers("margins", 1, 10**6, length=len(pairs.data))
    return FamilyManifest(
        family=data.text("family"),
        config=config,
        first_seed=seeds.integer("first", 1, 1 << 62),
        count=count,
        stride=data.integer("stride", 1, 1000),
        pairs={m: _pair(pairs.integers(str(m), 0, last, length=2), m, path) for m in margins},
        probes=probes,
        fingerprint=values,
        notes=notes,
    )


def figures_of(manifest: FamilyManifest, device: torch.device | str = "cpu") -> tuple[tuple[float, ...], ...]:
    """A row of figures for each probed snippet, from small pictures of it: colours, shape, motion, camera.

    Lengths are in units of the snippet's mean distance. They differ little between devices, sizes of a batch and
    versions of PyTorch.
    """
    height, width = _PROBE_SIZE
    config = replace(manifest.config, height=height, width=width, colour_samples=1)
    last = config.num_frames - 1
    seeds = manifest.first_seed + torch.tensor(manifest.probes)
    truth = SceneGenerator(config, device)(seeds, torch.tensor([[last]]).expand(len(seeds), -1).contiguous())
    share = truth.valid.float().mean((1, 2, 3))
    inside = truth.valid.sum((1, 2, 3)).clamp_min(1)
    unit = truth.points.norm(dim=-1).sum((1, 2, 3)) / inside
    moved = (truth.target_points[:, 0] - truth.points).norm(dim=-1)
    figures = [
        *truth.images.mean((1, 3, 4)).unbind(1),
        truth.images.std((1, 2, 3, 4)),
        share,
        truth.dynamic.float().mean((1, 2, 3)),
        torch.log(unit.clamp_min(1e-6)),
        *(truth.points.sum((1, 2, 3)) / inside[:, None] / unit[:, None]).unbind(1),
        moved.sum((1, 2, 3)) / inside / unit,
        *(truth.c2w[:, last, :3, 3] / unit[:, None]).unbind(1),
        *_rotation_figures(truth.c2w[:, last, :3, :3]),
        truth.intrinsics[:, 0, 0, 0] / width,
    ]
    rows = torch.stack([figure.cpu() for figure in figures], 1).tolist()
    return tuple(tuple(round(value, 4) for value in row) for row in rows)


def write_manifests(folder: Path = FOLDER, count: int = SNIPPETS) -> list[Path]:
    """Writes the manifests of all families, whole or not at all. Raises OutputError where they cannot be written."""
    written = []
    for family in FAMILIES:
        path = folder / f"{family}.json"
        content = make_manifest(family, count).dumps().encode()
        with disk_errors(path):
            write_whole(path, [content])
        written.append(path)
    return written


def _rotation_figures(rotation: Float[Tensor, "batch 3 3"]) -> tuple[Tensor, ...]:
    return rotation[:, 0, 2], rotation[:, 1, 2], rotation[:, 0, 1]


def _pair(frames: tuple[int, ...], margin: int, path: Path) -> tuple[int, int]:
    first, second = frames
    if first != 0 or second <= first:
        raise InputError(f"{path}: the pair of margin {margin} is {list(frames)}, not frame 0 and a later one")
    return first, second


def _config(table: dict[str, Any], path: Path, family: str) -> tuple[SceneConfig, tuple[str, ...]]:
    """The scenes' settings, and a note where the manifest lacks some that scenes have now."""
    missing: list[str] = []
    try:
        config = _built(SceneConfig(), table, "", missing, path)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: its settings of scenes cannot be used: {error}") from None
    note = f"{family}: manifest is older than {', '.join(missing)[:200]}, for which defaults are taken"
    return config, (note,) if missing else ()


def _built(default: Any, table: dict[str, Any], prefix: str, missing: list[str], path: Path) -> Any:
    """A settings object like ``default`` with the values of ``table``; settings in settings are tables in the table."""
    known = {f.name for f in fields(default)}
    unknown = sorted(prefix + name for name in set(table) - known)
    if unknown:
        raise InputError(
            f"{path}: has settings that scenes here do not have ({', '.join(unknown)[:200]}); it was made by another "
            "version, use that one or make the manifest anew"
        )
    missing.extend(sorted(prefix + name for name in known - set(table)))
    values: dict[str, Any] = {}
    for name, value in table.items():
        inner = getattr(default, name)
        if is_dataclass(inner):
            if not isinstance(value, dict):
                raise InputError(f"{path}: {prefix + name!r} is not an object")
            values[name] = _built(inner, value, f"{prefix}{name}.", missing, path)
        elif not _alike(inner, value):
            raise InputError(f"{path}: {prefix + name!r} is {str(value)[:40]!r}, of another kind than {inner!r}")
        else:
            values[name] = tuple(value) if isinstance(value, list) else value
    return replace(default, **values)


def _alike(default: Any, value: Any) -> bool:
    """Whether a value from JSON is a number, text, or as many of them as the default has."""
    if isinstance(default, tuple):
        return isinstance(value, list) and len(value) == len(default) and all(map(_alike, default, value))
    if isinstance(default, float):
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return type(value) is type(default)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    print("\n".join(map(str, write_manifests())))

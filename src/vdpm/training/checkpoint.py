"""Training state on disk: weights, their average, optimisers, generators, position. Written beside, then renamed; never
pickled code.
"""

import contextlib
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vdpm.errors import CheckpointError, OutputError

FORMAT = "vdpm-training-5"


@dataclass(frozen=True)
class TrainingState:
    """All that a run needs to go on, on any number of ranks.

    ``moments``: what the optimisers keep, by kind, then by parameter; ``updates``: how many steps they have taken (bad
    ones are skipped). ``step``: where the data stands, since every scene follows from seed, step and rank;
    ``position``: where the schedule stands, in steps. ``generators``: states of PyTorch's own generators, by device.
    ``clips``: how many training clips have been shown, over all ranks and runs; ``scenes``: how many scenes they
    were made of; ``averaged``: updates in the average; ``grid``: the fingerprint of the grid that all of them were
    made on, or nothing; ``seeds``: all whose scenes have been used. ``config``, ``network``: the run's and the
    network's settings.
    """

    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    moments: dict[str, dict[str, Tensor]]
    updates: int
    generators: dict[str, Tensor]
    step: int
    position: float
    clips: int
    scenes: int
    averaged: int
    grid: str
    seeds: list[int]
    seconds: float
    config: dict[str, Any]
    network: dict[str, Any]


def save_state(state: TrainingState, path: Path) -> None:
    """Write the state to ``path`` (a ``.pt`` file); a state that is there stays until the new one is whole.

    Raises OutputError where it cannot be written.
    """
    beside = path.with_name(f".{path.name}.writing")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            torch.save({"format": FORMAT, **vars(state)}, file)
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:
        # torch reports a failed write as RuntimeError.
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise OutputError(
            f"{path}: the training state cannot be written ({_first_line(error)}); "
            "free space or choose another folder; a state saved before is still there"
        ) from None


def load_state(path: Path) -> TrainingState:
    """Read what ``save_state`` wrote. Raises CheckpointError for anything else."""
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no training state there; start without --resume") from None
    except Exception as error:
        raise CheckpointError(
            f"{path}: cannot be read as a training state ({_first_line(error)}); it may be cut short"
        ) from None
    if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
        raise CheckpointError(f"{path}: not a training state of this version ({FORMAT}); start a new run")
    kinds = {field.name: field.type for field in fields(TrainingState)}
    differing = sorted(set(raw) ^ set(kinds), key=str)
    if differing:
        raise CheckpointError(
            f"{path}: entries {', '.join(map(str, differing))} are missing or unknown; start a new run"
        )
    for name, kind in kinds.items():
        accepted: Any = (int, float) if kind is float else getattr(kind, "__origin__", kind)
        if not isinstance(raw[name], accepted):
            raise CheckpointError(f"{path}: {name} is of the wrong kind; start a new run")
    return TrainingState(**raw)


def _first_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).splitlines()[0] if str(error) else type(error).__name__

"""Training state on disk: weights, averaged weights, optimisers, step. Written beside, then renamed; never
pickled code.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vdpm.errors import CheckpointError

FORMAT = "vdpm-training-1"


@dataclass(frozen=True)
class TrainingState:
    """All that a run needs to go on. ``position``: where the schedule
    stands, in steps. ``clips``: how many training clips have been seen, over all ranks and runs."""

    weights: dict[str, Tensor]
    average: dict[str, Tensor]
    optimizers: list[dict[str, Any]]
    step: int
    position: float
    clips: int
    seconds: float
    config: dict[str, Any]


def save_state(state: TrainingState, path: Path) -> None:
    """Write the state to ``path`` (a ``.pt`` file)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.writing")
    torch.save({"format": FORMAT, **vars(state)}, beside)
    os.replace(beside, path)


def load_state(path: Path) -> TrainingState:
    """Read what ``save_state`` wrote. Raises CheckpointError for anything else."""
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no training state there; start without --resume") from None
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: cannot be read as a training state ({first}); it may be cut short") from None
    if not isinstance(raw, dict) or raw.pop("format", None) != FORMAT:
        raise CheckpointError(f"{path}: not a training state of this version ({FORMAT}); start a new run")
    return TrainingState(**raw)

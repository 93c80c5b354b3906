"""From one slice of training to the next: the weights themselves, their average, and what both have behind them.

The folder ``onward/`` of a run is small enough to travel: the average as a model folder of 8-bit integers, and beside
it the difference of the weights to that average, in 8 bits as well. Moments of the optimisers stay behind: they forget
within 20 (Muon) to 50 (AdamW) steps, fewer than the learning rate takes to warm up.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from vdpm.errors import CheckpointError, OutputError, UsageError
from vdpm.model import VDPM, VDPMConfig
from vdpm.model.checkpoint_file import read_state, write_state
from vdpm.model.weights import WEIGHTS_FILE, fingerprint, write_folder
from vdpm.training.checkpoint import load_state
from vdpm.training.low_rank import merged

STATE_FILE = "state.pt"
ONWARD = "onward"
RAW_FILE = "raw.safetensors"
PROGRESS_FILE = "progress.json"


@dataclass(frozen=True)
class Progress:
    """What weights have behind them, over all runs: ``clips`` shown, ``scenes`` they were made of (fewer where scenes
    are shown more than once), updates in the average (``averaged``), ``seeds`` whose scenes have been used."""

    clips: int = 0
    scenes: int = 0
    averaged: int = 0
    seeds: tuple[int, ...] = ()


NEW = Progress()


@dataclass(frozen=True)
class Beginning:
    """What a run starts from. ``average``: by name, or None where it starts at the weights."""

    model: VDPM
    average: Mapping[str, Tensor] | None = None
    progress: Progress = NEW


def write_onward(
    folder: Path, weights: Mapping[str, Tensor], average: Mapping[str, Tensor], config: VDPMConfig, progress: Progress
) -> None:
    """Write the folder that ``begin`` reads; with ``--model`` it is the averaged network.

    Raises OutputError where that fails.
    """
    write_folder(folder, average, config, "int8")
    stored = read_state(folder / WEIGHTS_FILE).tensors
    # To what was stored, not to the exact average: so nothing of its rounding reaches the weights.
    differences = {name: weights[name].detach().cpu().float() - stored[name].float() for name in stored}
    write_state(folder / RAW_FILE, differences, config, "int8")
    content = asdict(progress) | {"average": fingerprint(stored), "raw": _print_of(folder / RAW_FILE)}
    beside = folder / f".{PROGRESS_FILE}"
    try:
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        beside.replace(folder / PROGRESS_FILE)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None


def begin(init: str, init_average: str | None, ema_decay: float) -> Beginning:
    """What to start from: a run's folder (exact), its ``onward`` (compact), or plain weights.

    To plain weights belongs the average in ``init_average``, if there is one; it counts as one that has reached
    ``ema_decay``. Raises CheckpointError for what cannot be read or does not go together, UsageError for an average
    given to a folder that has its own.
    """
    folder = Path(init)
    holds_both = (folder / STATE_FILE).is_file() or (folder / RAW_FILE).is_file()
    if holds_both and init_average is not None:
        raise UsageError(f"{init} holds an average of its own; leave out --init-average, or give --init plain weights")
    if (folder / STATE_FILE).is_file():
        return _of_state(folder / STATE_FILE)
    model = VDPM.from_pretrained(init, dtype=torch.float32)
    if (folder / RAW_FILE).is_file():
        return _of_onward(folder, model)
    if init_average is None:
        return Beginning(model)
    other = VDPM.from_pretrained(init_average, dtype=torch.float32)
    average = other.state_dict()
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    if {name: value.shape for name, value in average.items()} != shapes:
        raise CheckpointError(f"{init_average}: is of another network than {init}; give averages of the same")
    return Beginning(model, average, Progress(averaged=math.ceil(9 / (1 - ema_decay))))


def decay_after(averaged: int, ema_decay: float) -> float:
    """The decay of an average with ``averaged`` updates behind it: a young one follows faster."""
    return min(ema_decay, (1 + averaged) / (10 + averaged))


def _of_state(path: Path) -> Beginning:
    state = load_state(path)
    model = VDPM(VDPMConfig.from_dict(state.network))
    try:
        model.load_state_dict(merged(state.weights))
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights do not fit its network ({str(error).splitlines()[0]})") from None
    return Beginning(
        model, merged(state.average), Progress(state.clips, state.scenes, state.averaged, tuple(map(int, state.seeds)))
    )


def _of_onward(folder: Path, model: VDPM) -> Beginning:
    average = {name: value.clone() for name, value in model.state_dict().items()}
    try:
        content = json.loads((folder / PROGRESS_FILE).read_text(encoding="utf-8"))
        prints = content.pop("average"), content.pop("raw")
        progress = Progress(**content | {"seeds": tuple(content["seeds"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / PROGRESS_FILE}: cannot be read ({error}); fetch {folder} again") from None
    if prints != (fingerprint(average), _print_of(folder / RAW_FILE)):
        raise CheckpointError(f"{folder}: its files do not belong together; fetch all of them again")
    differences = read_state(folder / RAW_FILE).tensors
    model.load_state_dict({name: value + differences[name] for name, value in average.items()})
    return Beginning(model, average, progress)


def _print_of(path: Path) -> str:
    return fingerprint(read_state(path).tensors)

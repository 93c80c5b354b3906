"""Checkpoints of others into our folders: what ``vdpm convert`` calls."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from vdpm.errors import OutputError
from vdpm.model.checkpoint_file import StoredType
from vdpm.model.config import VDPMConfig
from vdpm.model.rounding import Compacted
from vdpm.model.vdpm import VDPM
from vdpm.model.weights import CONFIG_FILE, WEIGHTS_FILE, LoadReport, holds_weights, remove_weights, write_folder


def convert(
    source: str | Path,
    destination: str | Path,
    *,
    dtype: StoredType = "float32",
    config: VDPMConfig | None = None,
    overwrite: bool = False,
    seed: int = 0,
    compacted_by: Callable[[VDPM], Compacted] | None = None,
) -> LoadReport:
    """Read any checkpoint ``VDPM.from_pretrained`` reads and write it as our folder; written beside, then renamed.

    ``seed`` draws what a VGGT checkpoint lacks. ``compacted_by``: for "int8", gives integers and scales of the rows of
    a network's matrices instead of the nearest ones, and what else of it changes (``model.rounding``). Returns what
    was dropped and initialised.
    Raises CheckpointError for a checkpoint that is refused, OutputError where the folder exists (unless ``overwrite``),
    holds other files and no weights, or cannot be written. Files beside the weights stay.
    """
    destination = Path(destination)
    if destination.exists() and not overwrite:
        raise OutputError(f"{destination} exists; choose another folder or pass --overwrite")
    if destination.exists() and not destination.is_dir():
        raise OutputError(f"{destination} is not a folder; choose another name")
    if destination.exists() and any(destination.iterdir()) and not holds_weights(destination):
        raise OutputError(f"{destination} holds other files and no weights, so it is left alone; choose another folder")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = VDPM.from_pretrained(source, config=config)
    report = model.load_report
    assert report is not None
    tensors = model.state_dict()
    integers = None
    with begun_beside(destination) as beside:
        if compacted_by is not None and dtype == "int8":
            compacted = compacted_by(model)
            tensors, integers = tensors | dict(compacted.rest), compacted.integers
        write_folder(beside, tensors, model.config, dtype, integers)
        if destination.exists():
            # Only these two are replaced: what else lies in the folder is the user's.
            for name in (WEIGHTS_FILE, CONFIG_FILE):
                os.replace(beside / name, destination / name)
            remove_weights(destination, but=(WEIGHTS_FILE,))
        else:
            beside.rename(destination)
    return report


@contextmanager
def begun_beside(destination: Path) -> Iterator[Path]:
    """A new folder beside ``destination``, made before the work so that a place that cannot be written is told at once,
    and gone afterwards. Raises OutputError for what the system refuses, inside as well.
    """
    beside = destination.with_name(f".{destination.name}.{os.getpid()}")
    try:
        beside.mkdir(parents=True)
        yield beside
    except OSError as error:
        raise OutputError(f"cannot write {destination} ({error.strerror}); choose another folder") from None
    except OutputError as error:
        raise OutputError(str(error).replace(str(beside), str(destination))) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)

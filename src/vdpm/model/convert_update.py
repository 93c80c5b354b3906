"""A network as the update of one that is stored already: what ``vdpm convert --update-of`` calls."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

from vdpm.errors import CheckpointError, OutputError
from vdpm.model.convert import begun_beside
from vdpm.model.rounding import Compacted
from vdpm.model.updates import BASE_FILE, UPDATE_FILE, write_update
from vdpm.model.vdpm import VDPM
from vdpm.model.weights import (
    CONFIG_FILE,
    LoadReport,
    fingerprint,
    holds_weights,
    locate_weights,
    read_weights,
    remove_weights,
)


def convert_update(
    source: str | Path,
    earlier: str | Path,
    destination: str | Path,
    *,
    compacted_by: Callable[[VDPM, Mapping[str, Tensor]], Compacted],
    overwrite: bool = False,
) -> LoadReport:
    """Write ``source`` as the files of ``earlier``, to the byte, and an update; written beside, then renamed.

    ``compacted_by``: gives for the network and the tensors of the earlier one the difference as integers of -7 to 7 and
    scales of the rows of matrices, or as factors, and as it is for all else. Raises CheckpointError for weights that
    are refused or of two different networks, OutputError where the folder exists (unless ``overwrite``), holds other
    files and no weights, or cannot be written. Other files in it stay; ``destination`` may be ``earlier``.
    """
    destination = Path(destination)
    if destination.exists() and not overwrite:
        raise OutputError(f"{destination} exists; choose another folder or pass --overwrite")
    if destination.exists() and not holds_weights(destination):
        raise OutputError(f"{destination} is no folder with weights, so it is left alone; choose another one")
    model, located, known = VDPM.from_pretrained(source), locate_weights(earlier), read_weights(earlier)
    assert model.load_report is not None
    before = known.tensors
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    if known.config != model.config or {name: value.shape for name, value in before.items()} != shapes:
        raise CheckpointError(
            f"{source} and {earlier} are weights of different networks; an update needs two of the same"
        )
    if located.file.suffix != ".safetensors":
        raise CheckpointError(f"{located.file} is no safetensors file; convert it first, then make the update of that")
    with begun_beside(destination) as beside:
        compacted = compacted_by(model, before)
        names = [BASE_FILE, *(UPDATE_FILE.format(number + 1) for number in range(len(located.updates)))]
        for path, name in zip((located.file, *located.updates), names, strict=True):
            shutil.copyfile(path, beside / name)
        names += [UPDATE_FILE.format(len(names)), CONFIG_FILE]
        write_update(beside / names[-2], fingerprint(before), compacted.integers, compacted.rest, compacted.factors)
        (beside / CONFIG_FILE).write_text(model.config.to_json(), encoding="utf-8")
        if destination.exists():
            for name in names:
                os.replace(beside / name, destination / name)
            remove_weights(destination, but=names)
        else:
            beside.rename(destination)
    return model.load_report

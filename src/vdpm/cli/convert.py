"""``vdpm convert``: a checkpoint of another make into a folder of ours."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from vdpm.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from vdpm.model import VDPM


@dataclass(frozen=True)
class Convert:
    """Convert weights into a folder of config.json and model.safetensors that vdpm loads at once.

    Reads the released model.pt of V-DPM, VGGT-1B (its depth and track heads are dropped; time token and decoder start
    from random numbers and must be trained), safetensors files, folders, and Hugging Face repositories.
    """

    source: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="SOURCE")]]
    """Weights to read: a file, a folder, or the id of a Hugging Face repository."""

    destination: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="DIR")]]
    """Folder to write. One that exists is kept unless --overwrite is given."""

    dtype: Literal["float32", "bfloat16", "int8"] = "float32"
    """Number format of the stored weights. int8 takes a quarter of the room and is off by at most 0.4 %."""

    step: Annotated[float | None, tyro.conf.arg(metavar="STEP")] = None
    """For int8: coarser integers in the transformers' blocks, this many root mean squares of a row apart (0.5, say),
    rounded so that the maps of 16 of our own clips change least. The file compresses to about half."""

    overwrite: bool = False
    """Replace the weights in a folder that exists; other files in it stay."""

    def run(self) -> None:
        from vdpm.model.convert import convert

        if self.step is not None and self.dtype != "int8":
            raise UsageError("--step is for integers; add --dtype int8")
        report = convert(
            self.source, self.destination, dtype=self.dtype, overwrite=self.overwrite, integers_of=self._integers_of()
        )
        size = sum(path.stat().st_size for path in self.destination.iterdir()) / 1e6
        print(f"{self.destination}: {report}; {size:.1f} MB")
        if report.initialized:
            print(f"{len(report.initialized)} tensors are random: train before use")
        else:
            print(f"Next: vdpm reconstruct VIDEO -o DIR --model {self.destination}")

    def _integers_of(self) -> "Callable[[VDPM], dict[str, tuple[Tensor, Tensor]]] | None":
        if self.step is None:
            return None
        from vdpm.training.compact import compact_integers

        return partial(compact_integers, step=self.step)

"""``vdpm convert``: a checkpoint of another make into a folder of ours."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


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

    overwrite: bool = False
    """Replace the weights in a folder that exists; other files in it stay."""

    def run(self) -> None:
        from vdpm.model.convert import convert

        report = convert(self.source, self.destination, dtype=self.dtype, overwrite=self.overwrite)
        size = sum(path.stat().st_size for path in self.destination.iterdir()) / 1e6
        print(f"{self.destination}: {report}; {size:.1f} MB")
        if report.initialized:
            print(f"{len(report.initialized)} tensors are random: train before use")
        else:
            print(f"Next: vdpm reconstruct VIDEO -o DIR --model {self.destination}")

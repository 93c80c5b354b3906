"""``vdpm convert``: a checkpoint of another make into a folder of ours."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from vdpm.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from vdpm.model import VDPM
    from vdpm.model.rounding import Compacted


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

    size: Annotated[float | None, tyro.conf.arg(metavar="MIB")] = None
    """For int8: MiB that the file may have once git, zip or a wheel has packed it. Each matrix gets a step of its own,
    the coarser the less the maps depend on it. Takes some minutes on a CPU."""

    update_of: Annotated[str | None, tyro.conf.arg(metavar="NAME|DIR")] = None
    """With --size: weights of an earlier state of the same network. DIR gets their file as it is, and beside it an
    update: what is to be added, in small integers. A repository that holds the earlier file grows by --size alone."""

    steps_of: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """With --update-of: round to the nearest integers with the steps of the last update in DIR. Of weights that vdpm
    train --round-as DIR has trained nothing is lost. With --size all of these steps are multiplied by one factor."""

    rank: Annotated[int | None, tyro.conf.arg(metavar="RANK")] = None
    """With --update-of and --size: matrices of the backbone's blocks differ by products of this rank, cut to it where
    they differ by more, and are stored as two thin factors. For networks that were trained so."""

    overwrite: bool = False
    """Replace the weights in a folder that exists; other files in it stay."""

    def run(self) -> None:
        from vdpm.model.convert import convert
        from vdpm.model.convert_update import convert_update

        for name, value in (("--step", self.step), ("--size", self.size), ("--steps-of", self.steps_of)):
            if value is not None and self.dtype != "int8":
                raise UsageError(f"{name} is for integers; add --dtype int8")
        if self.step is not None and (self.size is not None or self.steps_of is not None):
            other = "--size" if self.steps_of is None else "--steps-of"
            raise UsageError(f"--step and {other} both tell how coarse the integers are; give one of them")
        if self.steps_of is not None and self.update_of is None:
            raise UsageError("--steps-of goes with --update-of; name the weights that the update is to belong to")
        if self.rank is not None and self.steps_of is not None:
            raise UsageError("--rank and --steps-of cannot go together: factors have no steps to take over")
        if self.rank is not None and (self.update_of is None or self.size is None):
            raise UsageError("--rank is for updates of a size; add --update-of and --size")
        if self.update_of is not None:
            report = convert_update(
                self.source,
                self.update_of,
                self.destination,
                compacted_by=self._update_by(),
                overwrite=self.overwrite,
            )
        else:
            report = convert(
                self.source,
                self.destination,
                dtype=self.dtype,
                overwrite=self.overwrite,
                compacted_by=self._compacted_by(),
            )
        size = sum(path.stat().st_size for path in self.destination.iterdir()) / 1e6
        print(f"{self.destination}: {report}; {size:.1f} MB")
        if report.initialized:
            print(f"{len(report.initialized)} tensors are random: train before use")
        else:
            print(f"Next: vdpm reconstruct VIDEO -o DIR --model {self.destination}")

    def _update_by(self) -> "Callable[[VDPM, Mapping[str, Tensor]], Compacted]":
        if self.steps_of is not None:
            return partial(self._with_steps, self.steps_of, self.size)
        if self.size is None:
            raise UsageError("--update-of needs a --size for the update (3, say), or --steps-of another one")
        return partial(self._compacted, self.size, rank=self.rank)

    def _compacted_by(self) -> "Callable[[VDPM], Compacted] | None":
        if self.size is not None:
            return partial(self._compacted, self.size)
        return None if self.step is None else partial(self._at_step, self.step)

    @staticmethod
    def _with_steps(steps_of: str, mib: float | None, model: "VDPM", before: "Mapping[str, Tensor]") -> "Compacted":
        from vdpm.model.update_grid import update_with_steps_of
        from vdpm.progress import terminal_progress

        with terminal_progress() as report:
            return update_with_steps_of(steps_of, model, before, mib, report)

    @staticmethod
    def _at_step(step: float, model: "VDPM") -> "Compacted":
        from vdpm.progress import terminal_progress
        from vdpm.training.compact import compact_at_step

        with terminal_progress() as report:
            return compact_at_step(model, step, report=report)

    @staticmethod
    def _compacted(
        mib: float, model: "VDPM", before: "Mapping[str, Tensor] | None" = None, rank: int | None = None
    ) -> "Compacted":
        from vdpm.progress import terminal_progress
        from vdpm.training.compact import compact_to_size

        with terminal_progress() as report:
            return compact_to_size(model, mib, report=report, before=before, rank=rank)

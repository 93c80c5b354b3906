"""The log once more for TensorBoard, with pictures, where the extra ``tensorboard`` is installed."""

import math
import sys
from pathlib import Path
from typing import Any

from jaxtyping import UInt8
from torch import Tensor

FOLDER = "tensorboard"


class Board:
    """Event files in ``folder``/tensorboard of a run that has reached ``step``; nothing at all without the extra."""

    def __init__(self, folder: Path, step: int = 0) -> None:
        self.folder, self.step = folder / FOLDER, step
        self._writer: Any = None

    def open(self) -> None:
        """Begin to write; one line on standard error where TensorBoard is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            print("no TensorBoard here (pip install 'vdpm[tensorboard]'): log.jsonl alone", file=sys.stderr, flush=True)
            return
        # Entries beyond this step were lost with the run that wrote them.
        self._writer = SummaryWriter(str(self.folder), purge_step=self.step + 1 if self.step else None)

    @property
    def is_open(self) -> bool:
        return self._writer is not None

    def scalars(self, entry: dict[str, Any]) -> None:
        """All finite numbers of an entry of the log, at its step."""
        if self._writer is None:
            return
        for name, value in entry.items():
            if name != "step" and math.isfinite(value):
                self._writer.add_scalar(name, value, entry["step"])

    def picture(self, sheet: UInt8[Tensor, "height width 3"], step: int) -> None:
        """One picture, made by ``pictures.picture``."""
        if self._writer is not None:
            self._writer.add_image("frames, nearness and motion (true, predicted)", sheet, step, dataformats="HWC")

    def close(self) -> None:
        """Write out what is still in memory."""
        if self._writer is not None:
            self._writer.close()

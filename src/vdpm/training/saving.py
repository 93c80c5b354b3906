"""The files of a run: its state, the averaged network, and ``onward/``. Written while training goes on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

from vdpm.model import VDPM, VDPMConfig
from vdpm.model.update_grid import UpdateGrid
from vdpm.training.checkpoint import TrainingState, save_state
from vdpm.training.low_rank import merged
from vdpm.training.onward import ONWARD, STATE_FILE, Progress, write_onward

MODEL = "model"
"""Folder of the averaged weights in that of a run."""


def write_run(output: Path, state: TrainingState, grid: UpdateGrid | None = None) -> None:
    """Write ``state.pt``, the averaged weights as a model folder, and ``onward/``.

    ``grid``: what the state's average is rounded to for the two folders, if it is one of passes on it. Each file is
    written beside and then renamed. Raises OutputError where that fails.
    """
    save_state(state, output / STATE_FILE)
    config = VDPMConfig.from_dict(state.network)
    average = merged(state.average) if grid is None else grid.nearest_to(state.average)
    with torch.device("meta"):
        averaged = VDPM(config)
    averaged.load_state_dict(average, assign=True)
    # Rounded, a sum would no longer differ by the few numbers that an update is to find again.
    low_rank = average.keys() != state.average.keys()
    averaged.save_pretrained(output / MODEL, dtype="float32" if low_rank else "bfloat16")
    progress = Progress(state.clips, state.scenes, state.averaged, tuple(state.seeds))
    write_onward(output / ONWARD, merged(state.weights), average, config, progress)


class Writer:
    """Does one thing at a time beside the caller, who hears of an error at the next call."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vdpm-writer")
        self._underway: Future[None] | None = None

    def start(self, write: Callable[[], None]) -> None:
        """Wait for what is being written, then begin with ``write``. Raises what that or the one before raised."""
        self.finish()
        self._underway = self._threads.submit(write)

    def check(self) -> None:
        """Raise what went wrong in something that has ended; waits for nothing."""
        if self._underway is not None and self._underway.done():
            self.finish()

    def finish(self) -> None:
        """Wait for what is being written, and raise what it raised."""
        underway, self._underway = self._underway, None
        if underway is not None:
            underway.result()

    def close(self) -> None:
        """Wait for what is being written; its errors are not raised, so that those of the caller are."""
        self._threads.shutdown()

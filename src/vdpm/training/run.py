"""Start, continue or extend a training run: the body of ``vdpm train``."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from vdpm.data.mixture import DataSource
from vdpm.errors import CheckpointError, OutputError, UsageError
from vdpm.model import VDPM
from vdpm.training.config import Attention, TrainConfig
from vdpm.training.distributed import join_ranks, leave_ranks
from vdpm.training.trainer import NAMES_ONLY, Trainer


def train(
    config: TrainConfig,
    output: Path,
    *,
    init: str | None = None,
    clips_seen: int = 0,
    resume: bool = False,
    steps: int | None = None,
    cooldown_steps: int | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    minutes: float | None = None,
    within: float | None = None,
    device: str | None = None,
    parallel: Literal["replicate", "shard"] | None = None,
    attention: Attention | None = None,
    cuda_graphs: bool | None = None,
    round_step: float | None = None,
    data: Sequence[DataSource] = (),
    scenes_share: float | None = None,
    workers: int | None = None,
) -> None:
    """Train ``config`` into the folder ``output`` (``state.pt``, ``model/``, ``log.jsonl``, ``tensorboard/``).

    ``init``: weights to start from (folder, file or preset name) instead of random ones, with ``clips_seen`` clips
    already seen by them; give another ``seed`` then, so that new scenes come. ``resume``: go on from
    ``output/state.pt``, with the recipe and seed it was begun with. ``minutes``: spend this time, from the first line
    of the log, instead of a number of steps; the schedule follows the clock. ``within``: the same, with all that
    comes before that line (compiling above all) counted. Under ``torchrun`` the run spreads over its processes. The
    other arguments replace what the recipe says, where they are not None: ``data`` the data sets that clips are drawn
    from beside our own scenes, which have ``scenes_share``, read by ``workers`` processes a GPU.
    Raises UsageError for settings that make no sense, CheckpointError for weights that do not fit the recipe,
    OutputError when ``output`` cannot be written, or already holds a run and ``resume`` is off.
    """
    begun = time.monotonic()
    for time_given in (minutes, within):
        if time_given is not None and not 0 < time_given < math.inf:
            raise UsageError(f"{time_given} minutes is not a time to spend; give a number above 0")
    if minutes is not None and within is not None:
        raise UsageError("--minutes leaves out what --within counts; give one of them")
    if clips_seen < 0:
        raise UsageError(f"clips_seen is {clips_seen}; it must not be negative")
    if resume and init is not None:
        raise UsageError("a resumed run has its own weights; leave out either --init or --resume")
    if not resume and (output / "state.pt").exists():
        raise OutputError(f"{output} holds a training run; go on with --resume or choose another folder")
    optimizer = replace(
        config.optimizer,
        lr=config.optimizer.lr if learning_rate is None else learning_rate,
        cooldown_steps=config.optimizer.cooldown_steps if cooldown_steps is None else cooldown_steps,
    )
    mixture = replace(
        config.data,
        sources=tuple(data) or config.data.sources,
        scenes=config.data.scenes if scenes_share is None else scenes_share,
        workers=config.data.workers if workers is None else workers,
    )
    config = replace(
        config,
        data=mixture,
        optimizer=optimizer,
        steps=config.steps if steps is None else steps,
        seed=config.seed if seed is None else seed,
        parallel=config.parallel if parallel is None else parallel,
        attention=config.attention if attention is None else attention,
        cuda_graphs=config.cuda_graphs if cuda_graphs is None else cuda_graphs,
        round_step=config.round_step if round_step is None else round_step,
    )
    ranks = join_ranks(device)
    try:
        torch.manual_seed(config.seed)
        if init is None:
            model = VDPM(config.network)
        else:
            model = VDPM.from_pretrained(init, dtype=torch.float32)
            _check_fits(model, config, init)
        seconds = None if minutes is None else 60 * minutes
        deadline = None if within is None else begun + 60 * within
        Trainer(
            model, config, output, ranks, resume=resume, seconds=seconds, deadline=deadline, clips_seen=clips_seen
        ).run()
    finally:
        leave_ranks(ranks)


def _check_fits(model: VDPM, config: TrainConfig, source: str) -> None:
    wanted, found, name_of_network = config.network.to_dict(), model.config.to_dict(), config.network.name
    for name in wanted:
        if name not in NAMES_ONLY and wanted[name] != found[name]:
            raise CheckpointError(
                f"{source}: its network has {name} {found[name]}, {name_of_network} of recipe {config.name} has "
                f"{wanted[name]}; start from weights of {name_of_network}"
            )

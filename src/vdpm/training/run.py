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
from vdpm.model.update_grid import UpdateGrid, read_update_grid
from vdpm.model.weights import read_weights
from vdpm.training.board import FOLDER
from vdpm.training.config import Attention, TrainConfig
from vdpm.training.distributed import join_ranks, leave_ranks
from vdpm.training.journal import LOG_FILE
from vdpm.training.low_rank import make_low_rank
from vdpm.training.onward import ONWARD, STATE_FILE, Beginning, Progress, begin
from vdpm.training.saving import MODEL
from vdpm.training.trainer import NAMES_ONLY, Trainer


def train(
    config: TrainConfig,
    output: Path,
    *,
    init: str | None = None,
    init_average: str | None = None,
    clips_seen: int | None = None,
    resume: bool = False,
    steps: int | None = None,
    cooldown_steps: int | None = None,
    cooldown_share: float | None = None,
    ema_decay: float | None = None,
    scene_uses: int | None = None,
    parts: Sequence[str] | None = None,
    rank: int | None = None,
    rank_of: str | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    minutes: float | None = None,
    within: float | None = None,
    device: str | None = None,
    parallel: Literal["replicate", "shard"] | None = None,
    attention: Attention | None = None,
    cuda_graphs: bool | None = None,
    round_as: str | None = None,
    data: Sequence[DataSource] = (),
    scenes_share: float | None = None,
    workers: int | None = None,
) -> None:
    """Train ``config`` into the folder ``output`` (``state.pt``, ``model/``, ``onward/``, ``log.jsonl``,
    ``tensorboard/``).

    ``init``: weights to start from instead of random ones: the folder of a run or its ``onward``, which hold
    weights, average and counts, or plain weights (folder, file or preset name), with ``init_average`` for their
    average and ``clips_seen`` clips already seen by them; give another ``seed`` then, so that new scenes come.
    ``resume``: go on from ``output/state.pt``, with the recipe and seed it was begun with. ``cooldown_share``: of
    the schedule, in place of ``cooldown_steps``. ``minutes``: spend this time, from the first line of the log,
    instead of a number of steps; the schedule follows the clock. ``within``: the same, with all that comes before
    that line (compiling above all) counted. ``round_as``: folder of an update (``vdpm convert --update-of``); while
    the rate falls, the network is trained as one on that update's grid would compute. ``rank``: of the
    product by which the matrices of the backbone's blocks move, beside ``parts``; ``rank_of``: weights from which it is
    to lead (``init``'s own if None): an update of these then needs no higher one. Under ``torchrun`` the run
    spreads over its processes. The other arguments replace what the recipe says, where they are not None: ``data``
    the data sets that clips are drawn from beside our own scenes, which have ``scenes_share``, read by ``workers``
    processes a GPU.
    Raises UsageError for settings that make no sense, CheckpointError for weights that do not fit the recipe,
    OutputError when ``output`` cannot be written, or already holds a run and ``resume`` is off.
    """
    begun = time.monotonic()
    for time_given in (minutes, within):
        if time_given is not None and not 0 < time_given < math.inf:
            raise UsageError(f"{time_given} minutes is not a time to spend; give a number above 0")
    if minutes is not None and within is not None:
        raise UsageError("--minutes leaves out what --within counts; give one of them")
    if cooldown_share is not None:
        if cooldown_steps is not None:
            raise UsageError("--cooldown-share and --cooldown-steps say the same; give one of them")
        if not 0 <= cooldown_share <= 1:
            raise UsageError(f"cooldown_share is {cooldown_share}; a share lies between 0 (no cool-down) and 1")
        cooldown_steps = round(cooldown_share * (config.steps if steps is None else steps))
        # A cosine falls throughout and knows no cool-down.
        config = replace(config, optimizer=replace(config.optimizer, schedule="constant"))
    if clips_seen is not None and clips_seen < 0:
        raise UsageError(f"clips_seen is {clips_seen}; it must not be negative")
    if init_average is not None and init is None:
        raise UsageError("--init-average goes with the weights of --init; give both")
    if resume and init is not None:
        raise UsageError("a resumed run has its own weights; leave out either --init or --resume")
    if not resume and (output / STATE_FILE).exists():
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
        ema_decay=config.ema_decay if ema_decay is None else ema_decay,
        scene_uses=config.scene_uses if scene_uses is None else scene_uses,
        parts=config.parts if not parts else tuple(parts),
        rank=config.rank if rank is None else rank,
    )
    _check_parts(config)
    if config.rank and init is None and not resume:
        raise UsageError("a run of low rank moves trained weights a little; give them with --init")
    if rank_of is not None and (resume or not config.rank):
        raise UsageError("--rank-of goes with --rank and --init")
    grid = None if round_as is None else _grid(round_as, config)
    ranks = join_ranks(device)
    try:
        torch.manual_seed(config.seed)
        beginning = Beginning(VDPM(config.network)) if init is None else begin(init, init_average, config.ema_decay)
        if init is not None:
            _check_fits(beginning.model, config, init)
        if config.rank:
            beginning = _of_low_rank(beginning, config, rank_of)
        seconds = None if minutes is None else 60 * minutes
        deadline = None if within is None else begun + 60 * within
        Trainer(
            beginning.model,
            config,
            output,
            ranks,
            resume=resume,
            seconds=seconds,
            deadline=deadline,
            average=beginning.average,
            progress=_progress(beginning.progress, config, clips_seen, init),
            grid=grid,
        ).run()
    finally:
        leave_ranks()


_REDIRECTED = (".txt", ".log", ".out", ".err")


def check_new_folder(output: Path) -> None:
    """That a folder that a user names for a new run is one for runs: none yet, an empty one, or one of a run, which
    :func:`train` goes on to judge. What a shell was told to write there (``> runs/a/out.txt``) is no hindrance.
    :func:`train` itself leaves other files where they are and does not mind them.

    Raises OutputError where it holds other files and no run, or is not a folder that can be read.
    """
    try:
        held = sorted(path.name for path in output.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise OutputError(f"{output} is not a folder; choose another name") from None
    except OSError as error:
        raise OutputError(f"{output} cannot be read ({error.strerror}); choose another folder") from None
    own = (LOG_FILE, FOLDER, MODEL, ONWARD)
    foreign = [name for name in held if name not in own and not name.endswith(_REDIRECTED)]
    if foreign and STATE_FILE not in held:
        raise OutputError(
            f"{output} holds other files and no training run ({foreign[0]}), so it is left alone; choose another folder"
        )


def _check_parts(config: TrainConfig) -> None:
    """That the network has the parts that are to be trained, those of low rank (never without others) among them."""
    if not config.parts:
        return
    with torch.device("meta"):
        there = [name for name, _ in VDPM(config.network).named_children()]
    for name in config.parts + config.thin:
        if name not in there:
            raise UsageError(f"no part {name!r} in {config.network.name} to be trained; it has {', '.join(there)}")


def _of_low_rank(beginning: Beginning, config: TrainConfig, rank_of: str | None) -> Beginning:
    """Where to begin with factors in place of the backbone's matrices: at the average, if there is one, for weights and
    average would be split into factors that do not go together. ``rank_of``: what stays of those matrices."""
    model, progress = beginning.model, beginning.progress
    if beginning.average is not None:
        model.load_state_dict(beginning.average)
        progress = replace(progress, averaged=0)
    base = None if rank_of is None else read_weights(rank_of).tensors
    make_low_rank(model, config.rank, torch.Generator().manual_seed(config.seed), base, config.thin)
    return Beginning(model, None, progress)


def _grid(source: str, config: TrainConfig) -> UpdateGrid:
    """The grid of the update in ``source``, for a run that can be trained on it."""
    if config.optimizer.schedule != "cosine" and config.optimizer.cooldown_steps == 0:
        raise UsageError("--round-as rounds while the learning rate falls; add a --cooldown-share")
    if config.parallel == "shard" or config.freeze_patch_encoder or config.parts or config.rank:
        raise UsageError("--round-as needs a recipe that trains the whole network, and whole on each GPU")
    grid = read_update_grid(source)
    with torch.device("meta"):
        network = VDPM(config.network).state_dict()
    if {name: value.shape for name, value in grid.base.items()} != {name: v.shape for name, v in network.items()}:
        raise CheckpointError(f"{source} is an update of another network than {config.network.name}; make one of that")
    return grid


def _progress(known: Progress, config: TrainConfig, clips_seen: int | None, source: str | None) -> Progress:
    """What the weights have behind them, with what the caller knows of them."""
    if known.seeds:
        if clips_seen is not None:
            raise UsageError(f"{source} knows its clips ({known.clips}); leave out --clips-seen")
        if config.seed in known.seeds:
            raise UsageError(f"{source} has seen the scenes of seed {config.seed}; go on with another --seed")
    return known if clips_seen is None else replace(known, clips=clips_seen, scenes=clips_seen)


def _check_fits(model: VDPM, config: TrainConfig, source: str) -> None:
    wanted, found, name_of_network = config.network.to_dict(), model.config.to_dict(), config.network.name
    for name in wanted:
        if name not in NAMES_ONLY and wanted[name] != found[name]:
            raise CheckpointError(
                f"{source}: its network has {name} {found[name]}, {name_of_network} of recipe {config.name} has "
                f"{wanted[name]}; start from weights of {name_of_network}"
            )

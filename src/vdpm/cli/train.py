"""``vdpm train``: train a network on scenes that are rendered as it goes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vdpm.errors import UsageError


@dataclass(frozen=True)
class Train:
    """Train a network from nothing, or go on from weights, on our own scenes. Ctrl-C and SIGTERM save first.

    On several GPUs of one machine: torchrun --nproc-per-node 4 -m vdpm train small -o runs/small
    """

    recipe: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RECIPE")]]
    """Name of a recipe in vdpm.recipes: small, small-further, small-slices, small-decoder, paper, smoke, ..."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")]
    """Folder for state.pt (to resume), model/ (the averaged weights, to use), onward/ (weights and average, small, for
    another run to go on from), log.jsonl and tensorboard/."""
    resume: bool = False
    """Go on from state.pt in the output folder."""
    init: str | None = None
    """Weights to start from: a run's folder or its onward/ (with average and counts), a model folder, a file (VGGT-1B's
    for paper), or vdpm-small. Give another --seed then, for new scenes."""
    init_average: str | None = None
    """The average that belongs to a model folder of --init and is carried on; otherwise a new one begins there."""
    clips_seen: int | None = None
    """How many clips the weights of --init have seen, for the record, where they do not tell."""
    steps: int | None = None
    """Optimiser steps, if not the recipe's."""
    cooldown_steps: int | None = None
    """Let the learning rate fall over the last steps, if not the recipe's."""
    cooldown_share: float | None = None
    """The same as a share of the run; 0 keeps the rate up to the end, for a run that another one goes on from."""
    ema_decay: float | None = None
    """Decay of the average of the weights at every step, if not the recipe's."""
    scene_uses: int | None = None
    """Show each batch of scenes so often, each time with other target times, reference and colours, if not the
    recipe's."""
    parts: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = ()
    """Train these modules of the network alone, such as decoder point_head, and leave the others as they are. An update
    made of it (vdpm convert --update-of) holds them alone."""
    rank: int | None = None
    """Beside --parts, let the matrices of the backbone's blocks move by a product of this rank (LoRA), if not the
    recipe's: few numbers, which vdpm convert --update-of DIR --rank stores in little room."""
    rank_of: Annotated[str | None, tyro.conf.arg(metavar="NAME|DIR")] = None
    """With --rank: the weights that product is added to, if not those of --init: what the update will belong to."""
    lr: float | None = None
    """Learning rate, if not the recipe's."""
    seed: int | None = None
    """Seed of weights and scenes, if not the recipe's."""
    minutes: float | None = None
    """Spend this time, counted from the first line of the log, instead of a number of steps; the schedule follows the
    clock."""
    within: float | None = None
    """The same, but start-up and compiling count as well: be done in this many minutes."""
    device: Literal["cuda", "cpu"] | None = None
    """Where to train; CUDA where there is one."""
    parallel: Literal["replicate", "shard"] | None = None
    """On several GPUs: the whole network on each, or a part of every tensor (FSDP2), if not the recipe's."""
    attention: Literal["auto", "flash", "cudnn"] | None = None
    """Attention kernels to prefer, if not the recipe's."""
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=PATH[@SHARE]")] = ()
    """Draw clips from data sets as well, such as kubric=/data/movi_f pointodyssey=/data/po@15000. Shares are relative
    to each other; those not given are the paper's. Names are those of vdpm data check --dataset."""
    scenes_share: float | None = None
    """Share of our own scenes beside --data, 5000 if not given; 0 for none."""
    workers: int | None = None
    """Processes that read --data in the background, for each GPU; 4 if not given."""
    cuda_graphs: bool | None = None
    """Record the forward and backward pass of compiled shapes as CUDA graphs, if not the recipe's."""
    round_as: Annotated[str | None, tyro.conf.arg(metavar="DIR")] = None
    """Learn to live with being stored as an update: a folder made by vdpm convert --update-of. While the rate falls,
    every pass computes with weights rounded as that update's are; vdpm convert --steps-of DIR then loses nothing."""

    def run(self) -> None:
        from vdpm.data.mixture import DataSource
        from vdpm.recipes import RECIPES
        from vdpm.training.run import check_new_folder, train

        if self.recipe not in RECIPES:
            raise UsageError(f"no recipe {self.recipe!r}; there are {', '.join(RECIPES)}")
        if not self.resume:
            check_new_folder(self.output)
        train(
            RECIPES[self.recipe],
            self.output,
            init=self.init,
            init_average=self.init_average,
            clips_seen=self.clips_seen,
            resume=self.resume,
            steps=self.steps,
            cooldown_steps=self.cooldown_steps,
            cooldown_share=self.cooldown_share,
            ema_decay=self.ema_decay,
            scene_uses=self.scene_uses,
            parts=self.parts,
            rank=self.rank,
            rank_of=self.rank_of,
            learning_rate=self.lr,
            seed=self.seed,
            minutes=self.minutes,
            within=self.within,
            device=self.device,
            parallel=self.parallel,
            attention=self.attention,
            cuda_graphs=self.cuda_graphs,
            round_as=self.round_as,
            data=[DataSource.parse(text) for text in self.data],
            scenes_share=self.scenes_share,
            workers=self.workers,
        )

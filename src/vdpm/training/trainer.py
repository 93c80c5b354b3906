"""The training loop: make a batch of scenes, run the network, compare, step. Reads from top to bottom.

Everything random follows from ``config.seed``, the step and the rank, so a run resumed at a step goes on as if
it had not stopped.
"""

import math
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from vdpm.data.mixture import in_words
from vdpm.errors import CheckpointError, VDPMError
from vdpm.model import VDPM
from vdpm.model.update_grid import UpdateGrid
from vdpm.model.vdpm import VDPMOutput
from vdpm.structures import Snippet
from vdpm.training.acceleration import COMPILE, RecordedStep, attention_kernels
from vdpm.training.batch import reference_first
from vdpm.training.board import Board
from vdpm.training.checkpoint import TrainingState, load_state
from vdpm.training.config import Bucket, TrainConfig
from vdpm.training.distributed import Ranks, largest_over_ranks, mean_over_ranks, share_weights
from vdpm.training.grid import ParametersGrid
from vdpm.training.journal import LOG_FILE, Journal
from vdpm.training.low_rank import train_low_rank
from vdpm.training.objective import objective
from vdpm.training.onward import NEW, STATE_FILE, Progress, decay_after
from vdpm.training.optimizer import is_falling, learning_rate
from vdpm.training.parameters import FlatParameters, ShardedParameters, TrainedParameters
from vdpm.training.pictures import picture
from vdpm.training.saving import Writer, write_run
from vdpm.training.sharding import shard_network, whole_state
from vdpm.training.supply import SceneSupply
from vdpm.training.update import Update

NAMES_ONLY = ("name", "init")
"""Settings of a network that change neither its tensors nor what it computes from them."""


class Totals(NamedTuple):
    """Sums of the losses ``names`` over steps, and last the number of steps."""

    names: tuple[str, ...]
    sums: Tensor


class Trainer:
    """One run of ``config`` on ``ranks``, writing to ``output`` (rank 0 only).

    ``model`` starts from its given weights, its average from ``average`` (trained parameters and any others by name;
    None: from those weights), with ``progress`` behind them; ``resume`` loads ``output/state.pt`` on top. With
    ``seconds``, counted from the first line of the log, or ``deadline``, a moment of ``time.monotonic()``, the schedule
    follows the clock instead of the steps. With ``grid``, while the rate falls, passes see what an update on it would
    hold of the weights, and the average begins anew; if it falls from the start, they begin as the grid's own network.
    SIGTERM and Ctrl-C stop early, with everything saved.
    Raises CheckpointError when the state to resume is of another run.
    """

    def __init__(
        self,
        model: VDPM,
        config: TrainConfig,
        output: Path,
        ranks: Ranks,
        *,
        resume: bool = False,
        seconds: float | None = None,
        deadline: float | None = None,
        average: Mapping[str, Tensor] | None = None,
        progress: Progress = NEW,
        grid: UpdateGrid | None = None,
    ) -> None:
        self.model, self.config, self.output, self.ranks = model.to(ranks.device), config, output, ranks
        self.limit, self.deadline = seconds, deadline
        self.step, self.seconds = 0, 0.0
        self.clips, self.scenes, self.averaged = progress.clips, progress.scenes, progress.averaged
        self.seeds = sorted({*progress.seeds, config.seed})
        self.position = 0.0
        """Where the schedule stands, in steps: the step itself, unless the clock rules."""
        self.stop_signal: int | None = None
        self.grid, self.averaged_on = grid, ""
        """The second: the grid's fingerprint, once the average is one of passes on it."""
        self.supply = SceneSupply(config, ranks)
        state = load_state(output / STATE_FILE) if resume else None
        if state is not None:
            self._restore_network(state)
        share_weights(model, ranks)
        _prepare(model, config)
        if config.compile:
            model.compile_blocks(**COMPILE)
        self.objective = torch.compile(objective, **COMPILE) if config.compile else objective
        self.update = Update(_trained(model, config, ranks), config.optimizer)
        self.on_grid = None if grid is None else ParametersGrid(self.update.parameters, grid)
        if state is not None:
            self._restore_update(state)
        elif average is not None:
            self._restore_average(average)
        if state is None and self.on_grid is not None and self._falls():
            self.on_grid.settle()
        self.journal = Journal(output / LOG_FILE, after=self.step)
        self.board = Board(output, self.step)
        self.writer = Writer()
        self._recorded: dict[Bucket, RecordedStep] = {}

    def run(self) -> None:
        """Train to the end of the schedule or a signal; then save. A signal is passed on once all is saved."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            with attention_kernels(self.config.attention):
                self._run()
        finally:
            self.writer.close()
            self.supply.close()
            self.board.close()
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.stop_signal is not None:
            signal.raise_signal(self.stop_signal)

    def _run(self) -> None:
        self.model.train()
        if self.ranks.is_main:
            self.journal.open()
            self.board.open()
        saved = logged = time.monotonic()
        clock: float | None = None
        began, clips_logged, totals = self.position, self.clips, None
        stopping = False
        while self.position < self.config.steps and not stopping:
            bucket, snippet = self.supply.batch(self.step, self.position)
            with _compiled(self.config.compile and bucket.compiled), self._rounded():
                losses = self._forward_backward(bucket, snippet)
            totals = _add(totals, losses, self._update())
            self.step += 1
            if self.step % self.config.picture_every == 0:
                self._draw(snippet)
            self.clips += bucket.batch * self.ranks.world
            self.scenes += bucket.batch * self.ranks.world * self.supply.is_new(self.step - 1)
            if self.limit is None and self.deadline is None:
                self.position += 1

            # Alone, a signal counts at once; several ranks agree on it when they log.
            stopping = self.ranks.world == 1 and self.stop_signal is not None
            if self.step % self.config.log_every == 0 or self.position >= self.config.steps or stopping:
                now = time.monotonic()
                if clock is None:
                    clock = now
                    if self.deadline is not None:
                        self.limit = max(self.deadline - now, 1e-3)
                if self.limit is not None:
                    share = largest_over_ranks((now - clock) / self.limit, self.ranks)
                    self.position = began + share * (self.config.steps - began)
                self._log(totals, self.clips - clips_logged, now - logged)
                totals, clips_logged, logged = None, self.clips, now
                self.writer.check()
                stopping = largest_over_ranks(float(self.stop_signal is not None), self.ranks) > 0
                # Clocks differ: where every rank has a part of the weights, all must save at once.
                overdue = largest_over_ranks(now - saved, self.ranks) > self.config.save_every_seconds
                if overdue and not stopping:
                    self.seconds += now - saved
                    self.save(wait=False)
                    saved = time.monotonic()
        self.seconds += time.monotonic() - saved
        self.save()
        if self.ranks.is_main:
            how = "stopped, go on with --resume" if stopping else "done"
            print(f"{how}: step {self.step}, {self.clips} clips, saved to {self.output}", file=sys.stderr, flush=True)

    # ---- one step

    def _falls(self) -> bool:
        return is_falling(self.position, self.config.steps, self.config.optimizer)

    def _rounded(self) -> AbstractContextManager[None]:
        """Inside, the weights are what an update would hold of them, while the rate falls."""
        if self.on_grid is None or not self._falls():
            self.averaged_on = ""
            return nullcontext()
        if not self.averaged_on:
            # Weights from before do not live on the grid: nothing of them may stay in the average.
            self.averaged, self.averaged_on = 0, self.on_grid.fingerprint
        return self.on_grid.entered()

    def _forward_backward(self, bucket: Bucket, snippet: Snippet) -> dict[str, Tensor]:
        """Losses of the batch, and its gradients in the parameters."""
        if self.config.cuda_graphs and bucket.compiled and self.ranks.device.type == "cuda":
            snippet = reference_first(snippet)
            if bucket not in self._recorded:
                trained = [p for p in self.model.parameters() if p.requires_grad]
                pool = next((step.graph.pool() for step in self._recorded.values()), None)
                self._recorded[bucket] = RecordedStep(self._losses, trained, snippet, pool)
            return self._recorded[bucket](snippet)
        losses = self._losses(snippet)
        losses["loss"].backward()
        return losses

    def _losses(self, snippet: Snippet) -> dict[str, Tensor]:
        """Forward pass and all losses; entry "loss" is their weighted sum."""
        return self.objective(self._output(snippet), snippet, self.config.loss, self.model.config.patch_size)

    def _output(self, snippet: Snippet) -> VDPMOutput:
        config = self.config
        # Weights cast once for all uses would be cast outside of a recording.
        cached = not config.cuda_graphs
        with torch.autocast(self.ranks.device.type, torch.bfloat16, enabled=config.bfloat16, cache_enabled=cached):
            return self.model(snippet.images, snippet.targets, reference=snippet.reference)

    @torch.no_grad()
    def _draw(self, snippet: Snippet) -> None:
        """A picture of the batch's first clip, as the network sees it now."""
        sharded = self.config.parallel == "shard" and dist.is_initialized()
        if not (sharded or self.board.is_open):
            return
        firsts: dict[str, Any] = {n: v[:1] for n, v in vars(snippet).items() if isinstance(v, Tensor)}
        one = replace(snippet, **firsts)
        with _compiled(False):
            output = self._output(one)
        if self.board.is_open:
            self.board.picture(picture(one, output), self.step)

    def _update(self) -> Tensor:
        """After the backward pass: move the weights and their average, which follows faster at the start."""
        lr = learning_rate(self.position, self.config.steps, self.config.optimizer)
        self.averaged += 1
        return self.update(lr, decay_after(self.averaged - 1, self.config.ema_decay))

    # ---- files

    def save(self, wait: bool = True) -> None:
        """Write the run's files; every rank must call it. ``wait`` until they are whole, or go on at once: then the
        next call, or the next line of the log, raises what went wrong."""
        if self.ranks.world > 1 and self.config.parallel == "replicate" and not self.ranks.is_main:
            return
        weights = whole_state(self.model, self.ranks)
        average = weights | self.update.averages()
        moments = self.update.moments()
        if not self.ranks.is_main:
            return
        state = TrainingState(
            weights=weights,
            average=average,
            moments=moments,
            updates=self.update.updates,
            generators=_generators(self.ranks.device),
            step=self.step,
            position=float(self.position),
            clips=self.clips,
            scenes=self.scenes,
            averaged=self.averaged,
            grid=self.averaged_on,
            seeds=self.seeds,
            seconds=self.seconds,
            config=self.config.to_json(),
            network=self.model.config.to_dict(),
        )
        self.writer.start(partial(write_run, self.output, state, self.grid if self.averaged_on else None))
        if wait:
            self.writer.finish()

    def _restore_network(self, state: TrainingState) -> None:
        network = {k: v for k, v in self.model.config.to_dict().items() if k not in NAMES_ONLY}
        for what, saved, wanted in (
            ("recipe", state.config.get("name"), self.config.name),
            ("--seed", state.config.get("seed"), self.config.seed),
            ("trained part (--parts)", _parts(state.config.get("parts")), _parts(self.config.parts)),
            ("rank (--rank)", state.config.get("rank", 0), self.config.rank),
            ("thin module", _parts(state.config.get("thin"), "none"), _parts(self.config.thin, "none")),
            ("mixture of data", in_words(state.config.get("data")), in_words(self.config.to_json()["data"])),
            *((f"network's {name}", state.network.get(name), network[name]) for name in network),
        ):
            if saved != wanted:
                raise CheckpointError(
                    f"{self.output / STATE_FILE}: the {what} is {saved} there and {wanted} here; resume with {saved}"
                )
        try:
            self.model.load_state_dict(state.weights)
        except RuntimeError as error:
            raise self._misfit(error) from None
        self.step, self.clips, self.seconds = state.step, state.clips, state.seconds
        self.scenes, self.averaged, self.seeds = state.scenes, state.averaged, state.seeds
        self.position = float(state.position)

    def _restore_update(self, state: TrainingState) -> None:
        own = "" if self.on_grid is None else self.on_grid.fingerprint
        if state.grid and state.grid != own:
            raise CheckpointError(
                f"{self.output / STATE_FILE}: its average is one of passes rounded as another update; resume with the "
                "--round-as it was begun with"
            )
        self.averaged_on = state.grid
        try:
            self.update.restore(self._trained_of(state.average), state.moments, state.updates)
            _set_generators(state.generators, self.ranks.device)
        except (RuntimeError, ValueError, KeyError) as error:
            raise self._misfit(error) from None

    def _restore_average(self, average: Mapping[str, Tensor]) -> None:
        parameters = self.update.parameters
        parameters.fill(parameters.value_in(self.update.average), self._trained_of(average))

    def _trained_of(self, named: Mapping[str, Tensor]) -> dict[str, Tensor]:
        trained = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        return {name: value for name, value in named.items() if name in trained}

    def _misfit(self, error: Exception) -> CheckpointError:
        first = str(error).splitlines()[0]
        return CheckpointError(f"{self.output / STATE_FILE}: does not fit this run ({first}); start a new run")

    def _log(self, totals: Totals, clips: int, seconds: float) -> None:
        """One entry with means since the last one; raises VDPMError when too many steps were bad."""
        names = list(totals.names)
        sums = totals.sums if self.ranks.world == 1 else mean_over_ranks(totals.sums, self.ranks)
        *means, taken = sums.tolist()
        bad = int(self.update.bad_steps)
        if self.ranks.is_main:
            entry: dict[str, Any] = {"step": self.step, "clips": self.clips, "scenes": self.scenes}
            entry |= {n: round(v / taken, 5) if taken else math.nan for n, v in zip(names, means)}
            entry |= {
                "lr": round(self.update.lr, 7),
                "norm": round(float(self.update.norm), 3),
                "bad_steps": bad,
                **({"corrupt_files": len(self.supply.quarantine.files)} if self.config.data.sources else {}),
                "clips_per_second": round(clips / max(seconds, 1e-9), 1),
            }
            self.journal.write(entry, self.position / self.config.steps)
            self.board.scalars(entry)
        if bad > self.config.max_bad_steps:
            raise VDPMError(
                f"{bad} steps had a non-finite gradient (at most {self.config.max_bad_steps}); "
                "lower the learning rate and resume from the last saved state"
            )

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        alone = self.ranks.world == 1 and not dist.is_torchelastic_launched()
        if alone and self.stop_signal is not None:
            raise KeyboardInterrupt  # asked twice: do not wait. Ranks get a signal twice where torchrun passes it on.
        self.stop_signal = number
        if self.ranks.is_main:
            # Not print: the handler may run in the middle of another one.
            again = "; once more to stop without saving" if alone else ""
            os.write(sys.stderr.fileno(), f"stopping after this step{again}\n".encode())


def _compiled(active: bool) -> AbstractContextManager[Any]:
    """Where not ``active``, compiled parts run as they are written."""
    return torch.compiler.set_stance("default" if active else "force_eager")


def _add(totals: Totals | None, losses: dict[str, Tensor], taken: Tensor) -> Totals:
    """Running sums, on the device, over the steps that were taken."""
    values = torch.stack([*(value.detach() for value in losses.values()), torch.ones_like(losses["loss"])])
    values = torch.where(taken, values, torch.zeros_like(values))
    return Totals(tuple(losses), values if totals is None else totals.sums + values)


def _parts(names: Sequence[str] | None, without: str = "whole network") -> str:
    return ", ".join(names) if names else without


def _prepare(model: VDPM, config: TrainConfig) -> None:
    """What of the network is trained, and what is kept for the backward pass."""
    model.checkpoint_blocks = config.checkpoint_blocks
    for name, part in model.named_children():
        part.requires_grad_(not config.parts or name in config.parts)
    if config.freeze_patch_encoder:
        model.aggregator.patch_embed.requires_grad_(False)
        # Nothing of it is kept in any case.
        model.aggregator.patch_embed.checkpoint_blocks = False
    if config.rank:
        train_low_rank(model, config.thin)


def _trained(model: VDPM, config: TrainConfig, ranks: Ranks) -> TrainedParameters:
    if config.parallel == "shard" and dist.is_initialized():
        return ShardedParameters(shard_network(model, ranks), ranks)
    return FlatParameters(model, ranks, muon=config.optimizer.kind == "muon")


def _generators(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    return states | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _set_generators(states: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)

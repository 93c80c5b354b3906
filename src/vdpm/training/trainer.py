"""The training loop: make a batch of scenes, run the network, compare, step. Reads from top to bottom.

Everything random follows from ``config.seed``, the step and the rank, so a run resumed at a step goes on as if
it had not stopped.
"""

import os
import signal
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from vdpm.errors import CheckpointError, VDPMError
from vdpm.model import VDPM
from vdpm.model.pose_encoding import encoding_from_cameras
from vdpm.structures import Snippet
from vdpm.training.checkpoint import TrainingState, load_state, save_state
from vdpm.training.config import TrainConfig
from vdpm.training.distributed import Ranks, average_and_clip, largest_over_ranks, mean_over_ranks, share_weights
from vdpm.training.journal import Journal
from vdpm.training.losses import camera_loss, confidence_losses, motion_loss, per_example_mean
from vdpm.training.matching import ground_truth_matches, matching_loss
from vdpm.training.optimizer import build_optimizers, learning_rate, set_learning_rate
from vdpm.training.supply import SceneSupply

NAMES_ONLY = ("name", "init")
"""Settings of a network that change neither its tensors nor what it computes from them."""


class Trainer:
    """One run of ``config`` on ``ranks``, writing to ``output`` (rank 0 only).

    ``model`` starts from its given weights; ``resume`` loads ``output/state.pt`` on top. With ``seconds`` the schedule
    follows the clock instead of the steps. SIGTERM and Ctrl-C stop early, with everything saved.
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
        clips_seen: int = 0,
    ) -> None:
        self.model, self.config, self.output, self.ranks = model.to(ranks.device), config, output, ranks
        self.limit = seconds
        self.step, self.clips, self.seconds = 0, clips_seen, 0.0
        self.position = 0.0
        """Where the schedule stands, in steps: the step itself, unless the clock rules."""
        self.bad_steps = torch.zeros((), device=ranks.device)
        self.last_norm = torch.zeros((), device=ranks.device)
        self.stop_signal: int | None = None
        self.supply = SceneSupply(config, ranks)
        self.optimizers = build_optimizers(model, config.optimizer)
        self.average = {k: v.detach().clone().float() for k, v in model.state_dict().items()}
        if resume:
            self._restore(load_state(output / "state.pt"), output / "state.pt")
        share_weights(model, ranks)
        self.journal = Journal(output / "log.jsonl", after=self.step)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        # Listed once: the tensors stay the same ones, and naming hundreds of them takes time at every step.
        current = {k: v for k, v in model.state_dict().items() if v.is_floating_point()}
        self._current, self._averaged = list(current.values()), [self.average[k] for k in current]
        if config.compile:
            model.compile_blocks(dynamic=False)

    def run(self) -> None:
        """Train to the end of the schedule or a signal; then save. A signal is passed on once all is saved."""
        before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._run()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self.stop_signal is not None:
            signal.raise_signal(self.stop_signal)

    def _run(self) -> None:
        self.model.train()
        if self.ranks.is_main:
            self.journal.open()
        saved = logged = time.monotonic()
        clock: float | None = None
        began, clips_logged, totals = self.position, self.clips, None
        stopping = False
        while self.position < self.config.steps and not stopping:
            bucket, snippet = self.supply.batch(self.step, self.position)
            with _compiled(self.config.compile and bucket.compiled):
                losses = self._losses(snippet)
                self._update(losses["loss"])
            totals = _add(totals, losses)
            self.step += 1
            self.clips += bucket.batch * self.ranks.world
            if self.limit is None:
                self.position += 1

            # Alone, a signal counts at once; several ranks agree on it when they log.
            stopping = self.ranks.world == 1 and self.stop_signal is not None
            if self.step % self.config.log_every == 0 or self.position >= self.config.steps or stopping:
                now = time.monotonic()
                clock = now if clock is None else clock
                if self.limit is not None:
                    share = largest_over_ranks((now - clock) / self.limit, self.ranks)
                    self.position = began + share * (self.config.steps - began)
                self._log(totals, self.clips - clips_logged, now - logged)
                totals, clips_logged, logged = None, self.clips, now
                stopping = largest_over_ranks(float(self.stop_signal is not None), self.ranks) > 0
                if now - saved > self.config.save_every_seconds and not stopping:
                    self.seconds += now - saved
                    self.save()
                    saved = time.monotonic()
        self.seconds += time.monotonic() - saved
        self.save()
        if self.ranks.is_main:
            how = "stopped, go on with --resume" if stopping else "done"
            print(f"{how}: step {self.step}, {self.clips} clips, saved to {self.output}", file=sys.stderr, flush=True)

    # ---- one step

    def _losses(self, snippet: Snippet) -> dict[str, Tensor]:
        """Forward pass and all losses; entry "loss" is their weighted sum."""
        weights = self.config.loss
        device_type = self.ranks.device.type
        with torch.autocast(device_type, torch.bfloat16, enabled=self.config.bfloat16):
            output = self.model(snippet.images, snippet.targets, reference=snippet.reference)
        p, q = output.time_variant, output.decoded
        assert snippet.target_valid is not None
        true_motion = snippet.target_points - snippet.points[:, None]
        displacement = true_motion.norm(dim=-1)
        moving = snippet.target_valid & (displacement > 0.01)

        (p_loss,) = confidence_losses(p.points, p.confidence, snippet.points, (snippet.valid,), weights.alpha)
        masks = (snippet.target_valid, moving)
        q_loss, moving_loss = confidence_losses(q.points, q.confidence, snippet.target_points, masks, weights.alpha)
        motion = motion_loss(q.points - p.points[:, None], true_motion, moving, snippet.target_valid & ~moving)
        encoding = encoding_from_cameras(snippet.c2w, snippet.intrinsics, snippet.size)
        camera = camera_loss(output.pose_encodings, encoding, weights.camera_decay)
        loss = (
            weights.time_variant * p_loss.loss
            + weights.time_invariant * q_loss.loss
            + weights.moving * moving_loss.loss
            + weights.motion * motion.loss
            + weights.camera * camera
        )
        parts = {
            "epe_p": p_loss.error,
            "epe_q": q_loss.error,
            "epe_moving": moving_loss.error,
            "epe_motion": motion.error,
            "zero_motion": per_example_mean(displacement, moving),
            "camera": camera.detach(),
        }
        if output.descriptors is not None and weights.matching > 0:
            matches = ground_truth_matches(snippet, self.model.config.patch_size)
            matching, top1 = matching_loss(
                output.descriptors, matches, snippet.targets[:, 0], weights.matching_temperature
            )
            loss = loss + weights.matching * matching
            parts |= {"matching": matching.detach(), "match_top1": top1}
        return {"loss": loss, **parts}

    def _update(self, loss: Tensor) -> None:
        """Backward, clip, step. A gradient that is not finite counts as zero, without waiting for the device."""
        loss.backward()
        self.last_norm = average_and_clip(self.parameters, self.ranks, self.config.optimizer.clip_norm)
        self.bad_steps += ~torch.isfinite(self.last_norm)
        lr = learning_rate(self.position, self.config.steps, self.config.optimizer)
        for optimizer in self.optimizers:
            set_learning_rate(optimizer, lr)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._average_weights()

    @torch.no_grad()
    def _average_weights(self) -> None:
        """Exponential average of the weights, which is what is shipped; follows faster at the start."""
        decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self._averaged, self._current, 1 - decay)

    # ---- files

    def save(self) -> None:
        """Write ``state.pt`` and the averaged weights as a model folder."""
        if not self.ranks.is_main:
            return
        save_state(
            TrainingState(
                weights=_plain(self.model.state_dict()),
                average=_plain(self.average),
                optimizers=[o.state_dict() for o in self.optimizers],
                step=self.step,
                position=float(self.position),
                clips=self.clips,
                seconds=self.seconds,
                config=self.config.to_json(),
                network=self.model.config.to_dict(),
            ),
            self.output / "state.pt",
        )
        with torch.device("meta"):
            averaged = VDPM(self.model.config)
        averaged.load_state_dict(_plain(self.average), assign=True)
        averaged.save_pretrained(self.output / "model", dtype="bfloat16")

    def _restore(self, state: TrainingState, path: Path) -> None:
        network = {k: v for k, v in self.model.config.to_dict().items() if k not in NAMES_ONLY}
        for what, saved, wanted in (
            ("recipe", state.config.get("name"), self.config.name),
            ("--seed", state.config.get("seed"), self.config.seed),
            *((f"network's {name}", state.network.get(name), network[name]) for name in network),
        ):
            if saved != wanted:
                raise CheckpointError(f"{path}: the {what} is {saved} there and {wanted} here; resume with {saved}")
        try:
            self.model.load_state_dict(state.weights)
            if state.average.keys() != self.average.keys():
                raise ValueError("the averaged weights have other names")
            self.average = {k: v.to(self.ranks.device).float() for k, v in state.average.items()}
            for optimizer, stored in zip(self.optimizers, state.optimizers, strict=True):
                optimizer.load_state_dict(stored)
        except (RuntimeError, ValueError, KeyError) as error:
            first = str(error).splitlines()[0]
            raise CheckpointError(f"{path}: does not fit this run ({first}); start a new run") from None
        self.step, self.clips, self.seconds = state.step, state.clips, state.seconds
        self.position = float(state.position)

    def _log(self, totals: dict[str, Tensor], clips: int, seconds: float) -> None:
        """One entry with means since the last one; raises VDPMError when too many steps were bad."""
        steps = totals.pop("count")
        names = list(totals)
        means = mean_over_ranks(torch.stack([totals[n].float() for n in names]) / steps, self.ranks).tolist()
        bad = int(self.bad_steps)
        if self.ranks.is_main:
            entry: dict[str, Any] = {"step": self.step, "clips": self.clips}
            entry |= {n: round(v, 5) for n, v in zip(names, means)}
            entry |= {
                "lr": round(self.optimizers[0].param_groups[0]["lr"], 7),
                "norm": round(float(self.last_norm), 3),
                "bad_steps": bad,
                "clips_per_second": round(clips / max(seconds, 1e-9), 1),
            }
            self.journal.write(entry, self.position / self.config.steps)
        if bad > self.config.max_bad_steps:
            raise VDPMError(
                f"{bad} steps had a non-finite gradient (at most {self.config.max_bad_steps}); "
                "lower the learning rate and resume from the last saved state"
            )

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        alone = self.ranks.world == 1
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


def _add(totals: dict[str, Tensor] | None, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Running sums on the device, with the number of steps as "count"."""
    detached = {k: v.detach() for k, v in losses.items()} | {"count": torch.ones((), device=losses["loss"].device)}
    return detached if totals is None else {k: totals[k] + v for k, v in detached.items()}


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, under the names of the uncompiled network."""
    return {k.replace("_orig_mod.", ""): v.detach().float().cpu() for k, v in state.items()}

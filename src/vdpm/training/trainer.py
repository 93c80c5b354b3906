"""The training loop: make a batch of scenes, run the network, compare, step. Reads from top to bottom.

Everything random follows from ``config.seed``, the step and the rank, so a run resumed at a step goes on as if
it had not stopped.
"""

import json
import signal
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from vdpm.errors import VDPMError
from vdpm.model import VDPM
from vdpm.structures import Snippet
from vdpm.synthetic import SceneGenerator
from vdpm.training.batch import change_colours, to_unit_scale
from vdpm.training.checkpoint import TrainingState, load_state, save_state
from vdpm.training.config import Bucket, TrainConfig
from vdpm.training.distributed import Ranks, average_gradients, largest_over_ranks, mean_over_ranks
from vdpm.training.losses import camera_loss, confidence_loss, pose_encoding
from vdpm.training.matching import ground_truth_matches, matching_loss
from vdpm.training.optimizer import build_optimizers, learning_rate, set_learning_rate

_SEEDS_PER_STEP = 1 << 12
"""Room for the clips of one step over all ranks; a million steps fit before the next ``config.seed`` begins."""


class Trainer:
    """One run of ``config`` on ``ranks``, writing to ``output`` (rank 0 only).

    ``model`` starts from its given weights; ``resume`` loads ``output/state.pt`` on top. ``max_seconds`` stops
    early, with everything saved, as SIGTERM and Ctrl-C do.
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
        self.stop_signal = False
        self.average = {k: v.detach().clone().float() for k, v in model.state_dict().items()}
        self.optimizers = build_optimizers(model, config.optimizer)
        if resume:
            self._restore(load_state(output / "state.pt"))
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if config.compile:
            model.compile_blocks(dynamic=False)
        self.generators = {
            b: SceneGenerator(
                replace(config.scenes, num_frames=b.frames, height=b.height, width=b.width),
                ranks.device,
                compile=config.compile,
            )
            for b in config.buckets
        }

    def run(self) -> None:
        """Train to the end of the schedule or a signal; then save."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        self.model.train()
        saved = logged = time.monotonic()
        clock: float | None = None
        began, clips_logged, totals = self.position, self.clips, None
        while self.position < self.config.steps:
            bucket = self._bucket()
            snippet = self._make_batch(bucket)
            with _compiled(self.config.compile and bucket.compiled):
                losses = self._losses(snippet)
                self._update(losses["loss"])
            totals = _add(totals, losses)
            self.step += 1
            self.clips += bucket.batch * self.ranks.world
            if self.limit is None:
                self.position = float(self.step)

            if self.step % self.config.log_every == 0 or self.position >= self.config.steps:
                now = time.monotonic()
                clock = now if clock is None else clock
                if self.limit is not None:
                    share = largest_over_ranks((now - clock) / self.limit, self.ranks)
                    self.position = began + share * (self.config.steps - began)
                self._log(totals, self.clips - clips_logged, now - logged)
                totals, clips_logged, logged = None, self.clips, now
                if largest_over_ranks(float(self.stop_signal), self.ranks) > 0:
                    break
                if now - saved > self.config.save_every_seconds:
                    self.seconds += now - saved
                    self.save()
                    saved = time.monotonic()
        self.seconds += time.monotonic() - saved
        self.save()

    # ---- one step

    def _bucket(self) -> Bucket:
        """The shape of this step's batch, the same on all ranks."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + self.step)
        shares = torch.tensor([float(b.share * b.is_open(self.position)) for b in self.config.buckets])
        return self.config.buckets[int(torch.multinomial(shares, 1, generator=generator))]

    @torch.no_grad()
    def _make_batch(self, bucket: Bucket) -> Snippet:
        """Render a batch of clips that has never been seen and scale it."""
        device, batch = self.ranks.device, bucket.batch
        first = (self.config.seed << 32) + self.step * _SEEDS_PER_STEP
        seeds = torch.arange(batch) + first + self.ranks.rank * batch
        chooser = torch.Generator().manual_seed(int(seeds[0]) & 0x7FFF_FFFF_FFFF)
        targets = torch.randint(bucket.frames, (batch, self.config.targets), generator=chooser)
        # The reference is mostly the first frame, else any: tests ask for both.
        reference = int(torch.randint(bucket.frames, (), generator=chooser))
        if float(torch.rand((), generator=chooser)) < 0.5:
            reference = 0
        snippet = to_unit_scale(self.generators[bucket](seeds, targets, reference))
        colours = torch.Generator(device).manual_seed(int(seeds[0]) & 0x7FFF_FFFF_FFFF)
        return replace(snippet, images=change_colours(snippet.images, colours))

    def _losses(self, snippet: Snippet) -> dict[str, Tensor]:
        """Forward pass and all losses; entry "loss" is their weighted sum."""
        weights = self.config.loss
        device_type = self.ranks.device.type
        with torch.autocast(device_type, torch.bfloat16, enabled=self.config.bfloat16):
            output = self.model(snippet.images, snippet.targets, reference=snippet.reference)
        p, q = output.time_variant, output.decoded
        assert snippet.target_valid is not None
        displacement = (snippet.target_points - snippet.points[:, None]).norm(dim=-1)
        moving = snippet.target_valid & (displacement > 0.01)

        p_loss = confidence_loss(p.points, p.confidence, snippet.points, snippet.valid, weights.alpha)
        q_loss = confidence_loss(q.points, q.confidence, snippet.target_points, snippet.target_valid, weights.alpha)
        moving_loss = confidence_loss(q.points, q.confidence, snippet.target_points, moving, weights.alpha)
        encoding = pose_encoding(snippet.c2w, snippet.intrinsics, snippet.size)
        camera = camera_loss(output.pose_encodings, encoding, weights.camera_decay)
        loss = (
            weights.time_variant * p_loss.loss
            + weights.time_invariant * q_loss.loss
            + weights.moving * moving_loss.loss
            + weights.camera * camera
        )
        parts = {
            "epe_p": p_loss.error,
            "epe_q": q_loss.error,
            "epe_moving": moving_loss.error,
            "zero_motion": _moving_distance(displacement, moving),
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
        """Backward, clip, step. A non-finite gradient is zeroed and counted without waiting for the device."""
        loss.backward()
        average_gradients(self.parameters, self.ranks)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        finite = torch.isfinite(norm)
        self.bad_steps += (~finite).float()
        factor = torch.where(finite, (self.config.optimizer.clip_norm / (norm + 1e-6)).clamp(max=1.0), 0.0)
        for gradient in gradients:
            torch.nan_to_num_(gradient, 0.0, 0.0, 0.0)
        torch._foreach_mul_(gradients, factor)
        self.last_norm = norm
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
        state = self.model.state_dict()
        names = [k for k, v in state.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.average[k] for k in names], [state[k].float() for k in names], 1 - decay)

    # ---- files

    def save(self) -> None:
        """Write ``state.pt`` and the averaged weights as a model folder."""
        if not self.ranks.is_main:
            return
        self.output.mkdir(parents=True, exist_ok=True)
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
            ),
            self.output / "state.pt",
        )
        averaged = VDPM(self.model.config)
        averaged.load_state_dict(_plain(self.average))
        averaged.save_pretrained(self.output / "model", dtype="bfloat16")

    def _restore(self, state: TrainingState) -> None:
        self.model.load_state_dict(state.weights)
        self.average = {k: v.to(self.ranks.device).float() for k, v in state.average.items()}
        for optimizer, saved in zip(self.optimizers, state.optimizers, strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.clips, self.seconds = state.step, state.clips, state.seconds
        self.position = state.position

    def _log(self, totals: dict[str, Tensor], clips: int, seconds: float) -> None:
        """One JSON line with means since the last one; raises VDPMError when too many steps were bad."""
        steps = totals.pop("count")
        names = list(totals)
        means = mean_over_ranks(torch.stack([totals[n].float() for n in names]) / steps, self.ranks).tolist()
        bad = int(self.bad_steps)
        if self.ranks.is_main:
            line: dict[str, Any] = {"step": self.step, "clips": self.clips}
            line |= {n: round(v, 5) for n, v in zip(names, means)}
            line |= {
                "lr": round(self.optimizers[0].param_groups[0]["lr"], 7),
                "norm": round(float(self.last_norm), 3),
                "bad_steps": bad,
                "clips_per_second": round(clips / seconds, 1),
            }
            self.output.mkdir(parents=True, exist_ok=True)
            with (self.output / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
        if bad > self.config.max_bad_steps:
            raise VDPMError(
                f"{bad} steps had a non-finite gradient (at most {self.config.max_bad_steps}); "
                "lower the learning rate and resume from the last saved state"
            )

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop_signal = True


def _compiled(active: bool) -> AbstractContextManager[Any]:
    """Where not ``active``, compiled parts run as they are written."""
    return torch.compiler.set_stance("default" if active else "force_eager")


def _moving_distance(displacement: Tensor, moving: Tensor) -> Tensor:
    return (displacement * moving).sum() / moving.sum().clamp(min=1)


def _add(totals: dict[str, Tensor] | None, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Running sums on the device, with the number of steps as "count"."""
    detached = {k: v.detach() for k, v in losses.items()} | {"count": torch.ones((), device=losses["loss"].device)}
    return detached if totals is None else {k: totals[k] + v for k, v in detached.items()}


def _plain(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, under the names of the uncompiled network."""
    return {k.replace("_orig_mod.", ""): v.detach().float().cpu() for k, v in state.items()}

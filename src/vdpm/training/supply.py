"""Where batches come from: which shape, scenes, targets and reference each step has, and the clips made of them.

All of it follows from ``config.seed``, the step and the rank, so a resumed run sees what it would have seen. With data
sets in the mixture, each clip of a batch is drawn from one of them or is one of our own scenes.
"""

import sys
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from vdpm.data.clips import open_sources
from vdpm.data.quarantine import Quarantine
from vdpm.errors import UsageError
from vdpm.structures import Snippet
from vdpm.synthetic import SceneGenerator, training_seeds
from vdpm.synthetic.generator import clips_of
from vdpm.synthetic.scene import Scene
from vdpm.training.batch import change_colours, thin_out, to_unit_scale
from vdpm.training.config import SEEDS_PER_STEP, STEPS_PER_SEED, Bucket, TrainConfig
from vdpm.training.distributed import Ranks
from vdpm.training.loading import Background, Request, merged, of_rows

STEPS_AHEAD = 16
"""Scenes of this many steps are sampled at once: it takes thousands of small kernels, no matter for how many scenes.
Always the same steps together (0 to 15, 16 to 31, ...), or a resumed run would differ in the last bit."""


@dataclass(frozen=True)
class BatchPlan:
    """What the batch of one step on one rank is made of."""

    bucket: Bucket
    seeds: Int[Tensor, "batch"]
    targets: Int[Tensor, "batch targets"]
    reference: int


class SceneSupply:
    """Makes the batches of ``config`` for one rank."""

    def __init__(self, config: TrainConfig, ranks: Ranks) -> None:
        largest = max(bucket.batch for bucket in config.buckets) * ranks.world
        if largest > SEEDS_PER_STEP:
            raise UsageError(f"{largest} clips a step over all GPUs are more than {SEEDS_PER_STEP}; lower the batch")
        self.config, self.ranks = config, ranks
        self.generators = {
            bucket: SceneGenerator(
                replace(
                    config.scenes,
                    num_frames=bucket.frames,
                    height=bucket.height,
                    width=bucket.width,
                    frame_stride=bucket.stride,
                ),
                ranks.device,
                compile=config.compile,
            )
            for bucket in config.buckets
        }
        self._sampled: dict[int, tuple[BatchPlan, Scene]] = {}
        self.quarantine = Quarantine(max_share=config.data.max_corrupt)
        self._background: Background | None = None
        self._ahead = 0.0
        if config.data.sources:
            sources = open_sources(config.data.sources, self.quarantine)
            for source in sources:
                for bucket in config.buckets:
                    source.check(bucket.frames)
            pinned = ranks.device.type == "cuda"
            self._background = Background(sources, self._request, config.data.workers, pinned)
            self._report(0)

    def bucket(self, step: int, position: float) -> Bucket:
        """The shape of a step's batch, the same on all ranks, where the schedule stands at ``position``."""
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        shares = torch.tensor([float(b.share * b.is_open(position)) for b in self.config.buckets])
        return self.config.buckets[int(torch.multinomial(shares, 1, generator=generator))]

    def plan(self, step: int, bucket: Bucket) -> BatchPlan:
        """Scenes never seen before, target times, and a reference, one for all clips of the batch.

        Raises UsageError for a step whose scenes would belong to another seed, or to the held-out ones.
        """
        if not 0 <= step < STEPS_PER_SEED:
            raise UsageError(
                f"seed {self.config.seed} has scenes for {STEPS_PER_SEED} steps; go on with another --seed"
            )
        first = (self.config.seed * STEPS_PER_SEED + step) * SEEDS_PER_STEP + self.ranks.rank * bucket.batch
        chooser = torch.Generator().manual_seed(first & 0x7FFF_FFFF_FFFF)
        targets = torch.randint(bucket.frames, (bucket.batch, self.config.targets), generator=chooser)
        if 1 < self.config.targets <= bucket.frames:
            # Different times for each clip.
            order = torch.rand(bucket.batch, bucket.frames, generator=chooser).argsort(1)
            targets = order[:, : self.config.targets]
        anyone = int(torch.randint(bucket.frames, (), generator=chooser))
        reference = {
            "first": 0,
            "central": bucket.frames // 2,
            "any": anyone,
            "first_or_any": 0 if float(torch.rand((), generator=chooser)) < 0.5 else anyone,
        }[self.config.reference]
        return BatchPlan(bucket, training_seeds(first, bucket.batch), targets, reference)

    @torch.no_grad()
    def batch(self, step: int, position: float) -> tuple[Bucket, Snippet]:
        """The clips of ``step``, in unit scale and with colours changed; a run asks for one step after the other."""
        bucket = self.bucket(step, position)
        if self._background is not None:
            return bucket, self._mixed(step, position, bucket, self._background)
        plan, snippet = self._scenes(step, position, bucket)
        drawing = self._drawing(plan)
        snippet = replace(snippet, images=change_colours(snippet.images, drawing))
        if self.config.sparse_share > 0:
            snippet = thin_out(snippet, self.config.sparse_share, drawing)
        return bucket, snippet

    def _scenes(self, step: int, position: float, bucket: Bucket) -> tuple[BatchPlan, Snippet]:
        """Our own scenes of a step, in unit scale."""
        if step not in self._sampled or self._sampled[step][0].bucket != bucket:
            self._sample(step, position, bucket)
        plan, scene = self._sampled.pop(step)
        return plan, to_unit_scale(self.generators[bucket].snippet(scene, plan.targets, plan.reference))

    def _drawing(self, plan: BatchPlan) -> torch.Generator:
        """What colours, and which clips are thinned out, are drawn from."""
        return torch.Generator(self.ranks.device).manual_seed(int(plan.seeds[0]) & 0x7FFF_FFFF_FFFF)

    def close(self) -> None:
        """Ends the processes that read data sets, if there are any."""
        if self._background is not None:
            self._background.close()

    # ---- data sets

    def _mixed(self, step: int, position: float, bucket: Bucket, background: Background) -> Snippet:
        """A batch of our own scenes and of clips of data sets, all in unit scale."""
        self._ahead = position - step
        delivery = background.take(step, bucket)
        known = len(self.quarantine.files)
        self.quarantine.count(delivery.attempts, delivery.corrupt)
        self._report(known)
        if len(delivery.rows) < bucket.batch:
            plan, snippet = self._scenes(step, position, bucket)
            if snippet.sky is None:
                snippet = replace(snippet, sky=torch.zeros_like(snippet.valid))
            if self.config.sparse_share > 0:
                snippet = thin_out(snippet, self.config.sparse_share, self._drawing(plan))
            snippet = replace(snippet, instances=None, visible=None)
        else:
            plan, snippet = self.plan(step, bucket), None
        if len(delivery.rows):
            read = to_unit_scale(of_rows(delivery, plan.targets, plan.reference, self.ranks.device))
            snippet = read if snippet is None else merged(snippet, read, delivery.rows)
        assert snippet is not None
        return replace(snippet, images=change_colours(snippet.images, self._drawing(plan)))

    def _request(self, step: int) -> Request:
        """What ``step`` will want of the data sets, where the schedule goes on as it stands now."""
        position = step + self._ahead
        config = self.config
        if step >= STEPS_PER_SEED or not any(bucket.is_open(position) for bucket in config.buckets):
            # Beyond the end: asked for ahead of time, never used.
            return Request(step, config.buckets[0], [], [], torch.zeros(0, config.targets, dtype=torch.long), 0, [])
        bucket = self.bucket(step, position)
        plan = self.plan(step, bucket)
        key = [config.seed, step, self.ranks.rank]
        shares = config.data.shares
        members = np.random.default_rng(key).choice(len(shares), size=bucket.batch, p=shares)
        rows = np.flatnonzero(members).tolist()
        return Request(
            step=step,
            bucket=bucket,
            rows=rows,
            sources=[int(members[row]) - 1 for row in rows],
            targets=plan.targets[rows],
            reference=plan.reference,
            keys=[[*key, row] for row in rows],
        )

    def _report(self, known: int) -> None:
        """Names the damaged files met after the first ``known`` of them."""
        for reason in list(self.quarantine.files.values())[known:]:
            print(f"put aside: {reason}", file=sys.stderr, flush=True)

    def _sample(self, step: int, position: float, bucket: Bucket) -> None:
        """Scenes of all steps in this step's row of ``STEPS_AHEAD`` that should have the same shape of batch.

        The clock may bring another shape than expected; what was sampled for that step is then dropped.
        """
        start = step - step % STEPS_AHEAD
        row = range(start, min(start + STEPS_AHEAD, STEPS_PER_SEED))
        alike = [s for s in row if s == step or self._expects(bucket, s, position + s - step)]
        plans = [self.plan(s, bucket) for s in alike]
        references = torch.tensor([plan.reference for plan in plans]).repeat_interleave(bucket.batch)
        scenes = self.generators[bucket].sample(torch.cat([plan.seeds for plan in plans]), references)
        self._sampled = {s: kept for s, kept in self._sampled.items() if s > step}
        for number, (s, plan) in enumerate(zip(alike, plans)):
            if s >= step:
                self._sampled[s] = (plan, clips_of(scenes, number * bucket.batch, (number + 1) * bucket.batch))

    def _expects(self, bucket: Bucket, step: int, position: float) -> bool:
        """Whether ``step`` should have this shape; false beyond the schedule, where no bucket need be open."""
        return any(b.is_open(position) for b in self.config.buckets) and self.bucket(step, position) == bucket

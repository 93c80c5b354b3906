"""Where batches come from: which shape, scenes, targets and reference each step has, and the clips made of them.

All of it follows from ``config.seed``, the step and the rank, so a resumed run sees what it would have seen.
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.structures import Snippet
from vdpm.synthetic import SceneGenerator, training_seeds
from vdpm.synthetic.generator import clips_of
from vdpm.synthetic.scene import Scene
from vdpm.training.batch import change_colours, thin_out, to_unit_scale
from vdpm.training.config import SEEDS_PER_STEP, STEPS_PER_SEED, Bucket, TrainConfig
from vdpm.training.distributed import Ranks

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
        if step not in self._sampled or self._sampled[step][0].bucket != bucket:
            self._sample(step, position, bucket)
        plan, scene = self._sampled.pop(step)
        snippet = to_unit_scale(self.generators[bucket].snippet(scene, plan.targets, plan.reference))
        drawing = torch.Generator(self.ranks.device).manual_seed(int(plan.seeds[0]) & 0x7FFF_FFFF_FFFF)
        snippet = replace(snippet, images=change_colours(snippet.images, drawing))
        if self.config.sparse_share > 0:
            snippet = thin_out(snippet, self.config.sparse_share, drawing)
        return bucket, snippet

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

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
from vdpm.training.reuse import another_use, first_step, kept, turn_of

STEPS_AHEAD = 16
"""Scenes of this many batches are sampled at once: it takes thousands of small kernels, no matter for how many scenes.
Always the same batches together (0 to 15, 16 to 31, ...), or a resumed run would differ in the last bit."""

_FIXED_SHAPES = 3
"""Up to so many shapes of clips are compiled sooner each for itself than once for all."""

_LOW_BITS = 0x7FFF_FFFF_FFFF
"""Of a scene's seed: what generators of a batch are seeded with."""

_SPREAD = 0x9E37_79B1
"""An odd number without pattern (2^32 divided by the golden ratio): tells uses apart."""


@dataclass(frozen=True)
class BatchPlan:
    """What a batch on one rank is made of. ``targets``: of all its uses, one after the other; ``references``: of each
    use, one for all clips."""

    bucket: Bucket
    seeds: Int[Tensor, "batch"]
    targets: Int[Tensor, "batch targets"]
    references: tuple[int, ...]

    @property
    def reference(self) -> int:
        """Of the first use, which the scenes are made for."""
        return self.references[0]


@dataclass(frozen=True)
class MadeBatch:
    """A batch before it is shown: our own scenes, where there are any, and clips of data sets in place of some rows,
    in their own units, with the targets of all uses."""

    plan: BatchPlan
    own: Snippet | None
    read: Snippet | None
    rows: Int[Tensor, "rows"] | None


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
                sizes="fixed" if len(config.buckets) <= _FIXED_SHAPES else "open",
            )
            for bucket in config.buckets
        }
        self._sampled: dict[int, tuple[BatchPlan, Scene]] = {}
        self._kept: dict[int, MadeBatch] = {}
        self._announced: set[Bucket] = set()
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

    def is_new(self, step: int) -> bool:
        """Whether the batch of ``step`` has not been shown before."""
        return turn_of(step, self.config.scene_uses).use == 0

    def bucket(self, number: int, position: float) -> Bucket:
        """The shape of batch ``number``, the same on all ranks, where the schedule stands at ``position``.

        Batches are numbered in the order in which they are first shown: by steps, where each is shown once.
        """
        generator = torch.Generator().manual_seed(self.config.seed * 1_000_003 + number)
        shares = torch.tensor([float(b.share * b.is_open(position)) for b in self.config.buckets])
        return self.config.buckets[int(torch.multinomial(shares, 1, generator=generator))]

    def plan(self, number: int, bucket: Bucket) -> BatchPlan:
        """Scenes never seen before, target times, and references, for batch ``number``.

        Raises UsageError for a batch whose scenes would belong to another seed, or to the held-out ones.
        """
        if not 0 <= number < STEPS_PER_SEED:
            raise UsageError(
                f"seed {self.config.seed} has scenes for {STEPS_PER_SEED} steps; go on with another --seed"
            )
        first = (self.config.seed * STEPS_PER_SEED + number) * SEEDS_PER_STEP + self.ranks.rank * bucket.batch
        chooser = torch.Generator().manual_seed(first & _LOW_BITS)
        count = self.config.targets * self.config.scene_uses
        targets = torch.randint(bucket.frames, (bucket.batch, count), generator=chooser)
        if count > 1 and self.config.targets <= bucket.frames:
            # Different times for each clip, also from use to use as long as there are any.
            order = torch.rand(bucket.batch, bucket.frames, generator=chooser).argsort(1)
            targets = order[:, torch.arange(count) % bucket.frames]
        references = tuple(self._reference(bucket, chooser) for _ in range(self.config.scene_uses))
        return BatchPlan(bucket, training_seeds(first, bucket.batch), targets, references)

    def _reference(self, bucket: Bucket, chooser: torch.Generator) -> int:
        anyone = int(torch.randint(bucket.frames, (), generator=chooser))
        return {
            "first": 0,
            "central": bucket.frames // 2,
            "any": anyone,
            "first_or_any": 0 if float(torch.rand((), generator=chooser)) < 0.5 else anyone,
        }[self.config.reference]

    @torch.no_grad()
    def batch(self, step: int, position: float) -> tuple[Bucket, Snippet]:
        """The clips of ``step``, in unit scale and with colours changed; a run asks for one step after the other."""
        uses = self.config.scene_uses
        turn = turn_of(step, uses)
        made = self._kept.pop(turn.batch, None)
        if made is None:
            # New, or lost with the process that was to show it again.
            made = self._made(turn.batch, position - (step - turn.first_step))
        if turn.use + 1 < uses:
            self._kept[turn.batch] = made
        return made.plan.bucket, self._shown(made, turn.use)

    def _made(self, number: int, position: float) -> MadeBatch:
        """Batch ``number``, first shown where the schedule stands at ``position``."""
        bucket = self.bucket(number, position)
        if self.config.compile and bucket not in self._announced:
            self._announce(bucket)
        if self._background is not None:
            return self._mixed(number, position, bucket, self._background)
        plan, snippet = self._scenes(number, position, bucket)
        return MadeBatch(plan, snippet, None, None)

    def _announce(self, bucket: Bucket) -> None:
        """Says why the first batch of a shape, and the step with it, take so long."""
        self._announced.add(bucket)
        if self.ranks.is_main:
            shape = f"{bucket.frames} x {bucket.height} x {bucket.width}"
            print(f"first clips of {shape}: compiling, minutes where no cache has it", file=sys.stderr, flush=True)

    def _scenes(self, number: int, position: float, bucket: Bucket) -> tuple[BatchPlan, Snippet]:
        """Our own scenes of a batch, in their own units."""
        if number not in self._sampled or self._sampled[number][0].bucket != bucket:
            self._sample(number, position, bucket)
        plan, scene = self._sampled.pop(number)
        return plan, kept(self.generators[bucket].snippet(scene, plan.targets, plan.reference))

    def _shown(self, made: MadeBatch, use: int) -> Snippet:
        """A batch as it is shown for the ``use``-th time."""
        plan, share = made.plan, self.config.sparse_share
        uses, reference = self.config.scene_uses, plan.references[use]

        def scaled(snippet: Snippet | None) -> Snippet | None:
            return None if snippet is None else to_unit_scale(another_use(snippet, use, uses, reference))

        snippet, read, drawing = scaled(made.own), scaled(made.read), self._drawing(plan, use)
        if self._background is None:
            assert snippet is not None
            snippet = replace(snippet, images=change_colours(snippet.images, drawing))
            return snippet if share == 0 else thin_out(snippet, share, drawing)
        if snippet is not None and share > 0:
            snippet = thin_out(snippet, share, drawing)
        if read is not None:
            assert made.rows is not None
            snippet = read if snippet is None else merged(snippet, read, made.rows)
        assert snippet is not None
        return replace(snippet, images=change_colours(snippet.images, self._drawing(plan, use)))

    def _drawing(self, plan: BatchPlan, use: int) -> torch.Generator:
        """What colours, and which clips are thinned out, are drawn from."""
        # Spread over the low 32 bits, all that a generator on the CPU takes.
        seed = (int(plan.seeds[0]) & _LOW_BITS) ^ (use * _SPREAD & 0xFFFF_FFFF)
        return torch.Generator(self.ranks.device).manual_seed(seed)

    def close(self) -> None:
        """Ends the processes that read data sets, if there are any."""
        if self._background is not None:
            self._background.close()

    # ---- data sets

    def _mixed(self, number: int, position: float, bucket: Bucket, background: Background) -> MadeBatch:
        """A batch of our own scenes and of clips of data sets."""
        self._ahead = position - first_step(number, self.config.scene_uses)
        delivery = background.take(number, bucket)
        known = len(self.quarantine.files)
        self.quarantine.count(delivery.attempts, delivery.corrupt)
        self._report(known)
        if len(delivery.rows) < bucket.batch:
            plan, own = self._scenes(number, position, bucket)
            if own.sky is None:
                own = replace(own, sky=torch.zeros_like(own.valid))
        else:
            plan, own = self.plan(number, bucket), None
        if not len(delivery.rows):
            return MadeBatch(plan, own, None, None)
        read = of_rows(delivery, plan.targets, plan.reference, self.ranks.device)
        return MadeBatch(plan, own, read, delivery.rows)

    def _request(self, number: int) -> Request:
        """What batch ``number`` will want of the data sets, where the schedule goes on as it stands now."""
        config = self.config
        position = first_step(number, config.scene_uses) + self._ahead
        if number >= STEPS_PER_SEED or not any(bucket.is_open(position) for bucket in config.buckets):
            # Beyond the end: asked for ahead of time, never used.
            return Request(number, config.buckets[0], [], [], torch.zeros(0, config.targets, dtype=torch.long), 0, [])
        bucket = self.bucket(number, position)
        plan = self.plan(number, bucket)
        key = [config.seed, number, self.ranks.rank]
        shares = config.data.shares
        members = np.random.default_rng(key).choice(len(shares), size=bucket.batch, p=shares)
        rows = np.flatnonzero(members).tolist()
        return Request(
            step=number,
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

    def _sample(self, number: int, position: float, bucket: Bucket) -> None:
        """Scenes of all batches in this one's row of ``STEPS_AHEAD`` that should have the same shape.

        The clock may bring another shape than expected; what was sampled for that batch is then dropped.
        """
        start, uses = number - number % STEPS_AHEAD, self.config.scene_uses
        row = range(start, min(start + STEPS_AHEAD, STEPS_PER_SEED))
        begun = position - first_step(number, uses)
        alike = [n for n in row if n == number or self._expects(bucket, n, begun + first_step(n, uses))]
        plans = [self.plan(n, bucket) for n in alike]
        references = torch.tensor([plan.reference for plan in plans]).repeat_interleave(bucket.batch)
        scenes = self.generators[bucket].sample(torch.cat([plan.seeds for plan in plans]), references)
        self._sampled = {n: sampled for n, sampled in self._sampled.items() if n > number}
        for place, (n, plan) in enumerate(zip(alike, plans)):
            if n >= number:
                self._sampled[n] = (plan, clips_of(scenes, place * bucket.batch, (place + 1) * bucket.batch))

    def _expects(self, bucket: Bucket, number: int, position: float) -> bool:
        """Whether batch ``number`` should have this shape; false beyond the schedule, where no bucket need be open."""
        return any(b.is_open(position) for b in self.config.buckets) and self.bucket(number, position) == bucket

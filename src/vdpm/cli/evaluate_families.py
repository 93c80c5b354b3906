"""``vdpm evaluate families``: all errors of a network on held-out families of our own scenes, in one go."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from vdpm.cli.arguments import check_file
from vdpm.errors import UsageError

if TYPE_CHECKING:
    from vdpm.synthetic import SceneConfig


@dataclass(frozen=True)
class Families:
    """Score a network on held-out families of scenes (snippets that training never draws) by the paper's protocols.

    Prints a table for each family: tracking, two views, depth and cameras, with baselines beside. Ctrl-C keeps what has
    been scored.
    """

    model: str = "vdpm-small"
    """Preset, model folder, file or hub id."""
    pairwise: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Apply the network to pairs of frames and align these, as the paper's DPM; a pairwise network does so unasked."""
    mirror: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Ask the network about the mirrored clip as well and take the mean of both answers."""
    family: Literal["all", "rigid", "articulated", "unseen"] = "all"
    """Which family of scenes."""
    clips: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """How many snippets of each family, the first ones; all of the manifest's (200) where not given."""
    size: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="HEIGHT WIDTH")] = None
    """Height and width of the frames, if not the manifest's; the figures are then not those of the family."""
    own_time: Literal["time_variant", "decoded"] = "time_variant"
    """What answers for a frame at its own time: its map P, or the decoder asked for that time."""
    horizon: Annotated[float | None, tyro.conf.arg(metavar="DISTANCES")] = None
    """Leave out points farther than this many mean distances."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to run."""
    batch: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Snippets at a time; 2 on the CPU and 16 on a GPU where not given."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="JSON")] = None
    """Also write the scores, snippet by snippet, to this file, after each family."""

    def run(self) -> None:
        import torch

        from vdpm.evaluation.held_out import score_family
        from vdpm.evaluation.manifest import load_manifest
        from vdpm.evaluation.pairwise import network_predictor, row_name
        from vdpm.evaluation.report import FamilyResult, family_table, write_scores
        from vdpm.evaluation.snippet_scores import ProtocolOptions
        from vdpm.model import VDPM, mirrored_once
        from vdpm.progress import terminal_progress
        from vdpm.synthetic.families import FAMILIES

        if (self.clips is not None and self.clips < 1) or (self.batch is not None and self.batch < 1):
            raise UsageError("--clips and --batch must be at least 1")
        if self.output is not None:
            check_file(self.output, overwrite=True)  # rather now than after the scoring
        options = ProtocolOptions(self.own_time, horizon=self.horizon)
        manifests = [load_manifest(name) for name in (FAMILIES if self.family == "all" else [self.family])]
        wanted = [len(manifest.seeds(self.clips)) for manifest in manifests]
        device = ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        model = VDPM.from_pretrained(self.model, device=device)
        if self.mirror:
            model = mirrored_once(model)
        configs = [self._config(manifest.config, model.config.patch_size) for manifest in manifests]
        results: list[FamilyResult] = []
        predictor, who = network_predictor(model, self.pairwise), row_name(model, self.model, self.pairwise)

        def keep() -> None:
            if self.output is not None and results:
                write_scores(results, self.output, who, model.fingerprint(), device, options)

        try:
            with terminal_progress() as report:
                for manifest, config, count in zip(manifests, configs, wanted):
                    notes = manifest.differences()
                    if config != manifest.config:
                        notes += (f"{manifest.family}: frames of another size than the manifest's",)
                    results.append(FamilyResult(manifest, config, count, notes))
                    for scores in score_family(
                        predictor,
                        manifest,
                        clips=count,
                        config=config,
                        device=device,
                        batch=self.batch or (16 if device == "cuda" else 2),
                        options=options,
                        progress=partial(report, manifest.family),
                    ):
                        results[-1].scores.append(scores)
                    keep()
        finally:
            # After an interruption too: what has been scored is kept, and said to be a part.
            results = [result for result in results if result.scores]
            if results:
                told = [] if who == self.model else [f"network: {who}"]
                print("\n\n".join([*told, *map(family_table, results)]))
            keep()

    def _config(self, config: "SceneConfig", patch: int) -> "SceneConfig":
        """The manifest's scenes at the wanted size. Raises UsageError for one that is no multiple of the patch."""
        height, width = self.size or (config.height, config.width)
        if min(height, width) < patch or height % patch or width % patch:
            raise UsageError(f"frames of {height} x {width} are no multiples of the network's patch, {patch}: --size")
        return replace(config, height=height, width=width)

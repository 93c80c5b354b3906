"""``vdpm evaluate``: errors of a network on held-out scenes of our own."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vdpm.errors import UsageError


@dataclass(frozen=True)
class Evaluate:
    """Score a network on held-out scenes (seeds that training never draws) and print a table of its errors."""

    model: str = "vdpm-small"
    """Preset, model folder, file or hub id."""
    clips: int = 100
    """How many held-out scenes."""
    frames: int = 10
    """Frames in each."""
    size: tuple[int, int] = (128, 224)
    """Height and width of the frames in pixels."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to run."""
    batch: int = 4
    """Clips at a time."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Also write the scores, clip by clip, to this JSON file."""

    def run(self) -> None:
        import torch

        from vdpm.evaluation.held_out import score_held_out
        from vdpm.evaluation.report import held_out_table, write_scores
        from vdpm.model import VDPM
        from vdpm.progress import terminal_progress
        from vdpm.synthetic import SceneConfig

        if min(self.clips, self.batch) < 1 or self.frames < 2:
            raise UsageError("--clips and --batch must be at least 1 and --frames at least 2")
        device = ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        model = VDPM.from_pretrained(self.model, device=device)
        patch = model.config.patch_size
        if self.size[0] % patch or self.size[1] % patch:
            raise UsageError(f"--size {self.size[0]} {self.size[1]} must be multiples of the network's patch, {patch}")
        config = SceneConfig(num_frames=self.frames, height=self.size[0], width=self.size[1])
        with terminal_progress() as report:
            scores = score_held_out(
                model,
                config,
                clips=self.clips,
                device=device,
                batch=self.batch,
                progress=lambda done, total: report("scoring", done, total),
            )
        print(held_out_table(scores))
        if self.output is not None:
            write_scores(scores, self.output, model=self.model, fingerprint=model.fingerprint(), config=config)

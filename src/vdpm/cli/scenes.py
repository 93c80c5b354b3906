"""``vdpm scenes``: look at the scenes that networks are trained on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vdpm.errors import UsageError


@dataclass(frozen=True)
class Scenes:
    """Draw a contact sheet of our own scenes: frames, depth, motion, and their points at two times."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="PNG")]
    """Picture to write."""

    seed: int = 0
    """Seed of the first scene; the others follow."""

    count: Annotated[int, tyro.conf.arg(metavar="N")] = 8
    """How many scenes."""

    frames: Annotated[int, tyro.conf.arg(metavar="N")] = 6
    """Frames of each clip; at most four are shown."""

    size: tuple[int, int] = (96, 128)
    """Height and width of a frame in pixels."""

    def run(self) -> None:
        if not 1 <= self.count <= 64 or self.seed < 0:
            raise UsageError(f"--count {self.count} --seed {self.seed}: count is 1 to 64 and the seed at least 0")
        if not 2 <= self.frames <= 64 or not all(8 <= side <= 512 for side in self.size):
            raise UsageError("--frames is 2 to 64, and both sides of --size are 8 to 512")
        import torch
        from PIL import Image

        from vdpm.export.files import replace_file
        from vdpm.synthetic import SceneConfig, generate
        from vdpm.synthetic.contact_sheet import contact_sheet

        config = SceneConfig(num_frames=self.frames, height=self.size[0], width=self.size[1])
        seeds = range(self.seed, self.seed + self.count)
        targets = torch.full((self.count, 1), self.frames - 1)
        sheet = contact_sheet(generate(seeds, config, device="cpu", targets=targets))
        with replace_file(self.output) as stream:
            Image.fromarray(sheet.numpy()).save(stream, format="PNG")
        print(f"{self.output}: scenes {seeds[0]} to {seeds[-1]}, {self.frames} frames each")

"""``vdpm scenes``: look at the scenes that networks are trained and scored on, or write them as files."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from vdpm.cli.arguments import check_file, parse_frames
from vdpm.errors import OutputError, UsageError

if TYPE_CHECKING:
    from vdpm.synthetic import SceneConfig


@dataclass(frozen=True)
class Scenes:
    """Draw a contact sheet of our own scenes (frames, depth, motion, points at two times), or write them as snippets.

    With --snippets each scene becomes a folder of PNG frames and plain arrays with its exact ground truth.
    """

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="PNG|DIR")]
    """Picture to write (.png), one that exists is kept unless --overwrite is given; with --snippets the folder that
    gets one folder a scene."""

    family: Literal["training", "rigid", "articulated", "unseen"] = "training"
    """The scenes that networks are trained on, or a held-out family."""

    seed: int = 0
    """Seed of the first scene, of a family its number; the others follow."""

    count: Annotated[int, tyro.conf.arg(metavar="N")] = 8
    """How many scenes a contact sheet shows."""

    snippets: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Write this many scenes as snippets instead."""

    frames: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Frames of each clip, 6 or the family's where not given; a sheet shows at most four."""

    size: Annotated[tuple[int, int] | None, tyro.conf.arg(metavar="HEIGHT WIDTH")] = None
    """Height and width of a frame in pixels, 96 128 or the family's where not given."""

    targets: str = "all"
    """Frames at whose times snippets have points: all, or numbers such as 0,4,9 or 0-8."""

    visible: bool = False
    """Also say for each point of a snippet whether the target's frame sees it; takes several times as long."""

    overwrite: bool = False
    """Replace a picture that exists."""

    def run(self) -> None:
        from vdpm.synthetic import SceneConfig, training_seeds
        from vdpm.synthetic.families import FAMILIES, family_seeds

        config = FAMILIES.get(self.family, SceneConfig())
        height, width = self.size or (config.height, config.width)
        frames = config.num_frames if self.frames is None else self.frames
        if not 2 <= frames <= 64 or not all(8 <= side <= 512 for side in (height, width)):
            raise UsageError("--frames is 2 to 64, and both sides of --size are 8 to 512")
        count, most, name = (self.count, 64, "count") if self.snippets is None else (self.snippets, 100_000, "snippets")
        if not 1 <= count <= most or self.seed < 0:
            raise UsageError(f"--{name} {count} --seed {self.seed}: {name} is 1 to {most} and the seed at least 0")
        config = replace(config, num_frames=frames, height=height, width=width)
        held_out = self.family in FAMILIES
        seeds = family_seeds(self.family, count, self.seed) if held_out else training_seeds(self.seed, count)
        if self.snippets is None:
            check_file(self.output, self.overwrite, (".png",))
            self._draw(config, seeds.tolist())
        else:
            self._write(config, seeds.tolist())

    def _draw(self, config: "SceneConfig", seeds: list[int]) -> None:
        import torch
        from PIL import Image

        from vdpm.export.files import replace_file
        from vdpm.synthetic import generate
        from vdpm.synthetic.contact_sheet import contact_sheet

        targets = torch.full((len(seeds), 1), config.num_frames - 1)
        sheet = contact_sheet(generate(seeds, config, device="cpu", targets=targets))
        with replace_file(self.output) as stream:
            Image.fromarray(sheet.numpy()).save(stream, format="PNG")
        last = self.seed + len(seeds) - 1
        print(f"{self.output}: {self.family} scenes {self.seed} to {last}, {config.num_frames} frames each")

    def _write(self, config: "SceneConfig", seeds: list[int]) -> None:
        import torch

        from vdpm.data import write_snippet
        from vdpm.progress import terminal_progress
        from vdpm.synthetic import SceneGenerator

        wanted = parse_frames(self.targets, "--targets", words=("all",))
        numbers = list(range(config.num_frames)) if isinstance(wanted, str) else wanted
        if numbers[-1] >= config.num_frames:
            raise UsageError(f"--targets {self.targets}: a clip has frames 0 to {config.num_frames - 1}")
        if self.output.exists() and not self.output.is_dir():
            raise OutputError(f"{self.output}: is a file; --snippets needs a folder")
        folders = [self.output / f"{self.family}_{self.seed + number:06d}" for number in range(len(seeds))]
        taken = next((folder for folder in folders if folder.exists()), None)
        if taken is not None:
            raise OutputError(f"{taken}: exists; choose another folder, another --seed, or remove it")
        generator = SceneGenerator(config)
        with terminal_progress() as report:
            for number, (folder, seed) in enumerate(zip(folders, seeds)):
                report("snippets", number, len(seeds))
                snippet = generator([seed], torch.tensor([numbers]), visible=self.visible).clip(0)
                source = {"made_by": "vdpm.synthetic", "family": self.family, "seed": seed, "config": asdict(config)}
                write_snippet(folder, snippet, source)
            report("snippets", len(seeds), len(seeds))
        print(f"{self.output}: {len(seeds)} snippets, {folders[0].name} to {folders[-1].name}")
        shown = f"print(read_snippet({str(folders[0])!r}).points.shape)"
        print(f'Next: python -c "from vdpm.data import read_snippet; {shown}"')

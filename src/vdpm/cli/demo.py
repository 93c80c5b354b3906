"""``vdpm demo``: the bundled clip through the network, and how far the answer is from the truth."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from vdpm.cli.pictures import write_pictures
from vdpm.cli.screen import Open, open_browser
from vdpm.cli.summary import model_line, print_table
from vdpm.progress import terminal_progress

if TYPE_CHECKING:
    from vdpm.evaluation.clip_scores import ClipScores
    from vdpm.structures import Reconstruction, Snippet


BUNDLED = Path(__file__).resolve().parents[1] / "demo"
PAGE_FILE = "scene.html"


@dataclass(frozen=True)
class Demo:
    """Reconstruct the bundled clip, which our scene generator made, and print errors against its exact ground truth."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")] = Path("demo_out")
    """Folder for the result."""

    model: Annotated[str, tyro.conf.arg(metavar="NAME|PATH")] = "vdpm-small"
    """Weights, as for vdpm reconstruct."""

    mirror: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Ask the network about the mirrored clip as well, as for vdpm reconstruct."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the network runs."""

    overwrite: bool = False
    """Replace a result that exists in the output folder."""

    open: Open = "auto"
    """Open the page in the browser afterwards; auto: from a terminal of a machine with a screen."""

    def run(self) -> None:
        from vdpm.archive import check_output, hold, record_derived
        from vdpm.reconstruct import make_plan
        from vdpm.synthetic.demo_clip import load_ground_truth
        from vdpm.viewer.page import write_page

        check_output(self.output, self.overwrite)
        truth = load_ground_truth(BUNDLED / "truth.npz")
        with hold(self.output), terminal_progress() as report:
            plan = make_plan(
                BUNDLED / "clip.mp4",
                model=self.model,
                size=max(truth.size),
                max_frames=truth.num_frames,
                device=self.device,
                mirror=self.mirror,
                report=report,
            )
            result = plan.run(self.output, overwrite=self.overwrite, report=report)
            files = write_pictures(result, self.output, [0, len(result) - 1], preview=True, report=report)
            record_derived(self.output, [PAGE_FILE])
            write_page(result, self.output / PAGE_FILE, report=report)
        scores = score(result, truth)

        seconds = result.provenance["seconds"]
        height, width = result.size
        print_table(
            f"The bundled clip: {len(result)} frames of {width} x {height}, made by our scene generator",
            [
                ("model", model_line(result.provenance)),
                ("time", f"{seconds['total']:.1f} s, all {len(result)} x {len(result)} maps"),
                *(("", str(file)) for file in (*files, self.output / PAGE_FILE)),
            ],
        )
        print()
        print_table(
            "Errors against the truth (lengths in units of the mean distance of the scene)",
            [("", "network", "without it"), *error_rows(scores)],
        )
        print()
        page = self.output / PAGE_FILE
        opened = open_browser(page.resolve().as_uri(), self.open)
        print(f"{page} is open in your browser" if opened else f"Open {page} in a browser", end=" ")
        print("(press space to play; it needs no network).")
        print(f"Look at {self.output / 'preview.png'}; open the .ply files in MeshLab, CloudCompare or Blender.")
        print("Next, your own video: vdpm reconstruct VIDEO -o DIR")


def score(result: "Reconstruction", truth: "Snippet") -> "ClipScores":
    """Errors of a result at all times that the truth knows."""
    import torch

    from vdpm.evaluation.clip_scores import score_clip

    maps, frames = result.maps, range(len(result))
    own = torch.stack([maps.time_variant(frame).points for frame in frames])
    targets = truth.targets.tolist()
    moved = torch.stack([torch.stack([maps.time_invariant(t, frame).points for frame in frames]) for t in targets])
    return score_clip(own, moved, result.cameras, truth)


def error_rows(scores: "ClipScores") -> list[tuple[str, str, str]]:
    """Name, the network's error, and that of the answer one could give without a network."""
    plane, still = "{} (a plane before the true cameras)", "{} (the true shape without motion)"
    moving = still.format(_number(scores.zero_motion_moving))
    return [
        ("points at their own time (EPE of P)", _number(scores.epe_p), plane.format(_number(scores.constant_depth_p))),
        ("points at other times (EPE of Q)", _number(scores.epe_q), still.format(_number(scores.zero_motion_q))),
        ("the same, moving pixels", _number(scores.epe_q_moving), moving),
        ("motion alone, moving pixels", _number(scores.flow_moving), f"{_number(scores.zero_motion_moving)} (none)"),
        ("depth, relative (AbsRel)", _number(scores.depth_abs_rel), ""),
        ("camera rotation, degrees", _number(scores.rotation), ""),
        ("camera position", _number(scores.translation), ""),
        ("focal length, relative", _number(scores.focal), ""),
    ]


def _number(value: float) -> str:
    return "none such" if math.isnan(value) else f"{value:.4f}"

"""``vdpm reconstruct``: a video to a result folder with preview and point clouds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vdpm.cli.arguments import parse_frames
from vdpm.cli.pictures import choose_clouds, write_pictures
from vdpm.cli.summary import print_summary
from vdpm.errors import UsageError
from vdpm.progress import terminal_progress


@dataclass(frozen=True)
class Reconstruct:
    """Reconstruct a video: where every pixel of every frame is in 3D, at every time, and where the cameras were.

    Writes a folder with the point maps, cameras, a preview picture and coloured point clouds. Frames are
    numbered from 0 in the order they were taken from the video.
    """

    video: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="VIDEO")]
    """A video (mp4, mov, mkv, webm, gif), a folder of images, several images, or a quoted pattern of
    their names such as 'dir/*.color.jpg'."""

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")]
    """Folder for the result. One that exists is kept unless --overwrite is given."""

    targets: Annotated[str, tyro.conf.arg(metavar="all|none|0,4,9")] = "all"
    """Times to show the points at: all frames' times, none (shape and cameras only, fastest), or chosen frames'."""

    sources: Annotated[str, tyro.conf.arg(metavar="all|0,4,9")] = "all"
    """Frames whose pixels are reconstructed."""

    reference: Annotated[int, tyro.conf.arg(metavar="FRAME")] = 0
    """The frame whose camera is the world."""

    fps: Annotated[float | None, tyro.conf.arg(metavar="FPS")] = None
    """Take this many frames a second. Without it frames are spread evenly over the clip within --max-frames."""

    start: Annotated[float | None, tyro.conf.arg(metavar="SECONDS")] = None
    """Begin at this time of the video, in seconds."""

    end: Annotated[float | None, tyro.conf.arg(metavar="SECONDS")] = None
    """Stop at this time of the video, in seconds."""

    max_frames: Annotated[int, tyro.conf.arg(metavar="N")] = 24
    """Take at most so many frames. Time and memory grow with it, the size of the result with its square."""

    size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Long side of the network's images in pixels. Without it: what the network was made for."""

    fit: Literal["pad", "crop", "stretch"] = "pad"
    """How an image meets a size that the network can take: padded (nothing is lost), cropped, or stretched."""

    model: Annotated[str, tyro.conf.arg(metavar="NAME|PATH")] = "vdpm-small"
    """Weights: a preset (vdpm-small, vdpm-1b), a folder, a file, or the id of a Hugging Face repository."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the network runs. auto takes CUDA, then MPS, then the CPU."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the network. auto takes bfloat16 for large networks on CUDA, else float32."""

    ply: Annotated[str, tyro.conf.arg(metavar="auto|all|none|0,4")] = "auto"
    """Times to write a coloured point cloud for. auto: the reference frame's, or the first kept."""

    preview: bool = True
    """Draw no preview picture."""

    overwrite: bool = False
    """Replace a result that exists in the output folder."""

    def run(self) -> None:
        targets = parse_frames(self.targets, "--targets")
        sources = parse_frames(self.sources, "--sources", words=("all",))
        ply = parse_frames(self.ply, "--ply", words=("auto", "all", "none"))
        if not self.video:
            raise UsageError("no video is named; write vdpm reconstruct VIDEO -o DIR")
        from vdpm.archive import check_output
        from vdpm.reconstruct import make_plan

        check_output(self.output, self.overwrite)
        with terminal_progress() as report:
            plan = make_plan(
                self.video[0] if len(self.video) == 1 else list(self.video),
                model=self.model,
                targets=targets,
                sources=sources,
                reference=self.reference,
                fps=self.fps,
                start=self.start,
                end=self.end,
                max_frames=self.max_frames,
                size=self.size,
                fit=self.fit,
                device=self.device,
                dtype=self.dtype,
                report=report,
            )
            clouds = choose_clouds(ply, plan.targets, plan.reference)
            result = plan.run(self.output, overwrite=self.overwrite, report=report)
            files = write_pictures(result, self.output, clouds, preview=self.preview, report=report)
        print_summary(result, self.output, files)

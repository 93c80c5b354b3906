"""``vdpm reconstruct``: a video to a result folder with preview and point clouds."""

import shlex
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vdpm.cli.arguments import parse_frames
from vdpm.cli.pictures import choose_clouds, write_pictures
from vdpm.cli.summary import print_plans, print_summary
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

    plan: bool = False
    """Print windows, memory, time and disk that the run would take, and stop."""

    targets: Annotated[str, tyro.conf.arg(metavar="auto|all|none|0,4,9")] = "auto"
    """Times to show the points at: all frames' times, none (shape and cameras only, fastest), or chosen frames'.
    auto: all, or one time a window in a clip of several windows."""

    sources: Annotated[str, tyro.conf.arg(metavar="all|0,4,9")] = "all"
    """Frames whose pixels are reconstructed."""

    reference: Annotated[int, tyro.conf.arg(metavar="FRAME")] = 0
    """The frame whose camera is the world."""

    fps: Annotated[float | None, tyro.conf.arg(metavar="FPS")] = None
    """Take this many frames a second, all of them unless --max-frames is given too. Without it frames are spread
    evenly over the clip within --max-frames."""

    start: Annotated[float | None, tyro.conf.arg(metavar="SECONDS")] = None
    """Begin at this time of the video, in seconds."""

    end: Annotated[float | None, tyro.conf.arg(metavar="SECONDS")] = None
    """Stop at this time of the video, in seconds."""

    max_frames: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Take at most so many frames: 24, or as many as --fps gives. More than 24 are taken in windows that overlap."""

    window: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Frames a window of a clip that is longer than one: 16 unless told."""

    overlap: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Frames that neighbouring windows share. Without it three eighths of a window."""

    strided: bool = True
    """No windows of every fourth frame that tie distant frames together."""

    loops: Literal["both", "likeness", "geometry", "none"] = "likeness"
    """Windows that tie places seen again: where frames look alike, where the cameras found see the same points."""

    sight: bool = True
    """Cameras (but for --pixels) and points as the network has them, not fitted to patches of one frame that are found
    again in others."""

    cuts: Literal["split", "ignore"] = "split"
    """What to do where shots change in a clip of several windows: a result for each shot, or one for all."""

    max_memory: Annotated[float | None, tyro.conf.arg(metavar="GIB")] = None
    """Use shorter windows where longer ones would take more memory than this."""

    focal: Annotated[float | None, tyro.conf.arg(metavar="PIXELS")] = None
    """The focal length is known, in pixels of the video (in their heights, where they are not square)."""

    pixels: Literal["square", "free"] = "square"
    """One focal length, as cameras with square pixels have it, or one across and one down the picture, as the network
    says. Known cameras stay as they are."""

    mirror: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Ask the network a second time, about the mirrored clip, and take the mean of both answers: smaller errors, in
    twice the network's time."""

    zoom: bool = False
    """The lens zooms: a focal length for each frame, where a clip of several windows has one otherwise. A clip seen at
    once then keeps the network's cameras."""

    cameras: Annotated[Path | None, tyro.conf.arg(metavar="JSON")] = None
    """Cameras are known: a file with "intrinsics" (3 x 3, pixels of the video) and "c2w" (4 x 4 by frame), or one."""

    distance: Annotated[str | None, tyro.conf.arg(metavar="A,B,LENGTH")] = None
    """A distance is known and sets the unit: between the cameras of two frames, '0,39,7.5', or between two points,
    'FRAME:X,Y,FRAME:X,Y,LENGTH' in pixels of the video."""

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
        targets = parse_frames(self.targets, "--targets", words=("auto", "all", "none"))
        sources = parse_frames(self.sources, "--sources", words=("all",))
        ply = parse_frames(self.ply, "--ply", words=("auto", "all", "none"))
        if not self.video:
            raise UsageError("no video is named; write vdpm reconstruct VIDEO -o DIR")
        from vdpm.archive import hold
        from vdpm.cli.knowledge import parse_distance, read_priors
        from vdpm.long_video.windows import WindowConfig
        from vdpm.reconstruct import LongPlan, check_place, make_plans, scene_outputs

        parse_distance(self.distance)  # told before the network is loaded
        check_place(self.output, self.overwrite or self.plan)
        windows = WindowConfig(self.window, self.overlap, self.strided, self.loops, self.sight)
        held = nullcontext() if self.plan else hold(self.output)
        with held, terminal_progress() as report:
            plans = make_plans(
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
                windows=windows,
                priors=lambda transform: read_priors(self.focal, self.cameras, self.distance, transform, self.zoom),
                pixels=self.pixels,
                mirror=self.mirror,
                max_memory=self.max_memory,
                cuts=self.cuts,
                report=report,
            )
            outputs = scene_outputs(self.output, len(plans))
            for output in outputs:
                check_place(output, self.overwrite or self.plan)
            chosen: list[list[int | None]] = []
            for plan in plans:
                long = isinstance(plan, LongPlan) and ply == "auto"
                chosen.append([None] if long else choose_clouds(ply, plan.targets, plan.reference))
            if self.plan or len(plans) > 1 or isinstance(plans[0], LongPlan):
                print_plans(plans, outputs, chosen, preview=self.preview, trial=True)
            if self.plan:
                return
            for plan, output, clouds in zip(plans, outputs, chosen):
                nothing_there = not output.exists()
                try:
                    result = plan.run(output, overwrite=self.overwrite, report=report)
                    files = write_pictures(result, output, clouds, preview=self.preview, report=report)
                except KeyboardInterrupt:
                    if nothing_there and output.exists():
                        print(f"What was finished is kept: vdpm info {shlex.quote(str(output))}", flush=True)
                    raise
                print_summary(result, output, files)

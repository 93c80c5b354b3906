"""A video to a reconstruction: read frames, encode them once, then decode the wanted times, a few at a time."""

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch

from vdpm.archive import check_output, describe, hold, is_result
from vdpm.clip_reconstruct import LOADING, Plan
from vdpm.cost import longest_window
from vdpm.errors import InputError, OutputError, UsageError
from vdpm.geometry.image_transform import ImageTransform
from vdpm.image_files import check_no_address, is_pattern
from vdpm.long_reconstruct import LongPlan
from vdpm.long_video.likeness import find_shots, thumbnails
from vdpm.long_video.priors import Priors
from vdpm.long_video.windows import WindowConfig
from vdpm.model import VDPM, mirrored_once
from vdpm.network_choice import choose_device, load_network, long_side, times_per_step
from vdpm.progress import Report, silent, terminal_progress
from vdpm.provenance import timed
from vdpm.structures import Reconstruction, Video
from vdpm.video import part_of, read_video

DEFAULT_MODEL = "vdpm-small"
DEFAULT_MAX_FRAMES = 24

MAX_SIZE = 2048
"""Longest side, in pixels, that is tried; attention over more patches than that gives takes hundreds of GiB."""

PathOrPaths = str | Path | Sequence[str | Path]
Wanted = Literal["auto", "all", "none"] | str | Sequence[int]


def reconstruct(
    video: Video | PathOrPaths,
    *,
    model: str | VDPM = DEFAULT_MODEL,
    targets: Wanted = "auto",
    sources: Wanted = "all",
    reference: int = 0,
    output: str | Path | None = None,
    overwrite: bool = False,
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
    max_frames: int | None = None,
    size: int | None = None,
    fit: Literal["pad", "crop", "stretch"] | None = None,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    targets_per_step: int | None = None,
    windows: WindowConfig | None = None,
    priors: Priors | None = None,
    pixels: Literal["square", "free"] | str = "square",
    mirror: bool = False,
    max_memory: float | None = None,
    cuts: Literal["refuse", "ignore"] = "refuse",
    progress: bool | Report = False,
) -> Reconstruction:
    """Reconstruct ``video``: a file, a folder, list or pattern of images, or a ``Video`` already read.

    ``targets``: frames whose times the points are shown at ("all", "none", or indices of taken frames; "auto" is all,
    or one time a window in a long clip).
    ``sources``: frames whose pixels are reconstructed. ``reference``: the frame whose camera is the world.
    ``fps``, ``start``, ``end`` (seconds), ``max_frames`` (24 unless it or ``fps`` is told), ``size`` (long side in
    pixels; unless told what the network was made for) and ``fit`` choose the frames of a file as ``read_video`` does.
    ``device``: "auto" takes CUDA, then MPS, then the CPU. ``dtype``: "auto", "float32" or "bfloat16".
    ``targets_per_step``: times decoded at once, by memory unless told.

    At the end cameras follow what the pictures show, and points their cameras (``windows.sight``; False leaves the
    network's answer as it is, and so do clips whose lens zooms; ``provenance["cameras"]`` says which it was).

    ``pixels``: "square" gives each frame one focal length, the geometric mean of the network's two, which disagree most
    in pictures of another shape than it has seen; in pixels of the video where these are square themselves, else as
    its sample aspect ratio says (``transform.square_ratio``). "free" keeps both. Lenses known by ``priors`` stay.
    ``provenance["lens"]`` says which it was.

    ``mirror``: the network is asked a second time, about the mirrored clip, and the mean of both answers taken, which
    is nearer to the truth (``model.Mirrored``) in twice the network's time; ``provenance["mirrored"]`` says so.

    A clip of more than 24 frames is taken in overlapping ``windows``, which are then brought into one world
    (``long_video``; a run that is killed goes on where it was when it is started again). ``max_memory``, in GiB, makes
    windows shorter where they would need more, and refuses a clip that cannot be aligned in that. ``priors``: lenses,
    poses or a distance that are known. Shots of such a clip lie in no common world: where the picture is cut, it is
    refused (``reconstruct_scenes`` takes it apart) unless ``cuts`` says to ignore that.

    With ``output`` the maps are written to that folder as they are made and read from it afterwards, so that memory
    does not grow with their number; interrupted, the folder keeps the targets that were finished. Without it they are
    kept in memory as float16. ``progress``: True draws on standard error, or ``report(stage, done, total)``.

    Raises UsageError, InputError, CheckpointError or OutputError, each with one line that names what to change.
    """
    drawing = terminal_progress() if progress is True else nullcontext(progress or silent)
    with _held(output, overwrite), drawing as report:
        plan = make_plan(
            video,
            model=model,
            targets=targets,
            sources=sources,
            reference=reference,
            fps=fps,
            start=start,
            end=end,
            max_frames=max_frames,
            size=size,
            fit=fit,
            device=device,
            dtype=dtype,
            targets_per_step=targets_per_step,
            windows=windows,
            priors=priors,
            pixels=pixels,
            mirror=mirror,
            max_memory=max_memory,
            cuts=cuts,
            report=report,
        )
        return plan.run(output, overwrite=overwrite, report=report)


def _held(output: str | Path | None, overwrite: bool) -> AbstractContextManager[None]:
    """The place of a result, where there is to be one: found good before the work, and held while it goes on."""
    if output is None:
        return nullcontext()
    check_place(output, overwrite)
    return hold(output)


def check_place(output: str | Path, overwrite: bool) -> None:
    """As ``archive.check_output``; where a run that was killed or interrupted left a part of its result, that is said.

    Raises OutputError.
    """
    check_output(output, overwrite=True)
    if not overwrite and (left := cut_off(output)):
        with hold(output):  # it may be going on
            raise OutputError(f"{output}: {left}; pass --overwrite to begin again, or choose another")
    check_output(output, overwrite)


def cut_off(output: str | Path) -> str:
    """What lies at ``output``, where that is part of a result, of a run that goes on or has ended; else nothing."""
    if not is_result(output):
        return ""
    try:
        found = describe(output)
    except InputError:
        return ""
    wanted = len(found.targets) + len(found.targets_missing)
    there = f"with points at {len(found.targets)} of {wanted} times" if wanted else "with shape and cameras"
    return f"holds a run that was cut off, {there}" if found.state == "partial" else ""


def reconstruct_scenes(
    video: Video | PathOrPaths,
    *,
    output: str | Path | None = None,
    overwrite: bool = False,
    progress: bool | Report = False,
    **options: Any,
) -> list[Reconstruction]:
    """Each shot of ``video`` by itself, in the order of time: one result where the picture is never cut.

    ``options`` and errors are those of ``reconstruct``; ``frame_indices`` of a result say which frames of the video it
    holds. Of several, the second is written to ``output`` with ``_scene02`` added to its name, and so on. Cuts are
    looked for in clips that take several windows; a shorter one is one scene.
    """
    drawing = terminal_progress() if progress is True else nullcontext(progress or silent)
    with _held(output, overwrite), drawing as report:
        plans = make_plans(video, **{**options, "cuts": "split", "report": report})
        if output is None:
            return [plan.run(report=report) for plan in plans]
        outputs = scene_outputs(output, len(plans))
        for place in outputs:
            check_place(place, overwrite)
        return [plan.run(place, overwrite=overwrite, report=report) for plan, place in zip(plans, outputs)]


def scene_outputs(output: str | Path, scenes: int) -> list[Path]:
    """Where the results of ``scenes`` shots go: ``output`` itself where there is but one."""
    path = Path(output)
    return [path] if scenes == 1 else [path.with_name(f"{path.name}_scene{k + 1:02d}") for k in range(scenes)]


def make_plan(video: Video | PathOrPaths, **options: Any) -> Plan | LongPlan:
    """Load the network, read the video, check what is asked for. Arguments and errors are those of ``reconstruct``."""
    return make_plans(video, **options)[0]


def make_plans(
    video: Video | PathOrPaths,
    *,
    model: str | VDPM = DEFAULT_MODEL,
    targets: Wanted = "auto",
    sources: Wanted = "all",
    reference: int = 0,
    fps: float | None = None,
    start: float | None = None,
    end: float | None = None,
    max_frames: int | None = None,
    size: int | None = None,
    fit: Literal["pad", "crop", "stretch"] | None = None,
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    targets_per_step: int | None = None,
    windows: WindowConfig | None = None,
    priors: Priors | Callable[[ImageTransform], Priors | None] | None = None,
    pixels: Literal["square", "free"] | str = "square",
    mirror: bool = False,
    max_memory: float | None = None,
    cuts: Literal["split", "refuse", "ignore"] = "refuse",
    report: Report = silent,
) -> list[Plan | LongPlan]:
    """As ``make_plan``. With ``cuts="split"`` a clip too long for one window is cut where its shots change, and each
    shot gets a plan of its own. ``priors`` may be a function of how pixels of the source come to the network's images.
    """
    report(LOADING, 0, 2)
    seconds: dict[str, float] = {}
    if targets_per_step is not None and targets_per_step < 1:
        raise UsageError(f"targets_per_step is {targets_per_step}; use at least 1")
    if size is not None and size > MAX_SIZE:
        raise UsageError(f"size {size} is above {MAX_SIZE} pixels, far from what networks are trained on; use less")
    for name, wanted in (("targets", targets), ("sources", sources)):
        _check_wanted(name, wanted)
    if pixels not in ("square", "free"):
        raise UsageError(f"pixels is {pixels!r}; use 'square' or 'free'")
    if not isinstance(video, Video):
        _check_exists(video)
    with timed(seconds, "load"):
        network = load_network(model, choose_device(device), dtype)
        if mirror:
            network = mirrored_once(network)
    report(LOADING, 1, 2)
    patch = network.config.patch_size
    if isinstance(video, Video):
        given = {"fps": fps, "start": start, "end": end, "max_frames": max_frames, "size": size, "fit": fit}
        extra = [name for name, value in given.items() if value is not None]
        if extra:
            raise UsageError(f"{', '.join(extra)}: the video is already read; give them to read_video instead")
        if video.size[0] % patch or video.size[1] % patch:
            raise UsageError(
                f"frames of {video.size[1]} x {video.size[0]} do not divide into patches of {patch}; "
                f"use read_video(..., multiple={patch})"
            )
        clip = video
    else:
        with timed(seconds, "read"):
            clip = read_video(
                video,
                fps=fps,
                start=start,
                end=end,
                max_frames=DEFAULT_MAX_FRAMES if max_frames is None and fps is None else max_frames,
                size=long_side(network) if size is None else size,
                fit=fit or "pad",
                multiple=patch,
            )
    config = windows or WindowConfig()
    longest = longest_window(network, clip, max_memory, DEFAULT_MAX_FRAMES if config.length is None else config.length)
    known = priors(clip.transform) if callable(priors) else priors
    told = known is not None and any(part is not None for part in (known.intrinsics, known.c2w, known.distance))
    shots = [(0, len(clip))]
    if cuts != "ignore" and len(clip) > longest:
        shots = find_shots(thumbnails(clip.frames))
    if len(shots) > 1 and cuts == "refuse":
        borders = ", ".join(str(first) for first, _ in shots[1:])
        raise UsageError(
            f"the clip is cut before frame {borders} of those taken, and its {len(shots)} shots lie in no common "
            "world; use vdpm.reconstruct_scenes, take one shot by start and end, or pass cuts='ignore'"
        )
    if len(shots) > 1 and (reference or told or not isinstance(targets, str) or sources != "all"):
        raise UsageError(
            f"the clip has {len(shots)} shots, and --reference, --targets, --sources and priors name frames of one; "
            "cut it with --start and --end, or pass --cuts ignore"
        )
    plans: list[Plan | LongPlan] = []
    for number, (first, stop) in enumerate(shots):
        shot = clip if len(shots) == 1 else part_of(clip, first, stop, number, len(shots))
        if not 0 <= reference < len(shot):
            raise UsageError(f"reference {reference} is outside 0..{len(shot) - 1} ({_taken(len(shot))})")
        chosen_sources = _choose("source", sources, len(shot))
        chosen_targets = _choose("target", targets, len(shot))
        name = model if isinstance(model, str) else network.config.name
        if len(shot) <= longest and not told:
            step = targets_per_step or times_per_step(network, len(shot), shot.size)
            plans.append(
                Plan(
                    shot,
                    network,
                    name,
                    chosen_targets,
                    chosen_sources,
                    reference,
                    step,
                    dict(seconds),
                    config.sight and (known is None or known.shared_focal),
                    pixels == "square",
                )
            )
            continue
        if config.frames > longest:
            config = replace(config, length=longest, overlap=None)
        plan = LongPlan(
            video=shot,
            model=network,
            model_name=name,
            wanted=targets if isinstance(targets, str) else chosen_targets,  # type: ignore[arg-type]
            sources=chosen_sources,
            reference=reference,
            times_per_step=targets_per_step or times_per_step(network, config.frames, shot.size),
            config=config,
            priors=known or Priors(),
            square=pixels == "square",
            seconds=dict(seconds),
        )
        plan.check_memory(max_memory)
        plans.append(plan)
    return plans


def _check_wanted(name: str, wanted: Wanted) -> None:
    """What can be said before the number of frames is known."""
    words = ("auto", "all", "none") if name == "targets" else ("all",)
    if isinstance(wanted, str):
        if wanted not in words:
            raise UsageError(f"{name} is {wanted!r}; use {', '.join(map(repr, words))} or frame numbers")
    elif not all(isinstance(frame, int) for frame in wanted):
        raise UsageError(f"{name} is {wanted!r}; frame numbers are integers")
    elif not wanted:
        raise UsageError(f"{name} is empty; name at least one frame{' or none' if name == 'targets' else ''}")


def _choose(kind: str, wanted: Wanted, num_frames: int) -> tuple[int, ...]:
    """Frame indices in rising order, each once. Raises UsageError for one outside the clip."""
    if wanted in ("auto", "all"):
        return tuple(range(num_frames))
    if isinstance(wanted, str):
        return ()
    for frame in wanted:
        if not 0 <= frame < num_frames:
            raise UsageError(f"{kind} {frame} is outside 0..{num_frames - 1} ({_taken(num_frames)})")
    return tuple(sorted(set(wanted)))


def _taken(num_frames: int) -> str:
    return f"{num_frames} frames were taken" if num_frames > 1 else "1 frame was taken"


def _check_exists(video: PathOrPaths) -> None:
    """A missing file is told before the network is loaded, which may take long."""
    paths = [video] if isinstance(video, str | Path) else list(video)
    for path in paths:
        check_no_address(Path(path))
        if not Path(path).exists() and not is_pattern(Path(path)):
            raise InputError(f"{path}: no such file or folder; check the path of the video")


class _CallableModule(ModuleType):
    """``vdpm.reconstruct`` names this module and the function; importing the one must not hide the other."""

    def __call__(self, *arguments: Any, **options: Any) -> Reconstruction:
        return reconstruct(*arguments, **options)


sys.modules[__name__].__class__ = _CallableModule

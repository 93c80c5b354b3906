"""One job, in a process of its own: the video in the folder it is started in, to result, page and downloads.

It reads one line of JSON from standard input (``Task``) and writes lines of JSON to standard output. It ends when its
standard input does: an app that was killed leaves no process behind.
"""

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from vdpm.app.limits import Choice, Network
from vdpm.errors import VDPMError, is_out_of_memory

VIDEO = Path("video")
"""Without a suffix: what it is, its content says."""
RESULT, PAGE, GLB, CLOUDS, POSTER = "result", "scene.html", "scene.glb", "points", "poster.jpg"
POSTER_SIDE = 480
CLOUD_POINTS = 200_000
"""Points a time of the PLY files: 4 MB each."""

Tell = Callable[..., None]
"""``tell(name=value, ...)``: a line for the app."""


@dataclass(frozen=True)
class Task:
    """``seconds``: the longest part of a video that is taken."""

    label: str
    seconds: float
    choice: Choice
    network: Network

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def loads(cls, text: str) -> "Task":
        values = json.loads(text)
        return cls(values["label"], values["seconds"], Choice(**values["choice"]), Network(**values["network"]))


def main() -> None:
    """Work, and tell of the end."""
    channel = _take_stdout()
    told = threading.Lock()

    def tell(**values: Any) -> None:
        with told:
            channel.write(json.dumps(values) + "\n")
            channel.flush()

    with suppress(OSError):
        # Where memory runs out, this process goes rather than the app.
        Path("/proc/self/oom_score_adj").write_text("500")
    task = Task.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_app, daemon=True).start()
    try:
        work(task, tell)
    except VDPMError as error:
        tell(error=_named(str(error), task.label))
    except Exception as error:
        if is_out_of_memory(error):
            tell(error=f"{task.label}: memory ran out; take fewer frames")
        else:
            traceback.print_exc()
            tell(
                error=f"{task.label}: {type(error).__name__} in vdpm, which is a fault of it; the terminal shows where"
            )


def work(task: Task, tell: Tell) -> None:
    """Raises VDPMError for a video that cannot be read or is too long; tells of each file that is ready."""

    def report(stage: str, done: int, total: int) -> None:
        tell(stage=stage, done=done, total=total)

    report("opening the video", 0, 1)
    _inspect(task)
    tell(file=POSTER)
    # Only now: a file that is no video is told before PyTorch is loaded, which takes seconds.
    from vdpm.archive import record_derived
    from vdpm.export.formats import export
    from vdpm.export.options import ExportOptions
    from vdpm.export.preview import write_preview
    from vdpm.network_choice import choose_device, load_network, long_side
    from vdpm.reconstruct import make_plan
    from vdpm.video import read_video
    from vdpm.viewer.page import write_page

    report("loading the network", 0, 1)
    network = load_network(task.network.model, choose_device(task.network.device), "auto")
    report("reading the frames", 0, 1)
    video = read_video(
        VIDEO,
        start=task.choice.start,
        end=task.choice.end,
        max_frames=task.choice.frames,
        size=task.network.size or long_side(network),
        multiple=network.config.patch_size,
    )
    result = make_plan(replace(video, name=task.label), model=network, report=report).run(RESULT, report=report)
    VIDEO.unlink()
    record_derived(RESULT, ["preview.png"])
    write_preview(result, f"{RESULT}/preview.png")
    write_page(result, PAGE, report=report)
    seconds = result.provenance.get("seconds", {})
    tell(
        ready={
            "frames": len(result),
            "size": [result.size[1], result.size[0]],
            "span": float(result.timestamps[-1] - result.timestamps[0]),
            "model": network.config.name,
            "device": str(result.provenance.get("device", "")),
            "seconds": float(seconds.get("total", 0.0)),
            "notes": list(video.notes),
        }
    )
    report("writing the GLB", 0, 1)
    export(result, "glb", GLB, report=report)
    tell(file=GLB)
    report("writing point clouds", 0, 1)
    export(result, "ply", CLOUDS, ExportOptions(max_points=CLOUD_POINTS), report=report)
    tell(file=CLOUDS)


def _inspect(task: Task) -> None:
    """Opens the video, checks how long the part that is taken lasts, and writes a picture of where that begins."""
    from PIL import Image

    from vdpm.errors import InputError
    from vdpm.video_file import VideoFile

    video = VideoFile(VIDEO)
    first, last = task.choice.start or 0.0, video.times[-1]
    if first > last:
        raise InputError(f"{VIDEO}: nothing is left from {first:g} s on, its last frame is at {last:.1f} s")
    length = min(last, last if task.choice.end is None else task.choice.end) - first
    if length > task.seconds:
        raise InputError(
            f"{VIDEO}: {length:.1f} s of it were asked for, and this app takes {task.seconds:g} s at once; "
            "choose a part of it under Options"
        )
    shown = next((row for row, time in enumerate(video.times) if time >= first), len(video.times) - 1)
    for picture in video.frames([shown]):
        image = Image.fromarray(picture)
        image.thumbnail((POSTER_SIDE, POSTER_SIDE))
        image.save(POSTER, quality=80)
        return
    raise InputError(f"{VIDEO}: its frame at {video.times[shown]:.2f} s cannot be decoded; convert the video")


def _named(message: str, label: str) -> str:
    """The video is called as the user calls it."""
    return " ".join(message.replace(str(VIDEO.absolute()), str(VIDEO)).split()).replace(f"{VIDEO}:", f"{label}:", 1)


def _take_stdout() -> Any:
    """Standard output for this module alone; what libraries print goes to standard error."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


def _end_with_the_app() -> None:
    # The descriptor itself: a daemon thread that holds the lock of sys.stdin would stop the interpreter from ending.
    while os.read(0, 1024):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()

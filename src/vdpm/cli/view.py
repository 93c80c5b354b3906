"""``vdpm view``: a result in a browser on this machine, to look around in while it plays."""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from vdpm.cli.screen import Open, open_browser


@dataclass(frozen=True)
class View:
    """Look at a result in a browser: points at every time, trails, scene flow, cameras and frames, two results side by
    side. Only this machine can open it. Ctrl-C ends it.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIR")]
    """A folder written by vdpm reconstruct."""

    compare: Annotated[Path | None, tyro.conf.arg(metavar="DIR|truth")] = None
    """Another result of the same video, or its truth: a snippet folder, or the word truth for that of vdpm demo."""

    host: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = "127.0.0.1"
    """Where to listen. 0.0.0.0 lets everybody on your networks in: there is no password."""

    port: Annotated[int, tyro.conf.arg(metavar="PORT")] = 8090
    """Where it is in use, the next free one is taken."""

    points: Annotated[int, tyro.conf.arg(metavar="N")] = 500_000
    """At most so many points, spread evenly over the pixels of all frames."""

    frames: Annotated[int, tyro.conf.arg(metavar="N")] = 48
    """Points come from at most so many frames, spread evenly over the result."""

    times: Annotated[int, tyro.conf.arg(metavar="N")] = 400
    """At most so many times, spread evenly over the result."""

    min_confidence: Annotated[float, tyro.conf.arg(metavar="C")] = 1.0
    """Leave out points that are less sure. 1 is the least that occurs."""

    open: Open = "auto"
    """Open the browser too; auto: from a terminal of a machine with a screen."""

    def run(self) -> None:
        from vdpm.archive import load
        from vdpm.errors import UsageError
        from vdpm.viewer.live.cloud import CloudOptions
        from vdpm.viewer.live.compare import read_counterpart
        from vdpm.viewer.live.guard import is_loopback
        from vdpm.viewer.live.viewer import Viewer

        if not 1 <= self.port <= 65535:
            raise UsageError(f"--port {self.port} must be from 1 to 65535")
        options = CloudOptions(self.points, self.frames, self.times, self.min_confidence)
        result = load(self.folder)
        other, is_truth = (None, False) if self.compare is None else read_counterpart(self.compare, result)
        with Viewer(
            result, other=other, other_is_truth=is_truth, host=self.host, port=self.port, options=options
        ) as viewer:
            if viewer.port != self.port:
                print(f"Port {self.port} is in use; this is on {viewer.port}.")
            if not is_loopback(self.host):
                print(f"Everybody who can reach {self.host}:{viewer.port} can look on: there is no password.")
            print(f"{shlex.quote(str(self.folder))} is at {viewer.url}   (Ctrl-C ends it)", flush=True)
            open_browser(viewer.url, self.open)
            try:
                while True:
                    viewer.wait(0.5)
            except KeyboardInterrupt:
                # The way to end it, and no mistake.
                print("\nEnded.")

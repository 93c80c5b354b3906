"""``vdpm app``: the local web app."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import tyro

from vdpm.cli.screen import Open, open_browser
from vdpm.cli.summary import print_table
from vdpm.errors import UsageError, VDPMError


@dataclass(frozen=True)
class App:
    """Serve a page to drop videos into, on this machine: progress, the result to look around in, downloads.

    Videos are reconstructed one after the other. Nothing leaves the machine, and when the app ends (Ctrl-C) all files
    go unless --keep is given.
    """

    host: Annotated[str, tyro.conf.arg(metavar="ADDRESS")] = "127.0.0.1"
    """Address to listen at. Any but a loopback address lets other machines in, over plain HTTP; they need the key that
    is printed."""

    port: Annotated[int, tyro.conf.arg(metavar="PORT")] = 8420
    """Port to listen at; 0 takes any that is free."""

    name: Annotated[tuple[str, ...], tyro.conf.arg(metavar="HOST")] = ()
    """Names by which browsers may call it, beside localhost; needed for --host 0.0.0.0."""

    max_upload: Annotated[float, tyro.conf.arg(metavar="MB")] = 500.0
    """Largest video that is taken."""

    max_seconds: Annotated[float, tyro.conf.arg(metavar="SECONDS")] = 120.0
    """Longest part of a video that is taken."""

    max_frames: Annotated[int, tyro.conf.arg(metavar="N")] = 24
    """Most frames that are taken of one. More than 24 go in windows, see vdpm reconstruct."""

    queue: Annotated[int, tyro.conf.arg(metavar="N")] = 4
    """Videos that may wait while one is reconstructed."""

    results: Annotated[int, tyro.conf.arg(metavar="N")] = 10
    """Results that are held; with one more, the oldest goes."""

    max_minutes: Annotated[float, tyro.conf.arg(metavar="MINUTES")] = 60.0
    """A video that takes longer is given up."""

    keep: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Write results to this folder, one below it for each video, and leave them there. One that is deleted in the page
    is deleted."""

    model: Annotated[str, tyro.conf.arg(metavar="NAME|PATH")] = "vdpm-small"
    """Weights, as for vdpm reconstruct."""

    size: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Long side of the network's images in pixels. Without it: what the network was made for."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the network runs."""

    open: Open = "auto"
    """Open the page in a browser; auto: from a terminal of a machine with a screen."""

    def run(self) -> None:
        for module in ("starlette", "uvicorn"):
            if find_spec(module) is None:
                raise VDPMError(f"the app needs {module}, which is not installed: pip install 'vdpm[app]'")
        from vdpm.app.limits import Limits, Network
        from vdpm.app.serve import serve

        if not 0 <= self.port <= 65535:
            raise UsageError(f"--port {self.port} must be from 0 to 65535")
        if not 0 < self.max_upload < 1e7:
            raise UsageError(f"--max-upload {self.max_upload:g} must be a number of megabytes above 0")
        if self.size is not None:
            from vdpm.reconstruct import MAX_SIZE

            # Rather now than in each job, which says what is the least for its network.
            if not 8 <= self.size <= MAX_SIZE:
                raise UsageError(f"--size {self.size} must be from 8 to {MAX_SIZE} pixels")
        if self.model != App.model:
            from vdpm.model.weights import locate_weights

            # Rather now than in each job. What is shipped is there, and PyTorch need not be loaded for it.
            locate_weights(self.model)
        limits = Limits(
            upload_bytes=round(self.max_upload * 1e6),
            seconds=self.max_seconds,
            frames=self.max_frames,
            waiting=self.queue,
            results=self.results,
            minutes=self.max_minutes,
        )
        serve(
            host=self.host,
            port=self.port,
            names=self.name,
            limits=limits,
            # Jobs run in folders of their own.
            network=Network(
                str(Path(self.model).resolve()) if Path(self.model).exists() else self.model, self.device, self.size
            ),
            keep=self.keep,
            started=self._tell,
        )
        print("Ended." if self.keep is None else f"Ended. Results: {self.keep}")

    def _tell(self, address: str) -> None:
        kept = "removed when the app ends (Ctrl-C)" if self.keep is None else f"kept in {self.keep}"
        limits = f"{self.max_upload:g} MB, {self.max_seconds:g} s, {self.max_frames} frames a video"
        print_table("vdpm app", [("open", address), ("takes", limits), ("files", kept)])
        open_browser(address, self.open)

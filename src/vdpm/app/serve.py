"""Running the app: its socket, the server (uvicorn), and its end by a signal."""

import asyncio
import contextlib
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

from vdpm.app.jobs import JobQueue
from vdpm.app.limits import Limits, Network
from vdpm.app.server import make_app
from vdpm.app.workspace import Workspace
from vdpm.errors import OutputError

CONNECTIONS = 64
GRACE = 3
"""Seconds that open requests have to end when the app does."""


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8420,
    names: tuple[str, ...] = (),
    limits: Limits | None = None,
    network: Network | None = None,
    keep: Path | None = None,
    started: Callable[[str], None] = print,
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP, then remove all files but those in ``keep``.

    ``names``: hosts by which browsers may reach it, beside loopback. ``started`` gets the address, with the key in it,
    once it answers. Raises OutputError where the port is taken or files cannot be written.
    """
    key = secrets.token_urlsafe(16)
    with Workspace(keep) as workspace, _listening(host, port) as listening:
        queue = JobQueue(workspace, limits or Limits(), network or Network())
        shown = f"[{host}]" if ":" in host else {"0.0.0.0": "127.0.0.1"}.get(host, host)
        address = f"http://{shown}:{listening.getsockname()[1]}/#key={key}"
        config = configured(make_app(queue, key, (*names, shown)))
        asyncio.run(_Server(config, lambda: started(address)).serve(sockets=[listening]))


def configured(app: Starlette) -> uvicorn.Config:
    """How the server treats connections: plain HTTP, bounded in number, and nobody's word for who they are."""
    return uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="on",
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=GRACE,
        h11_max_incomplete_event_size=2**15,
    )


class _Server(uvicorn.Server):
    """Ends well by the first signal and at once by the second; tells when it answers."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self.ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

        def end() -> None:
            self.force_exit = self.should_exit
            self.should_exit = True

        for number in numbers:
            loop.add_signal_handler(number, end)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.ready()


@contextlib.contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A bound socket. Raises OutputError for a port that is taken or an address that is not of this machine."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OutputError(
                f"cannot listen at {host}, port {port} ({reason}); choose another --port, or 0 for any that is free"
            ) from None
        yield listening

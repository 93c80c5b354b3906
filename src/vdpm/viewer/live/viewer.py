"""The live viewer as a whole: opened, running, closed."""

from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from types import TracebackType
from typing import Any

from vdpm.errors import VDPMError
from vdpm.structures import Reconstruction
from vdpm.viewer.live.cloud import CloudOptions, one_at_a_time
from vdpm.viewer.live.compare import Counterpart, brought_beside
from vdpm.viewer.live.controls import Controls
from vdpm.viewer.live.frame_panel import SOCKET, FramePanel, Said
from vdpm.viewer.live.guard import Guard, free_port, start_guarded
from vdpm.viewer.live.session import Session
from vdpm.viewer.live.side import Side

BACKGROUND = (18, 19, 21)
KNOWN_LEAST = 1.5
"""Confidence from which on a truth is believed, see ``truth_as_result``."""


class Viewer:
    """A result in the browser, until it is closed; a context manager.

    ``other``: a second result, or with ``other_is_truth`` the truth. ``port``: where it is taken, the next free one.
    ``host``: the address to listen at. Raises VDPMError where viser is missing or nothing can listen there,
    and what reading the first map of each result raises.
    """

    def __init__(
        self,
        reconstruction: Reconstruction,
        *,
        other: Reconstruction | None = None,
        other_is_truth: bool = False,
        host: str = "127.0.0.1",
        port: int = 8090,
        options: CloudOptions | None = None,
    ) -> None:
        options = CloudOptions() if options is None else options
        _require_viser()
        self.host = host
        reconstruction = one_at_a_time(reconstruction)
        beside = None if other is None else brought_beside(one_at_a_time(other), reconstruction)
        self.port = free_port(host, port)
        self.session: Session | None = None
        self.panel = FramePanel(reconstruction, self._said)
        self.server = start_guarded(Guard(host), self.port, self.panel.route, {SOCKET: self.panel.speak})
        try:
            self._furnish(reconstruction, beside, other_is_truth, options)
        except BaseException:
            self.close()
            raise

    def _furnish(
        self,
        reconstruction: Reconstruction,
        beside: Reconstruction | None,
        is_truth: bool,
        options: CloudOptions,
    ) -> None:
        server = self.server
        fits = beside is not None and Counterpart.fits(reconstruction, beside)
        there, back = (
            (Counterpart(beside), Counterpart(reconstruction)) if beside is not None and fits else (None, None)
        )
        sides = [Side(server, "/first", reconstruction, options, self._camera, there)]
        if beside is not None:
            least = max(options.min_confidence, KNOWN_LEAST) if is_truth else options.min_confidence
            second = replace(options, min_confidence=least)
            sides.append(Side(server, "/second", beside, second, self._camera, back))
        session = Session(server, self.panel, sides)
        self.session = session
        server.scene.set_background_image(_plain(BACKGROUND))
        server.scene.world_axes.visible = False
        first = sides[0]
        home = first.cameras[reconstruction.reference]
        session.viewpoint.begin()
        server.scene.set_up_direction(tuple(-home.c2w[:3, 1]))
        title = reconstruction.name if beside is None else f"{reconstruction.name} | {beside.name}"
        Controls(server, session, title)

        @server.on_client_connect
        def _(client: Any) -> None:
            session.reset(client)
            client.camera.on_update(session.viewpoint.moved)

        @server.scene.on_click()
        def _(event: Any) -> None:
            session.clicked(event.ray_origin, event.ray_direction)

        session.start()

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        name = "localhost" if self.host in ("127.0.0.1", "localhost", "0.0.0.0", "::") else self.host
        return f"http://{f'[{name}]' if ':' in name else name}:{self.port}"

    def wait(self, seconds: float) -> None:
        """Let it run. Raises what went wrong meanwhile, such as damage in a map."""
        assert self.session is not None
        self.session.wait(seconds)

    def close(self) -> None:
        """Stop reading and serving."""
        if self.session is not None:
            self.session.stop()
        with redirect_stdout(StringIO()):
            self.server.stop()

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _said(self, said: Said) -> None:
        if self.session is not None:
            self.session.said(said)

    def _camera(self, frame: int, client: Any) -> None:
        if self.session is not None:
            self.session.enter(frame, client)


def _require_viser() -> None:
    try:
        import viser  # noqa: F401
    except ImportError:
        raise VDPMError("the live viewer needs viser, which is not installed: pip install 'vdpm[view]'") from None


def _plain(color: tuple[int, int, int]) -> Any:
    import numpy as np

    return np.full((2, 2, 3), color, dtype=np.uint8)

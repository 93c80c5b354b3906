"""The live viewer as a whole: opened, running, closed. Each browser that comes has a session of its own."""

import threading
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from io import StringIO
from types import TracebackType
from typing import Any

from vdpm.errors import VDPMError
from vdpm.structures import Reconstruction
from vdpm.viewer.live.cloud import CloudOptions, one_at_a_time
from vdpm.viewer.live.compare import Counterpart, brought_beside
from vdpm.viewer.live.controls import Controls, furnish
from vdpm.viewer.live.frame_panel import SOCKET, FramePanel, Panel, Said
from vdpm.viewer.live.guard import Guard, free_port, start_guarded
from vdpm.viewer.live.places import Places
from vdpm.viewer.live.reading import Reading
from vdpm.viewer.live.session import Session
from vdpm.viewer.live.stage import NODE_BYTES
from vdpm.viewer.live.viewpoint import begin

KNOWN_LEAST = 1.5
"""Confidence from which on a truth is believed, see ``truth_as_result``."""
MOST_BROWSERS = 16


class Viewer:
    """A result in browsers, until it is closed; a context manager.

    ``other``: a second result, or with ``other_is_truth`` the truth. ``port``: where it is taken, the next free one.
    ``host``: the address to listen at. Raises VDPMError where viser is missing or nothing can listen there,
    and what reading the first map of each result raises.

    ``sessions``: of the browsers that are there, by viser's number of each.
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
        _require_viser()
        self.host = host
        self.sessions: dict[int, Session] = {}
        self.failure: BaseException | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._places = Places()
        self._threads: list[threading.Thread] = []
        self.readings = _readings(reconstruction, other, other_is_truth, CloudOptions() if options is None else options)
        self.port = free_port(host, port)
        self.panel = FramePanel(self.readings[0].reconstruction)
        self.server = start_guarded(Guard(host), self.port, self.panel.route, {SOCKET: self.panel.speak})
        try:
            furnish(self.server, " | ".join(reading.reconstruction.name for reading in self.readings))
            begin(self.server, self.readings[0], two=len(self.readings) > 1)
            self.server.on_client_connect(self._come)
            self.server.on_client_disconnect(self._go)
            for reading in self.readings:
                self._begin(partial(reading.read, self._news, self._stop.is_set))
        except BaseException:
            self.close()
            raise

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        name = "localhost" if self.host in ("127.0.0.1", "localhost", "0.0.0.0", "::") else self.host
        return f"http://{f'[{name}]' if ':' in name else name}:{self.port}"

    def wait(self, seconds: float) -> None:
        """Let it run. Raises what went wrong meanwhile, such as damage in a map."""
        self._stop.wait(seconds)
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        """Stop reading and serving, waiting a moment for each thread."""
        self._stop.set()
        with self._lock:
            for session in self.sessions.values():
                session.stop()
            threads = list(self._threads)
        for thread in threads:
            thread.join(timeout=3.0)
        with redirect_stdout(StringIO()):
            self.server.stop()

    def __enter__(self) -> "Viewer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _come(self, client: Any) -> None:
        """A browser has come."""
        number = client.client_id
        with self._lock:
            # It may have gone before it is furnished.
            if self._stop.is_set() or number not in self.server.get_clients():
                return
            if len(self.sessions) >= MOST_BROWSERS:
                client.gui.add_markdown(f"{MOST_BROWSERS} browsers look on already, and this viewer serves no more.")
                return
            _may_leave(client)
            panel = Panel(self.server.get_event_loop())
            session = Session(client, self.readings, panel.tell)
            controls = Controls(client, session)
            panel.on_said = partial(self._said, session, controls)
            self.panel.panels[number] = panel
            self.sessions[number] = session
            self._share_room()
        session.reset()
        client.camera.on_update(session.viewpoint.moved)

        @client.scene.on_click()
        def _(event: Any) -> None:
            session.clicked(event.ray_origin, event.ray_direction)

        self._begin(session.run, session)

    def _go(self, client: Any) -> None:
        """A browser has gone."""
        with self._lock:
            self.panel.panels.pop(client.client_id, None)
            session = self.sessions.get(client.client_id)
            if session is None:
                return
            session.stop()
            del self.sessions[client.client_id]
            if session.tab:
                self._places.keep(session.tab, session.place)
            self._share_room()

    def _said(self, session: Session, controls: Controls, said: Said) -> None:
        """What the panel of a browser says. The name of its tab comes first: one that was here goes on where it was,
        also where it comes back before its first connection has been given up.
        """
        if said.what != "tab":
            session.said(said)
            return
        with self._lock:
            if session.tab:
                # The panel's page was loaded again, not the viewer's.
                return
            session.tab = said.name
            before = [one for one in self.sessions.values() if one is not session and one.tab == said.name]
            place = before[-1].place if before else self._places.of(said.name)
        if said.xy is not None:
            controls.make_room(*said.xy)
        if place is not None:
            session.resume(place)

    def _share_room(self) -> None:
        for session in self.sessions.values():
            for side in session.sides:
                side.stage.most = NODE_BYTES // len(self.sessions)

    def _news(self) -> None:
        with self._lock:
            sessions = list(self.sessions.values())
        for session in sessions:
            session.wake()

    def _begin(self, task: Callable[[], None], session: Session | None = None) -> None:
        """Do a task in a thread of its own; what it cannot cope with ends the viewer, unless its browser has left."""

        def guarded() -> None:
            try:
                task()
            except BaseException as error:
                if session is None or not session.stopped:
                    self.failure = error
                    self._stop.set()
            finally:
                if session is not None:
                    session.stop()

        thread = threading.Thread(target=guarded, daemon=True)
        with self._lock:
            self._threads = [*(one for one in self._threads if one.is_alive() or one.ident is None), thread]
        thread.start()


def _readings(
    reconstruction: Reconstruction, other: Reconstruction | None, is_truth: bool, options: CloudOptions
) -> list[Reading]:
    """Of one result or two, the second in the world of the first."""
    first = one_at_a_time(reconstruction)
    if other is None:
        return [Reading(first, options)]
    beside = brought_beside(one_at_a_time(other), first)
    there, back = (Counterpart(beside), Counterpart(first)) if Counterpart.fits(first, beside) else (None, None)
    least = max(options.min_confidence, KNOWN_LEAST) if is_truth else options.min_confidence
    return [Reading(first, options, there), Reading(beside, replace(options, min_confidence=least), back)]


def _may_leave(client: Any) -> None:
    """Have viser not warn of what is sent to this browser after it has left, which is lost as it should be. In versions
    that have no such switch the warning stays.
    """
    buffer: Any = getattr(getattr(client, "_websock_connection", None), "get_message_buffer", lambda: None)()
    if hasattr(buffer, "_warned_push_after_done"):
        buffer._warned_push_after_done = True


def _require_viser() -> None:
    try:
        import viser  # noqa: F401
    except ImportError:
        raise VDPMError("the live viewer needs viser, which is not installed: pip install 'vdpm[view]'") from None

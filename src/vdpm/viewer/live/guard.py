"""Who may speak to the viewer: browsers that show its own page, under a name of this machine.

A page from elsewhere that is open in the same browser can reach 127.0.0.1: it may open a WebSocket to any port, and
a name of its own can be made to lead there (DNS rebinding). Browsers tell both: such a request says where it comes
from (``Origin``) and by which name it was asked for (``Host``). viser checks neither, so every request goes through
``Guard`` first, before a byte of it reaches viser.
"""

import http
import inspect
import re
import socket
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from ipaddress import ip_address
from typing import Any

from vdpm.errors import VDPMError

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
HOST = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?))(?::\d{1,5})?"
)
HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}
"""With every answer: no other page may show, read or refer to it."""
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self' data: blob: {sockets}; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
"""viser's page is one file with its script in it, which evaluates some; it may speak to this server alone."""
PROBE = (
    b"GET / HTTP/1.1\r\nHost: %b\r\nOrigin: http://elsewhere.invalid\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dmRwbSBwcm9iZSBvbmx5IQ==\r\n\r\n"
)


@dataclass(frozen=True)
class Guard:
    """``address``: where the server listens. On this machine alone: names of it pass. Elsewhere: also addresses written
    as numbers, which no rebound name can be, and ``names``.
    """

    address: str
    names: frozenset[str] = field(default_factory=lambda: frozenset({socket.gethostname().lower()}))

    def refusal(self, headers: Any) -> str | None:
        """Why a request may not pass, None where it may. ``headers``: of websockets, with ``get_all``."""
        hosts = headers.get_all("Host")
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return "this name is not one of this viewer's"
        origins = headers.get_all("Origin")
        own = {f"http://{hosts[0].lower()}", f"https://{hosts[0].lower()}"}
        if len(origins) > 1 or any(origin.lower() not in own for origin in origins):
            return "pages from elsewhere may not speak to this viewer"
        if is_handshake(headers) and not origins:
            return "a connection must say which page it comes from"
        # A link that somebody follows opens the page for that somebody; nothing else from elsewhere is answered.
        followed = (_one(headers, "Sec-Fetch-Mode"), _one(headers, "Sec-Fetch-Dest")) == ("navigate", "document")
        if _one(headers, "Sec-Fetch-Site") not in ("", "none", "same-origin") and not followed:
            return "pages from elsewhere may not load from this viewer"
        return None

    def _is_own(self, host: str) -> bool:
        found = HOST.fullmatch(host)
        if found is None:
            return False
        name = (found["v6"] or found["name"]).lower()
        if name in LOOPBACK:
            return True
        if is_loopback(self.address):
            return False
        return name in self.names or name == self.address.lower() or _is_number(name)


def is_loopback(address: str) -> bool:
    """Whether only this machine can reach ``address``."""
    return address.lower() in LOOPBACK or (_is_number(address) and ip_address(address).is_loopback)


def is_handshake(headers: Any) -> bool:
    """Whether a request asks for a WebSocket, in whatever spelling."""
    asked = ",".join([*headers.get_all("Upgrade"), *headers.get_all("Connection")]).lower()
    return "websocket" in asked or "upgrade" in asked or bool(headers.get_all("Sec-WebSocket-Key"))


Route = Callable[[str], Awaitable[tuple[str, bytes] | None]]
"""``await route(path)``: content type and body of a page of ours, None where it is none."""
Speak = Callable[[Any], Awaitable[None]]
"""Holds a WebSocket until it is closed."""

_one_at_a_time = threading.Lock()


def start_guarded(guard: Guard, port: int, route: Route, sockets: dict[str, Speak]) -> Any:
    """A ``viser.ViserServer`` on ``port``, every request of which passes ``guard`` first.

    ``route`` and ``sockets`` (by path) are answered by us, all else by viser. viser has no place for a check before its
    own, so while its server starts, the function with which it opens its port is ours; afterwards a handshake from
    elsewhere is tried, and unless it is refused the server is stopped again.

    Raises VDPMError where this version of viser cannot be guarded.
    """
    import viser
    import websockets.asyncio.server as library

    serve = library.serve

    def guarded(handler: Any, *places: Any, process_request: Any = None, **options: Any) -> Any:
        return serve(
            _spoken(handler, sockets),
            *places,
            process_request=_checked(guard, process_request, route),
            **{**options, "server_header": None},
        )

    with _one_at_a_time:
        library.serve = guarded  # type: ignore[assignment,misc]
        try:
            # viser frames its address in a box; the command line says it in its own words.
            with redirect_stdout(StringIO()):
                server = viser.ViserServer(host=guard.address, port=port, verbose=False)
        finally:
            library.serve = serve  # type: ignore[misc]
    # Anybody who speaks to viser could else ask it to open a tunnel to a server on the internet.
    server.request_share_url = lambda verbose=True: None  # type: ignore[method-assign]
    if not refuses_strangers(guard.address, server.get_port()):
        server.stop()
        raise VDPMError(
            f"viser {viser.__version__} does not let its connections be checked; pip install --upgrade 'vdpm[view]'"
        )
    return server


def refuses_strangers(address: str, port: int) -> bool:
    """Whether a handshake that comes from a page elsewhere is refused there."""
    reached = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)
    with socket.create_connection((reached, port), timeout=10) as probe:
        probe.sendall(PROBE % f"localhost:{port}".encode())
        return probe.recv(64).startswith(b"HTTP/1.1 403 ")


def free_port(address: str, port: int, tries: int = 100) -> int:
    """The first port from ``port`` on that can be listened at. Raises VDPMError for an address that is not ours, and
    where all ``tries`` are taken.
    """
    for candidate in range(port, min(port + tries, 65536)):
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(address, candidate, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind, protocol) as trial:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                trial.bind(place)
                trial.listen()
        except socket.gaierror:
            raise VDPMError(f"--host {address}: no such address; leave it out, or 0.0.0.0 for all networks") from None
        except PermissionError:
            raise VDPMError(f"--port {candidate} is reserved by the system; take one above 1023") from None
        except OSError as error:
            if error.errno is not None and error.errno in _not_ours():
                raise VDPMError(
                    f"--host {address} is no address of this machine; leave it out, or 0.0.0.0 for all networks"
                ) from None
            continue
        return candidate
    raise VDPMError(f"--port {port}: this and the next {tries - 1} ports are in use; give another --port")


def _not_ours() -> tuple[int, ...]:
    import errno

    return errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT


def _checked(guard: Guard, inner: Any, route: Route) -> Callable[[Any, Any], Awaitable[Any]]:
    from websockets.datastructures import Headers
    from websockets.http11 import Response

    def answer(status: http.HTTPStatus, kind: str, body: bytes) -> Any:
        content = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store"}
        return Response(status, status.phrase, Headers(**content), body)

    async def check(connection: Any, request: Any) -> Any:
        refused = guard.refusal(request.headers)
        if refused is not None:
            given = answer(http.HTTPStatus.FORBIDDEN, "text/plain; charset=utf-8", f"refused: {refused}\n".encode())
        elif is_handshake(request.headers):
            return None
        elif (own := await route(request.path)) is not None:
            given = answer(http.HTTPStatus.OK, *own)
        else:
            given = inner(connection, request)
            given = await given if inspect.isawaitable(given) else given
        for name, value in HEADERS.items():
            given.headers[name] = value
        hosts: Sequence[str] = request.headers.get_all("Host")
        named = f"ws://{hosts[0]} wss://{hosts[0]}" if refused is None else ""
        given.headers["Content-Security-Policy"] = POLICY.format(sockets=named)
        return given

    return check


def _spoken(inner: Any, sockets: dict[str, Speak]) -> Any:
    async def speak(connection: Any) -> None:
        own = sockets.get(connection.request.path.partition("?")[0])
        await (inner if own is None else own)(connection)

    return speak


def _one(headers: Any, name: str) -> str:
    return ",".join(headers.get_all(name)).lower()


def _is_number(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True

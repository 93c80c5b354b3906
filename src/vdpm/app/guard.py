"""Which requests are answered at all, and the headers of every answer.

The app speaks to the user's own browser. Other web pages that are open in it can send requests to this machine too:
they are told apart by ``Host`` (a name that was made to point here), ``Origin`` and ``Sec-Fetch-Site`` (a page from
elsewhere, a port beside ours included) and by a key that only the address on the terminal holds.
"""

import hmac
import re
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
KEY_HEADER = "x-vdpm-key"
API = "/api/"
CLOSED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "content-security-policy": CLOSED,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
"""Where an answer does not say otherwise."""
HOST = re.compile(r"(\[[0-9a-f:.]+\]|[0-9a-z._-]+)(:[0-9]{1,5})?", re.IGNORECASE)


class Guard:
    """Lets through to ``app`` what comes from the app's own page. ``names``: hosts it is called by, beside loopback."""

    def __init__(self, app: ASGIApp, key: str, names: Iterable[str] = ()) -> None:
        self.app = app
        self.key = key
        self.names = {name.lower() for name in (*LOOPBACK, *names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self.refusal(scope)
        if refusal is None:
            await self.app(scope, receive, send_guarded)
            return
        # What is left of the request is not read.
        answer = JSONResponse({"error": refusal}, status_code=403, headers={"connection": "close"})
        await answer(scope, receive, send_guarded)

    def refusal(self, scope: Scope) -> str | None:
        """Why a request is refused, in one line; None where it is not."""
        headers = Headers(scope=scope)
        given = [value for name, value in scope["headers"] if name == b"host"]
        host = headers.get("host", "")
        parts = HOST.fullmatch(host)
        if len(given) != 1 or parts is None or parts[1].lower() not in self.names:
            return "this name does not belong to the app; open the address that vdpm app printed"
        changes = scope["method"] not in ("GET", "HEAD")
        origin = headers.get("origin")
        if (changes or origin is not None) and origin != f"http://{host}":
            return "requests of other pages are refused"
        home = not changes and scope["path"] == "/"
        # Following a link to the app from elsewhere is no harm: the page alone holds nothing.
        visit = home and headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not visit:
            return "requests of other pages are refused"
        if "upgrade" in headers:
            return "the app speaks plain HTTP alone"
        if (changes or scope["path"].startswith(API)) and not self._knows_key(headers.get(KEY_HEADER, "")):
            return "the key is missing or of another run; open the address that vdpm app printed"
        return None

    def _knows_key(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.key.encode())

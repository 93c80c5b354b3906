"""The video's frame beside the points: its page, its pictures, and the connection over which both tell of clicks.

viser shows pictures but takes no clicks on them, so the panel is a small page of ours in a frame of viser's. It stands
on the same server, behind the same guard. It says where the pointer is among the points too, as viser does not.
"""

import asyncio
import io
import json
import re
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import parse_qs

import numpy as np
from PIL import Image

from vdpm.errors import VDPMError
from vdpm.structures import Reconstruction
from vdpm.viewer.choice import content_box
from vdpm.viewer.map_pictures import MapPictures

View = Literal["video", "depth", "motion"]
VIEWS: tuple[View, ...] = get_args(View)
PAGE, SOCKET, PICTURES = "/vdpm/frame", "/vdpm/frame/socket", "/vdpm/frame/"
QUALITY = 88
TAB = re.compile(r"[0-9a-f]{24}")
LONGEST = 4096
"""Bytes of a message from the panel at most; real ones have under a hundred."""
MOST_PANELS = 4
"""Of one browser: its own, and those that it opened before it lost the connection."""


class Said(NamedTuple):
    """What the panel says: ``hover`` and ``pick`` with a position in pixels of the network's image; ``point`` with one
    in the window that shows the points, 0 to 1 from the left and from the top (of hover and point None: the pointer
    has left); ``key`` with the name of a key, ``view`` with that of a picture; first of all ``tab`` with the name that
    the browser's tab has given itself, and width and height of its window.
    """

    what: Literal["hover", "pick", "point", "key", "view", "tab"]
    xy: tuple[float, float] | None = None
    name: str = ""
    view: View | None = None


class Panel:
    """The panel of one browser. ``loop``: of the server. ``on_said``: is told what the panel says."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.on_said: Callable[[Said], None] = lambda said: None
        self.open: set[Any] = set()
        self.state = "{}"

    def tell(self, state: dict[str, Any]) -> None:
        """Have it show ``state``, from any thread."""
        self.state = json.dumps(state, separators=(",", ":"))
        if not self.loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._send(self.state), self.loop)

    async def _send(self, text: str) -> None:
        from websockets.exceptions import ConnectionClosed

        for connection in tuple(self.open):
            try:
                await connection.send(text)
            except ConnectionClosed:
                self.open.discard(connection)


class FramePanel:
    """Answers the requests of all panels. ``panels``: of the browsers that are there, by viser's number of each."""

    def __init__(self, reconstruction: Reconstruction) -> None:
        self.reconstruction = reconstruction
        self.panels: dict[int, Panel] = {}
        self._maps: dict[str, MapPictures] = {}
        self._picture = lru_cache(maxsize=96)(self._draw)

    async def route(self, path: str) -> tuple[str, bytes] | None:
        """The panel's page, script, style and pictures."""
        path = path.partition("?")[0]
        if path == PAGE:
            return "text/html; charset=utf-8", own_file("frame.html")
        if path in (f"{PAGE}.js", f"{PAGE}.css"):
            kind = "application/javascript" if path.endswith("js") else "text/css"
            return f"{kind}; charset=utf-8", own_file(path.rpartition("/")[2])
        if not path.startswith(PICTURES) or not path.endswith(".jpg"):
            return None
        number, _, view = path.removeprefix(PICTURES).removesuffix(".jpg").partition("-")
        if view not in VIEWS or not number.isascii() or not number.isdecimal() or len(number) > 6:
            return None
        if int(number) >= len(self.reconstruction):
            return None
        # A map is read from disk for it; the connections of others go on meanwhile.
        try:
            return "image/jpeg", await asyncio.to_thread(self._picture, int(number), view)
        except VDPMError:
            return None

    def _draw(self, frame: int, view: View) -> bytes:
        if view == "video":
            left, top, right, bottom = content_box(self.reconstruction)
            pixels = self.reconstruction.frames[frame, top:bottom, left:right].numpy()
        else:
            if view not in self._maps:
                self._maps[view] = MapPictures(self.reconstruction, view)
            pixels = self._maps[view].draw(frame)
        stream = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "JPEG", quality=QUALITY)
        return stream.getvalue()

    async def speak(self, connection: Any) -> None:
        """Hold the connection of one panel until it is closed."""
        from websockets.exceptions import ConnectionClosed

        panel = self.panels.get(_number(connection.request.path))
        if panel is None or len(panel.open) >= MOST_PANELS:
            await connection.close(1013, "no such browser, or too many")
            return
        panel.open.add(connection)
        try:
            await connection.send(panel.state)
            async for message in connection:
                said = understood(message, self.reconstruction.size)
                if said is not None:
                    await asyncio.to_thread(panel.on_said, said)
        except ConnectionClosed:
            pass
        finally:
            panel.open.discard(connection)


def _number(path: str) -> int:
    """The browser that a panel says it is of, -1 where it does not."""
    given = parse_qs(path.partition("?")[2]).get("client", [""])[0]
    return int(given) if given.isascii() and given.isdecimal() and len(given) < 10 else -1


def understood(message: str | bytes, size: tuple[int, int]) -> Said | None:
    """What a message says; None for one that a panel of ours would not send. ``size``: height, width of the image."""
    if not isinstance(message, str) or len(message) > LONGEST:
        return None
    try:
        data = json.loads(message)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    what, xy, name = data.get("what"), data.get("xy"), data.get("name", "")
    if what == "key" and isinstance(name, str) and 0 < len(name) <= 20:
        return Said(what, name=name)
    if what == "view":
        return next((Said(what, view=view) for view in VIEWS if view == name), None)
    if what in ("hover", "point") and xy is None:
        return Said(what)
    if what not in ("hover", "point", "pick", "tab") or not isinstance(xy, list) or len(xy) != 2:
        return None
    if not all(type(value) in (int, float) for value in xy):
        return None
    x, y = float(xy[0]), float(xy[1])
    if what == "tab":
        named = isinstance(name, str) and TAB.fullmatch(name) is not None
        return Said(what, (x, y), name) if named and 0 <= x < 1e5 and 0 <= y < 1e5 else None
    width, height = (1.0, 1.0) if what == "point" else (size[1], size[0])
    return Said(what, (x, y)) if 0 <= x < width and 0 <= y < height else None


@lru_cache
def own_file(name: str) -> bytes:
    """A file of the folder ``panel``."""
    return (files("vdpm.viewer.live") / "panel" / name).read_bytes()

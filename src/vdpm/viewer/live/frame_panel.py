"""The video's frame beside the points: its page, its pictures, and the connection over which both tell of clicks.

viser shows pictures but takes no clicks on them, so the panel is a small page of ours in a frame of viser's. It stands
on the same server, behind the same guard.
"""

import asyncio
import io
import json
from collections.abc import Callable
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image

from vdpm.errors import VDPMError
from vdpm.structures import Reconstruction
from vdpm.viewer.choice import content_box
from vdpm.viewer.map_pictures import MapPictures

VIEWS = ("video", "depth", "motion")
View = Literal["video", "depth", "motion"]
PAGE, SOCKET, PICTURES = "/vdpm/frame", "/vdpm/frame/socket", "/vdpm/frame/"
QUALITY = 88
LONGEST = 4096
"""Bytes of a message from the panel at most; real ones have under a hundred."""
MOST_PANELS = 16


class Said(NamedTuple):
    """What the panel says: ``hover`` and ``pick`` with a position in pixels of the network's image (hover None: the
    pointer has left), ``key`` with the name of a key, ``view`` with that of a picture.
    """

    what: Literal["hover", "pick", "key", "view"]
    xy: tuple[float, float] | None = None
    name: str = ""


class FramePanel:
    """Answers the panel's requests, and tells all open panels what to show."""

    def __init__(self, reconstruction: Reconstruction, on_said: Callable[[Said], None]) -> None:
        self.reconstruction, self.on_said = reconstruction, on_said
        self._open: set[Any] = set()
        self._state = "{}"
        self._maps: dict[str, MapPictures] = {}
        self._picture = lru_cache(maxsize=96)(self._draw)

    async def route(self, path: str) -> tuple[str, bytes] | None:
        """The panel's page, script, style and pictures."""
        path = path.partition("?")[0]
        if path == PAGE:
            return "text/html; charset=utf-8", _own_file("frame.html")
        if path in (f"{PAGE}.js", f"{PAGE}.css"):
            kind = "application/javascript" if path.endswith("js") else "text/css"
            return f"{kind}; charset=utf-8", _own_file(path.rpartition("/")[2])
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

        if len(self._open) >= MOST_PANELS:
            await connection.close(1013, "too many")
            return
        self._open.add(connection)
        try:
            await connection.send(self._state)
            async for message in connection:
                said = understood(message, self.reconstruction.size)
                if said is not None:
                    await asyncio.to_thread(self.on_said, said)
        except ConnectionClosed:
            pass
        finally:
            self._open.discard(connection)

    def tell(self, state: dict[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        """Have all panels show ``state``, from any thread."""
        self._state = json.dumps(state, separators=(",", ":"))
        if not loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._send(self._state), loop)

    async def _send(self, text: str) -> None:
        from websockets.exceptions import ConnectionClosed

        for connection in tuple(self._open):
            try:
                await connection.send(text)
            except ConnectionClosed:
                self._open.discard(connection)


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
    if what in ("key", "view") and isinstance(name, str) and 0 < len(name) <= 20:
        return Said(what, None, name) if what == "key" or name in VIEWS else None
    if what == "hover" and xy is None:
        return Said("hover")
    if what not in ("hover", "pick") or not isinstance(xy, list) or len(xy) != 2:
        return None
    if not all(type(value) in (int, float) for value in xy):
        return None
    x, y = float(xy[0]), float(xy[1])
    if not (0 <= x < size[1] and 0 <= y < size[0]):
        return None
    return Said(what, (x, y))


@lru_cache
def _own_file(name: str) -> bytes:
    return (files("vdpm.viewer.live") / "panel" / name).read_bytes()

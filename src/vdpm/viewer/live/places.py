"""Where browsers were, so that one whose page is loaded again, or whose connection was lost, goes on from there."""

import threading
from collections import OrderedDict
from typing import NamedTuple

from vdpm.viewer.live.frame_panel import View
from vdpm.viewer.live.settings import Settings
from vdpm.viewer.live.viewpoint import Turned

MOST_PLACES = 64
"""Of browsers that have left; the one that left first is forgotten first."""


class Place(NamedTuple):
    """What a browser's controls said, the picture in its frame panel, the time shown, and where it looked from: the
    frame in whose camera it stood, or a view that it had turned to.
    """

    settings: Settings
    view: View
    row: int
    seat: int | Turned


class Places:
    """By the name that each tab has given itself. Any thread may use it."""

    def __init__(self) -> None:
        self._places: OrderedDict[str, Place] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, tab: str, place: Place) -> None:
        """Remember where a tab was."""
        with self._lock:
            self._places[tab] = place
            self._places.move_to_end(tab)
            while len(self._places) > MOST_PLACES:
                self._places.popitem(last=False)

    def of(self, tab: str) -> Place | None:
        """Where it was, None where it was never here."""
        with self._lock:
            return self._places.get(tab)

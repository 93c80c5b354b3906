"""What one browser shows: a thread that does what its controls ask for."""

import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, NamedTuple

import numpy as np

from vdpm.viewer.choice import content_box
from vdpm.viewer.live.clock import Clock
from vdpm.viewer.live.frame_panel import Said, View
from vdpm.viewer.live.keys import KEYS
from vdpm.viewer.live.marks import Marks
from vdpm.viewer.live.picking import nearest_on_ray, pixel_center
from vdpm.viewer.live.places import Place
from vdpm.viewer.live.reading import Reading
from vdpm.viewer.live.settings import Settings
from vdpm.viewer.live.side import Side
from vdpm.viewer.live.viewpoint import Viewpoint

FIRST_PAUSE, LATER_PAUSE = 0.3, 2.0
"""Seconds from one showing of a result that is still being read to the next; grows from the one to the other."""
ONE_CLICK = 0.4
"""Seconds within which a click on a camera's picture is told of as a click into the scene too."""
AHEAD = 32
"""Times made before they are asked for, while there is nothing else to do."""
NAMES = ("/first", "/second")


class _Meant(NamedTuple):
    """A point that is meant: of which result, where it stands in the scene, and whose pixel it is."""

    number: int
    position: np.ndarray
    source: int
    xy: tuple[float, float]


class Session:
    """Everything that happens in one browser. ``client``: viser's handle of it. ``tell_panel(state)``: has its frame
    panel show something. ``tab``: the name that the browser's tab has given itself, empty before that.

    ``on_change(settings)``, ``on_row(row)``, ``on_status(text)``: called when there is another to show.
    """

    def __init__(self, client: Any, readings: list[Reading], tell_panel: Callable[[dict[str, Any]], None]) -> None:
        self.client, self._tell_panel = client, tell_panel
        self.tab = ""
        self.sides = [Side(client, name, reading, self.enter) for name, reading in zip(NAMES, readings)]
        self.settings = Settings(source=readings[0].reconstruction.reference)
        self.view: View = "video"
        self.clock = Clock(readings[0].stamps)
        self.marks = Marks(client, self.sides)
        self.viewpoint = Viewpoint(client, self.sides, self._refresh)
        self.on_change: Callable[[Settings], None] = lambda settings: None
        self.on_row: Callable[[int], None] = lambda row: None
        self.on_status: Callable[[str], None] = lambda text: None
        self._wake = threading.Condition()
        self._todo: deque[Callable[[], None]] = deque()
        self._stop = threading.Event()
        self._stale = True
        self._shown_row = -1
        """Of the time that is on show."""
        self._entered = 0.0
        self._pointer: tuple[float, float] | None = None
        self._pointing = False
        self.viewpoint.arrange(self.settings.layout == "side by side")
        for side in self.sides:
            side.stage.resize(self.settings.size)

    # Life

    def run(self) -> None:
        """Show what is asked for until it is stopped."""
        drawn, pause = 0.0, FIRST_PAUSE
        while not self._stop.is_set():
            while self._todo:
                self._todo.popleft()()
            if self.settings.playing and not self.clock.advance(self.settings.speed, self.settings.loop):
                self.change(playing=False)
            row, now = self.clock.row, time.monotonic()
            news = any(side.reading.cloud.number != side.number for side in self.shown)
            if news and now - drawn >= pause:
                self._stale, pause = True, min(LATER_PAUSE, pause * 1.5)
            if self._stale or row != self._shown_row:
                self._stale, drawn = False, time.monotonic()
                self._show(row)
                self._shown_row = row
                continue
            if not news and self._prepare(row):
                continue
            with self._wake:
                if not (self._todo or self._stale or self._stop.is_set()):
                    self._wake.wait(self._pause(news, pause))

    def stop(self) -> None:
        """Have ``run`` end."""
        self._stop.set()
        self.wake()

    @property
    def stopped(self) -> bool:
        return self._stop.is_set()

    @property
    def place(self) -> Place:
        """Where it is, for a browser that goes on from here."""
        return Place(self.settings, self.view, self.clock.row, self.viewpoint.seat)

    def resume(self, place: Place) -> None:
        """Go on from there."""
        updates = {one.name: getattr(place.settings, one.name) for one in fields(place.settings)}
        look = updates.pop("look")
        self.change(**updates, **vars(look))
        self.go_to(place.row)
        self.ask(lambda: self.show_view(place.view))
        self.ask(lambda: self.viewpoint.take(place.seat))

    def wake(self) -> None:
        """More has been read, or something was asked for."""
        with self._wake:
            self._wake.notify_all()

    def ask(self, task: Callable[[], None]) -> None:
        """Have ``task`` done by the thread that shows, from any thread."""
        self._todo.append(task)
        self.wake()

    def _pause(self, news: bool, pause: float) -> float:
        waits = [pause if news else 1.0]
        if self.settings.playing:
            waits.append(self.clock.wait(self.settings.speed))
        return min(waits) + 1e-3

    # Showing

    def _show(self, row: int) -> None:
        settings = self.settings
        if self.viewpoint.standing is not None:
            # One stands in the pictures then.
            settings = replace(settings, cameras=False)
        for side in self.sides:
            if side in self.shown:
                side.show(settings, self.row_of(side, row))
            else:
                side.stage.show([])
        self.on_row(row)
        if self.settings.follow and self.settings.playing:
            self.viewpoint.stand(self.frame)
        self.marks.show(self.frame)
        self.tell()
        self.on_status(self.status())

    def _prepare(self, row: int) -> bool:
        """Make one of the coming times, unless they are all there or take too much room."""
        for side in self.shown:
            if side.stage.full:
                continue
            for step in range(1, min(AHEAD, len(self.clock.stamps))):
                if side.prepare(self.settings, self.row_of(side, (row + step) % len(self.clock.stamps))):
                    return True
        return False

    @property
    def shown(self) -> list[Side]:
        """The results that are to be seen."""
        only = {"first": self.sides[:1], "second": self.sides[1:]}
        return only.get(self.settings.layout, self.sides) if len(self.sides) > 1 else self.sides

    def row_of(self, side: Side, row: int) -> int:
        """The time of a result that belongs to a time of the first."""
        return row if side is self.sides[0] else side.reading.row_at(float(self.clock.stamps[row]))

    def status(self) -> str:
        """How much is there to see."""
        lines = []
        for side in self.sides:
            name, painter = plain(side.reconstruction.name), side.reading.painter()
            if painter is None:
                lines.append(f"**{name}**: reading")
                continue
            loaded = painter.loaded
            least = loaded.scale.least[loaded.hidden_below(self.settings.look.hide)]
            reading = "" if loaded.complete else f", reading frame {len(loaded.parts)}"
            moving = len(loaded) - len(loaded.still)
            lines.append(
                f"**{name}**: {len(loaded):,} points{reading}, {moving:,} of them moving; "
                f"hidden below confidence {least:.2f}"
            )
            if self.settings.arrows and side is self.sides[0]:
                factor = side.reading.arrow_factor(painter)
                lines.append(f"Arrows are {factor} times as long as the motion from one time to the next.")
        return "\n\n".join(lines)

    @property
    def frame(self) -> int:
        """The frame whose time is shown."""
        return self.sides[0].reading.times[self.clock.row]

    def tell(self) -> None:
        """Tell the frame panel what to show."""
        result, frame = self.sides[0].reconstruction, self.frame
        dot, way = self.marks.in_frame(frame)
        state = {
            "frame": frame,
            "frames": len(result),
            "seconds": float(result.timestamps[frame]),
            "row": self.clock.row,
            "rows": len(self.clock.stamps),
            "box": content_box(result),
            "view": self.view,
            "dot": dot,
            "way": way,
            "pointed": self.marks.pointed,
            "note": self.marks.note,
            "keys": list(KEYS),
        }
        self._tell_panel(state)

    # Settings

    def change(self, **updates: Any) -> None:
        """Set some of the settings; ``color``, ``motion`` and ``hide`` are those of the look."""
        look = {name: updates.pop(name) for name in ("color", "motion", "hide") if name in updates}
        with self._wake:
            self.settings = replace(self.settings, look=replace(self.settings.look, **look), **updates)
        if "playing" in updates:
            self.ask(self.clock.hold)
        if "layout" in updates:
            self.viewpoint.arrange(self.settings.layout == "side by side")
        if "size" in updates:
            self.ask(self._resize)
        self.on_change(self.settings)
        self._refresh()

    def _resize(self) -> None:
        for side in self.sides:
            side.stage.resize(self.settings.size)

    def go_to(self, row: int) -> None:
        """Show another time."""
        self.ask(lambda: self.clock.go_to(row))

    def stand(self, frame: int) -> None:
        """Look through the camera of a frame."""
        self.viewpoint.stand(frame)
        self._refresh()

    def reset(self) -> None:
        """The first view."""
        self.viewpoint.reset()
        self._refresh()

    def _refresh(self) -> None:
        self._stale = True
        self.wake()

    # Clicks, keys, and where the pointer is

    def press(self, key: str) -> None:
        """Do what a key does."""
        if key in KEYS:
            self.ask(lambda: KEYS[key].act(self))

    def enter(self, frame: int) -> None:
        """Stand in the camera of a frame, and go to its time."""
        self._entered = time.monotonic()

        def go() -> None:
            self.clock.go_to(self.sides[0].reading.row_of(frame))
            self.stand(frame)

        self.ask(go)

    def said(self, said: Said) -> None:
        """What the frame panel says."""
        xy = said.xy
        if said.what == "key":
            self.press(said.name)
        elif said.view is not None:
            view = said.view
            self.ask(lambda: self.show_view(view))
        elif said.what == "pick" and xy is not None:
            self.ask(lambda: self._follow(0, self.frame, xy))
        elif said.what == "hover":
            self.ask(lambda: self.marks.hover(self.frame, xy))
        elif said.what == "point":
            self._pointer = xy
            if not self._pointing:
                # One question at a time: the pointer is faster than the answers.
                self._pointing = True
                self.ask(self._look_at_pointer)

    def show_view(self, view: View) -> None:
        """Show video, depth or motion in the frame panel."""
        self.view = view
        self.tell()

    def clicked(self, origin: Any, direction: Any) -> None:
        """A click into the scene, as a ray: the point that it means is followed."""
        start, toward = np.array(origin, dtype=np.float64), np.array(direction, dtype=np.float64)

        def find() -> None:
            if time.monotonic() - self._entered < ONE_CLICK:
                return
            meant = self._meant(start, toward)
            if meant is not None:
                self._follow(meant.number, meant.source, meant.xy)

        self.ask(find)

    def _look_at_pointer(self) -> None:
        self._pointing, place = False, self._pointer
        # While it plays, points would have to be searched anew at each time.
        meant = None if place is None or self.settings.playing else self._meant(*self.viewpoint.ray(*place))
        if meant is None:
            self.marks.point(self.frame, 0, None)
        else:
            self.marks.point(self.frame, meant.number, meant.position)
        self.tell()

    def _meant(self, origin: np.ndarray, direction: np.ndarray) -> _Meant | None:
        """The first point, of all results that are seen, that a ray means."""
        best: tuple[float, _Meant] | None = None
        for number, side in enumerate(self.sides):
            if side not in self.shown:
                continue
            candidates = side.candidates(self.settings, self.row_of(side, self.clock.row))
            met = None if candidates is None else nearest_on_ray(candidates, origin, direction)
            if candidates is None or met is None:
                continue
            position = candidates.positions[met]
            far = float((position - origin) @ direction)
            if best is None or far < best[0]:
                xy = pixel_center(int(candidates.pixel[met]), side.reconstruction.size[1])
                best = (far, _Meant(number, position, int(candidates.source[met]), xy))
        return None if best is None else best[1]

    def _follow(self, number: int, source: int, xy: tuple[float, float]) -> None:
        self.marks.follow(number, source, xy, self.frame)
        self.tell()

    def drop(self) -> None:
        """Follow no pixel any longer."""
        self.marks.drop()
        self.tell()


def plain(name: str) -> str:
    """A name that may stand in Markdown, of which viser renders the HTML too: a result may come from anywhere."""
    return re.sub(r"[^\w .()-]", "\u00b7", name)[:60]

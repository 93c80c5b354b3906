"""The viewer at work: one thread that shows what the controls ask for, and one for each result that reads it."""

import re
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from vdpm.viewer.choice import content_box
from vdpm.viewer.live.clock import Clock
from vdpm.viewer.live.cloud import read_sources
from vdpm.viewer.live.frame_panel import FramePanel, Said
from vdpm.viewer.live.keys import KEYS
from vdpm.viewer.live.marks import Marks
from vdpm.viewer.live.picking import nearest_on_ray, pixel_center
from vdpm.viewer.live.settings import Settings
from vdpm.viewer.live.side import Side
from vdpm.viewer.live.viewpoint import Viewpoint

FIRST_PAUSE, LATER_PAUSE = 0.3, 2.0
"""Seconds from one showing of a result that is still being read to the next; grows from the one to the other."""
ONE_CLICK = 0.4
"""Seconds within which a click on a camera's picture is told of as a click into the scene too."""
AHEAD = 32
"""Times made before they are asked for, while there is nothing else to do."""


class Session:
    """Everything that happens while the viewer is open.

    ``on_change(settings)``, ``on_row(row)``, ``on_status(text)``: called when there is another to show.
    """

    def __init__(self, server: Any, panel: FramePanel, sides: list[Side]) -> None:
        self.server, self.panel, self.sides = server, panel, sides
        self.settings = Settings(source=sides[0].reconstruction.reference)
        self.view = "video"
        self.clock = Clock(sides[0].stamps)
        self.marks = Marks(server, sides)
        self.viewpoint = Viewpoint(server, sides, self._refresh)
        self.failure: BaseException | None = None
        self.on_change: Callable[[Settings], None] = lambda settings: None
        self.on_row: Callable[[int], None] = lambda row: None
        self.on_status: Callable[[str], None] = lambda text: None
        self._wake = threading.Condition()
        self._todo: deque[Callable[[], None]] = deque()
        self._stop = threading.Event()
        self._stale = True
        self._entered = 0.0
        self._threads: list[threading.Thread] = []
        self.viewpoint.arrange(True)

    # Life

    def start(self) -> None:
        """Begin to read and to show."""
        tasks = [self._work, *(lambda side=side: self._read(side) for side in self.sides)]
        self._threads = [threading.Thread(target=self._guarded, args=(task,), daemon=True) for task in tasks]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End all threads, waiting a moment for each."""
        self._stop.set()
        with self._wake:
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(timeout=3.0)

    def wait(self, seconds: float) -> None:
        """Let it work for so long. Raises what a thread of it could not cope with."""
        self._stop.wait(seconds)
        if self.failure is not None:
            raise self.failure

    def ask(self, task: Callable[[], None]) -> None:
        """Have ``task`` done by the thread that shows, from any thread."""
        with self._wake:
            self._todo.append(task)
            self._wake.notify_all()

    def _guarded(self, task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:
            self.failure = error
            self._stop.set()

    def _read(self, side: Side) -> None:
        for part in read_sources(side.reconstruction, side.options):
            if self._stop.is_set():
                return
            side.cloud.add(part)
            with self._wake:
                self._wake.notify_all()
        side.cloud.finish()
        with self._wake:
            self._wake.notify_all()

    def _work(self) -> None:
        drawn, pause, shown = 0.0, FIRST_PAUSE, -1
        while not self._stop.is_set():
            while self._todo:
                self._todo.popleft()()
            if self.settings.playing and not self.clock.advance(self.settings.speed, self.settings.loop):
                self.change(playing=False)
            row, now = self.clock.row, time.monotonic()
            news = any(side.cloud.number != side.number for side in self.shown)
            if news and now - drawn >= pause:
                self._stale, pause = True, min(LATER_PAUSE, pause * 1.5)
            if self._stale or row != shown:
                self._stale, drawn = False, time.monotonic()
                self._show(row)
                shown = row
                continue
            if not news and self._prepare(row):
                continue
            with self._wake:
                if not (self._todo or self._stale or self._stop.is_set()):
                    self._wake.wait(self._pause(news, pause))

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
        return row if side is self.sides[0] else side.row_at(float(self.clock.stamps[row]))

    def status(self) -> str:
        """How much is there to see."""
        lines = []
        for side in self.sides:
            painter = side.painter()
            if painter is None:
                lines.append(f"**{plain(side.reconstruction.name)}**: reading")
                continue
            loaded = painter.loaded
            least = loaded.scale.least[loaded.hidden_below(self.settings.look.hide)]
            reading = "" if loaded.complete else f", reading frame {len(loaded.parts)}"
            moving = len(loaded) - len(loaded.still)
            lines.append(
                f"**{plain(side.reconstruction.name)}**: {len(loaded):,} points{reading}, {moving:,} of them moving; "
                f"hidden below confidence {least:.2f}"
            )
        if self.settings.arrows:
            lines.append(f"Arrows are {self.sides[0].factor} times as long as the motion from one time to the next.")
        return "\n\n".join(lines)

    @property
    def frame(self) -> int:
        """The frame whose time is shown."""
        return self.sides[0].times[self.clock.row]

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
            "note": self.marks.note,
            "keys": list(KEYS),
        }
        self.panel.tell(state, self.server.get_event_loop())

    # Settings

    def change(self, **updates: Any) -> None:
        """Set some of the settings; ``color``, ``motion`` and ``hide`` are those of the look."""
        look = {name: updates.pop(name) for name in ("color", "motion", "hide") if name in updates}
        with self._wake:
            self.settings = replace(self.settings, look=replace(self.settings.look, **look), **updates)
            self._stale = True
            self._wake.notify_all()
        if "playing" in updates:
            self.ask(self.clock.hold)
        if "layout" in updates:
            self.viewpoint.arrange(self.settings.layout == "side by side")
        self.on_change(self.settings)

    def resize(self, factor: float) -> None:
        """Draw points larger."""

        def resize() -> None:
            for side in self.sides:
                side.stage.resize(factor)

        self.ask(resize)

    def go_to(self, row: int) -> None:
        """Show another time."""
        self.ask(lambda: self.clock.go_to(row))

    def stand(self, frame: int, client: Any = None) -> None:
        """Look through the camera of a frame."""
        self.viewpoint.stand(frame, client)
        self._refresh()

    def reset(self, client: Any = None) -> None:
        """The first view."""
        self.viewpoint.reset(client)
        self._refresh()

    def _refresh(self) -> None:
        with self._wake:
            self._stale = True
            self._wake.notify_all()

    # Clicks and keys

    def press(self, key: str) -> None:
        """Do what a key does."""
        if key in KEYS:
            self.ask(lambda: KEYS[key].act(self))

    def enter(self, frame: int, client: Any) -> None:
        """Stand in the camera of a frame, and go to its time."""
        self._entered = time.monotonic()

        def go() -> None:
            times = self.sides[0].times
            self.clock.go_to(min(range(len(times)), key=lambda row: abs(times[row] - frame)))
            self.stand(frame, client)

        self.ask(go)

    def said(self, said: Said) -> None:
        """What the frame panel says."""
        if said.what == "key":
            self.press(said.name)
        elif said.what == "view":
            view = said.name
            self.ask(lambda: self.show_view(view))
        elif said.what == "pick" and said.xy is not None:
            xy = said.xy
            self.ask(lambda: self._follow(0, self.frame, xy))
        elif said.what == "hover":
            self.ask(lambda: self.marks.hover(self.frame, said.xy))

    def show_view(self, view: str) -> None:
        """Show video, depth or motion in the frame panel."""
        self.view = view
        self.tell()

    def clicked(self, origin: Any, direction: Any) -> None:
        """A click into the scene, as a ray: the point that it means is followed."""
        start, toward = np.array(origin, dtype=np.float64), np.array(direction, dtype=np.float64)

        def find() -> None:
            if time.monotonic() - self._entered < ONE_CLICK:
                return
            best: tuple[float, int, int, int] | None = None
            for side in self.shown:
                candidates = side.candidates(self.settings, self.row_of(side, self.clock.row))
                met = None if candidates is None else nearest_on_ray(candidates, start, toward)
                if candidates is not None and met is not None:
                    far = float((candidates.positions[met] - start) @ toward)
                    if best is None or far < best[0]:
                        number = self.sides.index(side)
                        best = (far, number, int(candidates.source[met]), int(candidates.pixel[met]))
            if best is not None:
                _, number, source, pixel = best
                self._follow(number, source, pixel_center(pixel, self.sides[number].reconstruction.size[1]))

        self.ask(find)

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

"""The viewer at work: one thread that shows what the controls ask for, and one for each result that reads it."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from vdpm.errors import UsageError, VDPMError
from vdpm.viewer.choice import content_box
from vdpm.viewer.live.clock import Clock
from vdpm.viewer.live.cloud import read_sources
from vdpm.viewer.live.frame_panel import FramePanel, Said, View
from vdpm.viewer.live.keys import KEYS
from vdpm.viewer.live.look import Look
from vdpm.viewer.live.picking import Pick, nearest_on_ray, pick_pixel, pixel_center
from vdpm.viewer.live.settings import Settings
from vdpm.viewer.live.side import Side
from vdpm.viewer.live.stage import NODE_BYTES

PICKED = (255, 213, 74)
FIRST_PAUSE, LATER_PAUSE = 0.3, 2.0
"""Seconds from one showing of a result that is still being read to the next; grows from the one to the other."""
SETTLED = 0.8
"""Seconds within which what a browser says of its camera may still be from before it was moved."""
AHEAD = 32
"""Times made before they are asked for, while there is nothing else to do."""
APART = 1.25
"""Two results stand so many times the scene's width apart."""


class Session:
    """Everything that happens while the viewer is open. ``changed(settings, session)`` is called when settings have."""

    def __init__(self, server: Any, panel: FramePanel, sides: list[Side]) -> None:
        self.server, self.panel, self.sides = server, panel, sides
        self.settings = Settings(source=sides[0].reconstruction.reference)
        self.view: View = "video"
        self.clock = Clock(sides[0].stamps)
        self.pick: Pick | None = None
        self.standing: int | None = sides[0].reconstruction.reference
        self.failure: BaseException | None = None
        self.on_change: Callable[[Settings], None] = lambda settings: None
        self.on_row: Callable[[int], None] = lambda row: None
        self.on_status: Callable[[str], None] = lambda text: None
        self._wake = threading.Condition()
        self._todo: deque[Callable[[], None]] = deque()
        self._stop = threading.Event()
        self._stale = True
        self._moved, self._aspect = 0.0, 0.0
        self._note = "Click the picture or the points to follow a pixel."
        self._marks: dict[str, Any] = {}
        self._threads: list[threading.Thread] = []
        self._arrange()

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
            news = any(side.cloud.number != side.number for side in self.sides)
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
                if not self._todo and not self._stop.is_set():
                    self._wake.wait(self._pause(news, pause))

    def _pause(self, news: bool, pause: float) -> float:
        waits = [pause if news else 1.0]
        if self.settings.playing:
            waits.append(self.clock.wait(self.settings.speed))
        return min(waits) + 1e-3

    # Showing

    def _show(self, row: int) -> None:
        seconds = float(self.clock.stamps[row])
        settings = self.settings
        if self.standing is not None:
            # One stands in the pictures then.
            settings = replace(settings, cameras=False)
        for number, side in enumerate(self.sides):
            hidden = len(self.sides) > 1 and settings.layout in ("first", "second")
            if hidden and settings.layout != ("first", "second")[number]:
                side.stage.show([])
            else:
                side.show(settings, row if number == 0 else side.row_at(seconds))
        self.on_row(row)
        if self.settings.follow and self.settings.playing:
            self.stand(self.frame)
        self._show_pick()
        self.tell()
        self.on_status(self.status())

    def _prepare(self, row: int) -> bool:
        """Make one of the coming times, unless they are all there or take too much room."""
        for side in self.sides:
            if side.stage.nbytes > 0.7 * NODE_BYTES:
                continue
            for step in range(1, min(AHEAD, len(self.clock.stamps))):
                after = (row + step) % len(self.clock.stamps)
                at = after if side is self.sides[0] else side.row_at(float(self.clock.stamps[after]))
                if side.prepare(self.settings, at):
                    return True
        return False

    def status(self) -> str:
        """How much is there to see."""
        lines = []
        for side in self.sides:
            painter = side.painter()
            if painter is None:
                lines.append(f"**{side.reconstruction.name}**: reading")
                continue
            loaded = painter.loaded
            least = loaded.scale.least[loaded.hidden_below(self.settings.look.hide)]
            reading = "" if loaded.complete else f", reading frame {len(loaded.parts)}"
            moving = len(loaded) - len(loaded.still)
            lines.append(
                f"**{side.reconstruction.name}**: {len(loaded):,} points{reading}, {moving:,} of them moving; "
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
        dot, way = None, []
        if self.pick is not None:
            pick = self.pick
            known = list(pick.track.targets)
            place = [
                [round(float(x), 2), round(float(y), 2), bool(seen)] for (x, y), seen in zip(pick.pixels, pick.visible)
            ]
            way = [spot for time, spot in zip(known, place) if time <= frame]
            dot = place[known.index(frame)] if frame in known else None
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
            "note": self._note,
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
            self._arrange()
        self.on_change(self.settings)

    @property
    def look(self) -> Look:
        return self.settings.look

    def resize(self, factor: float) -> None:
        """Draw points larger."""
        self.settings = replace(self.settings, size=factor)
        self.ask(lambda: [side.stage.resize(factor) for side in self.sides] and None)

    def go_to(self, row: int) -> None:
        """Show another time."""

        def go() -> None:
            self.clock.go_to(row)

        self.ask(go)

    def _arrange(self) -> None:
        """Put two results beside each other, or in the same place."""
        if len(self.sides) < 2:
            return
        first = self.sides[0]
        right = first.reconstruction.cameras.c2w[first.reconstruction.reference, :3, 0].double().numpy()
        camera = first.cameras[first.reconstruction.reference]
        left, _, far, _ = camera.box
        width = APART * first.reach * (far - left) / float(camera.intrinsics[0, 0])
        apart = 0.5 * width if self.settings.layout == "side by side" else 0.0
        first.move(-apart * right)
        self.sides[1].move(apart * right)

    # Cameras

    def stand(self, frame: int, client: Any = None) -> None:
        """Look through the camera of a frame, in one browser or all."""
        side = self.sides[0]
        camera = side.cameras[frame]
        forward, center = camera.c2w[:3, 2], camera.c2w[:3, 3] + side.offset
        distance = max(float((side.pivot - camera.c2w[:3, 3]) @ forward), 0.1 * side.reach)
        self.standing, self._moved = frame, time.monotonic()
        self._look(client, center, center + distance * forward, -camera.c2w[:3, 1], camera.vertical_view)

    def stand_here(self) -> None:
        """Look through the camera of the frame shown."""
        self.stand(self.frame)
        self._stale = True

    def reset(self, client: Any = None) -> None:
        """The first view: the reference camera's own; of two results side by side, from so far back that both are
        seen.
        """
        side = self.sides[0]
        if len(self.sides) < 2 or self.settings.layout != "side by side":
            self.stand(side.reconstruction.reference, client)
        else:
            camera = side.cameras[side.reconstruction.reference]
            forward = camera.c2w[:3, 2]
            center = camera.c2w[:3, 3] - 0.6 * side.reach * forward
            self.standing, self._moved = None, time.monotonic()
            self._look(
                client,
                center,
                center + 1.6 * side.reach * forward,
                -camera.c2w[:3, 1],
                lambda aspect: 2 * np.arctan(1.3 * np.tan(camera.vertical_view(aspect / 2) / 2) / 1.6),
            )
        self._stale = True

    def _look(self, client: Any, center: Any, at: Any, up: Any, view: Callable[[float], float]) -> None:
        clients = list(self.server.get_clients().values()) if client is None else [client]
        for one in clients:
            with one.atomic():
                one.camera.up_direction = up
                one.camera.position = center
                one.camera.look_at = at
                one.camera.fov = float(view(one.camera.aspect))

    def moved(self, camera: Any) -> None:
        """A browser's camera was turned: whoever stood in a frame's camera may have left it."""
        if self.standing is None:
            return
        side = self.sides[0]
        mine = side.cameras[self.standing]
        # The window has another shape, or its panels have been moved since the fit.
        if abs(camera.fov - (fov := mine.vertical_view(camera.aspect))) > 1e-3 and camera.aspect != self._aspect:
            self._aspect, camera.fov = camera.aspect, fov
        if time.monotonic() - self._moved < SETTLED:
            return
        gone = np.linalg.norm(camera.position - side.offset - mine.c2w[:3, 3]) > 5e-3 * side.reach
        if gone or abs(float(mine.wxyz @ camera.wxyz)) < np.cos(np.radians(0.5) / 2):
            self.standing, self._stale = None, True
            with self._wake:
                self._wake.notify_all()

    # Clicks and keys

    def press(self, key: str) -> None:
        """Do what a key does."""
        if key in KEYS:
            self.ask(lambda: KEYS[key].act(self))

    def enter(self, frame: int, client: Any) -> None:
        """Stand in the camera of a frame, and go to its time."""

        def go() -> None:
            times = self.sides[0].times
            self.clock.go_to(min(range(len(times)), key=lambda row: abs(times[row] - frame)))
            self.stand(frame, client)
            self._stale = True

        self.ask(go)

    def said(self, said: Said) -> None:
        """What the frame panel says."""
        if said.what == "key":
            self.press(said.name)
        elif said.what == "view":
            self.ask(lambda: self.show_view(said.name))  # type: ignore[arg-type]
        elif said.what == "pick" and said.xy is not None:
            xy = said.xy
            self.ask(lambda: self._follow(0, self.frame, xy))
        elif said.what == "hover":
            self.ask(lambda: self._hover(said.xy))

    def show_view(self, view: View) -> None:
        """Show video, depth or motion in the frame panel."""
        self.view = view
        self.tell()

    def clicked(self, origin: Any, direction: Any) -> None:
        """A click into the scene, as a ray: the point that it means is followed."""
        start, toward = np.array(origin, dtype=np.float64), np.array(direction, dtype=np.float64)

        def find() -> None:
            best: tuple[float, int, int, int] | None = None
            for number, side in enumerate(self.sides):
                row = self.clock.row if number == 0 else side.row_at(float(self.clock.stamps[self.clock.row]))
                candidates = side.candidates(self.settings, row)
                met = None if candidates is None else nearest_on_ray(candidates, start, toward)
                if candidates is not None and met is not None:
                    far = float((candidates.positions[met] - start) @ toward)
                    if best is None or far < best[0]:
                        best = (far, number, int(candidates.source[met]), int(candidates.pixel[met]))
            if best is not None:
                _, number, source, pixel = best
                self._follow(number, source, pixel_center(pixel, self.sides[number].reconstruction.size[1]))

        self.ask(find)

    def _follow(self, number: int, source: int, xy: tuple[float, float]) -> None:
        side = self.sides[number]
        try:
            self.pick = pick_pixel(side.reconstruction, source, xy)
        except UsageError as error:
            self.pick, self._note = None, str(error)
        except VDPMError:
            raise
        else:
            seen = int(self.pick.visible.sum())
            way = float(np.linalg.norm(np.diff(self.pick.positions, axis=0), axis=1).sum())
            sure = float(self.pick.track.confidence[self.pick.track.targets.index(source)])
            name = f" of {side.reconstruction.name}" if number else ""
            self._note = (
                f"Pixel ({xy[0]:.1f}, {xy[1]:.1f}) of frame {source}{name}, confidence {sure:.2f}\n"
                f"seen at {seen} of {len(self.pick.visible)} times, way of {way:.3f} units\nEscape lets it go."
            )
        self._draw_pick(side)
        self._show_pick()
        self.tell()

    def drop(self) -> None:
        """Follow no pixel any longer."""
        self.pick, self._note = None, "Click the picture or the points to follow a pixel."
        self._draw_pick(self.sides[0])
        self.tell()

    def _draw_pick(self, side: Side) -> None:
        for name in [name for name in self._marks if name != "hover"]:
            self._marks.pop(name).remove()
        if self.pick is None:
            return
        positions = self.pick.positions
        if len(positions) > 1:
            self._marks["way"] = self.server.scene.add_line_segments(
                f"{side.root}/pick/way",
                np.stack([positions[:-1], positions[1:]], axis=1).astype(np.float32),
                np.array(PICKED, dtype=np.uint8),
                thickness=3.0,
                thickness_units="screen",
            )
        self._marks["here"] = self._ball(f"{side.root}/pick/here", 0.012 * side.reach)

    def _show_pick(self) -> None:
        if self.pick is None or "here" not in self._marks:
            return
        known = self.pick.track.targets
        seconds = self.sides[0].reconstruction.timestamps
        near = min(range(len(known)), key=lambda row: abs(float(seconds[known[row]] - seconds[self.frame])))
        self._marks["here"].position = tuple(self.pick.positions[near])

    def _hover(self, xy: tuple[float, float] | None) -> None:
        side, frame = self.sides[0], self.frame
        if xy is None or frame not in side.reconstruction.maps.sources:
            if "hover" in self._marks:
                self._marks["hover"].visible = False
            return
        if "hover" not in self._marks:
            self._marks["hover"] = self._ball(f"{side.root}/hover", 0.009 * side.reach)
        points = side.own_points(frame)
        self._marks["hover"].position = tuple(points[int(xy[1]), int(xy[0])])
        self._marks["hover"].visible = True

    def _ball(self, name: str, radius: float) -> Any:
        return self.server.scene.add_icosphere(
            name, radius, PICKED, subdivisions=2, cast_shadow=False, receive_shadow=False
        )

"""The controls in viser's panels, kept in step with the settings."""

from typing import Any

import numpy as np

from vdpm.viewer.live.frame_panel import PAGE, own_file
from vdpm.viewer.live.keys import as_table
from vdpm.viewer.live.look import MOTION_FILTERS
from vdpm.viewer.live.paths import TRAIL_COLORS
from vdpm.viewer.live.session import Session
from vdpm.viewer.live.settings import LAYOUTS, POINTS_OF, SPEEDS, Settings

BACKGROUND = (18, 19, 21)
WIDTH, FRAME_WIDTH = 330, 360
BOTH_SIDES, ONE_ABOVE_THE_OTHER = 1000, 560
"""Width of a window from which on there is room for panels at both sides of the points; height for two at one side."""
BRAND = (178, 118, 34)
BACK, ON, PLAY, FIRST, LAST = "\u2039", "\u203a", "\u25b6 / \u275a\u275a", "\u00ab", "\u00bb"


def furnish(server: Any, title: str) -> None:
    """What is the same in all browsers."""
    gui = server.gui
    gui.set_panel_label(title)
    gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False, brand_color=BRAND)
    gui.main_panel.dock_right()
    gui.main_panel.set_width(WIDTH)
    server.scene.set_background_image(np.full((2, 2, 3), BACKGROUND, dtype=np.uint8))
    server.scene.world_axes.visible = False


class Controls:
    """Makes the controls of a browser when it is made; from then on they follow the settings and the settings follow
    them.
    """

    def __init__(self, client: Any, session: Session) -> None:
        self.session, self.gui = session, client.gui
        self._inputs: dict[str, Any] = {}
        gui = self.gui
        panel = gui.add_panel()
        with panel.add_tab("Frame"):
            gui.add_html(
                f"<style>{own_file('phone.css').decode()}</style>"
                f'<div style="padding:10px 10px 0"><iframe src="{PAGE}?client={client.client_id}" title="Frame of the '
                'video" scrolling="no" style="border:0;width:100%;height:330px;display:block;color-scheme:dark">'
                "</iframe></div>"
            )
        panel.dock_left()
        panel.set_width(FRAME_WIDTH)
        self._frame = panel
        with gui.add_folder("Time"):
            self._time()
        with gui.add_folder("Points"):
            self._points()
        with gui.add_folder("Motion", expand_by_default=False):
            self._motion()
        with gui.add_folder("Cameras"):
            self._cameras()
        if len(session.sides) > 1:
            with gui.add_folder("Two results"):
                self._input("layout", gui.add_dropdown("Show", LAYOUTS, initial_value=session.settings.layout))
        self._status = gui.add_markdown("")
        with gui.add_folder("Keys", expand_by_default=False):
            gui.add_markdown(as_table())
        session.on_change, session.on_row, session.on_status = self.reflect, self._row, self._say
        self.reflect(session.settings)

    def make_room(self, width: float, height: float) -> None:
        """Leave most of a window of so many pixels to the points: in a narrow one the frame stands below the controls,
        or where that is low too, folded away.
        """
        if width >= BOTH_SIDES:
            return
        if height < ONE_ABOVE_THE_OTHER:
            self._frame.minimize()
        else:
            self._frame.dock_below(self.gui.main_panel)

    def _time(self) -> None:
        gui, session = self.gui, self.session
        last = len(session.clock.stamps) - 1
        self._slider = gui.add_slider("Time", min=0, max=max(last, 1), step=1, initial_value=0, disabled=last < 1)

        @self._slider.on_update
        def _(event: Any) -> None:
            if event.client is not None:
                session.go_to(int(self._slider.value))

        buttons = gui.add_button_group("Play", (FIRST, BACK, PLAY, ON, LAST))

        @buttons.on_click
        def _(event: Any) -> None:
            key = {FIRST: "home", BACK: "arrowleft", PLAY: "space", ON: "arrowright", LAST: "end"}[buttons.value]
            session.press(key)

        self._input(
            "speed", gui.add_dropdown("Speed", [f"{speed:g}\u00d7" for speed in SPEEDS], initial_value="1\u00d7")
        )
        self._input("loop", gui.add_checkbox("Loop", True))

    def _points(self) -> None:
        gui, session = self.gui, self.session
        result = session.sides[0].reconstruction
        settings = session.settings
        self._input("points_of", gui.add_dropdown("Points of", POINTS_OF, initial_value=settings.points_of))
        last = max(1, len(result) - 1)
        one = gui.add_slider("Frame", min=0, max=last, step=1, initial_value=settings.source, visible=False)
        self._input("source", one)
        colors = session.sides[0].reading.colors
        self._input("color", gui.add_dropdown("Colour", colors, initial_value=settings.look.color))
        self._input("motion", gui.add_dropdown("Which", MOTION_FILTERS, initial_value=settings.look.motion))
        hide = gui.add_slider("Hide %", min=0.0, max=95.0, step=1.0, initial_value=settings.look.hide)
        hide.hint = "Share of the points, the least sure ones, that is hidden"
        self._input("hide", hide)
        self._input("size", gui.add_slider("Size", min=0.3, max=3.0, step=0.1, initial_value=settings.size))

    def _motion(self) -> None:
        gui, settings = self.gui, self.session.settings
        self._input("trails", gui.add_checkbox("Trails", settings.trails))
        last = max(1, len(self.session.clock.stamps) - 1)
        length = gui.add_slider("Length", min=0, max=last, step=1, initial_value=settings.trail_length)
        length.hint = "Times back from the one shown; 0 is the whole way"
        self._input("trail_length", length)
        self._input("trail_color", gui.add_dropdown("Trail colour", TRAIL_COLORS, initial_value=settings.trail_color))
        self._input(
            "trail_count",
            gui.add_slider("Trails at most", min=10, max=2000, step=10, initial_value=settings.trail_count),
        )
        self._input("arrows", gui.add_checkbox("Flow arrows", settings.arrows))
        self._input(
            "arrow_count",
            gui.add_slider("Arrows at most", min=10, max=2000, step=10, initial_value=settings.arrow_count),
        )

    def _cameras(self) -> None:
        gui, session = self.gui, self.session
        self._input("cameras", gui.add_checkbox("Frusta", True))
        follow = gui.add_checkbox("Follow", False)
        follow.hint = "While it plays, look through the camera of the frame shown"
        self._input("follow", follow)
        buttons = gui.add_button_group("Stand in", ("this frame", "first view"))

        @buttons.on_click
        def _(event: Any) -> None:
            session.press("c" if buttons.value == "this frame" else "r")

    def _input(self, name: str, handle: Any) -> None:
        self._inputs[name] = handle

        @handle.on_update
        def _(event: Any) -> None:
            # Without a browser it is ``reflect`` that has set it.
            if event.client is not None:
                value = handle.value
                self.session.change(**{name: float(value[:-1]) if name == "speed" else value})
                if name == "layout":
                    self.session.reset()

    def reflect(self, settings: Settings) -> None:
        """Show the settings, whoever has changed them."""
        for name, handle in self._inputs.items():
            value = getattr(settings.look if hasattr(settings.look, name) else settings, name)
            shown = f"{value:g}\u00d7" if name == "speed" else value
            if handle.value != shown:
                handle.value = shown
        one = settings.points_of == "one frame"
        if self._inputs["source"].visible != one:
            self._inputs["source"].visible = one

    def _row(self, row: int) -> None:
        if self._slider.value != row:
            self._slider.value = row

    def _say(self, text: str) -> None:
        if self._status.content != text:
            self._status.content = text

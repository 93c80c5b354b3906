"""The keyboard: the page's keys, and a few more."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from vdpm.viewer.live.frame_panel import VIEWS
from vdpm.viewer.live.look import MOTION_FILTERS
from vdpm.viewer.live.settings import LAYOUTS, POINTS_OF, SPEEDS

if TYPE_CHECKING:
    from vdpm.viewer.live.session import Session


class Key(NamedTuple):
    """What a key does, in words and in deed."""

    does: str
    act: Callable[["Session"], None]


def _step(by: int) -> Callable[["Session"], None]:
    def act(session: "Session") -> None:
        session.change(playing=False)
        session.clock.go_to(session.clock.row + by)

    return act


def _end(first: bool) -> Callable[["Session"], None]:
    def act(session: "Session") -> None:
        session.clock.go_to(0 if first else len(session.clock.stamps) - 1)

    return act


def _speed(by: int) -> Callable[["Session"], None]:
    def act(session: "Session") -> None:
        row = min(range(len(SPEEDS)), key=lambda row: abs(SPEEDS[row] - session.settings.speed))
        session.change(speed=SPEEDS[min(max(row + by, 0), len(SPEEDS) - 1)])

    return act


def _turn(name: str, *values: object) -> Callable[["Session"], None]:
    """The next of the values; without any, on and off."""

    def act(session: "Session") -> None:
        settings = session.settings
        now = getattr(settings.look if name in ("motion", "color") else settings, name)
        choices = values or (False, True)
        session.change(**{name: choices[(choices.index(now) + 1) % len(choices)]})

    return act


def _hide(by: float) -> Callable[["Session"], None]:
    def act(session: "Session") -> None:
        session.change(hide=min(max(session.settings.look.hide + by, 0.0), 95.0))

    return act


def _play(session: "Session") -> None:
    if not session.settings.playing and session.clock.row == len(session.clock.stamps) - 1:
        session.clock.go_to(0)
    session.change(playing=not session.settings.playing)


def _view(session: "Session") -> None:
    session.show_view(VIEWS[(VIEWS.index(session.view) + 1) % len(VIEWS)])


def _color(session: "Session") -> None:
    _turn("color", *session.sides[0].reading.colors)(session)


def _layout(session: "Session") -> None:
    if len(session.sides) > 1:
        _turn("layout", *LAYOUTS)(session)
        session.reset()


KEYS: dict[str, Key] = {
    "space": Key("play, pause", _play),
    "arrowleft": Key("one time back", _step(-1)),
    "arrowright": Key("one time on", _step(1)),
    "home": Key("first time", _end(True)),
    "end": Key("last time", _end(False)),
    "+": Key("faster", _speed(1)),
    "=": Key("faster", _speed(1)),
    "-": Key("slower", _speed(-1)),
    "l": Key("loop", _turn("loop")),
    "c": Key("stand in the camera of the frame shown", lambda session: session.stand(session.frame)),
    "r": Key("the first view", lambda session: session.reset()),
    "f": Key("points of all frames, of the frame shown, of one frame", _turn("points_of", *POINTS_OF)),
    "o": Key("colours: video, depth, speed, confidence, frame, difference", _color),
    "m": Key("all, moving or still points", _turn("motion", *MOTION_FILTERS)),
    "[": Key("hide fewer of the least sure points", _hide(-5.0)),
    "]": Key("hide more of them", _hide(5.0)),
    "t": Key("trails", _turn("trails")),
    "g": Key("arrows of the scene flow", _turn("arrows")),
    "k": Key("cameras", _turn("cameras")),
    "v": Key("the picture: video, depth, motion", _view),
    "x": Key("two results: side by side, the first, the second, one in the other", _layout),
    "escape": Key("let the followed pixel go", lambda session: session.drop()),
}
"""By the name that the panel gives them (its script makes it from the browser's)."""
NAMES = {"arrowleft": "←", "arrowright": "→", "space": "Space", "home": "Home", "end": "End", "escape": "Esc"}


def as_table() -> str:
    """All keys, as a table in Markdown."""
    rows = [f"| {NAMES.get(name, name.upper())} | {key.does} |" for name, key in KEYS.items() if name != "="]
    return "\n".join(["| key | does |", "| --- | --- |", *rows])

"""The viewer at work: whatever a browser asks for is shown to it alone, for any choice of times and frames."""

import math
import time
import urllib.request
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fixtures.live_client import LiveClient
from fixtures.moving_sphere import MovingSphere, make_moving_sphere
from vdpm.errors import InputError
from vdpm.structures import PointMap
from vdpm.viewer.live.frame_panel import Said

Come = Callable[[Any], Any]


def until(session: Any, condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        assert not session.stopped
        time.sleep(0.01)


def idle(session: Any) -> None:
    """Until all that was asked for is done and shown."""
    clouds = [side.reading.cloud for side in session.sides]
    until(session, lambda: all(cloud.loaded() and cloud.loaded().complete for cloud in clouds))
    until(session, lambda: all(side.number == side.reading.cloud.number for side in session.shown))
    # What is asked for is done first and shown then. That a showing has begun is seen from outside; a second question
    # is answered after it.
    for _ in range(2):
        answer(session, lambda: True)
        until(session, lambda: not session._stale and session._shown_row == session.clock.row)


def answer(session: Any, question: Callable[[], Any]) -> Any:
    """What ``question`` finds in the thread that shows, between one thing and the next."""
    found: list[Any] = []
    session.ask(lambda: found.append(question()))
    until(session, lambda: bool(found))
    return found[0]


def shown(session: Any) -> int:
    """Points that are to be seen. Asked of the thread that makes nodes: viser's are visible while they are made."""

    def count() -> int:
        handles = session.client.scene._handle_from_node_name.values()
        clouds = [handle for handle in handles if type(handle).__name__ == "PointCloudHandle"]
        return sum(len(cloud.points) for cloud in clouds if cloud.visible)

    return int(answer(session, count))


def test_every_filter_shows_what_it_says(session: Any) -> None:
    session.change(points_of="all frames", motion="all", hide=0.0)
    idle(session)
    loaded = session.sides[0].reading.cloud.loaded()
    assert shown(session) == len(loaded)
    session.change(motion="moving")
    idle(session)
    assert shown(session) == len(loaded) - len(loaded.still)
    session.change(motion="still")
    idle(session)
    assert shown(session) == len(loaded.still)
    session.change(motion="all", points_of="frame shown")
    session.go_to(3)
    idle(session)
    assert 0.9 * 96 * 128 < shown(session) <= 96 * 128
    session.change(points_of="all frames")
    idle(session)
    assert shown(session) == len(loaded)


def test_what_was_sent_is_not_sent_again(session: Any) -> None:
    session.change(points_of="all frames", color="video", motion="all", hide=0.0)
    for row in (0, 1, 2, 3, 4):
        session.go_to(row)
        idle(session)
    sent = session.sides[0].stage.made_bytes
    for row in (3, 0, 4, 1):
        session.go_to(row)
        idle(session)
    assert session.sides[0].stage.made_bytes == sent
    loaded = session.sides[0].reading.cloud.loaded()
    moving = len(loaded) - len(loaded.still)
    session.change(color="frame")
    idle(session)
    time.sleep(0.5)
    assert session.sides[0].stage.made_bytes - sent <= 9 * (len(loaded.still) + 5 * moving)


@pytest.mark.parametrize(
    ("num_frames", "targets", "sources"),
    [(1, (0,), (0,)), (3, (), (0, 1, 2)), (4, (1, 3), (0, 2)), (2, (1,), (0,)), (6, (1, 4), (0, 1, 2, 3, 4, 5))],
)
def test_any_choice_of_times_and_frames(
    come: Come, num_frames: int, targets: tuple[int, ...], sources: tuple[int, ...]
) -> None:
    from vdpm.viewer.live.viewer import Viewer

    result = make_moving_sphere(num_frames=num_frames, targets=targets, sources=sources).reconstruction
    with Viewer(result, port=18290) as opened:
        session = come(opened)
        idle(session)
        looks = [("all frames", color) for color in ("video", "depth", "speed", "confidence", "frame")]
        for points_of, color in (*looks, ("frame shown", "speed"), ("one frame", "depth")):
            session.change(points_of=points_of, color=color, trails=True, arrows=True)
            for row in range(len(session.clock.stamps)):
                session.go_to(row)
                idle(session)
                assert shown(session) > 0
        session.clicked((0, 0, 0), (0, 0, 1))
        idle(session)
        assert session.marks.pick is not None
        for key in ("v", "v", "v", "c", "m", "m", "t", "escape", "space", "+", "space"):
            session.press(key)
        idle(session)
        assert opened.failure is None


def test_damage_that_is_found_late_is_told(viser: Any) -> None:
    from vdpm.viewer.live.viewer import Viewer

    result = make_moving_sphere(num_frames=3).reconstruction
    read = result.maps.read

    def damaged(target: int | None, source: int) -> PointMap:
        if (target, source) == (2, 1):
            raise InputError("maps/q_00002.npy: the file ends early")
        return read(target, source)

    broken = replace(result, maps=replace(result.maps, read=damaged))
    with Viewer(broken, port=18290) as opened:
        end = time.monotonic() + 20
        while opened.failure is None and time.monotonic() < end:
            time.sleep(0.02)
        with pytest.raises(InputError, match="q_00002"):
            opened.wait(0.1)


def test_a_foreign_name_is_no_markup(come: Come) -> None:
    from vdpm.viewer.live.viewer import Viewer

    name = "a<img src=x onerror=alert(1)>{alert(2)}[x](javascript:alert(3))`*_" + "x" * 500
    result = replace(make_moving_sphere(num_frames=2, size=(24, 32)).reconstruction, name=name)
    with Viewer(result, port=18290) as opened:
        session = come(opened)
        idle(session)
        status = session.status()
        assert not set("<>{}[]`") & set(status)
        assert len(status) < 250


def test_maps_are_read_one_at_a_time(come: Come) -> None:
    from vdpm.viewer.live.viewer import Viewer

    result = make_moving_sphere(num_frames=4, size=(24, 32)).reconstruction
    read, inside, most = result.maps.read, [], []

    def watched(target: int | None, source: int) -> PointMap:
        inside.append(source)
        most.append(len(inside))
        time.sleep(0.002)
        inside.pop()
        return read(target, source)

    with Viewer(replace(result, maps=replace(result.maps, read=watched)), port=18290) as opened:
        session = come(opened)
        for row in range(4):
            session.change(points_of="one frame")
            session.go_to(row)
            with urllib.request.urlopen(f"{opened.url}/vdpm/frame/{row}-depth.jpg", timeout=20) as picture:
                assert picture.read(2) == b"\xff\xd8"
        idle(session)
    assert len(most) > 20
    assert max(most) == 1


def test_two_results_are_shown_at_the_same_moment(come: Come) -> None:
    from vdpm.viewer.live.viewer import Viewer

    first, second = (make_moving_sphere(num_frames=count).reconstruction for count in (9, 5))
    with Viewer(first, other=second, port=18290) as opened:
        session = come(opened)
        idle(session)
        both = shown(session)
        session.change(layout="second")
        idle(session)
        assert 0 < shown(session) < both
        a, b = session.sides
        for row in range(9):
            assert b.reading.times[session.row_of(b, row)] == row // 2
        assert abs(a.offset - b.offset).max() == 0
        session.change(layout="side by side")
        idle(session)
        assert b.offset[0] > 0 > a.offset[0]


def test_browsers_do_not_meddle_with_each_other(viewer: Any, session: Any, come: Come) -> None:
    other = come(viewer)
    session.change(color="depth", motion="still", speed=4.0)
    session.go_to(4)
    other.go_to(1)
    other.change(hide=0.0)
    for one in (session, other):
        idle(one)
    assert (session.frame, other.frame) == (4, 1)
    assert other.settings.look.color == "video"
    assert other.settings.speed == 1.0
    loaded = session.sides[0].reading.cloud.loaded()
    assert other.sides[0].reading.cloud.loaded() is loaded, "it is read once"
    assert shown(other) == len(loaded)
    assert 0 < shown(session) <= len(loaded.still)
    other.clicked((0, 0, 0), (0, 0, 1))
    idle(other)
    assert other.marks.pick is not None
    assert session.marks.pick is None
    room = other.sides[0].stage.most
    assert session.sides[0].stage.most == room


def tell_tab(viewer: Any, session: Any, tab: str) -> None:
    """What the frame panel of a browser says first of all."""
    viewer.panel.panels[session.client.client_id].on_said(Said("tab", (1200.0, 800.0), tab))


def until_gone(viewer: Any, session: Any) -> None:
    end = time.monotonic() + 10
    while session in viewer.sessions.values():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_tab_goes_on_where_it_was_and_no_other_does(viewer: Any) -> None:
    with LiveClient(viewer) as before:
        tell_tab(viewer, before, "a" * 24)
        room = before.sides[0].stage.most
        before.change(color="confidence", motion="moving", trails=True, size=2.0, points_of="frame shown")
        before.show_view("motion")
        before.go_to(3)
        before.press("c")
        idle(before)
    until_gone(viewer, before)
    assert before.stopped
    with LiveClient(viewer) as another:
        tell_tab(viewer, another, "b" * 24)
        idle(another)
        assert another.settings.look.color == "video", "one that was not there before begins anew"
        assert another.frame == 0
        with LiveClient(viewer) as after:
            tell_tab(viewer, after, "a" * 24)
            idle(after)
            assert after is not before
            assert after.place == before.place
            assert (after.frame, after.view, after.sides[0].stage.size) == (3, "motion", 2.0)
            assert after.viewpoint.standing == 3
            assert after.sides[0].stage.most == room // 2


def test_a_tab_that_is_back_before_it_is_missed_goes_on_and_looks_from_where_it_did(viewer: Any) -> None:
    with LiveClient(viewer) as lost, LiveClient(viewer) as back:
        tell_tab(viewer, lost, "c" * 24)
        lost.change(color="depth")
        lost.viewpoint.standing = None
        lost.client.camera.position = (0.5, -0.2, -0.1)
        lost.client.camera.look_at = (0.1, 0.0, 2.0)
        idle(lost)
        tell_tab(viewer, back, "c" * 24)
        idle(back)
        assert back.settings.look.color == "depth"
        assert back.viewpoint.standing is None
        assert np.allclose(back.client.camera.position, (0.5, -0.2, -0.1))
        assert np.allclose(back.client.camera.look_at, (0.1, 0.0, 2.0))
        back.change(color="frame")
        tell_tab(viewer, back, "c" * 24)
        idle(back)
        assert back.settings.look.color == "frame", "its panel alone was loaded again"


def test_places_are_forgotten_in_the_end() -> None:
    from vdpm.viewer.live.places import MOST_PLACES, Place, Places
    from vdpm.viewer.live.settings import Settings

    places = Places()
    for number in range(MOST_PLACES + 1):
        places.keep(f"{number:024x}", Place(Settings(), "video", number, 0))
    assert places.of(f"{0:024x}") is None
    assert places.of(f"{1:024x}") == Place(Settings(), "video", 1, 0)


def test_what_is_sent_to_one_that_has_left_is_lost_without_a_word(viewer: Any) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with LiveClient(viewer) as session:
            idle(session)
        until_gone(viewer, session)
        session.client.scene.add_frame("/late")
    assert [str(one.message) for one in said if "closed connection" in str(one.message)] == []


def test_a_viewer_changes_nothing_about_the_warnings_of_others(viser: Any, scene: MovingSphere) -> None:
    from vdpm.viewer.live.viewer import Viewer

    before = list(warnings.filters)
    with Viewer(scene.reconstruction, port=18290):
        assert list(warnings.filters) == before
    assert list(warnings.filters) == before


def test_the_point_under_the_pointer_is_marked_in_the_frame(session: Any, scene: MovingSphere) -> None:
    """The client looks from the origin along z with a view of 1 radian from bottom to top in a window of 4 to 3."""
    session.change(points_of="frame shown", hide=0.0, motion="all")
    session.go_to(0)
    idle(session)
    tall = 2 * math.tan(0.5)
    intrinsics = scene.reconstruction.cameras.intrinsics[0].double().numpy()
    for x, y in ((40.5, 30.5), (64.5, 48.5), (90.5, 70.5)):
        seen = np.array([(x - intrinsics[0, 2]) / intrinsics[0, 0], (y - intrinsics[1, 2]) / intrinsics[1, 1]])
        place = (0.5 + seen[0] / (tall * 4 / 3), 0.5 + seen[1] / tall)
        session.client.camera.fov = 1.0
        session.said(Said("point", place))
        idle(session)
        spot = session.marks.pointed
        assert spot is not None
        assert np.abs(np.array(spot[:2]) - [x, y]).max() < 1.5
        assert spot.seen
    point = scene.reconstruction.maps.time_variant(0).points[70, 90].numpy()
    ball = session.client.scene.get_handle_by_name("/pointer")
    assert np.abs(np.array(ball.position) - point).max() < 0.1
    assert ball.visible
    session.said(Said("point"))
    idle(session)
    assert session.marks.pointed is None
    assert not ball.visible

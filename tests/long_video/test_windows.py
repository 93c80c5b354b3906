"""Plans of windows: every frame is in one, neighbours share frames, loops join two stretches."""

from itertools import pairwise

import pytest

from vdpm.errors import UsageError
from vdpm.long_video.windows import Window, WindowConfig, home_windows, plan_windows, repair_windows, with_times


@pytest.mark.parametrize("num_frames", [2, 5, 16, 17, 29, 60, 301])
def test_runs_cover_every_frame_and_overlap(num_frames: int) -> None:
    config = WindowConfig(strided=False)
    windows = plan_windows(num_frames, config)
    assert {frame for window in windows for frame in window.frames} == {*range(num_frames)}
    for window, following in pairwise(windows):
        assert len({*window.frames} & {*following.frames}) >= config.shared
    assert all(len(window.frames) == min(16, num_frames) for window in windows)
    assert {*home_windows(windows)} == {*range(num_frames)}


def test_strided_windows_reach_far_and_show_every_frame_in_turn() -> None:
    strided = [window for window in plan_windows(300, WindowConfig()) if window.kind == "strided"]
    assert all(window.frames[-1] - window.frames[0] == 60 for window in strided)
    assert {frame % 4 for window in strided for frame in window.frames[:1]} == {0, 1, 2, 3}
    assert all({*a.frames} != {*b.frames} for a, b in pairwise(strided))
    assert strided[-1].frames[-1] > 295
    assert not [window for window in plan_windows(20, WindowConfig()) if window.kind == "strided"]


def test_loops_join_two_stretches() -> None:
    windows = plan_windows(100, WindowConfig(length=8), loops=[(40, 90)])
    (loop,) = [window for window in windows if window.kind == "loop"]
    assert len(loop.frames) == 8
    assert {40, 90} <= {*loop.frames}
    assert "frames 38-41 with 88-91" in loop.line(3)


def test_times_by_default_are_one_a_run_and_hand_points_over() -> None:
    runs = [w for w in with_times(plan_windows(60, WindowConfig()), "auto") if w.kind == "run"]
    assert all(len(window.targets) == 1 for window in runs)
    for window, following in pairwise(runs):
        assert {*window.moved} & {*following.moved}, "no frame is moved by both, so no point can cross the border"
    assert {frame for window in runs for frame in window.moved} == {*range(60)}
    # A map more than the frame itself for the frames handed over, and no more.
    assert sum(len(window.moved) for window in runs) <= 1.3 * 60


def test_chosen_times_go_to_all_windows_that_hold_them() -> None:
    timed = with_times(plan_windows(40, WindowConfig(strided=False)), [12, 39])
    assert [window.targets for window in timed] == [(12,), (12,), (28,), (39,)]
    assert [window.moved == window.frames for window in timed] == [True, True, False, True]
    assert with_times(plan_windows(40, WindowConfig()), "none")[0].targets == ()


def test_repairs_show_what_only_doubtful_windows_show() -> None:
    config = WindowConfig(strided=False)
    windows = plan_windows(60, config)
    assert repair_windows(windows, [], config, 60) == []
    new = repair_windows(windows, [2], config, 60)
    lost = {*windows[2].frames} - {*windows[1].frames} - {*windows[3].frames}
    assert lost <= {frame for window in new for frame in window.frames}
    assert not {*new} & {*windows}
    assert all({*window.frames} & {*windows[1].frames} for window in new)


def test_bad_options_are_named() -> None:
    with pytest.raises(UsageError, match="overlap 16"):
        WindowConfig(overlap=16)
    with pytest.raises(UsageError, match="too short"):
        WindowConfig(length=1)
    assert Window((3, 4, 5)).line(0).split() == ["0", "run", "frames", "3-5"]

"""Windows joined: repairs where some are wrong, loops that come to what is settled without them."""

import torch

from vdpm.evaluation.trajectory import trajectory_errors
from vdpm.long_video.alignment import Alignment, align
from vdpm.long_video.joining import Joined, join_windows, most_tied
from vdpm.long_video.observations import Observations, WindowMaps, observe
from vdpm.long_video.trial import Walk, disturbed_windows, walk_through_room
from vdpm.long_video.windows import Window, WindowConfig, loop_window, plan_windows
from vdpm.structures import Cameras, PointMap

FRAMES, SIZE = 80, (18, 32)
CONFIG = WindowConfig(length=8, overlap=3, strided=False, loops="none")


def joined(
    walk: Walk, planned: list[Window], config: WindowConfig = CONFIG, wrong: float = 0.0, **disturbance: float
) -> tuple[float, Joined[WindowMaps], list[str]]:
    """ATE, and what was done. ``wrong``: by this share of its length a loop puts its second half in a false place."""
    done: list[str] = []

    def make(windows: list[Window], first: int, doing: str) -> list[WindowMaps]:
        done.append(f"{doing} {len(windows)} from {first}")
        maps, _, _ = disturbed_windows(walk, windows, torch.Generator().manual_seed(first), noise=0.01, **disturbance)
        return [one if window.kind != "loop" else misplaced(one, wrong) for window, one in zip(windows, maps)]

    def aligned(made: list[WindowMaps], start: Alignment | None) -> tuple[Observations, Alignment]:
        seen = observe(made, torch.ones(SIZE, dtype=torch.bool), len(walk.cameras))
        return seen, align(seen, start=start)

    result = join_windows(planned, len(walk.cameras), config, make, aligned)
    return trajectory_errors(result.found.cameras.c2w, walk.cameras.c2w).ate, result, done


def misplaced(window: WindowMaps, by: float) -> WindowMaps:
    """Cameras and points of the second half moved together, as where a network takes two places for one."""
    c2w, half = window.cameras.c2w.clone(), len(window.frames) // 2
    off = by * float(window.cameras.c2w[:, :3, 3].norm(dim=-1).max()) * torch.tensor([1.0, 0, 0.5]).double()
    c2w[half:, :3, 3] += off

    def read(frame: int) -> PointMap:
        maps = window.read(frame)
        return PointMap(maps.points + off, maps.confidence) if frame in window.frames[half:] else maps

    return WindowMaps(window.frames, Cameras(c2w, window.cameras.intrinsics, window.cameras.size), read)


def test_wrong_loops_do_not_tear_the_path() -> None:
    """A loop meets as many frames on either side as neighbours share: the cost alone cannot tell which to believe."""
    walk = walk_through_room(FRAMES, SIZE, laps=0.6)
    runs = plan_windows(FRAMES, CONFIG)
    loops = [loop_window(a, a + 40, FRAMES, CONFIG) for a in (4, 12, 20, 28, 36)]
    without, _, done = joined(walk, runs)
    assert done == [f"reconstructing {len(runs)} from 0"]
    wrong, result, done = joined(walk, [*runs, *loops], wrong=0.4)
    assert done[1] == f"tying 5 from {len(runs)}"
    assert result.windows == [*runs, *loops]
    assert wrong < 1.2 * without
    right, _, _ = joined(walk, [*runs, *loops])
    assert right < without


def test_what_only_wrong_windows_show_is_made_again() -> None:
    walk = walk_through_room(FRAMES, SIZE, laps=0.3)
    error, result, done = joined(walk, plan_windows(FRAMES, CONFIG), outliers=0.07)
    assert any(words.startswith("replacing") for words in done)
    assert len(result.made) == len(result.windows) > len(plan_windows(FRAMES, CONFIG))
    assert not result.found.doubtful_frames()
    assert error < 0.2


def test_places_seen_again_are_tied_by_geometry() -> None:
    walk = walk_through_room(FRAMES, SIZE, laps=1.25)
    config = WindowConfig(length=8, overlap=3, strided=False, loops="geometry")
    planned = plan_windows(FRAMES, config)
    assert most_tied(planned, CONFIG) == 0
    _, result, _ = joined(walk, planned, config)
    loops = [window for window in result.windows if window.kind == "loop"]
    assert 0 < len(loops) <= most_tied(planned, config) == len(planned) // 4

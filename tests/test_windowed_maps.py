"""Maps read across windows: blended where windows share them, carried from one to the next where they do not."""

from dataclasses import replace

import pytest
import torch

from vdpm.errors import UsageError
from vdpm.geometry.alignment import Similarity
from vdpm.geometry.pinhole import intrinsics_from_focal, unproject
from vdpm.geometry.rigid import transform_points
from vdpm.long_video.trial import Walk, walk_through_room
from vdpm.structures import Cameras, PointMap
from vdpm.windowed_maps import AlignedWindow, WindowedMaps

FRAMES, SIZE = 30, (36, 64)


@pytest.fixture(scope="module")
def walk() -> Walk:
    return walk_through_room(FRAMES, SIZE, laps=0.08, focal=0.6, aside=-2.0)


def window(
    walk: Walk, frames: range, targets: tuple[int, ...], *, shift: float = 0.0, weight: float = 1.0
) -> AlignedWindow:
    """An exact window in a world of its own, pushed by ``shift`` along z after alignment."""
    similarity = Similarity(torch.tensor(2.5), torch.eye(3), torch.tensor([1.0, 2.0, 3.0 + shift]))

    def read(target: int | None, source: int) -> PointMap:
        points = walk.at(source if target is None else target, source).float()
        return PointMap((points - torch.tensor([1.0, 2.0, 3.0])) / 2.5, torch.full(SIZE, 5.0))

    return AlignedWindow(tuple(frames), targets, tuple(frames), similarity, weight, read)


def test_a_map_of_one_window_is_that_map(walk: Walk) -> None:
    maps = WindowedMaps([window(walk, range(12), (3, 8))], walk.cameras)
    assert torch.allclose(maps.read(None, 5).points, walk.points[5].float(), atol=1e-5)
    assert torch.allclose(maps.read(8, 5).points, walk.at(8, 5).float(), atol=1e-5)
    assert torch.allclose(maps.read(5, 5).points, walk.points[5].float(), atol=1e-5)
    assert (maps.read(8, 5).confidence == 5).all()
    assert maps.together(5) == (3, 8)


def test_pixels_lie_on_the_rays_of_their_cameras(walk: Walk) -> None:
    """A window that has all a tenth too wide in each frame's picture, as through a shorter lens."""
    frames = tuple(range(12))

    def wide(points: torch.Tensor, source: int, by: float = 1.1) -> torch.Tensor:
        local = transform_points(walk.cameras.w2c[source].float(), points.float()) * torch.tensor([by, by, 1.0])
        return transform_points(walk.cameras.c2w[source].float(), local)

    def read(target: int | None, source: int) -> PointMap:
        points = walk.at(source if target is None else target, source)
        return PointMap(wide(points, source), torch.full(SIZE, 5.0))

    lies = Similarity(torch.tensor(1.0), torch.eye(3), torch.zeros(3))
    one = AlignedWindow(frames, (3, 8), frames, lies, 1.0, read)
    maps = WindowedMaps([one], walk.cameras)
    for _ in range(2):
        assert torch.allclose(maps.read(None, 5).points, walk.points[5].float(), atol=1e-4)
        off = (maps.read(8, 5).points - walk.at(8, 5)).norm(dim=-1)
        went = (walk.at(8, 5) - walk.points[5]).norm(dim=-1)
        assert (off < 0.15 * went + 1e-4).all(), "what moves keeps how far it went"
        assert went.max() > 0
    unknown = WindowedMaps([replace(one, kept=())], walk.cameras).read(8, 5)
    assert torch.allclose(unknown.points, wide(walk.at(8, 5), 5), atol=1e-4), "without its own time, as it is"
    torn = replace(one, read=lambda target, source: PointMap(wide(walk.points[source], source, 3.0), torch.ones(SIZE)))
    found = WindowedMaps([torn], walk.cameras).read(None, 5).points
    assert torch.allclose(found, wide(walk.points[5], 5, 3.0), atol=1e-4), "cameras that do not go with the points"


def test_confidence_falls_where_windows_disagree(walk: Walk) -> None:
    def confidence(shift: float) -> float:
        pair = [window(walk, range(12), ()), window(walk, range(6, 18), (), shift=shift)]
        return float(WindowedMaps(pair, walk.cameras).read(None, 9).confidence.mean())

    assert confidence(0.0) == pytest.approx(5)
    assert 1 < confidence(1.0) < confidence(0.2) < 5


def test_a_window_that_is_not_believed_counts_little(walk: Walk) -> None:
    pair = [window(walk, range(12), ()), window(walk, range(6, 18), (), shift=2.0, weight=0.0)]
    maps = WindowedMaps(pair, walk.cameras)
    assert (maps.read(None, 9).points - walk.points[9]).norm(dim=-1).max() < 0.01
    assert (maps.read(None, 16).confidence == 1).all(), "nothing better shows this frame"


@pytest.mark.parametrize("every", [False, True])
def test_points_travel_through_windows_with_the_things_they_lie_on(walk: Walk, every: bool) -> None:
    starts = (0, 6, 12, 18)
    windows = [window(walk, range(s, s + 12), tuple(range(s, s + 12)) if every else (s + 6,)) for s in starts]
    maps = WindowedMaps(windows, walk.cameras)
    source, target = 2, 24
    assert walk.on_ball[source].sum() > 20, "else this test shows nothing"
    moved = (walk.ball[target] - walk.ball[source]).norm()
    found = maps.read(target, source)
    off = (found.points - walk.at(target, source)).norm(dim=-1)
    assert off[walk.on_ball[source]].median() < 0.15 * moved
    assert off[~walk.on_ball[source]].median() < 0.02
    assert found.confidence.mean() < 5
    assert (found.confidence >= 1).all()
    assert off[found.confidence > 4].mean() < off[found.confidence < 2].mean(), "what is lost is less sure"
    back = maps.read(6, 26)
    assert (back.points - walk.at(6, 26)).norm(dim=-1).median() < 0.02


def test_frames_that_two_windows_share_do_not_move_from_one_to_the_other(walk: Walk) -> None:
    """Each window has the shape of the frame a little elsewhere, and tells a time that the other does not."""
    pair = [window(walk, range(12), (3,)), window(walk, range(6, 18), (15,), shift=0.2)]
    third = window(walk, range(12, 24), (21,), shift=-0.2)
    for frame in (6, 9, 11):
        maps = WindowedMaps([*pair, third], walk.cameras)
        own, still = maps.read(None, frame).points, ~walk.on_ball[frame]
        moved = [(maps.read(time, frame).points - own).norm(dim=-1)[still] for time in (3, 15, 21)]
        assert max(float(way.max()) for way in moved[:2]) < 1e-4, "both windows have it"
        assert float(moved[2].quantile(0.9)) < 1e-2, "points travel through the third"
        went = (walk.ball[15] - walk.ball[3]).norm()
        passed = (maps.read(15, frame).points - maps.read(3, frame).points).norm(dim=-1)[~still]
        assert passed.median() == pytest.approx(float(went), rel=0.05), "what moves, moves"


def test_what_stands_still_stays_though_windows_differ_about_it(walk: Walk) -> None:
    """Windows that put the same things a little elsewhere: that is no motion, and must not add up over borders."""
    starts = (0, 6, 12, 18)
    windows = [window(walk, range(s, s + 12), (s + 6,), shift=0.04 * k) for k, s in enumerate(starts)]
    source, target = 2, 24
    still = ~walk.on_ball[source]
    found = WindowedMaps(windows, walk.cameras).read(target, source)
    off = (found.points - walk.points[source]).norm(dim=-1)
    assert off[still].median() < 0.01
    moved = (walk.ball[target] - walk.ball[source]).norm()
    lost = (found.points - walk.at(target, source)).norm(dim=-1)[~still]
    assert lost.median() < 0.15 * moved
    bare = [replace(one, kept=()) for one in windows]
    off = (WindowedMaps(bare, walk.cameras).read(target, source).points - walk.points[source]).norm(dim=-1)
    assert off[still].median() < 0.2, "without maps at own times it is the difference, and no more"


@pytest.mark.parametrize(("source", "near", "apart"), [(0, 3.8, 0.0), (8, 3.4, 0.1)])
def test_what_passes_in_front_of_a_wall_does_not_take_it_along(source: int, near: float, apart: float) -> None:
    """A board goes by before a wall, near enough for a hidden side of it to lie there; the camera stands still.

    ``apart``: by how much more than the one before it a window has all farther away. Frame 8 is in two windows.
    """
    width, focal = SIZE[1], torch.full((FRAMES,), 40.0)
    cameras = Cameras(torch.eye(4).repeat(FRAMES, 1, 1), intrinsics_from_focal(focal, focal, SIZE), SIZE)
    rays = unproject(torch.ones(SIZE), cameras.intrinsics[0])

    def board(frame: int) -> torch.Tensor:
        columns = torch.arange(width) - 2 * frame
        return ((columns >= 0) & (columns < 12)).expand(SIZE)

    def shown(frame: int, target: int) -> torch.Tensor:
        points = rays * torch.where(board(frame), near, 4.0)[..., None]
        passed = torch.tensor([2 * (target - frame) * near / 40, 0.0, 0.0])
        return points + passed * board(frame)[..., None]

    def one(start: int) -> AlignedWindow:
        def read(target: int | None, source: int) -> PointMap:
            return PointMap(shown(source, source if target is None else target), torch.full(SIZE, 5.0))

        frames = tuple(range(start, start + 12))
        away = torch.tensor([0.0, 0.0, apart * start / 6])
        similarity = Similarity(torch.tensor(1.0), torch.eye(3), away)
        return AlignedWindow(frames, (start + 6,), frames, similarity, 1.0, read)

    maps = WindowedMaps([one(start) for start in (0, 6, 12, 18)], cameras)
    went = (maps.read(24, source).points - maps.read(None, source).points).norm(dim=-1)
    true = (shown(source, 24) - shown(source, source)).norm(dim=-1)
    on_board = board(source)
    assert went[~on_board].max() < 0.01, "the wall stays"
    assert (went - true)[on_board].abs().median() < 0.1, "the board goes all the way, which is 4.6 from frame 0"


def test_borders_do_not_break_exact_windows_at_shared_times(walk: Walk) -> None:
    """Through the shared frame alone a pixel keeps its identity: no match is needed, so the result is exact."""
    windows = [window(walk, range(12), (6,)), window(walk, range(6, 18), (12,))]
    maps = WindowedMaps(windows, walk.cameras)
    shared = 9
    assert torch.allclose(maps.read(12, shared).points, walk.at(12, shared).float(), atol=1e-5)
    assert torch.allclose(maps.read(6, shared).points, walk.at(6, shared).float(), atol=1e-5)


def test_a_time_no_window_shows_is_an_error(walk: Walk) -> None:
    with pytest.raises(UsageError, match="cannot be followed"):
        WindowedMaps([window(walk, range(12), (6,))], walk.cameras).read(20, 3)


def test_what_was_read_before_does_not_change_what_is_read(walk: Walk) -> None:
    """Maps share work through what is kept; with no room for it the same comes out."""
    windows = [window(walk, range(s, s + 12), (s + 6,)) for s in (0, 6, 12, 18)]
    wanted = [(24, 2), (12, 2), (18, 2), (24, 5), (6, 20), (24, 2)]
    shared, bare = WindowedMaps(windows, walk.cameras), WindowedMaps(windows, walk.cameras)
    bare._kept.budget = 0.0
    for target, source in wanted:
        ours, theirs = shared.read(target, source), bare.read(target, source)
        assert torch.equal(ours.points, theirs.points)
        assert torch.equal(ours.confidence, theirs.confidence)
        ours.points.zero_()
        ours.confidence.zero_()
    assert 0 < shared.held_bytes < 20e6
    pixels = SIZE[0] * SIZE[1]
    assert bare.held_bytes <= 64 * pixels, "no more than what was made last"

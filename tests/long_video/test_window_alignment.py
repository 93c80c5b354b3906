"""Windows made of truth plus noise: poses, scales and lenses come back, outliers do no harm, priors hold."""

import pytest
import torch

from vdpm.errors import UsageError
from vdpm.evaluation.trajectory import trajectory_errors
from vdpm.geometry.alignment import Similarity
from vdpm.long_video.alignment import align, sharpen
from vdpm.long_video.observations import WindowMaps, observe
from vdpm.long_video.priors import KnownDistance, Priors
from vdpm.long_video.trial import Walk, disturbed_windows, walk_through_room
from vdpm.long_video.windows import WindowConfig, plan_windows

FRAMES, SIZE = 40, (18, 32)
CONTENT = torch.ones(SIZE, dtype=torch.bool)


@pytest.fixture(scope="module")
def walk() -> Walk:
    return walk_through_room(FRAMES, SIZE, laps=0.3)


def windows_of(walk: Walk, seed: int = 0, strided: bool = False, **disturbance: float):
    config = WindowConfig(length=10, overlap=5, strided=strided)
    windows = plan_windows(FRAMES, config)
    return disturbed_windows(walk, windows, torch.Generator().manual_seed(seed), **disturbance)


def ate(c2w: torch.Tensor, walk: Walk) -> float:
    return trajectory_errors(c2w, walk.cameras.c2w).ate


def floor(maps: list[WindowMaps], truths: list[Similarity], walk: Walk) -> float:
    """Error of the windows' own cameras, each window put where it truly belongs."""
    errors = []
    for window, truth in zip(maps, truths):
        centres = truth.apply(window.cameras.c2w[:, :3, 3])
        errors.append((centres - walk.cameras.centers[list(window.frames)]).square().sum(-1))
    return float(torch.cat(errors).mean().sqrt())


def test_without_noise_everything_comes_back(walk: Walk) -> None:
    maps, truths, _ = windows_of(walk, noise=0.0, camera_noise=0.0)
    found = align(observe(maps, CONTENT, FRAMES))
    assert ate(found.cameras.c2w, walk) < 1e-3
    ratio = found.windows.scale / torch.stack([truth.scale for truth in truths])
    assert (ratio / ratio[0] - 1).abs().max() < 1e-3
    assert torch.allclose(found.cameras.c2w[0], torch.eye(4), atol=1e-5)
    assert found.windows.scale[0] == pytest.approx(1, rel=1e-6), "the unit is that of the reference's window"
    assert not found.doubtful_windows()


def test_poses_are_within_twice_the_noise_and_far_better_than_a_chain(walk: Walk) -> None:
    maps, truths, _ = windows_of(walk, noise=0.02, outlier_points=0.05)
    seen = observe(maps, CONTENT, FRAMES)
    found = ate(align(seen).cameras.c2w, walk)
    assert found < 2 * floor(maps, truths, walk)
    assert found <= ate(align(seen, method="tree").cameras.c2w, walk)
    assert ate(align(seen, method="chain").cameras.c2w, walk) > 3 * found


@pytest.mark.parametrize("seed", [0, 1])
def test_a_wrong_window_is_found_and_does_no_harm(walk: Walk, seed: int) -> None:
    maps, truths, bad = windows_of(walk, seed, strided=True, noise=0.02, outliers=0.1)
    assert bad
    found = align(observe(maps, CONTENT, FRAMES))
    assert found.doubtful_windows() == bad
    good = [k for k in range(len(maps)) if k not in bad]
    limit = 2 * floor([maps[k] for k in good], [truths[k] for k in good], walk)
    if not found.doubtful_frames():
        assert ate(found.cameras.c2w, walk) < limit
    sure = [frame for frame in range(FRAMES) if frame not in found.doubtful_frames()]
    assert trajectory_errors(found.cameras.c2w[sure], walk.cameras.c2w[sure]).ate < limit


def test_the_focal_length_is_found_from_a_wrong_start(walk: Walk) -> None:
    maps, _, _ = windows_of(walk, noise=0.01)
    for window in maps:
        window.cameras.intrinsics[:, [0, 1], [0, 1]] *= 1.1
    seen = observe(maps, CONTENT, FRAMES)
    true = float(walk.cameras.intrinsics[0, 0, 0])
    assert float(align(seen).cameras.intrinsics[0, 0, 0]) == pytest.approx(true, rel=0.02)
    each = align(seen, priors=Priors(shared_focal=False)).cameras.intrinsics[:, 0, 0]
    assert float((each / true - 1).abs().median()) < 0.03
    assert each.std() > 0


def test_known_intrinsics_hold_and_help(walk: Walk) -> None:
    maps, _, _ = windows_of(walk, noise=0.02)
    for window in maps:
        window.cameras.intrinsics[:, [0, 1], [0, 1]] *= 1.1
    seen = observe(maps, CONTENT, FRAMES)
    known = align(seen, priors=Priors(intrinsics=walk.cameras.intrinsics[0]))
    assert torch.allclose(known.cameras.intrinsics, walk.cameras.intrinsics.float())
    assert ate(known.cameras.c2w, walk) <= 1.05 * ate(align(seen).cameras.c2w, walk)


def test_a_known_distance_sets_the_scale(walk: Walk) -> None:
    maps, _, _ = windows_of(walk, noise=0.02)
    centres = walk.cameras.centers
    between_cameras = KnownDistance(0, 39, float((centres[0] - centres[39]).norm()))
    points = walk.points[12, [5, 13], [5, 29]]
    # Off the pixels that are sampled, where the noise of four windows is left.
    between_points = KnownDistance(12, 12, float((points[0] - points[1]).norm()), (5.9, 5.1), (29.1, 13.5))
    for known, within in ((between_cameras, 0.02), (between_points, 0.04)):
        seen = observe(maps, CONTENT, FRAMES, marks=known.pixels)
        found = align(seen, priors=Priors(distance=known))
        assert found.known_scale

        length = (found.cameras.centers[0] - found.cameras.centers[20]).norm()
        assert float(length / (centres[0] - centres[20]).norm()) == pytest.approx(1, abs=within)


def test_known_poses_are_kept_and_set_the_scale(walk: Walk) -> None:
    maps, _, _ = windows_of(walk, noise=0.02)
    seen = observe(maps, CONTENT, FRAMES)
    elsewhere = torch.tensor([[0, 0, 1, 3], [0, 1, 0, -1], [-1, 0, 0, 2], [0, 0, 0, 1]], dtype=torch.float64)
    frames = (0, 12, 25, 39)
    found = align(seen, priors=Priors(pose_frames=frames, c2w=elsewhere @ walk.cameras.c2w[list(frames)]))
    assert torch.allclose(found.cameras.c2w[list(frames)], walk.cameras.c2w[list(frames)].float(), atol=1e-4)
    off = (found.cameras.centers - walk.cameras.centers).norm(dim=-1)
    free = trajectory_errors(align(seen).cameras.c2w, walk.cameras.c2w).ate
    assert float(off.square().mean().sqrt()) < 2 * free + 0.02
    every = align(seen, priors=Priors(pose_frames=tuple(range(FRAMES)), c2w=walk.cameras.c2w))
    assert torch.allclose(every.cameras.c2w, walk.cameras.c2w.float(), atol=1e-4)


def test_pictures_that_show_nothing_again_change_nothing(walk: Walk) -> None:
    maps, _, _ = windows_of(walk, noise=0.02)
    seen = observe(maps, CONTENT, FRAMES)
    found = align(seen)
    noise = torch.randint(0, 255, (FRAMES, *SIZE, 3), generator=torch.Generator().manual_seed(0)).byte()
    for pictures in (noise, torch.zeros_like(noise)):
        assert sharpen(seen, found, pictures) is None


def test_one_window_alone(walk: Walk) -> None:
    maps, _, _ = windows_of(walk, noise=0.01)
    found = align(observe(maps[:1], CONTENT, 10))
    assert float(found.windows.scale) == pytest.approx(1)
    assert trajectory_errors(found.cameras.c2w, walk.cameras.c2w[:10]).ate < 0.1


def test_windows_without_a_common_frame_are_refused(walk: Walk) -> None:
    maps, _, _ = windows_of(walk)
    with pytest.raises(UsageError, match="no two windows share a frame"):
        align(observe([maps[0], maps[2]], CONTENT, FRAMES))


def _with(matrix: torch.Tensor, entry: tuple[int, int], value: float) -> torch.Tensor:
    matrix[entry] = value
    return matrix


def _posed(entry: tuple[int, int], value: float) -> Priors:
    return Priors(pose_frames=(1, 4), c2w=torch.stack([torch.eye(4), _with(torch.eye(4), entry, value)]))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: KnownDistance(0, 0, 1.0), "no distance from itself"),
        (lambda: KnownDistance(0, 1, 0.0), "above 0"),
        (lambda: KnownDistance(3, 3, 1.0, (4.0, 5.0), (4.0, 5.0)), "a pixel of frame 3 is at no distance from itself"),
        (lambda: Priors(pose_frames=(0, 1)).check(5), "0 known poses"),
        (lambda: Priors(pose_frames=(9,), c2w=torch.eye(4)[None]).check(5), "frame 9 is outside"),
        (lambda: Priors(intrinsics=torch.eye(3).repeat(2, 1, 1)).check(5), "2 known intrinsics"),
        (lambda: Priors(intrinsics=_with(torch.eye(3), (0, 2), torch.nan)).check(5), "not a finite number"),
        (lambda: Priors(intrinsics=_with(torch.eye(3), (2, 0), 56.0)).check(5), "are not rows of"),
        (lambda: Priors(intrinsics=_with(torch.eye(3), (1, 1), -1.0)).check(5), "not above 0"),
        (lambda: _posed((2, 2), -1.0).check(5), "frame 4 is not a rigid motion"),
        (lambda: _posed((0, 0), 2.0).check(5), "frame 4 is not a rigid motion"),
        (lambda: _posed((3, 0), 1.5).check(5), "translation in the last column"),
        (lambda: _posed((0, 3), torch.inf).check(5), "frame 4 is not a rigid motion"),
    ],
)
def test_priors_that_make_no_sense_are_refused(make, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make()

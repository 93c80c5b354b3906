"""Cameras that follow pictures: a textured scene with known truth, seen from cameras that were told wrong."""

from dataclasses import replace

import pytest
import torch

from fixtures.wavy_wall import wavy_wall
from vdpm.geometry.pinhole import intrinsics_from_focal, pixel_grid
from vdpm.geometry.rigid import invert_rigid, rigid, rotation_matrix_to_vector, rotation_vector_to_matrix
from vdpm.long_video.sight import Sighted, follow_sight
from vdpm.long_video.sightings import EDGE, Search
from vdpm.long_video.still_scene import Scene

FRAMES, SIZE, FOCAL = 24, (64, 96), 90.0


def filmed() -> tuple[torch.Tensor, Scene]:
    """A camera moves and turns before a wavy wall with a texture: pictures, and the truth of every fourth pixel."""
    step = torch.arange(FRAMES, dtype=torch.float64) / (FRAMES - 1)
    turn = torch.stack((0.05 * (3 * step).sin(), 0.2 * step, 0 * step), dim=-1)
    centre = torch.stack((0.9 * step, 0.15 * (4 * step).sin(), 0.3 * step), dim=-1)
    c2w = rigid(rotation_vector_to_matrix(turn), centre)
    c2w = invert_rigid(c2w[0]) @ c2w
    k = intrinsics_from_focal(torch.tensor(FOCAL), torch.tensor(FOCAL), SIZE).double()
    pixels = pixel_grid(*SIZE, dtype=torch.float64)
    rays = torch.cat(((pixels - k[:2, 2]) / FOCAL, torch.ones(*SIZE, 1, dtype=torch.float64)), dim=-1)
    pictures, _, depth = wavy_wall(c2w, rays)
    at = torch.stack(torch.meshgrid(torch.arange(4, 96, 7), torch.arange(4, 64, 7), indexing="xy"), dim=-1).flatten(
        0, 1
    )
    sampled = depth[:, at[:, 1], at[:, 0]]
    slope = torch.stack(torch.gradient(depth.log(), dim=(2, 1)), dim=-1)[:, at[:, 1], at[:, 0]]
    followed = torch.ones_like(sampled, dtype=torch.bool)
    truth = Scene(c2w, k.expand(FRAMES, 3, 3).clone(), sampled, at.double() + 0.5, slope, followed)
    return pictures, truth


def told_wrong(truth: Scene) -> Scene:
    """As by windows that are all wrong alike: the camera turns and goes a tenth less."""
    turn = 0.9 * rotation_matrix_to_vector(truth.c2w[:, :3, :3])
    c2w = rigid(rotation_vector_to_matrix(turn), 0.9 * truth.c2w[:, :3, 3])
    generator = torch.Generator().manual_seed(1)
    noise = 1 + 0.04 * torch.randn(truth.depth.shape, generator=generator, dtype=torch.float64)
    return replace(truth, c2w=c2w, depth=truth.depth * noise)


def first_fixed() -> torch.Tensor:
    return torch.arange(FRAMES) == 0


def errors(scene: Scene, truth: Scene) -> tuple[float, float]:
    """Mean error of places (both worlds are the first camera, and depths hold the unit), and the error of the turn
    from first to last in degrees.
    """
    own, true = (invert_rigid(one.c2w[0]) @ one.c2w[-1] for one in (scene, truth))
    cosine = ((own[:3, :3].T @ true[:3, :3]).trace() - 1) / 2
    return float((scene.c2w - truth.c2w)[:, :3, 3].norm(dim=-1).mean()), float(
        cosine.clamp(-1, 1).acos() * 180 / torch.pi
    )


def test_pictures_correct_what_all_windows_have_wrong_alike() -> None:
    pictures, truth = filmed()
    start = told_wrong(truth)
    sighted = follow_sight(pictures, start, fixed=first_fixed())
    assert sighted.found > 0.5
    assert sighted.after < 0.25 * sighted.before
    before, after = errors(start, truth), errors(sighted.scene, truth)
    assert after[0] < 0.3 * before[0]
    assert after[1] < 0.3 * before[1]
    assert abs(float(sighted.scene.intrinsics[0, 0, 0]) / FOCAL - 1) < 0.02
    assert torch.equal(sighted.scene.c2w[0], start.c2w[0])


def test_what_is_known_stays() -> None:
    pictures, truth = filmed()
    start = told_wrong(truth)
    fixed = torch.arange(FRAMES) % 8 == 0
    poses = torch.where(fixed[:, None, None], truth.c2w, start.c2w)
    known = replace(start, c2w=poses, intrinsics=truth.intrinsics)
    sighted = follow_sight(pictures, known, fixed=fixed, lens_fixed=True)
    assert torch.equal(sighted.scene.c2w[fixed], truth.c2w[fixed])
    assert torch.equal(sighted.scene.intrinsics, truth.intrinsics)
    off = (sighted.scene.c2w - truth.c2w)[:, :3, 3].norm(dim=-1).mean()
    assert off < 0.2 * (poses - truth.c2w)[:, :3, 3].norm(dim=-1).mean()


def test_padding_is_not_taken_for_something_that_stands_still() -> None:
    pictures, truth = filmed()
    content = torch.zeros(SIZE, dtype=torch.bool)
    content[8:-8] = True
    pictures[:, ~content] = 255
    start = told_wrong(truth)
    shown = follow_sight(pictures, start, fixed=first_fixed(), content=content)
    assert shown.found > 0.3
    assert errors(shown.scene, truth)[1] < 0.3 * errors(start, truth)[1]
    near = (start.pixels[:, 1] < 8 + EDGE) | (start.pixels[:, 1] > SIZE[0] - 8 - EDGE)
    for mask in (None, content):
        search = Search(pictures, start, (2, 5), mask)
        search.look(start, (2, 5))
        assert bool(search.found.sure[:, :, near].any()) == (mask is None)
        rows = search.found.places[search.found.sure][:, 1]
        assert bool(((rows < 8 + EDGE) | (rows > SIZE[0] - 8 - EDGE)).any()) == (mask is None)


def test_each_pixel_is_found_as_if_it_were_alone() -> None:
    """Frames of which few pixels are followed, beside one of which all are."""
    pictures, truth = filmed()
    start = told_wrong(truth)
    everything = Search(pictures, start, (2, 5), None)
    everything.look(start, (2, 5))
    followed = torch.rand(start.followed.shape, generator=torch.Generator().manual_seed(3)) < 0.2
    followed[7] = True
    some = Search(pictures, start, (2, 5), None)
    some.look(replace(start, followed=followed), (2, 5))
    wanted = everything.found.sure & followed[:, None]
    assert 100 < wanted.sum() < 0.5 * everything.found.sure.sum()
    assert torch.equal(some.found.sure, wanted)
    assert torch.allclose(some.found.places[wanted], everything.found.places[wanted], atol=1e-3)


def test_far_frames_hold_what_near_ones_let_drift(monkeypatch: pytest.MonkeyPatch) -> None:
    """With matches of two frames ahead alone the end is farther off than with all that there are."""
    pictures, truth = filmed()
    start = told_wrong(truth)
    whole = follow_sight(pictures, start, fixed=first_fixed())
    monkeypatch.setattr("vdpm.long_video.sight.STAGES", ((2,),))
    monkeypatch.setattr("vdpm.long_video.sight.AHEAD", (2,))
    near = follow_sight(pictures, start, fixed=first_fixed())
    assert errors(whole.scene, truth)[1] < 0.85 * errors(near.scene, truth)[1]


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_frames_and_pictures_without_texture_change_nothing(count: int) -> None:
    pictures, truth = filmed()
    start = told_wrong(truth)
    by_frame = ("c2w", "intrinsics", "depth", "slope", "followed")
    few = replace(start, **{name: getattr(start, name)[:count] for name in by_frame})
    for sighted in (
        follow_sight(pictures[:count], few, fixed=first_fixed()[:count]),
        follow_sight(torch.full_like(pictures, 128), start, fixed=first_fixed()),
        follow_sight(pictures, replace(start, depth=torch.zeros_like(start.depth)), fixed=first_fixed()),
        follow_sight(pictures, replace(start, followed=torch.zeros_like(start.followed)), fixed=first_fixed()),
    ):
        assert isinstance(sighted, Sighted)
        assert sighted.found == 0
        same = few if len(sighted.scene.c2w) == count else start
        assert torch.equal(sighted.scene.c2w, same.c2w)

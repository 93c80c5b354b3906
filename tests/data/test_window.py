"""Pictures cut and brought to another size: colours, intrinsics, points and motion stay true."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from native.kubric import closed_scene, write_kubric_folder
from native.pointodyssey import STEP, write_pointodyssey
from native.rgbd import write_seven_scenes
from native.scenes import clip, scale, still_clip
from native.waymo import driving_clip, write_waymo

from vdpm.data import write_snippet
from vdpm.data.readers import open_dataset
from vdpm.data.window import Window, fitting
from vdpm.geometry.pinhole import pixel_grid, project
from vdpm.geometry.rigid import invert_rigid, transform_points
from vdpm.structures import Snippet

FRAMES = [0, 2, 4]
Cut = Callable[[tuple[int, int]], Window]


def smaller(size: tuple[int, int]) -> Window:
    return fitting(size, (20, 36), zoom=1.25, across=0.3, down=0.9)


def larger(size: tuple[int, int]) -> Window:
    return fitting(size, (96, 96))


def write(dataset: str, root: Path) -> Snippet:
    if dataset == "kubric":
        write_kubric_folder(root / "0001", closed_scene())
        return closed_scene().truth
    if dataset == "pointodyssey":
        write_pointodyssey(root / "ani", clip())
    elif dataset == "snippets":
        write_snippet(root / "clip", clip())
    elif dataset == "waymo":
        write_waymo(root / "segment.tfrecord", driving_clip())
        return driving_clip()
    else:
        write_seven_scenes(root / "room", still_clip())
        return still_clip()
    return clip()


@pytest.mark.parametrize("window", [smaller, larger])
@pytest.mark.parametrize("dataset", ["kubric", "pointodyssey", "snippets", "waymo", "7scenes"])
def test_points_are_those_of_the_pixels_they_came_from(tmp_path: Path, dataset: str, window: Cut) -> None:
    """Each lands, by the new intrinsics, no farther from its new pixel than the old pixel reaches; there, and at the
    time of the target, it is the truth's point of the old pixel."""
    truth = write(dataset, tmp_path)
    (sequence,) = open_dataset(dataset, tmp_path)
    snippet = sequence.snippet(FRAMES, [2], 1, window, "targets")
    part = window(truth.size)
    assert snippet.size == part.size
    quantum = 0.02 if dataset == "pointodyssey" else 2e-3
    grid = pixel_grid(*part.size)
    for place, frame in enumerate(FRAMES):
        local = transform_points(invert_rigid(snippet.c2w[place]), snippet.points[place])
        valid = snippet.valid[place]
        there, _ = project(local[valid], snippet.intrinsics[place])
        reach = 0.5 * max(part.scale) + 0.02
        if sequence.sparse:
            reach = max(0.51, reach)
        assert float((there - grid[valid]).abs().max()) <= reach
        # The same points by the old intrinsics say which old pixel it is.
        old, _ = project(local[valid], truth.intrinsics[frame])
        column, row = (old + 1e-3).floor().long().unbind(-1)
        expected = transform_points(invert_rigid(truth.c2w[frame]), truth.points[frame])[row, column]
        assert float((local[valid] - expected).norm(dim=-1).max()) < 1e-3 * scale(truth) + 2 * quantum
        assert snippet.target_valid is not None
        known = snippet.target_valid[0, place]
        assert known.any()
        at = transform_points(invert_rigid(truth.c2w[FRAMES[1]]), truth.target_points[FRAMES[2], frame])
        at = at[row, column][known[valid]]
        assert (
            float((snippet.target_points[0, place][known] - at).norm(dim=-1).max()) < 1e-3 * scale(truth) + 2 * quantum
        )


def test_tracks_are_kept_where_pixels_are_given_up(tmp_path: Path) -> None:
    """At a third of the size there is a track in nearly every pixel that has depth: one starts in every third."""
    write_pointodyssey(tmp_path / "ani", clip())
    (film,) = open_dataset("pointodyssey", tmp_path)
    snippet = film.snippet([0, 2], [1], 0, lambda size: fitting(size, (48 // STEP, 63 // STEP)), "targets")
    assert snippet.target_valid is not None
    assert snippet.target_valid[0, 0].sum() > 0.9 * clip().valid[0].float().mean() * (48 // STEP) * (63 // STEP)


@pytest.mark.parametrize("size", [(24, 32), (72, 96)])
def test_colours_keep_their_places(size: tuple[int, int]) -> None:
    """A ramp of colours is the same ramp in the new pixels, half pixels included."""
    ramp = (3 * pixel_grid(48, 64)[..., :1] + 20).round().byte().expand(-1, -1, 3).contiguous()
    window = Window(8.0, 6.0, 48.0, 36.0, size)
    found = window.picture(ramp)[..., 0].float()
    x = pixel_grid(*size)[..., 0] / window.scale[0] + 8
    assert float((found - (3 * x + 20))[:, 3:-3].abs().max()) <= 1.0
    k = torch.tensor([[50.0, 0, 30], [0, 55, 25], [0, 0, 1]])
    points = torch.tensor([[0.3, -0.2, 2.0]])
    before, _ = project(points, k)
    after, _ = project(points, window.intrinsics(k))
    assert torch.allclose(after, (before - torch.tensor([8.0, 6.0])) * torch.tensor(window.scale), atol=1e-5)


def test_the_largest_part_of_a_shape() -> None:
    assert fitting((48, 64), (20, 20)) == Window(8.0, 0.0, 48.0, 48.0, (20, 20))
    assert fitting((48, 64), (10, 40), across=0.0, down=1.0) == Window(0.0, 32.0, 64.0, 16.0, (10, 40))
    assert fitting((48, 64), (24, 32), zoom=2.0, across=1.0) == Window(32.0, 12.0, 32.0, 24.0, (24, 32))


def test_how_much_smaller_a_picture_may_come() -> None:
    """Waymo's 1920 x 1280, 7.6 times 224 x 168, by 2: 3.8 pixels are left for one; never fewer than two."""
    assert fitting((1280, 1920), (168, 224)).spare == 2
    assert fitting((1280, 1920), (112, 168)).spare == 4
    assert fitting((1280, 1920), (112, 168), zoom=1.3).spare == 4
    assert fitting((384, 512), (168, 224)).spare == 1
    assert fitting((2000, 2000), (20, 20)).spare == 8
    part = Window(16.0, 8.0, 640.0, 480.0, (60, 80))
    assert part.spare == 4
    assert part.coarser(4.0) == Window(4.0, 2.0, 160.0, 120.0, (60, 80))
    assert part.coarser(4.0).spare == 1

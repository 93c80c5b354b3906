import pytest
import torch

from vdpm.structures import Snippet
from vdpm.training.matching import ground_truth_matches, matching_loss

HEIGHT, WIDTH, PATCH = 32, 48, 8


def plane_seen_twice(shift_pixels: float) -> Snippet:
    """A plane at depth 2; camera 1 stands to the right, so that things move left by ``shift_pixels``."""
    focal, depth = 40.0, 2.0
    intrinsics = torch.tensor([[focal, 0, WIDTH / 2], [0, focal, HEIGHT / 2], [0, 0, 1]]).expand(1, 2, 3, 3)
    c2w = torch.eye(4).repeat(1, 2, 1, 1)
    c2w[0, 1, 0, 3] = shift_pixels * depth / focal
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    first = torch.stack(
        [(x - WIDTH / 2) * depth / focal, (y - HEIGHT / 2) * depth / focal, depth * torch.ones_like(x)], -1
    )
    second = first + c2w[0, 1, :3, 3]
    points = torch.stack([first, second])[None]
    yes = torch.ones(1, 2, HEIGHT, WIDTH, dtype=torch.bool)
    return Snippet(
        images=torch.zeros(1, 2, 3, HEIGHT, WIDTH),
        timestamps=torch.arange(2.0)[None],
        c2w=c2w,
        intrinsics=intrinsics,
        points=points,
        targets=torch.tensor([[1]]),
        target_points=points[:, None].clone(),
        valid=yes,
        dynamic=~yes,
    )


@pytest.mark.parametrize("shift", [8.0, 4.0, 0.0])
def test_matches_follow_the_parallax(shift: float) -> None:
    matches = ground_truth_matches(plane_seen_twice(shift), PATCH)
    rows, columns = HEIGHT // PATCH, WIDTH // PATCH
    position = matches.position[0, 0].view(rows, columns, 2)
    # The pixel used lies half a pixel right of and below the patch's centre.
    expected = torch.arange(columns) - shift / PATCH + 0.5 / PATCH
    torch.testing.assert_close(position[1, :, 1], expected, atol=1e-4, rtol=0)
    seen = matches.visible[0, 0].view(rows, columns)
    assert seen[:, 2:].all()
    if shift == 8.0:
        assert not seen[:, 0].any()


def test_a_hidden_point_is_no_match() -> None:
    snippet = plane_seen_twice(0.0)
    snippet.points[0, 1, :, :24] *= 0.5  # something nearer stands before the left half in frame 1
    seen = ground_truth_matches(snippet, PATCH).visible[0, 0].view(HEIGHT // PATCH, WIDTH // PATCH)
    assert not seen[:, :3].any()
    assert seen[:, 3:].all()


def test_right_descriptors_win() -> None:
    snippet = plane_seen_twice(8.0)
    matches = ground_truth_matches(snippet, PATCH)
    rows, columns = HEIGHT // PATCH, WIDTH // PATCH
    codes = torch.eye(rows * (columns + 1)).view(rows, columns + 1, -1)
    right = torch.stack([codes[:, :columns], codes[:, 1:]])[None]  # what stands at column c is at c - 1 in frame 1
    same = torch.stack([codes[:, :columns], codes[:, :columns]])[None]
    target = torch.tensor([1])
    good, hit = matching_loss(right, matches, target, 0.07)
    bad, miss = matching_loss(same, matches, target, 0.07)
    assert hit.item() == 1.0
    assert miss.item() == 0.0
    assert good < bad - 5

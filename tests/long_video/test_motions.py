"""Derivatives by motions of points: against differences, and what unknowns move."""

import pytest
import torch

from vdpm.geometry.alignment import Similarity
from vdpm.geometry.rigid import rigid, rotation_vector_to_matrix, transform_points
from vdpm.long_video.motions import COLUMNS, LENS_COLUMN, RIGHT, THIRD, by_motion, moves
from vdpm.long_video.state import moved

ENTRIES, SAMPLES, SMALL = 3, 5, 1e-6


def random(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


Q, RAYS, UNIT = random(ENTRIES, SAMPLES, 3) + 1, random(ENTRIES, SAMPLES, 2) - 0.5, random(ENTRIES, SAMPLES) + 0.5
DEPTH, ROOT = 1 + random(ENTRIES, SAMPLES), 0.1 + random(ENTRIES, SAMPLES)


def residuals(q: torch.Tensor, rays: torch.Tensor) -> torch.Tensor:
    image = UNIT[..., None] * (q[..., :2] - rays * q[..., 2:])
    return ROOT[:, None] * torch.cat((image, (UNIT * (q[..., 2] - DEPTH))[..., None]), dim=-1).mT


@pytest.mark.parametrize("column", range(COLUMNS))
def test_columns_are_differences(column: int) -> None:
    found = by_motion(Q, RAYS, UNIT, DEPTH, ROOT)[:, column]

    def there(way: float) -> torch.Tensor:
        step = torch.zeros(COLUMNS, dtype=torch.float64)
        step[column] = way
        turned = transform_points(rigid(rotation_vector_to_matrix(step[3:6]), step[:3]), Q)
        return residuals(turned * step[6].exp(), RAYS * (-step[7]).exp())

    difference = (there(SMALL) - there(-SMALL)) / (2 * SMALL)
    wanted = residuals(Q, RAYS) if column == COLUMNS - 1 else difference
    torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-8)
    if column not in THIRD:
        assert found[:, 2].abs().max() == 0


@pytest.mark.parametrize("unknown", range(14))
def test_unknowns_move_points_as_told(unknown: int) -> None:
    """Poses of the second entry's frame are fixed. The scale takes the residual off besides, as the unit shrinks."""
    to_camera = Similarity(1 + random(ENTRIES), rotation_vector_to_matrix(random(ENTRIES, 3)), random(ENTRIES, 3))
    told = moves(to_camera, torch.tensor([True, False, True]), own_lens=True)[..., unknown]
    points, step = random(ENTRIES, SAMPLES, 3), torch.zeros(14, dtype=torch.float64)
    step[unknown] = SMALL
    backwards = rigid(rotation_vector_to_matrix(-step[3:6]), -step[:3])
    before = to_camera.apply(points)
    after = transform_points(backwards, moved(to_camera, step[7:].expand(ENTRIES, 7)).apply(points))
    turn = torch.linalg.cross(told[:, None, 3:6].expand_as(before), before)
    motion = told[:, None, :3] + turn + told[:, None, 6:7] * before
    if unknown < 6:
        assert motion[1].abs().max() == 0
        after[1] = before[1]
    torch.testing.assert_close(motion, (after - before) / SMALL, rtol=1e-4, atol=1e-5)
    assert told[:, 7].tolist() == [float(unknown == 6)] * ENTRIES
    assert told[:, 8].tolist() == [-float(unknown == 13)] * ENTRIES


def test_the_shared_lens_and_the_residual_are_themselves() -> None:
    eye = Similarity(
        *(torch.eye(4, dtype=torch.float64)[None, *at] for at in ((0, 0), (slice(3), slice(3)), (3, slice(3))))
    )
    told = moves(eye, torch.tensor([True]), own_lens=False)[0]
    assert told[:, LENS_COLUMN].tolist() == [float(k == 7) for k in range(COLUMNS)]
    assert told[:, RIGHT].tolist() == [float(k == 8) for k in range(COLUMNS)]
    assert told[:, 6].abs().max() == 0

"""Camera paths with known errors, and one that evo has measured."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vdpm.errors import UsageError
from vdpm.evaluation.trajectory import trajectory_errors
from vdpm.geometry.alignment import umeyama
from vdpm.geometry.rigid import quaternion_to_matrix, rigid, rotation_vector_to_matrix


def path(count: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    turns = 0.3 * torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return rigid(rotation_vector_to_matrix(turns), torch.randn(count, 3, generator=generator, dtype=torch.float64))


def test_world_and_unit_do_not_matter() -> None:
    true = path()
    turn = rotation_vector_to_matrix(torch.tensor([0.4, -1.0, 2.0], dtype=torch.float64))
    moved = rigid(turn @ true[:, :3, :3], 0.3 * (true[:, :3, 3] @ turn.T) + 5)
    errors = trajectory_errors(moved, true)
    assert errors.ate == pytest.approx(0, abs=1e-9)
    assert errors.rpe_translation == pytest.approx(0, abs=1e-9)
    assert errors.rpe_rotation == pytest.approx(0, abs=1e-6)


def test_a_turn_that_grows_by_two_degrees_a_frame() -> None:
    """R_i^T R_i+1 becomes E_i^T R_i^T R_i+1 E_i+1: off by two degrees where the true camera does not turn."""
    still = path()
    still[:, :3, :3] = torch.eye(3, dtype=torch.float64)
    extra = torch.zeros(12, 3, dtype=torch.float64)
    extra[:, 1] = torch.deg2rad(2.0 * torch.arange(12))
    errors = trajectory_errors(rigid(rotation_vector_to_matrix(extra), still[:, :3, 3]), still)
    assert errors.rpe_rotation == pytest.approx(2.0, abs=1e-6)
    assert errors.ate == pytest.approx(0, abs=1e-9)


def test_one_corner_of_a_square_by_hand() -> None:
    """Corners of a square of side 2, with all heights off by +-h in turn: nothing a similarity could mend but scale."""
    true = torch.eye(4, dtype=torch.float64).repeat(4, 1, 1)
    true[:, :2, 3] = torch.tensor([[1.0, 1], [-1, 1], [-1, -1], [1, -1]], dtype=torch.float64)
    off = true.clone()
    off[:, 2, 3] = torch.tensor([0.5, -0.5, 0.5, -0.5], dtype=torch.float64)
    # Best scale 2 / (2 + h^2) = 8/9: (sqrt(2)/9)^2 in the plane and (4/9)^2 in height, at each corner.
    assert trajectory_errors(off, true).ate == pytest.approx(math.sqrt(2 / 81 + 16 / 81))


def test_paths_that_leave_the_rotation_open() -> None:
    still = torch.eye(4).repeat(5, 1, 1)
    line = still.clone()
    line[:, 0, 3] = torch.arange(5.0)
    for true in (still, line):
        assert math.isnan(trajectory_errors(true, true).ate)


def test_rpe_over_more_frames_and_without_scale() -> None:
    """Two degrees a frame are six over three frames; a path at twice its size is off where no scale is fitted."""
    still = path()
    still[:, :3, :3] = torch.eye(3, dtype=torch.float64)
    extra = torch.zeros(12, 3, dtype=torch.float64)
    extra[:, 1] = torch.deg2rad(2.0 * torch.arange(12))
    turned = rigid(rotation_vector_to_matrix(extra), still[:, :3, 3])
    assert trajectory_errors(turned, still, delta=3).rpe_rotation == pytest.approx(6.0, abs=1e-6)
    assert math.isnan(trajectory_errors(turned, still, delta=12).rpe_rotation)
    twice = still.clone()
    twice[:, :3, 3] *= 2
    spread = (still[:, :3, 3] - still[:, :3, 3].mean(0)).square().sum(-1).mean().sqrt().item()
    assert trajectory_errors(twice, still, with_scale=False).ate == pytest.approx(spread)
    assert trajectory_errors(twice, still).ate == pytest.approx(0, abs=1e-9)
    with pytest.raises(UsageError, match="at least 1"):
        trajectory_errors(still, still, delta=0)


@pytest.mark.shared
def test_as_evo_measures_a_real_path(shared_dir: Path) -> None:
    """785 pairs within 0.01 s, Sim(3): evo 1.38.1 gives these figures."""
    folder = shared_dir / "real" / "trajectories"

    def read(name: str) -> tuple[Tensor, Tensor]:
        rows = [line.split() for line in (folder / name).read_text().splitlines() if not line.startswith("#")]
        values = torch.tensor([[float(v) for v in row] for row in rows], dtype=torch.float64)
        return values[:, 0], rigid(quaternion_to_matrix(values[:, 4:]), values[:, 1:4])

    true_times, true = read("freiburg1_xyz-groundtruth.txt")
    times, estimate = read("freiburg1_xyz-rgbdslam.txt")
    gap, nearest = (times[:, None] - true_times).abs().min(1)
    near = gap <= 0.01
    assert int(near.sum()) == 785
    errors = trajectory_errors(estimate[near], true[nearest[near]])
    scale = umeyama(estimate[near][:, :3, 3], true[nearest[near]][:, :3, 3]).scale
    assert f"{scale:.5f}" == "1.00800"
    figures = (errors.ate, errors.rpe_translation, errors.rpe_rotation)
    assert [f"{figure:.6f}" for figure in figures] == ["0.013389", "0.005806", "0.353613"]

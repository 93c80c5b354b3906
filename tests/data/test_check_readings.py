"""Readings held against each other part by part: what chance explains, and what large movers must not disturb."""

from dataclasses import replace
from functools import cache
from math import comb
from pathlib import Path

import pytest
import torch
from native.scenes import WORLD
from native.sintel import write_sintel

from vdpm.data.checks import check_dataset
from vdpm.data.checks.carry import Carried
from vdpm.data.checks.readings import PARTS, chance, parts
from vdpm.data.checks.sequence import SMALLEST_DOUBT
from vdpm.geometry.rigid import invert_rigid, transform_points
from vdpm.structures import Snippet
from vdpm.synthetic import SceneConfig, generate, held_out_seeds

SIDE = 4 * PARTS


def carried(error: torch.Tensor, seen: torch.Tensor | None = None) -> Carried:
    """An error for each part, the same in all its 16 pixels."""
    pixels = error.double().repeat_interleave(4, 0).repeat_interleave(4, 1)
    return Carried(0.0, 1.0, pixels, torch.ones(SIDE, SIDE, dtype=torch.bool) if seen is None else seen)


def likely(as_read: list[Carried], other: list[Carried]) -> float:
    """Of depth that was not rounded."""
    return chance(as_read, other, [torch.zeros(SIDE, SIDE, dtype=torch.float64)] * len(as_read))


def test_chance_is_that_of_a_sign_test() -> None:
    """40 parts better, 20 worse, 4 ties (among them a difference of a twentieth): P(40 or more of 60 coins)."""
    was = torch.full((PARTS, PARTS), 0.02)
    other = was.clone()
    other.view(-1)[:40] = 0.01
    other.view(-1)[40:60] = -0.04
    other.view(-1)[60:62] = 0.0205
    exact = sum(comb(60, k) for k in range(40, 61)) / 2**60
    assert likely([carried(was)], [carried(other)]) == pytest.approx(exact, rel=0.1)
    assert likely([carried(was)], [carried(was)]) == 1.0
    assert likely([carried(other)], [carried(was)]) > 0.99
    # The same in two pairs is less likely than in one; what is not seen under both counts nowhere.
    assert likely([carried(was)] * 2, [carried(other)] * 2) < likely([carried(was)], [carried(other)]) / 10
    nothing = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    assert likely([carried(was)], [carried(other, nothing)]) == 1.0


def test_parts_are_medians_of_what_is_known() -> None:
    values = torch.full((SIDE + 3, SIDE + 1), torch.nan, dtype=torch.float64)
    values[:4, :4] = torch.arange(16).view(4, 4)
    values[0, 0] = torch.nan
    values[:3, 4:7] = 1.0
    found = parts(values)
    assert found.shape == (PARTS * PARTS,)
    assert found[0] == 8.0
    # Nine pixels are too few.
    assert found[1:].isnan().all()
    assert parts(values[:5]).shape == (0,)


@cache
def made(number: int) -> Snippet:
    config = SceneConfig(
        num_frames=6, height=96, width=128, colour_samples=1, still_camera_weight=0.0, uneven_share=0.0
    )
    return generate(held_out_seeds(1, start=600 + number), config).clip(0)


def mirrored(clip: Snippet) -> Snippet:
    """Left and right of the cameras exchanged; the same depth."""
    local = transform_points(invert_rigid(clip.c2w), clip.points)
    flip = torch.diag(torch.tensor([-1.0, 1, 1, 1], dtype=torch.float64))
    c2w = (invert_rigid(WORLD) @ flip @ WORLD @ clip.c2w.double() @ flip).float()
    return replace(clip, c2w=c2w, points=transform_points(c2w, local))


def test_small_steps_of_the_camera_are_enough(tmp_path: Path) -> None:
    """Mirrored cameras leave a third of a percent in the median, which sound data have as well."""
    write_sintel(tmp_path / "right", made(5))
    write_sintel(tmp_path / "wrong", mirrored(made(5)))
    right, wrong = (check_dataset("sintel", tmp_path / name, gap=2, pairs=3) for name in ("right", "wrong"))
    assert right.findings == []
    ((_, finding),) = wrong.findings
    assert "x mirrored" in finding
    assert wrong.sequences[0].measures["depth_disagreement"] < SMALLEST_DOUBT


def test_large_movers_are_no_fault(tmp_path: Path) -> None:
    """Over half of the picture moves by itself and does not carry over; the rest does."""
    write_sintel(tmp_path, made(8))
    done = check_dataset("sintel", tmp_path, gap=2, pairs=3)
    measures = done.sequences[0].measures
    assert measures["depth_disagreement"] > 0.05
    assert measures["depth_disagreement_quarter"] < 0.005
    assert done.findings == []

"""Places found again beside where a scene has them: derivatives against differences."""

from dataclasses import replace

import pytest
import torch

from vdpm.geometry.rigid import rigid, rotation_vector_to_matrix
from vdpm.long_video.sighted_places import SightedPlaces
from vdpm.long_video.sightings import Sightings
from vdpm.long_video.still_scene import Scene

FRAMES, SAMPLES, AHEAD = 4, 6, torch.tensor((1, 2))
LOOSE = torch.full((2,), 1e5)
"""Scales with which all errors weigh alike."""


def scene() -> Scene:
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    c2w = rigid(rotation_vector_to_matrix(0.3 * random(FRAMES, 3)), random(FRAMES, 3))
    k = torch.tensor([[90.0, 0, 50], [0, 110, 40], [0, 0, 1]], dtype=torch.float64).repeat(FRAMES, 1, 1)
    pixels = random(SAMPLES, 2) * torch.tensor([100.0, 80.0])
    known = torch.ones(FRAMES, SAMPLES, dtype=torch.bool)
    return Scene(c2w, k, 4 + random(FRAMES, SAMPLES), pixels, torch.zeros(FRAMES, SAMPLES, 2).double(), known)


def found() -> Sightings:
    """In the second frame after each nothing but of the first."""
    generator = torch.Generator().manual_seed(1)
    root = torch.randn(FRAMES, 2, SAMPLES, 2, 2, generator=generator)
    sureness = root @ root.mT
    sureness[1:, 1] = 0
    sureness[:, :, 2] = 0
    return Sightings(100 * torch.rand(FRAMES, 2, SAMPLES, 2, generator=generator), sureness)


def whitened(at: SightedPlaces, there: Scene) -> torch.Tensor:
    return 1e5 * at.line(there, LOOSE).by_motion[:, :, 7]


def looked_at(rows: torch.Tensor) -> SightedPlaces:
    return SightedPlaces.of(found(), rows, (torch.arange(FRAMES)[:, None] + AHEAD).clamp(max=FRAMES - 1))


def test_errors_are_distances_by_the_sureness() -> None:
    here, sight, rows = scene(), found(), torch.tensor([0, 1])
    at = looked_at(rows)
    off = here.seen(rows, at.others).place - sight.places[rows]
    wanted = (off[..., None, :] @ sight.sureness[rows].double() @ off[..., None])[..., 0, 0].sqrt()
    torch.testing.assert_close(at.off(here).double(), wanted, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(whitened(at, here).norm(dim=2), at.off(here), rtol=1e-4, atol=1e-4)
    assert looked_at(torch.tensor([1, 2])).used.tolist() == [0], "the second after these has nothing"


@pytest.mark.parametrize("unknown", range(14))
def test_derivatives_are_those_of_differences(unknown: int) -> None:
    """By the six of the own pose, the six of the other's, the lens and the depth."""
    here, at, step = scene(), looked_at(torch.tensor([0])), 2e-3
    assert at.others.tolist() == [[1, 2]]
    line = at.line(here, LOOSE)
    by_motion, by_depth = 1e5 * line.by_motion[0], 1e5 * line.by_depth[0]
    own = at.turned(here)[0].float()

    def moved(way: float) -> Scene:
        moves = torch.zeros(14, dtype=torch.float64)
        moves[unknown] = way
        poses = torch.zeros(FRAMES, 6, dtype=torch.float64)
        poses[0], poses[1:] = moves[:6], moves[6:12]
        return here.moved(poses, moves[12], moves[13].expand(FRAMES, SAMPLES))

    difference = (whitened(at, moved(step)) - whitened(at, moved(-step)))[0] / (2 * step)
    if unknown < 6:
        wanted = (own[:, :, unknown, None, None] * by_motion[:, :6]).sum(1)
    elif unknown < 12:
        wanted = -by_motion[:, unknown - 6]
    else:
        wanted = by_motion[:, 6] if unknown == 12 else by_depth
    assert wanted.abs().max() > 1
    torch.testing.assert_close(difference, wanted, rtol=0.01, atol=0.1)


def test_what_lies_far_off_weighs_less() -> None:
    here, at = scene(), looked_at(torch.tensor([0]))
    size, line = at.off(here), at.line(here, torch.ones(2))
    wanted = size / (1 + (size / 2).square())
    torch.testing.assert_close(line.by_motion[:, :, 7].norm(dim=2), wanted, rtol=1e-4, atol=1e-5)
    assert (wanted < 0.2 * size).any()
    nothing = replace(at, roots=torch.zeros_like(at.roots)).line(here, torch.ones(2))
    assert nothing.by_motion.abs().max() == 0
    assert nothing.by_depth.abs().max() == 0

"""Files of predictions: what comes back, in which digits, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vdpm.errors import InputError
from vdpm.evaluation.answers import bicubic, load_depth, load_maps, load_path, save_depth, save_maps, save_path
from vdpm.evaluation.protocol import Prediction


@pytest.fixture
def said() -> Prediction:
    generator = torch.Generator().manual_seed(6)
    k = torch.diag(torch.tensor([50.0, 50, 1])).repeat(3, 1, 1)
    visible = torch.rand(3, 2, 5, 7, generator=generator) > 0.5
    own, at = (torch.randn(*shape, 5, 7, 3, generator=generator) for shape in ((3,), (3, 2)))
    return Prediction(own, at, torch.eye(4).repeat(3, 1, 1), k, visible)


def kept(said: Prediction) -> tuple[torch.Tensor, torch.Tensor]:
    keep = torch.ones(3, 2, 5, 7, dtype=torch.bool)
    keep[1, 0, :, 2] = False
    own = torch.ones(2, 5, 7, dtype=torch.bool)
    own[1, 3] = False
    return keep, own


def test_what_is_kept_comes_back(said: Prediction, tmp_path: Path) -> None:
    keep, own = kept(said)
    save_maps(tmp_path / "a.npz", said, [0, 2], keep, own, "float32")
    answer = load_maps(tmp_path / "a.npz", 3, 3, 2, (5, 7))
    assert torch.equal(answer.stored, keep)
    assert torch.equal(answer.own_stored, own)
    assert torch.equal(answer.at_targets[keep], said.at_targets[keep])
    assert torch.equal(answer.own[own], said.time_variant[[0, 2]][own])
    assert not answer.at_targets[~keep].any()
    assert answer.visible is not None
    assert torch.equal(answer.visible, said.visible)  # type: ignore[arg-type]
    assert torch.equal(answer.c2w, said.c2w)  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e9])
def test_float16_holds_any_unit(said: Prediction, tmp_path: Path, unit: float) -> None:
    keep, own = kept(said)
    large = Prediction(unit * said.time_variant, unit * said.at_targets, said.c2w, said.intrinsics)
    save_maps(tmp_path / "a.npz", large, [0, 2], keep, own, "float16")
    answer = load_maps(tmp_path / "a.npz", 3, 3, 2, (5, 7))
    torch.testing.assert_close(answer.at_targets[keep], large.at_targets[keep], rtol=2**-11, atol=unit * 1e-7)
    assert answer.visible is None
    save_depth(tmp_path / "d.npz", unit * torch.rand(3, 5, 7), "float16")
    assert load_depth(tmp_path / "d.npz", 3).max() <= 1.001 * unit


def test_dense_maps_of_others_come_to_the_size_of_the_truth(tmp_path: Path) -> None:
    """Two pixels of 0 and 4, twice as wide: 0, 1, 3, 4. Lenses grow with them."""
    points = np.zeros((1, 1, 1, 2, 3))
    points[..., 1, 0] = 4
    lens = np.diag([10.0, 10, 1])[None]
    np.savez(tmp_path / "a.npz", points=points, own=points[0], intrinsics=lens, visible=points[..., 0] > 1)
    answer = load_maps(tmp_path / "a.npz", 1, 1, 1, (1, 4))
    assert answer.at_targets[0, 0, 0, :, 0].tolist() == [0, 1, 3, 4]
    assert answer.own[0, 0, :, 0].tolist() == [0, 1, 3, 4]
    assert answer.visible is not None
    assert answer.visible[0, 0, 0].tolist() == [False, False, True, True]
    assert answer.intrinsics is not None
    assert answer.intrinsics[0].diagonal().tolist() == [20, 10, 1]
    assert answer.c2w is None
    assert answer.stored.all()


def test_depth_and_paths(tmp_path: Path) -> None:
    depth = torch.rand(2, 4, 6) + 1
    save_depth(tmp_path / "d.npz", depth, "float32")
    assert torch.equal(load_depth(tmp_path / "d.npz", 2), depth)
    assert torch.equal(bicubic(depth, (4, 6)), depth)
    flat = bicubic(torch.full((1, 3, 5), 2.5), (9, 11))
    torch.testing.assert_close(flat, torch.full((1, 9, 11), 2.5))
    c2w = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    c2w[1, 0, 3] = 1 / 3
    save_path(tmp_path / "p.npz", c2w)
    assert torch.equal(load_path(tmp_path / "p.npz", 2), c2w)
    for read, name in ((load_depth, "d.npz"), (load_path, "p.npz")):
        with pytest.raises(InputError, match="predict again"):
            read(tmp_path / name, 3)


def test_nothing_is_unpickled_and_nothing_infinite_kept(said: Prediction, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", c2w=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="pickled"):
        load_path(tmp_path / "a.npz", 1)
    for bad in (torch.nan, torch.inf):
        with pytest.raises(InputError, match="not finite"):
            save_depth(tmp_path / "b.npz", torch.full((1, 2, 2), bad), "float16")
        with pytest.raises(InputError, match="not finite"):
            save_path(tmp_path / "b.npz", torch.full((1, 4, 4), bad))
    keep, own = kept(said)
    # Where nothing is kept, it does not matter.
    said.at_targets[1, 0, :, 2] = torch.nan
    save_maps(tmp_path / "c.npz", said, [0, 2], keep, own, "float16")
    said.at_targets[0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        save_maps(tmp_path / "d.npz", said, [0, 2], keep, own, "float16")
    assert not (tmp_path / "b.npz").exists()
    assert not (tmp_path / "d.npz").exists()

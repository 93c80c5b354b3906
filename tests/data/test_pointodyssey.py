"""PointOdyssey's reader against the truth behind the files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from native.pointodyssey import DEPTH_QUANTUM, SMOKE, write_pointodyssey
from native.scenes import assert_is, assert_moved, clip
from torch import Tensor

from vdpm.data.quarantine import CorruptFile
from vdpm.data.readers import open_dataset
from vdpm.data.readers.files import Archive
from vdpm.structures import Snippet


@pytest.fixture(scope="module")
def truth() -> Snippet:
    """Without depth where there is smoke."""
    valid = clip().valid.clone()
    valid[:, *SMOKE] = False
    return replace(clip(), valid=valid)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor]:
    root = tmp_path_factory.mktemp("pointodyssey")
    return root, write_pointodyssey(root / "val" / "ani", clip())


def expected(known: Tensor, truth: Snippet, frames: list[int]) -> Tensor:
    """Tracks at other times, depth at the frame's own."""
    own = torch.eye(len(frames), dtype=torch.bool)[:, :, None, None]
    return torch.where(own, truth.valid[frames], known[frames][:, frames])


@pytest.mark.parametrize(("frames", "reference"), [([0, 1, 2, 3, 4], 0), ([4, 1, 0], 1)])
def test_is_the_truth(written: tuple[Path, Tensor], truth: Snippet, frames: list[int], reference: int) -> None:
    root, known = written
    (film,) = open_dataset("pointodyssey", root)
    assert (film.name, film.sparse, film.tracked) == ("val/ani", True, True)
    snippet = film.snippet(frames, reference=reference)
    assert_is(snippet, truth, frames, DEPTH_QUANTUM, lossy=True)
    assert (snippet.images - truth.images[frames]).abs().mean() < 0.03
    other = torch.eye(len(frames), dtype=torch.bool).logical_not()[:, :, None, None]
    known = expected(known, truth, frames)
    assert_moved(snippet, truth, frames, known, DEPTH_QUANTUM)
    assert (known & other).sum() > 200

    # Tracks come as float32, so at other times there is no quantum of depth.
    world = torch.linalg.inv(truth.c2w[frames[reference]].double())
    there = truth.target_points[frames][:, frames].double() @ world[:3, :3].T + world[:3, 3]
    off = (snippet.target_points - there).norm(dim=-1)[known & other]
    assert float(off.max()) < 1e-4


def test_dynamic_is_what_tracks_say(written: tuple[Path, Tensor], truth: Snippet) -> None:
    root, known = written
    snippet = open_dataset("pointodyssey", root)[0].snippet([0, 1, 2, 3, 4])
    somewhere = known[1:].any(0)
    travel = (truth.target_points - truth.points).norm(dim=-1)
    travel = torch.where(known, travel, torch.zeros_like(travel)).amax(0)
    mean = float(truth.points[truth.valid].norm(dim=-1).mean())
    surely = somewhere & truth.valid & ((travel - 0.01 * mean).abs() > 1e-3 * mean)
    assert torch.equal(snippet.dynamic[surely], (travel > 0.01 * mean)[surely])
    assert snippet.dynamic.any()
    assert not snippet.dynamic[~truth.valid].any()


def test_tracks_that_are_not_compressed_are_read_row_by_row(tmp_path: Path, truth: Snippet) -> None:
    known = write_pointodyssey(tmp_path / "ani", clip(), compressed=False)
    (film,) = open_dataset("pointodyssey", tmp_path)
    assert_moved(film.snippet([3, 1]), truth, [3, 1], expected(known, truth, [3, 1]), DEPTH_QUANTUM)
    path = tmp_path / "ani" / "anno.npz"
    assert isinstance(Archive(path).array("trajs_3d", (5, None, 3), mapped=True), np.memmap)
    assert np.array_equal(Archive(path).array("visibs", (5, None), mapped=True), np.load(path)["visibs"])


def test_the_first_release(tmp_path: Path, truth: Snippet) -> None:
    known = write_pointodyssey(tmp_path / "ani", clip(), first_release=True)
    (film,) = open_dataset("pointodyssey", tmp_path)
    assert_moved(film.snippet([0, 3]), truth, [0, 3], expected(known, truth, [0, 3]), DEPTH_QUANTUM)


def test_without_tracks_depth_remains(tmp_path: Path, truth: Snippet) -> None:
    write_pointodyssey(tmp_path / "character1", clip())
    path = tmp_path / "character1" / "anno.npz"
    with np.load(path) as arrays:
        kept = {name: arrays[name] for name in ("intrinsics", "extrinsics")}
    np.savez(path, **kept)
    (film,) = open_dataset("pointodyssey", tmp_path)
    assert not film.tracked
    snippet = film.snippet([0, 3])
    assert_is(snippet, truth, [0, 3], DEPTH_QUANTUM, lossy=True)
    assert snippet.target_valid is not None
    assert not snippet.target_valid[0, 1].any()


def test_what_may_not_be_read(tmp_path: Path) -> None:
    write_pointodyssey(tmp_path / "ani", clip())
    path = tmp_path / "ani" / "anno.npz"
    with np.load(path) as arrays:
        good = dict(arrays)

    def complaint(frame: bool = True) -> str:
        with pytest.raises(CorruptFile) as raised:
            open_dataset("pointodyssey", tmp_path)[0].snippet([0, 1])
        assert raised.value.path == path
        assert len(str(raised.value).splitlines()) == 1
        return str(raised.value)

    np.savez(path, **(good | {"trajs_3d": np.array([None, {}], dtype=object)}))
    assert "np.savez(new" in complaint()
    np.savez(path, **(good | {"visibs": good["visibs"][:, 1:]}))
    assert "'visibs' is of shape" in complaint()
    np.savez(path, **(good | {"extrinsics": good["extrinsics"] * np.array([1, 1, -1, 1])[:, None]}))
    assert "mirrors" in complaint()
    np.savez(path, **{name: array for name, array in good.items() if name != "trajs_2d"})
    assert "no array 'trajs_2d'" in complaint()
    path.write_bytes(path.read_bytes()[:-100])
    assert "not a .npz archive" in complaint()

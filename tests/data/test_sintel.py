"""Sintel's reader against the truth behind the files."""

from pathlib import Path

import pytest
import torch
from native.scenes import FRAMES, assert_is, assert_moved, clip
from native.sintel import write_sintel

from vdpm.data.quarantine import CorruptFile
from vdpm.data.readers import open_dataset
from vdpm.data.sequence import DataSequence
from vdpm.errors import InputError, UsageError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sintel(tmp_path_factory.mktemp("sintel"), clip())


@pytest.fixture
def film(root: Path) -> DataSequence:
    (sequence,) = open_dataset("sintel", root)
    return sequence


@pytest.mark.parametrize(("frames", "reference"), [([0, 1, 2, 3, 4], 0), ([3, 1], 1)])
def test_is_the_truth(film: DataSequence, frames: list[int], reference: int) -> None:
    snippet = film.snippet(frames, reference=reference)
    assert_is(snippet, clip(), frames)
    count = len(frames)
    own = torch.eye(count, dtype=torch.bool)[:, :, None, None] & clip().valid[frames]
    assert_moved(snippet, clip(), frames, own)
    assert not snippet.dynamic.any()
    assert snippet.timestamps.tolist() == pytest.approx([frame / 24 for frame in frames])


def test_targets_count_within_the_clip(film: DataSequence) -> None:
    snippet = film.snippet([4, 2], targets=[1])
    assert snippet.targets.tolist() == [1]
    assert torch.equal(snippet.target_valid[0, 1], clip().valid[2])  # type: ignore[index]
    assert not snippet.target_valid[0, 0].any()  # type: ignore[index]
    for frames, targets, reference in (([0, FRAMES], None, 0), ([0], [1], 0), ([0], None, 1), ([], None, 0)):
        with pytest.raises(UsageError, match="0"):
            film.snippet(frames, targets, reference)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    write_sintel(tmp_path, clip())
    (film,) = open_dataset("sintel", tmp_path)
    training = tmp_path / "training"
    depth, camera = training / "depth/alley_2/frame_0001.dpt", training / "camdata_left/alley_2/frame_0002.cam"
    depth.write_bytes(depth.read_bytes()[:-4])
    camera.write_bytes(camera.read_bytes()[:4] + bytes(21 * 8))
    (training / "final/alley_2/frame_0003.png").write_bytes(b"\x89PNG")
    (training / "depth/alley_2/frame_0004.dpt").unlink()
    for index, path in enumerate((depth, camera, training / "final/alley_2/frame_0003.png")):
        with pytest.raises(CorruptFile) as raised:
            film.frame(index)
        assert raised.value.path == path
        assert str(path) in str(raised.value)
        assert len(str(raised.value).splitlines()) == 1
    with pytest.raises(CorruptFile, match="missing"):
        film.frame(3)
    with pytest.raises(InputError, match="give Sintel's folder"):
        open_dataset("sintel", tmp_path / "nowhere")
    with pytest.raises(UsageError, match="choose from"):
        open_dataset("cinema", tmp_path)

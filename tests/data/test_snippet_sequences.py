"""Snippet folders as a data set, and the quarantine."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from native.scenes import assert_is, assert_moved, clip

from vdpm.data import write_snippet
from vdpm.data.quarantine import CorruptFile, Quarantine, TooManyCorrupt
from vdpm.data.readers import open_dataset
from vdpm.errors import UsageError


def test_snippets_are_cut_from_folders(tmp_path: Path) -> None:
    rows = [1, 4]
    some = replace(clip(), targets=clip().targets[rows], target_points=clip().target_points[rows])
    write_snippet(tmp_path / "one", some)
    (sequence,) = open_dataset("snippets", tmp_path)
    frames = [4, 2, 1]
    snippet = sequence.snippet(frames, reference=1)
    assert_is(snippet, clip(), frames)
    # The time of frame 2 is not among those that the folder holds.
    known = clip().valid[frames].expand(3, -1, -1, -1).clone()
    known[1, [0, 2]] = False
    assert_moved(snippet, clip(), frames, known)
    assert torch.equal(snippet.instances, clip().instances[frames])  # type: ignore[index]
    assert torch.equal(snippet.sky, clip().sky[frames])  # type: ignore[index]


def test_a_damaged_folder_is_put_aside(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_snippet(tmp_path / name, clip())
    (tmp_path / "a" / "points.npy").write_bytes(b"x")
    quarantine = Quarantine()
    assert [one.name for one in open_dataset("snippets", tmp_path, quarantine)] == ["b"]
    assert list(quarantine.files) == [tmp_path / "a"]


def test_quarantine_counts_and_stops() -> None:
    quarantine = Quarantine(max_share=0.25, patience=8)

    def corrupt() -> int:
        raise CorruptFile(Path("/data/x.png"), "a damaged\npicture")

    read = [quarantine.attempt(lambda: 7) for _ in range(6)] + [quarantine.attempt(corrupt) for _ in range(2)]
    assert read == [7] * 6 + [None] * 2
    assert quarantine.files == {Path("/data/x.png"): "/data/x.png: a damaged picture"}
    assert (quarantine.attempts, quarantine.failures) == (8, 2)
    with pytest.raises(TooManyCorrupt, match=r"3 of 9 reads .* /data/x.png"):
        quarantine.attempt(corrupt)
    with pytest.raises(ZeroDivisionError):
        quarantine.attempt(lambda: 1 // 0)
    with pytest.raises(UsageError, match="share"):
        Quarantine(max_share=2.0)

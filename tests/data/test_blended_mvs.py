"""BlendedMVS's reader against the truth behind the files."""

from pathlib import Path

import pytest
from native.blended_mvs import write_blended_mvs
from native.scenes import assert_is, assert_moved, still_clip

from vdpm.data.quarantine import CorruptFile
from vdpm.data.readers import open_dataset


def test_is_the_truth(tmp_path: Path) -> None:
    write_blended_mvs(tmp_path / "5a3ca9cb270f0e3f14d0eddb", still_clip())
    (place,) = open_dataset("blendedmvs", tmp_path)
    frames = [2, 0, 3]
    snippet = place.snippet(frames, targets=[0, 1])
    assert_is(snippet, still_clip(), frames, lossy=True)
    assert_moved(snippet, still_clip(), frames, still_clip().valid[frames].expand(2, -1, -1, -1))


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = write_blended_mvs(tmp_path / "a", still_clip())
    (place,) = open_dataset("blendedmvs", tmp_path)
    depth, camera = folder / "rendered_depth_maps/00000000.pfm", folder / "cams/00000001_cam.txt"
    for index, path, content, message in (
        (0, depth, depth.read_bytes()[:-1], "says 64 x 48"),
        (0, depth, b"PF" + depth.read_bytes()[2:], "one channel"),
        (0, depth, b"Pf\n", "no PFM"),
        (1, camera, camera.read_bytes()[:300], "no camera file"),
        (1, camera, camera.read_bytes().replace(b"0.0 0.0 0.0 1.0", b"0.0 0.0 0.0 2.0"), "no rigid motion"),
    ):
        path.write_bytes(content)
        with pytest.raises(CorruptFile, match=message) as raised:
            place.frame(index)
        assert raised.value.path == path

"""``vdpm reconstruct`` of clips of several windows: the plan, what is known, what is refused."""

import json
import math
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch

import vdpm
from fixtures.clips import write_clip
from fixtures.outcome import Run
from vdpm import long_reconstruct
from vdpm.archive import hold
from vdpm.cli.knowledge import parse_distance, read_priors
from vdpm.errors import InputError, UsageError
from vdpm.geometry.image_transform import ImageTransform
from vdpm.long_reconstruct import reconstruct_window


def test_a_plan_an_interruption_and_the_rest(
    run: Run, tmp_path: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_clip(tmp_path / "clip.mp4", num_frames=20)
    words = ("reconstruct", clip, "-o", tmp_path / "out", "--model", tiny_folder, "--size", 64, "--window", 8)
    done = run(*words, "--fps", 10, "--plan")
    assert done.code == 0, done.err
    assert "frames 0-7" in done.out
    assert "are there" not in done.out
    assert "memory" in done.out
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith((".", "out"))) == []

    words = (*words, "--fps", 10, "--distance", "0,19,3", "--no-preview", "--ply", "none")
    made: list[int] = []

    def up_to_two(*args: Any, **options: Any) -> None:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(args[4])
        reconstruct_window(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(long_reconstruct, "reconstruct_window", up_to_two)
        cut = run(*words)
    assert cut.code == 130
    assert cut.err.splitlines()[-1] == (
        "vdpm: error: interrupted; finished windows are kept, and the same command goes on from them"
    )

    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    planned = run(*words, "--plan")
    assert planned.code == 0, planned.err
    count = sum(word in ("run", "strided", "loop") for word in planned.out.split())
    assert f"2 of these {count} are there from an interrupted run, {count - 2} are to be made\n" in planned.out
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before
    with ThreadPoolExecutor(1) as thread, ExitStack() as other:
        thread.submit(other.enter_context, hold(tmp_path / "out")).result()
        assert "another run (process" in run(*words, "--plan").out
        thread.submit(other.close).result()
    others = run(*words[:10], "--fps", 10, "--end", 1.5, "--plan")
    assert others.code == 0, others.err
    assert "an interrupted run of other frames or another network left windows there" in others.out

    def the_others(*args: Any, **options: Any) -> None:
        made.append(args[4])
        reconstruct_window(*args, **options)

    monkeypatch.setattr(long_reconstruct, "reconstruct_window", the_others)
    ran = run(*words)
    assert ran.code == 0, ran.err
    assert len(made) > 2
    assert sorted({*made}) == made
    centres = vdpm.load(tmp_path / "out").cameras.centers
    assert float((centres[0] - centres[19]).norm()) == pytest.approx(3, rel=1e-3)


def test_distances_are_read() -> None:
    cameras = parse_distance("0,39,7.5")
    assert cameras is not None
    assert (cameras.frame_a, cameras.frame_b, cameras.length, cameras.pixel_a) == (0, 39, 7.5, None)
    points = parse_distance("4:120,80,4:200,90.5,0.6")
    assert points is not None
    assert (points.pixel_a, points.pixel_b, points.length) == ((120, 80), (200, 90.5), 0.6)
    for bad in ("1,2", "a,b,c", "4:1,2,3", "0,1,2,3,4", "0,1,inf", "4:1,2,4:3,4,inf"):
        with pytest.raises(UsageError, match="--distance"):
            parse_distance(bad)


def test_known_cameras_come_in_pixels_of_the_source(tmp_path: Path) -> None:
    transform = ImageTransform.stretch((100, 200), (50, 100))
    k = [[160.0, 0, 100], [0, 160, 50], [0, 0, 1]]
    path = tmp_path / "cameras.json"
    path.write_text(json.dumps({"intrinsics": k, "c2w": {"3": torch.eye(4).tolist()}}))
    known = read_priors(None, path, None, transform)
    assert known is not None
    assert known.intrinsics is not None
    assert known.intrinsics[0, 0] == 80
    assert known.pose_frames == (3,)
    focal = read_priors(160.0, None, "0:20,10,0:40,10,2", transform)
    assert focal is not None
    assert focal.intrinsics is not None
    assert torch.allclose(focal.intrinsics, known.intrinsics)
    assert focal.distance is not None
    assert focal.distance.pixel_a == (10, 5)
    assert read_priors(None, None, None, transform) is None
    wide = read_priors(160.0, None, None, ImageTransform.stretch((100, 200), (50, 100), pixel_aspect=2.0))
    assert wide is not None
    assert wide.intrinsics is not None
    assert wide.intrinsics.diagonal().tolist() == [40, 80, 1], "160 pixel heights are 80 pixel widths"
    zooming = read_priors(None, None, None, transform, zoom=True)
    assert zooming is not None
    assert not zooming.shared_focal
    with pytest.raises(UsageError, match="one of them"):
        read_priors(160.0, None, None, transform, zoom=True)
    with pytest.raises(UsageError, match="exclude each other"):
        read_priors(1.0, path, None, transform)
    for outside in ("0:200,10,0:40,10,2", "0:20,10,0:40,-1,2", "0:nan,10,0:40,10,2"):
        with pytest.raises(UsageError, match="outside of the video's picture of 200 x 100"):
            read_priors(None, None, outside, transform)
    for focal_length in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(UsageError, match="--focal"):
            read_priors(focal_length, None, None, transform)
    path.write_text(json.dumps({"intrinsics": [[320.0, 0, 200], [0, 320, 100], [0, 0, 1]]}))
    with pytest.raises(UsageError, match="principal point 200, 100 is outside of the video's picture of 200 x 100"):
        read_priors(None, path, None, transform)
    for wrong in ("[]", "3", "null", "{}"):
        path.write_text(wrong)
        with pytest.raises(InputError, match="not a file of cameras"):
            read_priors(None, path, None, transform)


@pytest.mark.parametrize("key", ["C2W", "w2c", "c2w ", "", "intrinsic\n"])
def test_a_misspelt_key_of_known_cameras_is_refused(tmp_path: Path, key: str) -> None:
    """Beside one that is right, too: what is passed over in silence is believed to be held fixed."""
    path = tmp_path / "cameras.json"
    k = [[160.0, 0, 100], [0, 160, 50], [0, 0, 1]]
    path.write_text(json.dumps({"intrinsics": k, key: {"3": torch.eye(4).tolist()}}))
    with pytest.raises(InputError) as refused:
        read_priors(None, path, None, ImageTransform.stretch((100, 200), (50, 100)))
    assert str(refused.value) == (
        f'{path}: unknown {json.dumps(key)}; known are "intrinsics" and "c2w": correct or remove what is not'
    )

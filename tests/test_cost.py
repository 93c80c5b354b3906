"""What a run is said to take."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fixtures.tiny_network import tiny_network
from vdpm.cli.pictures import pictures_cost, write_pictures
from vdpm.cost import (
    LIBRARIES,
    SECONDS_A_PICTURE,
    SECONDS_A_PIXEL,
    SECONDS_AN_ENTRY,
    Forecast,
    _Trial,
    alignment_bytes,
    check_alignment,
    forecast,
    longest_window,
    process_bytes,
    window_bytes,
)
from vdpm.errors import UsageError
from vdpm.export.ply import write_ply
from vdpm.geometry.image_transform import ImageTransform
from vdpm.long_video.windows import WindowConfig
from vdpm.model import VDPM
from vdpm.reconstruct import make_plan
from vdpm.structures import Video


@pytest.fixture(scope="module")
def network() -> VDPM:
    return tiny_network()


@pytest.fixture(scope="module")
def video() -> Video:
    frames = torch.zeros(30, 48, 64, 3, dtype=torch.uint8)
    return Video(frames, torch.arange(30.0), torch.arange(30), ImageTransform.identity((48, 64)))


def test_memory_grows_with_frames_and_pixels_and_no_weight_is_touched(network: VDPM) -> None:
    before = network.fingerprint()
    few, more = window_bytes(network, 4, (48, 64), 4), window_bytes(network, 8, (48, 64), 8)
    assert 1.5 < more / few < 2.5
    assert window_bytes(network, 4, (96, 128), 4) > 3 * few
    # The images alone, and the maps that come out of them.
    assert few > 4 * 48 * 64 * (3 + 4) * 4
    assert network.fingerprint() == before
    assert not any(parameter.is_meta for parameter in network.parameters())


def test_the_window_is_as_long_as_fits(network: VDPM, video: Video) -> None:
    assert longest_window(network, video, None, 24) == 24
    assert longest_window(network, video, 1000.0, 24) == 24
    with pytest.raises(UsageError, match="smaller --size"):
        longest_window(network, video, 0.001, 24)
    with pytest.raises(UsageError, match="above 0"):
        longest_window(network, video, 0.0, 24)


def test_the_alignment_and_the_pictures_count(network: VDPM, video: Video) -> None:
    many = [(16, 1, 4)] * 5000
    alone, followed = (forecast(network, video, many, 0.0, sight=sight, trial=False).memory for sight in (False, True))
    assert alone == pytest.approx(process_bytes() + LIBRARIES + alignment_bytes(80_000), rel=0.01)
    assert followed == pytest.approx(alone, rel=0.01), "which of the two is more counts"
    assert alignment_bytes(160, followed=1000) == pytest.approx(330e6, rel=0.05)
    check_alignment(network, 160, 1000, None)
    check_alignment(network, 160, 1000, 100.0)
    with pytest.raises(UsageError, match="--no-sight"):
        check_alignment(network, 160, 10**6, 50.0)
    check_alignment(network, 160, 0, 50.0)
    with pytest.raises(UsageError, match="take fewer frames, or allow more"):
        check_alignment(network, 10**6, 0, 50.0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what a process holds now")
def test_what_was_freed_does_not_count_as_held() -> None:
    before = process_bytes()
    # Small blocks come from the heap, which keeps them; the last one stays and holds the heap's end where it is.
    blocks = [b"\1" * 50_000 for _ in range(4000)]
    held, last = process_bytes() - before, blocks[-1]
    del blocks
    assert held > 180e6
    assert process_bytes() - before < 20e6
    assert len(last) == 50_000


def test_a_forecast_in_words(network: VDPM, video: Video) -> None:
    told = forecast(network, video, [(8, 1, 4), (8, 1, 4)], 3e6, sight=True, trial=True)
    assert told.memory > 0
    assert told.seconds is not None
    assert told.seconds > 0
    assert "disk 3 MB" in told.line()
    assert alignment_bytes(20) == 2 * alignment_bytes(10)
    line = Forecast(2.0**31, 2.0**30, 0.0, 600.0).line()
    assert line == "memory 2.00 GiB, device memory 1.00 GiB, disk 0 MB, about 10 min after loading"
    told = Forecast(2.0**30, 0.0, 20e6, 50.0, disk_underway=40e6)
    assert told.line() == "memory 1.00 GiB, disk 20 MB (40 MB on the way), about 50 s after loading"
    assert told.with_files(30e6, 9.0).line() == "memory 1.00 GiB, disk 50 MB, about 59 s after loading"
    assert replace(told, seconds=None).with_files(1.0, 1.0).seconds is None


def test_the_time_of_a_long_window_follows_from_two_short_ones(
    network: VDPM, video: Video, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frame takes longer beside more frames; of what is moved, the head alone depends on how many frames."""
    tried: list[int] = []

    def takes(network: VDPM, video: Video, frames: int) -> _Trial:
        tried.append(frames)
        late = 5.0 if len(tried) == 2 else 0.0  # another program was at work
        return _Trial(frames, late + 1 + 0.1 * frames, 0.5, late + 2 + 0.2 * frames)

    monkeypatch.setattr("vdpm.cost._tried", takes)
    rest = 16 * (SECONDS_AN_ENTRY + 48 * 64 * SECONDS_A_PIXEL)
    told = forecast(network, video, [(16, 3, 5)], 0.0, sight=False, trial=True).seconds
    assert told == pytest.approx(16 * (2.6 + 0.5) + 3 * (16 * 5.2 + 5 * 0.5) + rest)
    assert tried == [2, 2, 8, 2]
    there = forecast(network, video, [(16, 3, 5)] * 2, 0.0, sight=False, trial=True, there={1}).seconds
    assert there == pytest.approx(told + rest), "what is there is aligned, not made"
    nothing = forecast(network, video, [(16, 3, 5)], 0.0, sight=True, trial=True, there={0}).seconds
    assert nothing == pytest.approx(rest + 30 * SECONDS_A_PICTURE)
    alone = forecast(network, video, [(1, 0, 0)], 0.0, sight=False, trial=True, aligned=False).seconds
    assert alone == pytest.approx(1.1 + 0.5)


@pytest.mark.parametrize(("length", "targets"), [(None, "all"), (None, "none"), (6, "auto"), (6, [2])])
def test_the_folder_takes_what_is_told(
    network: VDPM, tmp_path: Path, length: int | None, targets: str | list[int]
) -> None:
    """Whole, with its clouds, and with frames of which some are packed far smaller than others."""
    noise = torch.randint(256, (13, 48, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    noise[1::2] = noise[1::2] // 64
    clip = Video(noise, torch.arange(13.0), torch.arange(13), ImageTransform.identity((48, 64)))
    windows = WindowConfig(length, sight=False)
    plan = make_plan(clip, model=network, windows=windows, targets=targets)
    told, clouds = plan.forecast(), [None, *plan.targets][:2]
    size, _ = pictures_cost(clip, plan.sources, plan.targets, clouds, preview=False)
    result = plan.run(tmp_path / "out")
    taken = _bytes(tmp_path / "out")
    for cloud in clouds:  # An untrained network sees edges everywhere.
        write_ply(result, cloud, tmp_path / "out" / f"{cloud}.ply", drop_edges=False, drop_sky=False)
    assert _bytes(tmp_path / "out") - taken == pytest.approx(size, rel=0.1)
    assert told.with_files(size, 0.0).disk == pytest.approx(_bytes(tmp_path / "out"), rel=0.1)
    written = write_pictures(result, tmp_path / "out", clouds, preview=False)
    assert sum(path.stat().st_size for path in written) <= size


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

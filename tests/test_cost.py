"""What a run is said to take."""

import sys

import pytest
import torch

from fixtures.tiny_network import tiny_network
from vdpm.cost import (
    LIBRARIES,
    Forecast,
    alignment_bytes,
    check_alignment,
    forecast,
    longest_window,
    process_bytes,
    window_bytes,
)
from vdpm.errors import UsageError
from vdpm.geometry.image_transform import ImageTransform
from vdpm.model import VDPM
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
    assert line == "memory 2.00 GiB, device memory 1.00 GiB, disk 0 MB, about 10 min"

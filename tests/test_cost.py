"""What a run is said to take."""

import pytest
import torch

from fixtures.tiny_network import tiny_network
from vdpm.cost import Forecast, alignment_bytes, forecast, longest_window, window_bytes
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


def test_a_forecast_in_words(network: VDPM, video: Video) -> None:
    told = forecast(network, video, [(8, 1, 4), (8, 1, 4)], 3e6, trial=True)
    assert told.memory > 0
    assert told.seconds is not None
    assert told.seconds > 0
    assert "disk 3 MB" in told.line()
    assert alignment_bytes(20) == 2 * alignment_bytes(10)
    line = Forecast(2.0**31, 2.0**30, 0.0, 600.0).line()
    assert line == "memory 2.00 GiB, device memory 1.00 GiB, disk 0 MB, about 10 min"

"""One focal length for both sides of a picture, or the network's two: at once, in windows, and of uneven pixels."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import vdpm
from fixtures.clips import picture
from fixtures.tiny_network import tiny_network
from make_video import write_video
from vdpm.errors import UsageError
from vdpm.geometry.image_transform import ImageTransform
from vdpm.long_reconstruct import window_maps
from vdpm.long_video.priors import Priors
from vdpm.long_video.windows import WindowConfig
from vdpm.model import VDPM
from vdpm.reconstruct import LongPlan, make_plan
from vdpm.structures import Reconstruction, Video


@pytest.fixture(scope="module")
def network() -> VDPM:
    return tiny_network()


def clip_of(count: int) -> Video:
    frames = torch.stack([torch.from_numpy(picture(i)) for i in range(count)])
    return Video(frames, torch.arange(count) / 10, torch.arange(count), ImageTransform.identity((48, 64)))


def lens(result: Reconstruction) -> tuple[torch.Tensor, torch.Tensor]:
    """fx and fy of each frame, in pixels of the video."""
    k = result.transform.intrinsics_to_source(result.cameras.intrinsics.double())
    return k[:, 0, 0], k[:, 1, 1]


def reconstructed(clip: Video | Path, network: VDPM, **options: Any) -> Reconstruction:
    return vdpm.reconstruct(clip, model=network, targets="none", **options)


def test_at_once_the_two_become_one(network: VDPM) -> None:
    clip = clip_of(4)
    with torch.no_grad():
        said = network.cameras(network.encode(clip.images()[None])).intrinsics[0].double()
    assert (said[:, 0, 0] / said[:, 1, 1] - 1).abs().min() > 0.05, "else this test shows nothing"
    free = reconstructed(clip, network, pixels="free")
    assert torch.allclose(free.cameras.intrinsics.double(), said)
    square = reconstructed(clip, network)
    fx, fy = lens(square)
    assert torch.allclose(fx, fy, rtol=1e-6)
    assert torch.allclose(fx, (said[:, 0, 0] * said[:, 1, 1]).sqrt(), rtol=1e-5)
    assert torch.equal(square.cameras.c2w, free.cameras.c2w)
    assert torch.equal(square.maps.time_variant(2).points, free.maps.time_variant(2).points)
    assert "square" in square.provenance["lens"]
    assert "square" not in free.provenance["lens"]


@pytest.mark.parametrize("sight", [True, False])
def test_windows_have_one_focal_length(network: VDPM, sight: bool, tmp_path: Path) -> None:
    windows = WindowConfig(length=6, overlap=3, sight=sight)
    square = reconstructed(clip_of(14), network, windows=windows, output=tmp_path / "out")
    fx, fy = lens(square)
    assert torch.allclose(fx, fy, rtol=1e-6)
    assert torch.allclose(fx, fx[:1], rtol=1e-6)
    assert "square" in vdpm.load(tmp_path / "out").provenance["lens"]
    fx, fy = lens(reconstructed(clip_of(14), network, windows=windows, pixels="free"))
    assert (fx / fy - 1).abs().min() > 0.05


def test_a_lens_that_is_known_stays_as_it_is(network: VDPM) -> None:
    known = torch.tensor([[40.0, 0, 32], [0, 70.0, 24], [0, 0, 1]])
    result = reconstructed(clip_of(4), network, priors=Priors(intrinsics=known))
    assert torch.allclose(result.cameras.intrinsics, known.expand(4, 3, 3))
    assert result.provenance["lens"] == "as given"


def test_a_zoom_has_one_for_each_frame(network: VDPM) -> None:
    result = reconstructed(clip_of(14), network, windows=WindowConfig(6, 3), priors=Priors(shared_focal=False))
    fx, fy = lens(result)
    assert torch.allclose(fx, fy, rtol=1e-6)
    assert fx.std() > 0


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
@pytest.mark.parametrize("windows", [WindowConfig(), WindowConfig(length=3, overlap=1)])
def test_pixels_that_are_twice_as_wide_as_high(network: VDPM, tmp_path: Path, fit: str, windows: WindowConfig) -> None:
    """A focal length of so many pixel heights is half as many pixel widths, whatever the resize does to them."""
    frames = [np.ascontiguousarray(picture(index)) for index in range(4)]
    path = write_video(tmp_path / "wide.mp4", frames, sample_aspect_ratio=Fraction(2, 1))
    result = reconstructed(path, network, size=104, fit=fit, windows=windows)
    assert result.transform.pixel_aspect == 2
    fx, fy = lens(result)
    assert torch.allclose(2 * fx, fy, rtol=1e-5)
    # On the network's own pixels they are alike where its pictures keep the aspect, to a whole pixel of their sides.
    seen = result.cameras.intrinsics[:, 0, 0] / result.cameras.intrinsics[:, 1, 1]
    assert torch.allclose(seen, torch.full_like(seen, result.transform.square_ratio), rtol=1e-5)
    assert (seen - 1).abs().max() < 0.03 or fit == "stretch"


def test_windows_on_disk_keep_what_the_network_said(network: VDPM, tmp_path: Path) -> None:
    """A run is taken up with other pixels without another pass of the network."""
    windows = WindowConfig(length=6, overlap=3)
    clip = clip_of(9)
    plan = make_plan(clip, model=network, targets="none", windows=windows)
    assert isinstance(plan, LongPlan)
    stored = plan._reconstructed(plan._store(tmp_path / "out", False), lambda *_: None, plan.windows, 0, "window")
    said = [window.cameras.intrinsics for window in stored]
    assert all((k[:, 0, 0] / k[:, 1, 1] - 1).abs().min() > 0.05 for k in said)
    for window, k in zip(window_maps(stored, 1.5), said):
        seen = window.cameras.intrinsics
        assert torch.allclose(seen[:, 0, 0], 1.5 * seen[:, 1, 1])
        assert torch.allclose(seen[:, 0, 0] * seen[:, 1, 1], k[:, 0, 0] * k[:, 1, 1])
    for window, k in zip(window_maps(stored, None), said):
        assert torch.equal(window.cameras.intrinsics, k)


def test_other_words_are_refused(network: VDPM) -> None:
    with pytest.raises(UsageError, match="pixels is 'round'; use 'square' or 'free'"):
        reconstructed(clip_of(2), network, pixels="round")

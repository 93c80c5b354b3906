"""ScanNet++'s reader against the truth behind the files, and lenses against closed forms."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from native.scannetpp import write_scannetpp
from native.scenes import assert_is, assert_moved, still_clip
from torch import Tensor

from vdpm.data.quarantine import CorruptFile
from vdpm.data.readers import open_dataset
from vdpm.data.readers.lens import LensCamera, mixed_pixels
from vdpm.geometry.pinhole import pixel_grid, unproject

LENSES = {"OPENCV": (0.12, -0.03, 0.01, -0.02), "OPENCV_FISHEYE": (0.05, -0.02, 0.01, -0.004)}


def camera(model: str) -> LensCamera:
    k = torch.tensor([[60.0, 0, 31], [0, 58, 25], [0, 0, 1]], dtype=torch.float64)
    return LensCamera(model, (48, 64), k, LENSES[model])


def rays_of_lens(lens: LensCamera) -> Tensor:
    """Rays [h w 2] at depth 1 that the lens puts at its pixels' centres: Newton's method in place of a formula."""
    k = lens.intrinsics
    wanted = (pixel_grid(48, 64, dtype=torch.float64) - k[:2, 2]) / k.diagonal()[:2]
    rays = wanted.clone()
    for _ in range(50):
        rays = rays + (wanted - lens._distorted(rays))
    assert float((lens._distorted(rays) - wanted).abs().max()) < 1e-9
    return rays


def test_is_the_truth(tmp_path: Path) -> None:
    write_scannetpp(tmp_path / "data" / "7b6477cb95", still_clip())
    (room,) = open_dataset("scannetpp", tmp_path)
    valid = still_clip().valid.clone()
    valid[1, :4, :6] = False
    truth, frames = replace(still_clip(), valid=valid), [3, 1, 0]
    snippet = room.snippet(frames, targets=[0, 2], reference=1)
    assert_is(snippet, truth, frames, 1e-3, lossy=True)
    assert_moved(snippet, truth, frames, valid[frames].expand(2, -1, -1, -1), 1e-3)
    assert snippet.timestamps.tolist() == pytest.approx([0.5, 1 / 6, 0])


@pytest.mark.parametrize("model", LENSES)
def test_lenses_by_opencvs_equations(model: str) -> None:
    """One ray by hand: (0.3, -0.2) at depth 1."""
    x, y, square = 0.3, -0.2, 0.13
    if model == "OPENCV":
        k1, k2, p1, p2 = LENSES[model]
        radial = 1 + k1 * square + k2 * square**2
        expected = (
            x * radial + 2 * p1 * x * y + p2 * (square + 2 * x * x),
            y * radial + p1 * (square + 2 * y * y) + 2 * p2 * x * y,
        )
    else:
        k1, k2, k3, k4 = LENSES[model]
        angle = torch.atan(torch.tensor(square).double().sqrt()).item()
        turned = angle * (1 + k1 * angle**2 + k2 * angle**4 + k3 * angle**6 + k4 * angle**8)
        expected = (x * turned / square**0.5, y * turned / square**0.5)
    found = camera(model)._distorted(torch.tensor([x, y], dtype=torch.float64))
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("model", LENSES)
def test_a_slanted_plane_through_a_lens(tmp_path: Path, model: str) -> None:
    """Its points lie on the plane again, each to half a pixel of the lens, and together to far less."""
    lens, truth = camera(model), still_clip()

    def plane(rays: Tensor) -> Tensor:
        return 2 / (1 + 0.5 * rays[..., 0] + 0.3 * rays[..., 1])

    z = plane(rays_of_lens(lens)).expand(5, -1, -1)
    k = lens.intrinsics.float().expand(5, -1, -1)
    eye = torch.eye(4).repeat(5, 1, 1)
    points = torch.cat((torch.zeros_like(z)[..., None].expand(*z.shape, 2), z[..., None]), -1).float()
    seen = replace(truth, points=points, c2w=eye, intrinsics=k, valid=torch.ones_like(truth.valid))
    write_scannetpp(tmp_path / "room", seen, model, lens.distortion)
    frame = open_dataset("scannetpp", tmp_path)[0].frame(0)
    assert frame.valid.float().mean() > 0.8
    rays = unproject(torch.ones(48, 64, dtype=torch.float64), lens.intrinsics)[..., :2]
    off = (frame.depth / plane(rays) - 1)[frame.valid]
    a_pixel = 0.5 / 60
    assert float(off.abs().max()) < 1.5 * a_pixel
    assert abs(float(off.mean())) < 0.1 * a_pixel
    # Without the lens it would be off by more than that.
    assert float((z[0] / plane(rays) - 1).abs().max()) > 3 * a_pixel


def test_colours_follow_the_lens() -> None:
    """A ramp stays a ramp under the same places, half pixels included."""
    ramp = (pixel_grid(48, 64)[..., :1] * 2).expand(-1, -1, 3).round().byte()
    places = pixel_grid(48, 64, dtype=torch.float64) + torch.tensor([1.5, 2.25])
    found = mixed_pixels(ramp, places)[..., 0].double()
    assert float((found - 2 * places[..., 0])[:44, :61].abs().max()) <= 1.0
    assert torch.equal(mixed_pixels(ramp, pixel_grid(48, 64, dtype=torch.float64)), ramp)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("cameras.txt", "PINHOLE", "THIN_PRISM", "can be read"),
        ("cameras.txt", "PINHOLE", "OPENCV", "OPENCV has 8"),
        ("cameras.txt", "1 PINHOLE", "2 PINHOLE", "unknown cameras"),
        ("images.txt", "frame_000000.jpg", "../../frame_000000.jpg", "other folders"),
        ("images.txt", "2 0.", "2 9.", "unit quaternion"),
    ],
)
def test_damaged_models_are_named(tmp_path: Path, name: str, old: str, new: str, message: str) -> None:
    path = write_scannetpp(tmp_path / "room", still_clip()) / "iphone" / "colmap" / name
    text = path.read_text()
    if old not in text:
        old, new = "2 -0.", "2 -9."
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(CorruptFile, match=message):
        open_dataset("scannetpp", tmp_path)

"""Cuts between shots and places seen again, on pictures made by hand."""

import torch

from vdpm.long_video.likeness import find_loops, find_shots, thumbnails


def panorama(seed: int) -> torch.Tensor:
    """A closed strip of smooth colours, [3, 9, 160]."""
    noise = torch.randn(3, 9, 160, generator=torch.Generator().manual_seed(seed))
    weights = torch.hann_window(24)
    padded = torch.cat((noise[..., -12:], noise, noise[..., :11]), dim=-1)
    smooth = torch.nn.functional.conv1d(padded.flatten(0, 1)[:, None], weights[None, None]).view(3, 9, -1)[..., :160]
    return (0.5 + 0.12 * smooth / smooth.std()).clamp(0, 1)


def turning(seed: int, frames: int, laps: float) -> torch.Tensor:
    """Thumbnails of a camera that turns before a panorama."""
    strip = panorama(seed)
    starts = (torch.arange(frames) * laps * 160 / frames).long()
    return torch.stack([strip[..., (start + torch.arange(16)) % 160] for start in starts.tolist()])


def test_thumbnails_are_means() -> None:
    frames = torch.zeros(2, 90, 160, 3, dtype=torch.uint8)
    frames[1, :10, :10, 0] = 255
    small = thumbnails(frames)
    assert small.shape == (2, 3, 9, 16)
    assert small[1, 0, 0, 0] == 1
    assert small.sum() == 1


def test_a_cut_is_found_where_the_picture_changes_at_once() -> None:
    shots = torch.cat((turning(0, 20, 0.2), turning(1, 15, 0.1), turning(2, 30, 0.3)))
    assert find_shots(shots) == [(0, 20), (20, 35), (35, 65)]


def test_a_turning_camera_has_no_cuts() -> None:
    assert find_shots(turning(0, 60, 0.5)) == [(0, 60)]
    assert find_shots(turning(0, 5, 0.1)) == [(0, 5)]


def test_a_flash_is_no_shot() -> None:
    frames = turning(0, 30, 0.1)
    frames[14] = 1.0
    assert len(find_shots(frames)) <= 2
    assert all(stop - first >= 4 for first, stop in find_shots(frames))


def test_a_place_seen_again_is_a_loop() -> None:
    loops = find_loops(turning(0, 100, 1.25), gap=32)
    assert loops
    for a, b in loops:
        assert abs((b - a) - 80) <= 3, "one lap is 80 frames"


def test_no_loops_in_new_places_nor_in_a_still_picture() -> None:
    assert find_loops(turning(0, 100, 0.8), gap=32) == []
    assert find_loops(turning(0, 100, 0.0), gap=32) == []
